"""What machine this is, how busy it is, and how much memory a process takes."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple

PACKAGES = ("tddfa3", "torch", "onnxruntime", "numpy", "numba", "ray", "pyarrow", "pillow")


def describe() -> dict[str, Any]:
    """The machine and the versions that a figure belongs to."""
    # Imported late, so that this module does not add PyTorch to a process that is measured.
    import torch

    cuda = torch.cuda.is_available()
    return {
        "cpu": _cpu_name(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "gpu": torch.cuda.get_device_name() if cuda else None,
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in PACKAGES},
    }


def load() -> float:
    """How many processes wanted a core, on average over the last minute, including this one."""
    return round(os.getloadavg()[0], 2)


class Memory(NamedTuple):
    """Bytes in RAM of a process.

    Attributes:
        resident: all that it maps (RSS).
        proportional: the same, but a page that n processes map counts as an nth (PSS).
        unique: what no other process maps, which is freed when it ends (USS).
    """

    resident: int
    proportional: int
    unique: int


def memory(pid: int | str = "self") -> Memory:
    """Memory of a process on this machine (Linux).

    Raises:
        OSError: the process is gone.
    """
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    sizes = {
        name.rstrip(":"): int(value) * 1024
        for name, value, *_ in map(str.split, lines)
        if value.isdigit()
    }
    unique = sizes["Private_Clean"] + sizes["Private_Dirty"]
    return Memory(sizes["Rss"], sizes["Pss"], unique)


def peak_memory() -> int:
    """The most bytes that this process has had in RAM since its program was started (Linux).

    ``getrusage`` would give the parent's peak if that was higher.
    """
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise OSError("/proc/self/status has no VmHWM")


def _cpu_name() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
