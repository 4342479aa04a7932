"""A cache of exported networks on disk, shared by processes.

An entry is a folder with the graph, optimised by onnxruntime for this processor, and the weights in
their memory layout. All processes of a machine map the same weights file, so further processes need
no extra memory for them, and none has to rearrange them at start.

A folder's name states what it was made from and ends in the digest of its content, so incomplete or
damaged entries are ignored. Folders are moved into place as a whole, so any number of processes may
look up, create and store the same entry at once. If the cache is deleted, the next start takes some
seconds longer.
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
    """The cache's places in order of preference: in the bundle, then in the user's cache."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return bundle.path / FOLDER, Path(base) / "tddfa3" / FOLDER


def stem(
    bundle: AssetBundle,
    weights_file: str,
    part: str,
    shape: Sequence[int | None],
    opset: int,
) -> str:
    """The first part of a folder's name, unique to everything that the export depends on.

    Args:
        bundle: holds the weights.
        weights_file: name of the weights file, without extension.
        part: which network of that file; empty if there is only one.
        shape: of the input; None for axes that vary.
        opset: ONNX operator set of the export.

    Returns:
        ``weights_file``, ``part`` and a digest, joined by hyphens.
    """
    depends_on = [
        bundle.digests[f"{weights_file}.safetensors"],
        list(shape),
        opset,
        torch.__version__,
        # From the metadata, because torchvision is imported only where an export is made.
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
    """Copies the export in ``made`` to the first place that is writable.

    Returns:
        the folder in the cache; None if no place is writable.
    """
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
    """Moves ``temporary`` to ``final``, unless another process has stored the same there.

    Raises:
        OSError: If it cannot be moved.
    """
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
    """The folder's full name: ``name`` and the digest of the content.

    Raises:
        OSError: If the folder cannot be read.
    """
    lines = "".join(f"{path.name} {file_sha256(path)}\n" for path in sorted(folder.iterdir()))
    return f"{name}-{hashlib.sha256(lines.encode()).hexdigest()[:_DIGEST_LENGTH]}"


@cache
def _processor() -> str:
    """The processor's model and features, which determine the layout of the weights."""
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        told = {key.strip(): value.strip() for key, _, value in (x.partition(":") for x in lines)}
        if flags := told.get("flags") or told.get("Features"):
            return f"{told.get('model name', '')} {flags}"
    return f"{platform.machine()} {platform.processor()}"


@cache
def _code_digest() -> str:
    """Digest of the code that defines and exports networks; a change makes new exports."""
    root = Path(__file__).parents[1]
    sources = [path for name in _SOURCES for path in sorted(root.glob(name))]
    return hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()
