"""Synthetic assets in upstream's own file formats, and hashes of their content."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import scipy.io
import torch

from tddfa3.assets.upstream import (
    FACE_MODEL_NPY,
    LANDMARKS106_PTH,
    NETWORK_FILES,
    SIMILARITY_MAT,
)

MAT_HEADER_BYTES = 116


def upstream_content(file: str, tensors: Mapping[str, torch.Tensor]) -> dict[str, Any]:
    """A network's tensors, wrapped as in upstream's ``file``."""
    if file == LANDMARKS106_PTH:
        tensors = {f"module.{key}": tensor for key, tensor in tensors.items()}
    state_key = NETWORK_FILES[file][1]
    return {state_key: dict(tensors)} if state_key else dict(tensors)


def write_upstream_files(
    folder: Path,
    face_model: Mapping[str, Any],
    landmarks68: np.ndarray[Any, Any],
    networks: Mapping[str, Mapping[str, torch.Tensor]],
) -> None:
    """Writes ``face_model.npy``, ``similarity_Lm3D_all.mat`` and the networks' ``.pth`` files.

    Args:
        folder: is made if it is missing.
        face_model: the dictionary of ``face_model.npy``.
        landmarks68: (68, 3) mean landmarks.
        networks: upstream's file names to tensors.
    """
    folder.mkdir(parents=True, exist_ok=True)
    # A 0-d array of one object, as upstream saves it, hence the pickle inside.
    np.save(folder / FACE_MODEL_NPY, np.array(dict(face_model), dtype=object), allow_pickle=True)
    scipy.io.savemat(folder / SIMILARITY_MAT, {"lm": landmarks68})
    with (folder / SIMILARITY_MAT).open("r+b") as file:  # its header would hold today's date
        file.write(b"MATLAB 5.0 MAT-file, synthetic".ljust(MAT_HEADER_BYTES))
    for name, tensors in networks.items():
        torch.save(upstream_content(name, tensors), folder / name)


def content_hash(content: Any) -> str:
    """sha256 over keys, dtypes, shapes and values: independent of pickle and zip details."""
    digest = hashlib.sha256()
    _update(digest, content)
    return digest.hexdigest()


def _update(digest: Any, content: Any) -> None:
    if isinstance(content, Mapping):
        for key in sorted(content):
            digest.update(str(key).encode())
            _update(digest, content[key])
    elif isinstance(content, list | tuple):
        for value in content:
            _update(digest, value)
    else:
        value = content.numpy() if isinstance(content, torch.Tensor) else content
        array = np.ascontiguousarray(value)
        digest.update(f"{array.dtype}{array.shape}".encode())
        digest.update(array.tobytes())
