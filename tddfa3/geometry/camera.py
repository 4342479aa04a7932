"""Pose, projection, and the camera of the original photograph.

Frames (``docs/geometry.md``): *model* x to the image's right, y up, z towards the camera; *camera*
x right, y up, z = distance from the camera; *crop, y up* the 224 crop's pixels with y up;
*image pixels* the photograph, x right, y down. Angles are (pitch, yaw, roll) in radians.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar, cast

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from tddfa3.conventions import CAMERA_DISTANCE, CENTRE, CROP_SIZE, FOCAL

if TYPE_CHECKING:
    from tddfa3.geometry.crop import CropTransform

NEAR, FAR = 5.0, 15.0
"""Clip planes of :func:`clip_space`, distances from the camera in model units."""

Floats = NDArray[np.float64]
Vertices = TypeVar("Vertices", Tensor, NDArray[np.float32], NDArray[np.float64])

_OPENCV_AXES = np.diag([1.0, -1.0, -1.0])
_OPENCV_ORIGIN = np.array([0.0, 0.0, CAMERA_DISTANCE])


@dataclass(frozen=True, slots=True)
class ImageCamera:
    """Pinhole camera of a photograph, OpenCV axes (x right, y down, z forward), float64.

    A point ``v`` of the model frame lies at ``K @ (R @ v + t)``, in homogeneous image pixels.

    Attributes:
        K: (3, 3) intrinsics in image pixels.
        R: (3, 3) rotation from the model frame to the camera's axes.
        t: (3,) translation in model units.
    """

    K: Floats
    R: Floats
    t: Floats

    def project(self, vertices: NDArray[np.floating]) -> Floats:
        """Model frame (..., 3) to image pixels (..., 2)."""
        homogeneous = (vertices @ self.R.T + self.t) @ self.K.T  # (..., 3)
        return cast(Floats, homogeneous[..., :2] / homogeneous[..., 2:])


def rotation_matrix(angle: Tensor) -> Tensor:
    """Rotation for row vectors, ``v @ R``: the transpose of ``Rz(roll) Ry(yaw) Rx(pitch)``.

    Args:
        angle: float (B, 3) pitch, yaw, roll in radians.

    Returns:
        (B, 3, 3), of the dtype of ``angle``.

    Raises:
        ValueError: If an argument has another shape.
    """
    _check_width("angle", angle, 3, ndim=2)
    (sx, sy, sz), (cx, cy, cz) = angle.sin().unbind(1), angle.cos().unbind(1)  # each (B,)
    columns = (
        (cz * cy, sz * cy, -sy),
        (cz * sy * sx - sz * cx, sz * sy * sx + cz * cx, cy * sx),
        (cz * sy * cx + sz * sx, sz * sy * cx - cz * sx, cy * cx),
    )
    return torch.stack([torch.stack(column, dim=1) for column in columns], dim=1)  # (B, 3, 3)


def to_camera(shape: Tensor, rotation: Tensor, trans: Tensor) -> Tensor:
    """Model frame to camera frame: ``v @ R + t``, then z = 10 - z.

    Args:
        shape: (B, V, 3) model frame.
        rotation: (B, 3, 3) for row vectors, from :func:`rotation_matrix`.
        trans: (B, 3) model units.

    Returns:
        (B, V, 3) camera frame.

    Raises:
        ValueError: If the shapes do not fit together.
    """
    _check_width("shape", shape, 3, ndim=3)
    _check_width("trans", trans, 3, ndim=2)
    if rotation.shape != (len(shape), 3, 3) or len(trans) != len(shape):
        raise ValueError(
            f"shape {tuple(shape.shape)}, rotation {tuple(rotation.shape)} and trans "
            f"{tuple(trans.shape)} must be (B, V, 3), (B, 3, 3) and (B, 3) with one B"
        )
    # The flip of z is applied to the small operands, which leaves only two passes over the
    # vertices. Not new_tensor, which torch.func of PyTorch 2.4 cannot differentiate through.
    dtype, device = rotation.dtype, rotation.device
    flip = torch.tensor([1.0, 1.0, -1.0], dtype=dtype, device=device)  # (3,)
    origin = torch.tensor([0.0, 0.0, CAMERA_DISTANCE], dtype=dtype, device=device)  # (3,)
    return (shape @ (rotation * flip)).add_((trans * flip + origin).unsqueeze(1))


def project(camera: Tensor) -> Tensor:
    """Projects camera-frame points into the crop: ``1015 * xy / z + 112``.

    Args:
        camera: (..., 3) camera frame.

    Returns:
        (..., 2) crop frame in pixels, y up.

    Raises:
        ValueError: If the last dimension differs.
    """
    _check_width("camera", camera, 3)
    return camera[..., :2] * (FOCAL / camera[..., 2:]) + CENTRE


def clip_space(camera: Tensor) -> Tensor:
    """Camera frame to homogeneous clip coordinates of the 224 x 224 crop.

    y is negated, so that row 0 of the raster (y_clip = -1) is the TOP row of the crop. The
    perspective is OpenGL's with near 5, far 15, and a field of view of ``2 atan(112 / 1015)``.

    Args:
        camera: (B, V, 3) camera frame.

    Returns:
        (B, V, 4), contiguous; w = z, the distance from the camera.

    Raises:
        ValueError: If an argument has another shape.
    """
    _check_width("camera", camera, 3, ndim=3)
    x, y, z = camera.unbind(-1)  # each (B, V)
    clip = camera.new_empty(*camera.shape[:-1], 4)  # (B, V, 4)
    clip[..., 0] = x * (FOCAL / CENTRE)
    clip[..., 1] = y * (-FOCAL / CENTRE)
    clip[..., 2] = z * ((FAR + NEAR) / (FAR - NEAR)) - 2 * FAR * NEAR / (FAR - NEAR)
    clip[..., 3] = z
    return clip


def depth_from_ndc(ndc: Tensor) -> Tensor:
    """A rasterizer's z/w, -1 (near) to 1 (far), to the distance from the camera.

    This inverts the third and fourth row of :func:`clip_space`.

    Args:
        ndc: any shape.

    Returns:
        the same shape, in model units.
    """
    return 2 * FAR * NEAR / ((FAR + NEAR) - ndc * (FAR - NEAR))


def vertices_in_image_frame(camera: Vertices) -> Vertices:
    """Camera frame to the camera of the photograph, OpenCV axes: (x, -y, z).

    The crop's camera and the photograph's share position and orientation; only their intrinsics
    differ. ``K @ v`` with the K of :func:`image_camera` is therefore a pixel of the photograph.

    Args:
        camera: (..., V, 3), a tensor or an array.

    Returns:
        the same kind, shape and dtype; model units.

    Raises:
        ValueError: If the last dimension differs.
    """
    _check_width("camera", camera, 3)
    if isinstance(camera, Tensor):
        return camera * camera.new_tensor([1.0, -1.0, 1.0])
    return cast(Vertices, camera * np.array([1, -1, 1], dtype=camera.dtype))


def image_camera(angle: ArrayLike, trans: ArrayLike, transform: CropTransform) -> ImageCamera:
    """Camera of the photograph a crop was taken from.

    The crop is a window of the photograph resized to ``transform.width`` x ``transform.height``:
    undoing the crop moves the principal point, undoing the resize scales focal length and principal
    point. Width and height are rounded to whole pixels, so fx and fy differ by a few hundredths of
    a percent.

    Args:
        angle: (3,) pitch, yaw, roll in radians.
        trans: (3,) model units.
        transform: how the crop was taken.

    Returns:
        the camera in float64.

    Raises:
        ValueError: If an argument has another shape.
    """
    angle, trans = _three("angle", angle), _three("trans", trans)
    scale_x = transform.w0 / transform.width
    scale_y = transform.h0 / transform.height
    # Landmarks are flipped with y = 223 - y_up, not 224: the vertical centre is at 111.
    cy = CROP_SIZE - 1 - CENTRE
    K = np.array(  # (3, 3)
        [
            [FOCAL * scale_x, 0.0, (CENTRE + transform.left) * scale_x],
            [0.0, FOCAL * scale_y, (cy + transform.up) * scale_y],
            [0.0, 0.0, 1.0],
        ]
    )
    return ImageCamera(
        K=K,
        R=_OPENCV_AXES @ _column_rotation(angle),
        t=_OPENCV_AXES @ trans + _OPENCV_ORIGIN,
    )


def euler_degrees(angle: Vertices) -> tuple[Vertices, Vertices, Vertices]:
    """Yaw, pitch, roll in degrees, with the signs of the ``angle`` coefficients.

    ======  =========================================================================
    angle   a positive value means, as seen by a viewer of the photograph
    ======  =========================================================================
    yaw     the nose turns to the image's right (the subject's left)
    pitch   the nose goes down
    roll    the head tilts counter-clockwise: its top goes to the image's left
    ======  =========================================================================

    300W-LP and AFLW2000 have all three signs the other way round, and another order of rotations:
    see :func:`pose_para`.

    Args:
        angle: (..., 3) pitch, yaw, roll in radians, a tensor or an array.

    Returns:
        yaw, pitch, roll, each (...).

    Raises:
        ValueError: If the last dimension differs.
    """
    _check_width("angle", angle, 3)
    degrees = angle * (180.0 / np.pi)
    return degrees[..., 1], degrees[..., 0], degrees[..., 2]


def pose_para(angle: ArrayLike, trans: ArrayLike, transform: CropTransform) -> Floats:
    """The pose as AFLW2000's and 300W-LP's ``Pose_Para``: pitch, yaw, roll, tx, ty, tz, scale.

    With ``Q = Rx(-pitch) Ry(-yaw) Rz(-roll)`` (3DDFA's ``RotationMatrix``), a point v of the model
    frame lies in the photograph, seen by the weak-perspective camera that agrees with the true one
    at the model's origin, at ``scale * Q @ v + (tx, ty, tz)``: x in image pixels, y counted up from
    the last row (``y = h0 - 1 - y_up``), z towards the camera. ``tz`` is ``scale`` times the
    translation's z. ``scale`` is in image pixels per model unit; AFLW2000's is per micrometre of
    its own BFM and belongs to its 450 x 450 images, so compare angles, not scales.

    Args:
        angle: (3,) pitch, yaw, roll coefficients in radians.
        trans: (3,) model units.
        transform: how the crop was taken.

    Returns:
        (7,) float64; angles in radians, yaw in [-pi/2, pi/2].

    Raises:
        ValueError: If an argument has another shape.
    """
    angle, trans = _three("angle", angle), _three("trans", trans)
    camera = image_camera(angle, trans, transform)
    x, y = camera.project(np.zeros(3))
    scale = np.sqrt(camera.K[0, 0] * camera.K[1, 1]) / camera.t[2]
    pitch, yaw, roll = _xyz_angles(_column_rotation(angle))
    ty = transform.h0 - 1 - y
    return np.array([-pitch, -yaw, -roll, x, ty, scale * trans[2], scale])


def from_pose_para(pose: ArrayLike, transform: CropTransform) -> tuple[Floats, Floats]:
    """The inverse of :func:`pose_para`.

    Args:
        pose: (7,) pitch, yaw, roll, tx, ty, tz, scale.
        transform: how the crop was taken.

    Returns:
        ``angle`` (3,) in radians and ``trans`` (3,) in model units, float64. The angles are the
        equivalent ones with a yaw in [-pi/2, pi/2].

    Raises:
        ValueError: If ``pose`` is not (7,), or its scale is not positive.
    """
    pose = np.asarray(pose, dtype=np.float64)
    if pose.shape != (7,) or not pose[6] > 0:
        raise ValueError(f"pose must be (7,) with a positive scale, not {pose.shape}: {pose}")
    pitch, yaw, roll, x, ty, _, scale = pose
    K = image_camera(np.zeros(3), np.zeros(3), transform).K  # (3, 3), independent of the pose
    distance = np.sqrt(K[0, 0] * K[1, 1]) / scale
    y = transform.h0 - 1 - ty
    trans = np.array(
        [
            (x - K[0, 2]) * distance / K[0, 0],
            -(y - K[1, 2]) * distance / K[1, 1],
            CAMERA_DISTANCE - distance,
        ]
    )
    rx, ry, rz = (  # each (3, 3)
        _column_rotation(np.where(np.arange(3) == axis, -value, 0.0))
        for axis, value in enumerate((pitch, yaw, roll))
    )
    return _zyx_angles(rx @ ry @ rz), trans


def _column_rotation(angle: Floats) -> Floats:
    """``Rz(roll) Ry(yaw) Rx(pitch)`` (3, 3) for column vectors, float64."""
    return cast(Floats, rotation_matrix(torch.from_numpy(angle)[None])[0].numpy().T)


def _xyz_angles(m: Floats) -> tuple[float, float, float]:
    """a, b, c with ``m = Rx(a) Ry(b) Rz(c)``; c = 0 in gimbal lock, at b = +-90 degrees."""
    b = float(np.arcsin(np.clip(m[0, 2], -1, 1)))
    if abs(m[0, 2]) > 1 - 1e-12:
        return float(np.arctan2(m[2, 1], m[1, 1])), b, 0.0
    return float(np.arctan2(-m[1, 2], m[2, 2])), b, float(np.arctan2(-m[0, 1], m[0, 0]))


def _zyx_angles(m: Floats) -> Floats:
    """(3,) pitch, yaw, roll with ``m = Rz(roll) Ry(yaw) Rx(pitch)``, by transposing to XYZ."""
    a, b, c = _xyz_angles(m.T)
    return np.array([-a, -b, -c])


def _three(name: str, values: ArrayLike) -> Floats:
    array = np.asarray(values, dtype=np.float64)
    if array.shape != (3,):
        raise ValueError(f"{name} must have shape (3,), not {array.shape}")
    return array


def _check_width(
    name: str, values: Tensor | NDArray[np.floating], width: int, ndim: int | None = None
) -> None:
    """Raises ``ValueError`` for another last dimension or number of dimensions."""
    if values.ndim < 1 or values.shape[-1] != width or ndim not in (None, values.ndim):
        wanted = {2: f"(B, {width})", 3: f"(B, V, {width})"}.get(ndim or 0, f"(..., {width})")
        raise ValueError(f"{name} must have shape {wanted}, not {tuple(values.shape)}")
