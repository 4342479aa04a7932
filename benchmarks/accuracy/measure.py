"""Errors of 68 landmarks, pose and mouth relative to what MediaPipe found in photographs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from tddfa3.assets.generators.open_face.proportions import MEASURED_68
from tddfa3.errors import UserError
from tddfa3.geometry.camera import ImageCamera

Floats = npt.NDArray[np.float64]

REFERENCE_SUFFIX = ".mediapipe68.txt"
GROUPS = {
    "contour": range(17),
    "brows": range(17, 27),
    "nose": range(27, 36),
    "eyes": range(36, 48),
    "mouth": range(48, 68),
}
OUTER_EYES = [36, 45]
INNER_LIPS = [62, 66]
RIGID = [0, 1, 2, 14, 15, 16, 27, 28, 29, 30, 31, 32, 33, 34, 35, 36, 39, 42, 45]
"""Points that expressions move little, from which the pose is solved."""
MIRROR = (
    {i: 16 - i for i in range(8)}
    | {17 + i: 26 - i for i in range(5)}
    | {31: 35, 32: 34, 36: 45, 37: 44, 38: 43, 39: 42, 40: 47, 41: 46}
    | {48: 54, 49: 53, 50: 52, 57: 57, 58: 56, 59: 55, 60: 64, 61: 63, 67: 65}
)
"""iBUG's numbers of the image-left half to those of the image-right half."""


@dataclass(frozen=True)
class ReferencePhoto:
    """A photograph and MediaPipe's 68 points in it.

    Attributes:
        name: of the file, without extension.
        image: (H,W,3) RGB.
        reference: (68,2) image pixels.
    """

    name: str
    image: npt.NDArray[np.uint8]
    reference: Floats


@dataclass(frozen=True)
class Measured:
    """The errors in one photograph, in the units of the table.

    Attributes:
        name: of the photograph.
        errors: (68,) distances in % of the distance of the outer eye corners.
        yaw_error: degrees, found minus MediaPipe's.
        pitch_error: likewise.
        opening: gap between the inner lips, in outer-eye distances.
        reference_opening: MediaPipe's.
    """

    name: str
    errors: Floats
    yaw_error: float
    pitch_error: float
    opening: float
    reference_opening: float

    @property
    def mean(self) -> float:
        """Mean error of all landmarks."""
        return float(self.errors.mean())

    def group(self, name: str) -> float:
        """Mean error of one of ``GROUPS``."""
        return float(self.errors[list(GROUPS[name])].mean())


def read_photos(folder: Path) -> list[ReferencePhoto]:
    """Every image of a folder that has its points beside it, sorted by name.

    Raises:
        UserError: there is none, or points are not 68 lines of x and y.
    """
    photos = []
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        points = path.with_name(path.stem + REFERENCE_SUFFIX)
        if path.suffix.lower() in (".jpg", ".jpeg", ".png") and points.exists():
            with Image.open(path) as image:
                pixels = np.asarray(image.convert("RGB"))
            photos.append(ReferencePhoto(path.stem, pixels, read_points(points)))
    if not photos:
        raise UserError(
            f"{folder} has no photograph with NAME{REFERENCE_SUFFIX} beside it; there is nothing "
            "to measure"
        )
    return photos


def read_points(path: Path) -> Floats:
    """Points (68,2) from a text file.

    Raises:
        UserError: it is not 68 lines of two numbers.
    """
    try:
        points = np.loadtxt(path, dtype=np.float64, ndmin=2)
    except (OSError, ValueError) as error:
        raise UserError(f"{path} can't be read as points: {error}") from error
    if points.shape != (68, 2) or not np.isfinite(points).all():
        raise UserError(f"{path} holds {points.shape} numbers; it must be 68 lines of x and y")
    return points


def measure(
    photo: ReferencePhoto, landmarks: npt.ArrayLike, yaw: float, pitch: float, camera: ImageCamera
) -> Measured:
    """Compares a face with the photograph's reference.

    Args:
        photo: with its reference points.
        landmarks: (68,2) image pixels.
        yaw: degrees.
        pitch: degrees.
        camera: the photograph's, with which the pose of the reference points is solved.
    """
    found = np.asarray(landmarks, np.float64)
    reference = photo.reference
    scale = outer_eye_distance(reference)
    reference_yaw, reference_pitch = pose_of_points(reference, camera.K)
    return Measured(
        photo.name,
        100 * np.linalg.norm(found - reference, axis=1) / scale,
        yaw - reference_yaw,
        pitch - reference_pitch,
        opening(found, scale),
        opening(reference, scale),
    )


def outer_eye_distance(points: Floats) -> float:
    """Distance of the outer eye corners among points (68,2)."""
    return float(np.linalg.norm(np.diff(points[OUTER_EYES], axis=0)))


def opening(points: Floats, scale: float) -> float:
    """Gap between the inner lips of points (68,2), in units of ``scale``."""
    return float(np.linalg.norm(np.diff(points[INNER_LIPS], axis=0))) / scale


def canonical_points() -> Floats:
    """(19,3) the rigid landmarks of MediaPipe's mean face; model frame: y up, z to the camera."""
    places = {i: np.array(place) for i, place in MEASURED_68.items()}
    for image_left, image_right in MIRROR.items():
        places[image_right] = places[image_left] * [-1, 1, 1]
    return np.stack([places[i] for i in RIGID])


def pose_of_points(points: Floats, K: Floats) -> tuple[float, float]:
    """Yaw and pitch of MediaPipe's mean face fitted to 68 points, in degrees, with our signs.

    MediaPipe gives points, not angles. So the perspective-n-point problem is solved by least
    squares in the picture, over the points that expressions move little. The same rigid face is
    used for every photograph, so the angles vary a little with how real faces differ from it.
    """
    canonical = canonical_points() * [1, -1, -1]  # OpenCV's axes
    target = np.ascontiguousarray(points[RIGID])
    _, rotation, translation = cv2.solvePnP(canonical, target, K, None, flags=cv2.SOLVEPNP_SQPNP)
    rotation, _ = cv2.solvePnPRefineLM(canonical, target, K, None, rotation, translation)
    flip = np.diag([1.0, -1.0, -1.0])
    turn = flip @ cv2.Rodrigues(rotation)[0] @ flip  # Rz(roll) Ry(yaw) Rx(pitch)
    yaw = -np.degrees(np.arcsin(np.clip(turn[2, 0], -1, 1)))
    return float(yaw), float(np.degrees(np.arctan2(turn[2, 1], turn[2, 2])))


def summary(faces: Sequence[Measured]) -> Mapping[str, float]:
    """Means over faces: landmark errors in %, absolute pose errors in degrees, correlation."""
    figures = {"mean": float(np.mean([face.mean for face in faces]))}
    figures |= {name: float(np.mean([face.group(name) for face in faces])) for name in GROUPS}
    figures["yaw"] = float(np.mean([abs(face.yaw_error) for face in faces]))
    figures["pitch"] = float(np.mean([abs(face.pitch_error) for face in faces]))
    figures["opening"] = correlation(
        [face.opening for face in faces], [face.reference_opening for face in faces]
    )
    return figures


def correlation(a: Sequence[float], b: Sequence[float]) -> float:
    """Pearson's correlation; nan for fewer than three values or if one side does not vary."""
    if len(a) < 3 or np.std(a) == 0 or np.std(b) == 0:
        return float("nan")
    return float(np.corrcoef(a, b)[0, 1])
