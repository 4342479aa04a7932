"""Exported networks, kept from one process to the next.

A file's name says what it was made from and ends in the digest of its own bytes, so one that was
cut short or damaged is passed over. Files are moved into place whole: any number of processes may
look for the same one, make it and keep it at once. Deleting them costs the next start some seconds.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Sequence
from functools import cache
from pathlib import Path

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
    """The start of a file's name: readable, and unique to all that the export depends on.

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
        _code_digest(),
    ]
    digest = hashlib.sha256(json.dumps(depends_on).encode()).hexdigest()[:_DIGEST_LENGTH]
    return "-".join(filter(None, [weights_file, part, digest]))


def find(places: Sequence[Path], name: str) -> Path | None:
    """The file kept under a stem, in the first place that has it undamaged."""
    for place in places:
        with contextlib.suppress(OSError):
            for path in sorted(place.glob(f"{name}-*.onnx")):
                if path.name == _file_name(name, file_sha256(path)):
                    return path
    return None


def keep(places: Sequence[Path], name: str, model: Path) -> Path | None:
    """Copies a file to the first place that takes it; None where none does."""
    final = _file_name(name, file_sha256(model))
    for place in places:
        temporary = place / f".{name}.{uuid.uuid4().hex}.part"
        try:
            place.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(model, temporary)
            return temporary.replace(place / final)
        except OSError:  # read-only, full: keeping is a convenience
            with contextlib.suppress(OSError):
                temporary.unlink()
    return None


def _file_name(name: str, sha256: str) -> str:
    return f"{name}-{sha256[:_DIGEST_LENGTH]}.onnx"


@cache
def _code_digest() -> str:
    """Of the code: another architecture, or another way to export it, is another export."""
    root = Path(__file__).parents[1]
    sources = [path for name in _SOURCES for path in sorted(root.glob(name))]
    return hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()
