"""Writes bundles atomically: built in a folder next to the destination, then renamed."""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors.numpy import save as numpy_bytes
from safetensors.torch import save as torch_bytes

from tddfa3.assets.bundle import (
    BACKBONES,
    BUNDLE_FORMAT,
    BUNDLE_JSON,
    CORRESPONDENCES_FILE,
    CROP,
    DETECTOR_FILES,
    FACE_MODEL_FILE,
    LIGHTINGS,
    REFINEMENTS,
    AssetBundle,
    backbone_file,
    file_sha256,
)
from tddfa3.assets.face_model_data import Array, FaceModelData
from tddfa3.errors import AssetError

if TYPE_CHECKING:
    from torch import Tensor

STALE_SECONDS = 24 * 3600
"""Age from which a temporary folder of a killed writer is removed."""


@dataclass(frozen=True)
class Origin:
    """Source and licence of a bundle or a file."""

    source: str
    licence: str


@dataclass(frozen=True)
class BundleContents:
    """Everything that goes into a bundle.

    Attributes:
        name: of the bundle.
        origin: of the bundle, and of files that ``origins`` does not name.
        notice: what users of the bundle should know.
        recipe: what the bundle is made from; bundles with the same recipe are identical.
        face_model: the 3DMM.
        networks: file name to tensors.
        origins: file name to the origin of that file.
        correspondences: "SOURCE_TARGET" to int32 indices.
        backbones: name to architecture, best first, of backbones that may be among the networks.
        lighting: the preferred lighting.
        refine: the preferred refinement.
        texts: file name to content of files for people to read.
        compact: halve the face model's file by rounding its bases to float16.
    """

    name: str
    origin: Origin
    notice: str
    recipe: Mapping[str, Any]
    face_model: FaceModelData
    networks: Mapping[str, Mapping[str, Tensor]]
    origins: Mapping[str, Origin] = field(default_factory=dict)
    correspondences: Mapping[str, Array] = field(default_factory=dict)
    backbones: Mapping[str, str] = field(default_factory=lambda: dict(BACKBONES))
    lighting: str = LIGHTINGS[0]
    refine: str = REFINEMENTS[0]
    texts: Mapping[str, str] = field(default_factory=dict)
    compact: bool = False


def existing_bundle(dest: Path, recipe: Mapping[str, Any]) -> AssetBundle | None:
    """Looks for a complete bundle of this recipe at ``dest``.

    Args:
        dest: folder of the bundle.
        recipe: what it is to be made from.

    Returns:
        the bundle, or None if one can be written there.

    Raises:
        AssetError: If something else is there; a user's files are never overwritten.
    """
    if not dest.exists() or (dest.is_dir() and not any(dest.iterdir())):
        return None
    try:
        there = json.loads((dest / BUNDLE_JSON).read_text(encoding="utf-8")).get("recipe")
    except (OSError, ValueError, AttributeError):
        there = None
    if there is None:
        raise AssetError(f"{dest} exists and is not a bundle; remove it or choose another folder")
    if there != recipe:
        # A bundle of an older version of the generator is replaced.
        if isinstance(there, dict) and {**there, "version": 0} == {**recipe, "version": 0}:
            return None
        raise AssetError(
            f"{dest} holds another bundle ({there}); remove it or choose another folder"
        )
    try:
        return AssetBundle.load(dest)
    except AssetError:
        return None


def write_bundle(dest: Path, contents: BundleContents) -> AssetBundle:
    """Writes a bundle atomically.

    If two processes write the same bundle at once, both succeed, and one of the two identical
    results remains.

    Args:
        dest: folder of the bundle.
        contents: what to write.

    Returns:
        the bundle.

    Raises:
        AssetError: If it cannot be written, or something else is at ``dest``.
    """
    try:
        with _scratch_folder(dest) as scratch:
            manifest = _manifest(contents, _write_files(scratch, contents))
            text = json.dumps(manifest, indent=2, ensure_ascii=False) + "\n"
            (scratch / BUNDLE_JSON).write_text(text, encoding="utf-8")
            with _alone_in(dest.parent):
                _move_into_place(scratch, dest, contents.recipe)
                return AssetBundle.load(dest)
    except OSError as error:
        raise AssetError(f"can't write the bundle {dest}: {error.strerror or error}") from error


@contextmanager
def _scratch_folder(dest: Path) -> Iterator[Path]:
    """A new folder next to ``dest``; removed at the end unless it was renamed."""
    dest.parent.mkdir(parents=True, exist_ok=True)
    prefix = f".{dest.name}.new-"
    for old in dest.parent.glob(f"{prefix}*"):  # left by a writer that was killed
        with suppress(FileNotFoundError):  # its writer finished in the meantime
            if time.time() - old.stat().st_mtime > STALE_SECONDS:
                shutil.rmtree(old, ignore_errors=True)
    scratch = dest.parent / f"{prefix}{secrets.token_hex(6)}"
    scratch.mkdir()
    try:
        yield scratch
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _move_into_place(scratch: Path, dest: Path, recipe: Mapping[str, Any]) -> None:
    """Renames ``scratch`` to ``dest``, replacing an incomplete bundle of the same recipe."""
    if existing_bundle(dest, recipe) is not None:
        return  # another process was faster, with the same content
    if dest.exists():
        outdated = scratch.with_name(scratch.name + ".old")
        os.rename(dest, outdated)
        shutil.rmtree(outdated, ignore_errors=True)
    os.rename(scratch, dest)


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Locks a folder against other writers; the kernel releases the lock if the process dies.

    Where folders cannot be locked, there is no lock.
    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _write_files(folder: Path, contents: BundleContents) -> dict[str, dict[str, Any]]:
    # Not save_file of safetensors, which makes files that only their owner may read.
    arrays = contents.face_model.to_arrays(compact=contents.compact)
    (folder / FACE_MODEL_FILE).write_bytes(numpy_bytes(arrays))
    for name, text in contents.texts.items():
        (folder / name).write_text(text, encoding="utf-8")
    for name, tensors in contents.networks.items():
        (folder / name).write_bytes(torch_bytes(dict(tensors)))
    if contents.correspondences:
        correspondences = numpy_bytes(dict(contents.correspondences))
        (folder / CORRESPONDENCES_FILE).write_bytes(correspondences)
    return {
        path.name: {
            "sha256": file_sha256(path),
            "bytes": path.stat().st_size,
            "licence": contents.origins.get(path.name, contents.origin).licence,
            "source": contents.origins.get(path.name, contents.origin).source,
        }
        for path in sorted(folder.glob("*.safetensors"))
    }


def _manifest(contents: BundleContents, files: dict[str, dict[str, Any]]) -> dict[str, Any]:
    model = contents.face_model
    return {
        "format": BUNDLE_FORMAT,
        "name": contents.name,
        "source": contents.origin.source,
        "licence": contents.origin.licence,
        "notice": contents.notice,
        "recipe": dict(contents.recipe),
        "files": files,
        "topology": {"vertices": model.n_vertices, "triangles": model.n_triangles},
        "coefficients": {
            "id": model.id_basis.shape[2],
            "exp": model.exp_basis.shape[2],
            "alb": model.albedo_basis.shape[2],
        },
        "landmarks": {name: len(index) for name, index in model.landmarks.items()},
        "parts": list(model.part_names),
        "correspondences": sorted(contents.correspondences),
        "backbones": {
            name: {
                "file": backbone_file(name),
                "architecture": architecture,
                "input_size": CROP["size"],
            }
            for name, architecture in contents.backbones.items()
            if backbone_file(name) in files
        },
        "detectors": {
            name: {"files": list(needed)}
            for name, needed in DETECTOR_FILES.items()
            if all(file in files for file in needed)
        },
        "lighting": contents.lighting,
        "refine": contents.refine,
        "crop": CROP,
    }
