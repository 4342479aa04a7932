"""MTCNN's trained weights, from the data files of the installed package ``mtcnn`` (MIT).

The package is not imported, because that would import TensorFlow.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from tddfa3.assets.bundle_writer import Origin
from tddfa3.assets.face_model_data import Array
from tddfa3.errors import AssetError, UnavailableError

PACKAGE = "mtcnn"
LICENCE = "MIT, Copyright (c) 2019-2024 Iván de Paz Centeno"


@dataclass(frozen=True)
class Stage:
    """One of the three networks.

    Attributes:
        name: "pnet", "rnet" or "onet".
        convs: number of convolutions.
        dense: whether it has a fully connected layer.
        heads: sizes of its outputs.
    """

    name: str
    convs: int
    dense: bool
    heads: tuple[int, ...]


STAGES = (
    Stage("pnet", convs=3, dense=False, heads=(4, 2)),
    Stage("rnet", convs=3, dense=True, heads=(4, 2)),
    Stage("onet", convs=4, dense=True, heads=(4, 10, 2)),
)
"""Heads in the order of the files: box offsets, five points (O-Net only), face or not."""


def package_version() -> str:
    """Version of the installed package.

    Raises:
        UnavailableError: If it is not installed.
    """
    try:
        return metadata.version(PACKAGE)
    except metadata.PackageNotFoundError:
        raise UnavailableError(
            "MTCNN's weights come from the package `mtcnn`, which is not installed; "
            "`pip install 'mtcnn>=1.0,<2'`, or leave the detector mtcnn out"
        ) from None


def origin() -> Origin:
    """Source, with the package's version, and licence of the weights."""
    return Origin(source=f"PyPI package {PACKAGE} {package_version()}", licence=LICENCE)


def package_files() -> dict[str, Path]:
    """The weights file of each stage, by the stage's name.

    Raises:
        UnavailableError: If the package is not installed.
        AssetError: If it has no such files.
    """
    version = package_version()
    wanted = {f"{stage.name}.lz4": stage.name for stage in STAGES}
    found = {
        wanted[file.name]: Path(str(file.locate()))
        for file in metadata.files(PACKAGE) or ()
        if file.name in wanted
    }
    missing = [stage.name for stage in STAGES if stage.name not in found]
    if missing:
        raise AssetError(
            f"the installed mtcnn {version} has no weights for {', '.join(missing)}; "
            "`pip install mtcnn==1.0.0`"
        )
    return found


def torch_tensors(stage: Stage, arrays: Sequence[Array], file: str) -> dict[str, Tensor]:
    """Converts Keras arrays to named tensors in PyTorch's layout.

    Convolutions (kh, kw, I, O) become (O, I, kh, kw), dense weights (I, O) become (O, I), slopes
    (1, 1, C) become (C,).

    Args:
        stage: the network.
        arrays: in the order of the file.
        file: its name for messages.

    Returns:
        float32 tensors by the names of the detector's module: ``pnet.convs.0.weight``,
        ``pnet.prelus.0.weight``, ``rnet.fc.weight``, ``rnet.fc_prelu.weight``,
        ``rnet.heads.0.weight``.

    Raises:
        AssetError: If the arrays do not fit the network.
    """
    names = list(_names(stage))
    if len(arrays) != len(names):
        raise AssetError(f"{file} has {len(arrays)} arrays, {stage.name} needs {len(names)}")
    tensors = {
        f"{stage.name}.{name}": torch.from_numpy(_torch_layout(name, array))
        for name, array in zip(names, arrays, strict=True)
    }
    outputs = tuple(len(tensors[f"{stage.name}.heads.{i}.bias"]) for i in range(len(stage.heads)))
    if outputs != stage.heads:
        raise AssetError(f"{file}: heads give {outputs} numbers, {stage.name} needs {stage.heads}")
    return tensors


def _names(stage: Stage) -> Iterator[str]:
    for i in range(stage.convs):
        yield from (f"convs.{i}.weight", f"convs.{i}.bias", f"prelus.{i}.weight")
    if stage.dense:
        yield from ("fc.weight", "fc.bias", "fc_prelu.weight")
    for i in range(len(stage.heads)):
        yield from (f"heads.{i}.weight", f"heads.{i}.bias")


def _torch_layout(name: str, array: Array) -> Array:
    if "prelu" in name:
        array = array.ravel()
    elif array.ndim == 4:
        array = array.transpose(3, 2, 0, 1)
    elif array.ndim == 2:
        array = array.T
    return np.array(array, dtype=np.float32, order="C")
