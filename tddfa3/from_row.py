"""Recomputes faces from their rows, without networks: meshes, landmarks, masks, renders.

Shape, pose, albedo and light are functions of the coefficients, which a row contains. Only textures
extracted from the photograph need the photograph again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from tddfa3.assets.bundle import AssetBundle
from tddfa3.coefficients import Coefficients
from tddfa3.device import choose_device, crops_to_tensor
from tddfa3.errors import UserError
from tddfa3.face import Candidate, Face
from tddfa3.face_geometry import FaceGeometry
from tddfa3.geometry.crop import CropTransform, crop_image
from tddfa3.outputs import Outputs

Floats = NDArray[np.float32]
Picture = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class FaceNumbers:
    """The columns of a row that a face can be recomputed from.

    Attributes:
        coefficients: float32 (n,), id | exp | alb | angle | sh | trans.
        crop: maps between the photograph and the 224 crop.
        face_index: rank by score within the photograph.
        n_faces: faces found in the photograph.
        box: float32 (4,) x0, y0, x1, y1 in image pixels, or None.
        score: the detector's score; NaN if unknown.
        points5: the detector's points for the quality signals, float32 (5, 2) image pixels, or
            None.
        points106: the same, float32 (106, 2), or None.
    """

    coefficients: Floats
    crop: CropTransform
    face_index: int = 0
    n_faces: int = 1
    box: Floats | None = None
    score: float = float("nan")
    points5: Floats | None = None
    points106: Floats | None = None

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> FaceNumbers:
        """Takes the numbers from a row of the labels, whichever library read it.

        Args:
            row: with the columns ``coef_*`` and ``crop_params``; ``face_index``, ``n_faces``,
                ``box``, ``score``, ``points5`` and ``points106`` are optional.

        Returns:
            the face's numbers.

        Raises:
            ValueError: Naming the column, if one is missing, null or not finite.
        """
        parts = [_numbers(row, f"coef_{name}") for name in Coefficients._fields]
        score = row.get("score")
        return cls(
            coefficients=np.concatenate(parts).astype(np.float32),
            crop=CropTransform.from_params(_numbers(row, "crop_params")),
            face_index=int(row.get("face_index") or 0),
            n_faces=int(row.get("n_faces") or 1),
            box=_optional(row, "box"),
            score=float("nan") if score is None else float(score),
            points5=_points(row, "points5"),
            points106=_points(row, "points106"),
        )


class FaceRebuilder:
    """Makes the labeler's records from rows.

    Args:
        bundle: the assets that the rows were labelled with (compare the digests).
        outputs: what to compute.
        device: "auto", "cpu" or "cuda[:i]".
        rasterizer: "auto", "nvdiffrast" or "cpu".
        batch: faces at a time; bounds the memory.
        threads: of the rasterizer on a CPU; None for PyTorch's setting.

    Raises:
        UserError: If a choice is unknown or a device is not available.
    """

    def __init__(
        self,
        bundle: AssetBundle,
        outputs: Outputs,
        *,
        device: str = "auto",
        rasterizer: str = "auto",
        batch: int = 16,
        threads: int | None = None,
    ) -> None:
        if batch < 1:
            raise UserError(f"batch: {batch} faces at a time is too few; give 1 or more")
        self.batch = batch
        self._geometry = FaceGeometry(
            bundle.face_model(),
            outputs,
            device=choose_device(device),
            rasterizer=rasterizer,
            threads=threads,
        )

    @property
    def part_names(self) -> tuple[str, ...]:
        """Names of the face model's parts, in the order of the masks."""
        return self._geometry.part_names

    @torch.inference_mode()
    def __call__(
        self, faces: Sequence[FaceNumbers], images: Sequence[Picture] | None = None
    ) -> list[Face]:
        """Recomputes faces.

        Args:
            faces: the numbers of each face.
            images: the photograph of each face, uint8 (h0, w0, 3) RGB, upright; needed for
                extracted textures only.

        Returns:
            one record per face, in order.

        Raises:
            ValueError: If the number of coefficients differs from the bundle's, a photograph's size
                differs from the row's, or a photograph that is needed is missing.
        """
        if images is not None and len(images) != len(faces):
            raise ValueError(f"{len(faces)} faces need as many images, not {len(images)}")
        rebuilt: list[Face] = []
        for start in range(0, len(faces), self.batch):
            part = slice(start, start + self.batch)
            rebuilt += self._batch(faces[part], None if images is None else images[part])
        return rebuilt

    def _batch(self, faces: Sequence[FaceNumbers], images: Sequence[Picture] | None) -> list[Face]:
        geometry = self._geometry
        alpha = torch.from_numpy(np.stack([face.coefficients for face in faces]))
        crops = None
        if images is not None:
            cut = [crop_image(image, face.crop) for image, face in zip(images, faces, strict=True)]
            crops = crops_to_tensor(np.stack(cut), geometry.device)
        batch = geometry.label_coefficients(alpha.to(geometry.device), crops)
        return geometry.faces(batch, [_candidate(i, face) for i, face in enumerate(faces)])


def _candidate(image: int, face: FaceNumbers) -> Candidate:
    return Candidate(
        image=image,
        face_index=face.face_index,
        box=np.zeros(4, np.float32) if face.box is None else face.box,
        score=face.score,
        points5=face.points5,
        points106=face.points106,
        crop=face.crop,
        n_faces=face.n_faces,
    )


def _numbers(row: Mapping[str, Any], name: str) -> NDArray[np.float64]:
    value: ArrayLike | None = row.get(name)
    if value is None:
        raise ValueError(f"{name}: missing or null; a row of a labelled face is needed")
    numbers = np.asarray(value, dtype=np.float64)
    if numbers.ndim != 1 or not np.isfinite(numbers).all():
        raise ValueError(f"{name}: {numbers.shape} numbers, not all of them finite or not a list")
    return numbers


def _optional(row: Mapping[str, Any], name: str) -> Floats | None:
    value = row.get(name)
    return None if value is None else np.asarray(value, dtype=np.float32)


def _points(row: Mapping[str, Any], name: str) -> Floats | None:
    values = _optional(row, name)
    return None if values is None else values.reshape(-1, 2)
