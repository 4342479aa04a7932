"""What the golden outputs say about a face, as our own types."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import torch

from tddfa3.coefficients import split
from tddfa3.geometry.crop import CropTransform
from tddfa3.geometry.face_model import FaceModel, Geometry

FOUND = ("astronaut__retinaface", "ex1__retinaface")
"""Photographs in which upstream found the face."""
CROPS = ("crop_astronaut__none", "crop_ex1__none")
"""Inputs that upstream took for crops."""


def golden_names(inputs: Iterable[str]) -> list[str]:
    """Of the golden outputs for these inputs, by both networks, drawn with nvdiffrast."""
    return [f"{each}__{backbone}__nvdr" for each in inputs for backbone in ("resnet50", "mbnetv3")]


def golden_geometry(model: FaceModel, wanted: Mapping[str, np.ndarray]) -> Geometry:
    """The one face (B = 1) of upstream's coefficients."""
    return model(split(torch.from_numpy(wanted["alpha"])[None], model.sizes))


def golden_crop(wanted: Mapping[str, np.ndarray]) -> CropTransform:
    """Where upstream's crop lies in the photograph."""
    params = wanted["trans_params"]
    return CropTransform.from_params(params) if params.size else CropTransform.identity()
