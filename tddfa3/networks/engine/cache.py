"""Exported networks, kept from one process to the next.

A network is a folder: the graph, as onnxruntime has optimised it for this processor, and its
weights as they lie in memory. All processes of a machine map the same file of weights, so a second
one on it needs no memory for them, and none has to arrange them anew when it starts.

A folder's name says what it was made from and ends in the digest of what is in it, so one that was
cut short or damaged is passed over. Folders are moved into place whole: any number of processes may
look for the same one, make it and keep it at once. Deleting them costs the next start some seconds.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
import shutil
import uuid
from collections.abc import Sequence
from functools import cache
from importlib import metadata
from pathlib import Path

import onnxruntime
import torch

from tddfa3.assets.bundle import AssetBundle, file_sha256

FOLDER = "engines"
_DIGEST_LENGTH = 16
# The code that turns weights into exports, relative to the package.
_SOURCES = ("backbones/*.py", "detection/*.py", "engine/*.py", "resnet.py", "weights.py")


def folders(bundle: AssetBundle) -> tuple[Path, Path]:
    """Where exports are looked for and kept: beside the bundle, else in the user's cache."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return bundle.path / FOLDER, Path(base) / "tddfa3" / FOLDER


def stem(
    bundle: AssetBundle,
    weights_file: str,
    part: str,
    shape: Sequence[int | None],
    opset: int,
) -> str:
    """The start of a folder's name: readable, and unique to all that the export depends on.

    Args:
        weights_file: of the bundle, without extension.
        part: which network of that file.
        shape: of the input; None where it may change.
    """
    depends_on = [
        bundle.digests[f"{weights_file}.safetensors"],
        list(shape),
        opset,
        torch.__version__,
        # Of what is installed, as the package itself is imported only where an export is made.
        metadata.version("torchvision"),
        onnxruntime.__version__,
        _processor(),
        _code_digest(),
    ]
    digest = hashlib.sha256(json.dumps(depends_on).encode()).hexdigest()[:_DIGEST_LENGTH]
    return "-".join(filter(None, [weights_file, part, digest]))


def find(places: Sequence[Path], name: str) -> Path | None:
    """The folder kept under a stem, in the first place that has it undamaged."""
    for place in places:
        with contextlib.suppress(OSError):
            for folder in sorted(place.glob(f"{name}-*")):
                if folder.name == _folder_name(name, folder):
                    return folder
    return None


def keep(places: Sequence[Path], name: str, made: Path) -> Path | None:
    """Copies a folder to the first place that takes it; None where none does."""
    final = _folder_name(name, made)
    for place in places:
        temporary = place / f".{name}.{uuid.uuid4().hex}.part"
        try:
            place.mkdir(parents=True, exist_ok=True)
            shutil.copytree(made, temporary)
            return _moved(temporary, place / final, name)
        except OSError:  # read-only, full: keeping is a convenience
            shutil.rmtree(temporary, ignore_errors=True)
    return None


def _moved(temporary: Path, final: Path, name: str) -> Path:
    """``final`` with what is in ``temporary``, whoever put it there first. Raises OSError."""
    with contextlib.suppress(OSError):
        return temporary.rename(final)
    if final.is_dir() and _folder_name(name, final) == final.name:
        shutil.rmtree(temporary, ignore_errors=True)
        return final
    damaged = temporary.with_suffix(".damaged")
    final.rename(damaged)
    shutil.rmtree(damaged, ignore_errors=True)
    return temporary.rename(final)


def _folder_name(name: str, folder: Path) -> str:
    """Raises OSError where the folder cannot be read."""
    lines = "".join(f"{path.name} {file_sha256(path)}\n" for path in sorted(folder.iterdir()))
    return f"{name}-{hashlib.sha256(lines.encode()).hexdigest()[:_DIGEST_LENGTH]}"


@cache
def _processor() -> str:
    """What the layout of the weights depends on, and more: the kind of processor."""
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        told = {key.strip(): value.strip() for key, _, value in (x.partition(":") for x in lines)}
        if flags := told.get("flags") or told.get("Features"):
            return f"{told.get('model name', '')} {flags}"
    return f"{platform.machine()} {platform.processor()}"


@cache
def _code_digest() -> str:
    """Of the code: another architecture, or another way to export it, is another export."""
    root = Path(__file__).parents[1]
    sources = [path for name in _SOURCES for path in sorted(root.glob(name))]
    return hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()
