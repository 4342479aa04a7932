"""Figures of merit: 68 landmarks, pose and mouth against what MediaPipe found in photographs."""

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
# Points that expressions move little: the pose is solved from them.
RIGID = [0, 1, 2, 14, 15, 16, 27, 28, 29, 30, 31, 32, 33, 34, 35, 36, 39, 42, 45]
# iBUG's numbers of the image-left half -> of the image-right half.
MIRROR = (
    {i: 16 - i for i in range(8)}
    | {17 + i: 26 - i for i in range(5)}
    | {31: 35, 32: 34, 36: 45, 37: 44, 38: 43, 39: 42, 40: 47, 41: 46}
    | {48: 54, 49: 53, 50: 52, 57: 57, 58: 56, 59: 55, 60: 64, 61: 63, 67: 65}
)


@dataclass(frozen=True)
class ReferencePhoto:
    """A photograph and MediaPipe's 68 points in it."""

    name: str
    image: npt.NDArray[np.uint8]
    """(H,W,3) RGB."""
    reference: Floats
    """(68,2) image pixels."""


@dataclass(frozen=True)
class Measured:
    """What was found in one photograph, in the units of the table."""

    name: str
    errors: Floats
    """(68,) distances in % of the distance of the outer eye corners."""
    yaw_error: float
    """Degrees, found minus MediaPipe's."""
    pitch_error: float
    opening: float
    """Between the inner lips, in outer-eye distances."""
    reference_opening: float

    @property
    def mean(self) -> float:
        """Mean error over all points."""
        return float(self.errors.mean())

    def group(self, name: str) -> float:
        """Mean error over one of :data:`GROUPS`."""
        return float(self.errors[list(GROUPS[name])].mean())


def read_photos(folder: Path) -> list[ReferencePhoto]:
    """Every image of a folder that has its points beside it, in the order of their names.

    Raises:
        UserError: there is none, or its points are not 68 lines of x and y.
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
    """Reads reference points (68,2).

    Raises:
        UserError: the file is not 68 lines of two numbers.
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
    """Compare what was found with the photograph's reference.

    Args:
        photo: the photograph and its reference points.
        landmarks: (68,2) image pixels.
        yaw: degrees.
        pitch: degrees.
        camera: the photograph's camera, whose focal length the reference's pose is solved with.
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
    """Distance between the outer corners of the eyes of ``points`` (68,2), in their unit."""
    return float(np.linalg.norm(np.diff(points[OUTER_EYES], axis=0)))


def opening(points: Floats, scale: float) -> float:
    """Distance between the inner lips of ``points`` (68,2), as a share of ``scale``."""
    return float(np.linalg.norm(np.diff(points[INNER_LIPS], axis=0))) / scale


def canonical_points() -> Floats:
    """(19,3) the rigid landmarks of MediaPipe's mean face, model frame: y up, z to the camera."""
    places = {i: np.array(place) for i, place in MEASURED_68.items()}
    for image_left, image_right in MIRROR.items():
        places[image_right] = places[image_left] * [-1, 1, 1]
    return np.stack([places[i] for i in RIGID])


def pose_of_points(points: Floats, K: Floats) -> tuple[float, float]:
    """Yaw and pitch in degrees of MediaPipe's mean face on 68 points, by our sign convention.

    The perspective-n-point problem over the points that expressions move little, least squares of
    the distances in the picture. MediaPipe gives points, not angles; the same rigid face is used
    for every photograph, so what it leaves is the spread of real faces around it.
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
    """Pearson's; nan where there are fewer than three values or one side does not vary."""
    if len(a) < 3 or np.std(a) == 0 or np.std(b) == 0:
        return float("nan")
    return float(np.corrcoef(a, b)[0, 1])
