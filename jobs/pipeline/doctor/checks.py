"""What a run needs of its machine, storage and assets: one check per question, with a remedy.

:func:`guarded` turns what a check raises into an answer: describing broken machines is their job.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from jobs.pipeline.storage.store import Store, StoreError, locate
from tddfa3.errors import UserError

Status = Literal["ok", "warning", "failed"]

GIB = 2**30
LEAST_MEMORY = 4 * GIB
"""Bytes below which memory gets a warning."""
LEAST_SHARED_MEMORY = GIB // 4
"""Bytes below which /dev/shm gets a warning."""


@dataclass(frozen=True, slots=True)
class Check:
    """One line of the doctor's report.

    Attributes:
        name: what was looked at.
        status: ``ok``; ``warning``: a run works, but slower or with less; ``failed``: it does not.
        found: what is there.
        remedy: what to do about it; empty when ok.
    """

    name: str
    status: Status
    found: str
    remedy: str = ""


def guarded(name: str, check: Callable[[], Check]) -> Check:
    """The check's answer, or ``failed`` with what it raised."""
    try:
        return check()
    except UserError as error:
        return Check(name, "failed", str(error), "see the message")
    except Exception as error:
        found = f"{type(error).__name__}: {error}".partition("\n")[0][:300]
        return Check(name, "failed", found, f"repair the installation of what {name} needs")


def machine_checks(device: str, rasterizer: str) -> list[Check]:
    """Everything about this machine; ``device`` and ``rasterizer`` as jobs.label takes them."""
    return [
        guarded("python", check_python),
        guarded("torch", check_torch),
        guarded("cuda", lambda: check_cuda(device)),
        guarded("rasterizer cpu", check_cpu_rasterizer),
        guarded("rasterizer nvdiffrast", lambda: check_nvdiffrast(device, rasterizer)),
        guarded("numba cache", check_numba_cache),
        guarded("memory", check_memory),
        guarded("shared memory", check_shared_memory),
    ]


def check_python() -> Check:
    """The version: all machines of a Ray cluster need the same minor version."""
    version = ".".join(map(str, sys.version_info[:3]))
    return Check("python", "ok", f"{version}, {sys.executable}")


def check_torch() -> Check:
    """Whether PyTorch can be imported, and what it was built for."""
    import torch
    import torchvision

    built = f"CUDA {torch.version.cuda}" if torch.version.cuda else "CPU only"
    found = f"{torch.__version__} ({built}), torchvision {torchvision.__version__}"
    return Check("torch", "ok", found)


def check_cuda(device: str) -> Check:
    """Whether a GPU is seen and computes; ``device`` as jobs.label takes it."""
    import torch

    if device == "cpu":
        return Check("cuda", "ok", "not asked for (--device cpu)")
    if not torch.cuda.is_available():
        why = "torch is built without CUDA" if torch.version.cuda is None else "no device is seen"
        remedy = "install NVIDIA's driver and start containers with --gpus all; without a GPU a "
        remedy += "run is many times slower"
        return Check("cuda", "failed" if device == "cuda" else "warning", why, remedy)
    names = []
    for index in range(torch.cuda.device_count()):
        free, total = torch.cuda.mem_get_info(index)
        name = torch.cuda.get_device_name(index)
        names.append(f"{name} ({free / GIB:.1f} of {total / GIB:.1f} GiB free)")
    # The first kernel shows what device_count does not: an architecture that torch lacks.
    works = bool((torch.ones(8, device="cuda") * 2).sum().item() == 16)
    found = ", ".join(names)
    if not works:
        return Check("cuda", "failed", found, "the GPU computes wrongly: replace the machine")
    return Check("cuda", "ok", found)


def check_cpu_rasterizer() -> Check:
    """Whether the CPU rasterizer draws a triangle."""
    name = "rasterizer cpu"
    if not draws_a_triangle("cpu", "cpu"):
        return Check(name, "failed", "draws a wrong triangle", "reinstall numba")
    return Check(name, "ok", "drew a triangle")


def check_nvdiffrast(device: str, rasterizer: str) -> Check:
    """Whether nvdiffrast makes a context and draws a triangle on the GPU."""
    import torch

    from tddfa3.errors import UnavailableError

    name = "rasterizer nvdiffrast"
    if rasterizer == "cpu" or device == "cpu":
        return Check(name, "ok", "not asked for")
    needed = rasterizer == "nvdiffrast"
    if not needed and not torch.cuda.is_available():
        return Check(name, "ok", "not needed without a GPU")
    try:
        right = draws_a_triangle("nvdiffrast", "cuda")
    except UnavailableError as error:
        found, _, remedy = str(error).partition("; ")
        return Check(name, "failed" if needed else "warning", found, remedy)
    if not right:
        return Check(name, "failed", "draws a wrong triangle", "build it again for this GPU")
    return Check(name, "ok", f"drew a triangle on {torch.cuda.get_device_name()}")


def draws_a_triangle(choice: str, device: str) -> bool:
    """Whether the lower left half of a 16 x 16 picture is drawn where it should be."""
    import torch

    from tddfa3.rasterize import build_rasterizer

    rasterizer = build_rasterizer(choice, device)
    corners = [[-1, -1, 0, 1], [1, -1, 0, 1], [-1, 1, 0, 1]]
    pos = torch.tensor([corners], dtype=torch.float32, device=device)
    tri = torch.tensor([[0, 1, 2]], dtype=torch.int32, device=device)
    drawn = rasterizer.rasterize(pos, tri, (16, 16))[0, :, :, 3].cpu()
    inside, outside = drawn[2, 2] == 1, drawn[13, 13] == 0
    # 120 pixels lie below the diagonal; each of the 16 on it may be drawn or not.
    return bool(inside and outside and 120 <= int((drawn == 1).sum()) <= 136)


def check_numba_cache() -> Check:
    """Whether compiled kernels can be kept; compiling them takes ten seconds in every process."""
    import tddfa3

    given = os.environ.get("NUMBA_CACHE_DIR")
    folder = Path(given) if given else Path(tddfa3.__file__).parent / "__pycache__"
    if _writable(folder):
        return Check("numba cache", "ok", str(folder))
    if not given and _writable(Path.home() / ".cache"):
        return Check("numba cache", "ok", "in the user's cache folder")
    remedy = "set NUMBA_CACHE_DIR to a folder that can be written to"
    return Check("numba cache", "failed", f"{folder} can't be written to", remedy)


def _writable(folder: Path) -> bool:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


def check_memory() -> Check:
    """Available memory, against what an actor takes."""
    total, available = memory_bytes()
    cpus = len(os.sched_getaffinity(0))
    found = f"{available / GIB:.1f} of {total / GIB:.1f} GiB available, {cpus} CPUs"
    if available < LEAST_MEMORY:
        return Check("memory", "warning", found, "an actor takes 2 to 3 GiB: use fewer (--actors)")
    return Check("memory", "ok", found)


def memory_bytes(
    proc: Path = Path("/proc"), cgroup: Path = Path("/sys/fs/cgroup")
) -> tuple[int, int]:
    """Total and available bytes, within the limits of the container that this runs in.

    Args:
        proc: the proc file system.
        cgroup: of the container.
    """
    kibibytes = dict(
        line.split(":", 1) for line in (proc / "meminfo").read_text().splitlines() if ":" in line
    )
    total = int(kibibytes["MemTotal"].split()[0]) * 1024
    available = int(kibibytes["MemAvailable"].split()[0]) * 1024
    limit = _number(cgroup / "memory.max")
    used = _number(cgroup / "memory.current")
    if limit is not None and limit < total:
        total = limit
        available = min(available, max(0, limit - (used or 0)))
    return total, available


def _number(path: Path) -> int | None:
    try:
        text = path.read_text().strip()
    except OSError:
        return None
    return int(text) if text.isdigit() else None


def check_shared_memory(folder: Path = Path("/dev/shm")) -> Check:
    """Room for Ray's object store; images do not pass through it, so little is enough."""
    free = shutil.disk_usage(folder).free
    found = f"{free / GIB:.2f} GiB free in {folder}"
    if free < LEAST_SHARED_MEMORY:
        remedy = "start the container with --shm-size 1g; Ray falls back to a slower folder"
        return Check("shared memory", "warning", found, remedy)
    return Check("shared memory", "ok", found)


def check_assets(url: str, endpoint: str | None) -> Check:
    """Whether every file of the bundle, or of this machine's copy of it, has its digest."""
    from jobs.pipeline.storage.asset_cache import local_bundle
    from tddfa3.assets.bundle import AssetBundle, file_sha256

    bundle = AssetBundle.load(local_bundle(url, endpoint))
    remedy = "copy the bundle again, or make it again: python -m tddfa3.assets --help"
    for file, digest in bundle.digests.items():
        if file_sha256(bundle.path / file) != digest:
            return Check("assets", "failed", f"{bundle.path / file} was changed or damaged", remedy)
    size = sum(int(entry["bytes"]) for entry in bundle.files.values())
    found = (
        f"{bundle.name}, {size / 2**20:.0f} MiB, digest {bundle.digest[:12]}; "
        f"backbones {', '.join(bundle.backbones)}; "
        f"detectors {', '.join((*bundle.detectors, 'none'))}; licence: {bundle.licence}"
    )
    return Check("assets", "ok", found)


_STORE_REMEDIES = {
    "denied": "check the credentials and the role: read, write, list and delete are needed",
    "full": "free space, or raise the quota",
    "unavailable": "check the endpoint, the bucket's name and region, and the network",
    "refused": "give a local path or s3://bucket/prefix",
    "not_found": "make the bucket or folder",
}


def check_output(url: str, endpoint: str | None) -> Check:
    """Whether OUTPUT can be written, created only once, listed, read and deleted."""
    try:
        Store.open(url, s3_endpoint=endpoint).check()
    except StoreError as error:
        remedy = _STORE_REMEDIES.get(error.kind, "use storage that honours If-None-Match")
        return Check("output", "failed", str(error), remedy)
    return Check("output", "ok", f"{url}: written, created once only, listed, read, deleted")


def check_input(url: str, endpoint: str | None) -> Check:
    """Whether INPUT is there and can be read: one file, or something in a folder."""
    try:
        found = _first_of(url, endpoint)
    except StoreError as error:
        remedy = _STORE_REMEDIES.get(error.kind, "see the message")
        return Check("input", "failed", str(error), remedy)
    if found is None:
        return Check("input", "failed", f"nothing is in {url}", "check the name")
    return Check("input", "ok", f"{url}: {found}")


def _first_of(url: str, endpoint: str | None) -> str | None:
    """What is at ``url``, a byte of which has been read; None for an empty folder."""
    try:
        store, name = locate(url, s3_endpoint=endpoint)
        size, _ = store.size_etag(name)
    except StoreError as error:
        if error.kind not in ("not_found", "refused", "failed"):
            raise
    else:
        store.read(name, 0, 1)
        return f"a file of {size} bytes"
    folder = Store.open(url, s3_endpoint=endpoint)
    first = next(iter(folder.list()), None)
    if first is None:
        return None
    folder.read(first.rel, 0, 1)
    return f"a folder that begins with {first.rel}, {first.size} bytes"
