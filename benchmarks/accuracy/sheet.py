"""A picture of every labelled photograph, to look at: points on the left, the mesh on the right."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from benchmarks.accuracy.measure import ReferencePhoto
from tddfa3.conventions import CROP_SIZE
from tddfa3.drawing.draw import covered_by_face
from tddfa3.face import Face
from tddfa3.geometry.crop import crop_image

ENLARGED = 2
PER_ROW = 3
FOUND, REFERENCE = (255, 60, 60), (80, 255, 80)
MESH_OPACITY = 0.65


def write_sheet(path: Path, photos: Sequence[ReferencePhoto], faces: Sequence[Face | None]) -> None:
    """Writes a PNG or JPEG, by the file's extension; the faces need the render "shape"."""
    tiles = [
        tile(photo, face) if face is not None else _empty_tile()
        for photo, face in zip(photos, faces, strict=True)
    ]
    tiles += [_empty_tile()] * (-len(tiles) % PER_ROW)
    rows = [np.concatenate(tiles[i : i + PER_ROW], 1) for i in range(0, len(tiles), PER_ROW)]
    cv2.imwrite(str(path), cv2.cvtColor(np.concatenate(rows), cv2.COLOR_RGB2BGR))


def tile(photo: ReferencePhoto, face: Face) -> npt.NDArray[np.uint8]:
    """The crop with the found points (red) and the reference's (green), then with the mesh."""
    crop = crop_image(photo.image, face.crop)
    size = (CROP_SIZE * ENLARGED, CROP_SIZE * ENLARGED)
    pointed = cv2.resize(crop, size, interpolation=cv2.INTER_CUBIC)
    for points, colour in ((photo.reference, REFERENCE), (face.landmarks["68"], FOUND)):
        for x, y in face.crop.to_crop(points) * ENLARGED:
            cv2.circle(pointed, (round(x), round(y)), 2, colour, -1, cv2.LINE_AA)
    covered = covered_by_face(face)[..., None] * MESH_OPACITY
    meshed = crop * (1 - covered) + face.renders["shape"].astype(np.float64) * covered
    meshed = cv2.resize(meshed.astype(np.uint8), size, interpolation=cv2.INTER_CUBIC)
    cv2.putText(meshed, photo.name, (6, 18), cv2.FONT_HERSHEY_SIMPLEX, 0.5, FOUND, 1, cv2.LINE_AA)
    return np.concatenate([pointed, meshed], 1)


def _empty_tile() -> npt.NDArray[np.uint8]:
    side = CROP_SIZE * ENLARGED
    return np.zeros((side, 2 * side, 3), np.uint8)
