"""The 224 crop around five facial points, and the exact mapping back to the photo.

The crop is a window of the photo resized by one factor ``s``. Upstream (3DDFA-V3) truncates the
resized photo's size and the window's corner to integers. The same truncation is used here because
the networks were trained on such crops, and upstream maps landmarks and masks back with the
truncated numbers. ``CropTransform`` holds upstream's five numbers and derives the rest from them.

Frames: *image pixels* are the photo's, after EXIF rotation, x right, y down; *crop pixels* are the
crop's, x right, y down. Only ``tx, ty`` are measured with y up, as upstream stores them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tddfa3.conventions import CROP_SIZE
from tddfa3.images.resample import axis_weights, resize_window

# The standard face's unit length, in crop pixels.
_RESCALE_FACTOR = 102.0
# At this scale the crop covers a single photo pixel; beyond it there is no face to see, and the
# resized photo's size would overflow an int32.
_MAX_SCALE = float(CROP_SIZE)
# Points whose spread across is below this share of their spread along count as collinear.
_MIN_FLATNESS = 1e-4


@dataclass(frozen=True, slots=True)
class CropTransform:
    """Where a crop lies in its photo: upstream's ``trans_params`` plus the crop's size.

    Attributes:
        w0: width of the photo in pixels.
        h0: height of the photo in pixels.
        s: factor from photo to resized photo.
        tx: x of the face's origin in image pixels.
        ty: y of the face's origin in image pixels, counted upwards from the bottom row.
        size: side of the crop in pixels.

    Raises:
        ValueError: If a number is not finite, or the resized photo would have no pixel.
    """

    w0: int
    h0: int
    s: float
    tx: float
    ty: float
    size: int = CROP_SIZE

    def __post_init__(self) -> None:
        if self.w0 < 1 or self.h0 < 1:
            raise ValueError(f"photo size must be at least 1x1, got {self.w0}x{self.h0}")
        if not all(math.isfinite(value) for value in (self.s, self.tx, self.ty)):
            raise ValueError(f"crop parameters must be finite, got {self.s, self.tx, self.ty}")
        if not 0 < self.s <= _MAX_SCALE:
            raise ValueError(f"crop scale must be in (0, {_MAX_SCALE:g}], got {self.s:g}")
        if self.width < 1 or self.height < 1:
            raise ValueError(f"at scale {self.s:g} a {self.w0}x{self.h0} photo has no pixel left")

    @classmethod
    def identity(cls, size: int = CROP_SIZE) -> CropTransform:
        """The transform of a photo that is itself the crop, ``size`` x ``size``."""
        return cls(size, size, 1.0, size / 2, size / 2, size)

    @classmethod
    def from_params(cls, params: ArrayLike) -> CropTransform:
        """Rebuilds a transform from what :meth:`params` returned.

        Args:
            params: ``(5,)`` w0, h0, s, tx, ty.

        Returns:
            the transform, with the standard crop size.

        Raises:
            ValueError: If the shape differs or a number is not finite.
        """
        values = np.asarray(params, dtype=np.float64)
        if values.shape != (5,):
            raise ValueError(f"crop params must have shape (5,), got {values.shape}")
        if not np.isfinite(values).all():
            raise ValueError(f"crop params must be finite, got {values.tolist()}")
        w0, h0, s, tx, ty = values.tolist()
        return cls(int(w0), int(h0), s, tx, ty)

    def params(self) -> NDArray[np.float64]:
        """``(5,)`` float64: w0, h0, s, tx, ty."""
        return np.array([self.w0, self.h0, self.s, self.tx, self.ty], dtype=np.float64)

    # int() truncates towards zero like upstream's astype(int32); floor would be off by one pixel
    # for negative values.

    @property
    def width(self) -> int:
        """Width of the resized photo in crop pixels."""
        return int(self.w0 * self.s)

    @property
    def height(self) -> int:
        """Height of the resized photo in crop pixels."""
        return int(self.h0 * self.s)

    @property
    def left(self) -> int:
        """Column of the resized photo at which the crop begins; may be negative."""
        return int(self.width / 2 - self.size / 2 + (self.tx - self.w0 / 2) * self.s)

    @property
    def up(self) -> int:
        """Row of the resized photo at which the crop begins; may be negative."""
        return int(self.height / 2 - self.size / 2 + (self.h0 / 2 - self.ty) * self.s)

    def reduced(self, factor: int) -> CropTransform:
        """The same crop, taken from the photo reduced by ``factor``.

        Args:
            factor: a power of two that divides width and height, so that all numbers stay exact.

        Returns:
            the transform in the reduced photo's pixels.
        """
        w0, h0 = self.w0 // factor, self.h0 // factor
        return CropTransform(w0, h0, self.s * factor, self.tx / factor, self.ty / factor, self.size)

    def to_image(self, points: ArrayLike) -> NDArray[np.float64]:
        """Crop pixels ``(..., 2)`` -> image pixels ``(..., 2)``, both x right, y down."""
        offset = np.array([self.left, self.up], dtype=np.float64)  # (2,)
        return (_as_points(points) + offset) * (self.w0 / self.width, self.h0 / self.height)

    def to_crop(self, points: ArrayLike) -> NDArray[np.float64]:
        """Image pixels ``(..., 2)`` -> crop pixels ``(..., 2)``, both x right, y down."""
        points = _as_points(points) * (self.width / self.w0, self.height / self.h0)
        return points - (self.left, self.up)

    def image_box(self) -> tuple[int, int, int, int]:
        """``(x0, y0, x1, y1)``: the photo's pixels that the crop covers, end exclusive.

        Clipped to the photo; a crop beside the photo gives an empty box (x0 == x1 or y0 == y1).
        """
        x0, columns = _nearest(self.w0, self.width, self.left, self.size)
        y0, rows = _nearest(self.h0, self.height, self.up, self.size)
        return x0, y0, x0 + len(columns), y0 + len(rows)

    def labels_to_image(self, labels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Labels of the crop ``(size, size[, C])`` -> of the photo ``(h0, w0[, C])``, 0 outside.

        Each pixel takes its nearest label by Pillow's rule: the same result as pasting the crop
        into an empty resized photo and resizing that back with ``NEAREST``, as upstream does.

        Raises:
            ValueError: If ``labels`` has another shape.
        """
        if labels.shape[:2] != (self.size, self.size) or labels.ndim not in (2, 3):
            raise ValueError(
                f"labels must have shape ({self.size}, {self.size}[, C]), got {labels.shape}"
            )
        x0, columns = _nearest(self.w0, self.width, self.left, self.size)
        y0, rows = _nearest(self.h0, self.height, self.up, self.size)
        photo = np.zeros((self.h0, self.w0, *labels.shape[2:]), dtype=labels.dtype)  # (h0, w0[, C])
        photo[y0 : y0 + len(rows), x0 : x0 + len(columns)] = labels[np.ix_(rows, columns)]
        return photo


def estimate_crop(
    points5: ArrayLike, image_size: tuple[int, int], standard_points: ArrayLike
) -> CropTransform:
    """Fits the standard face to five points and returns the crop around it.

    Weak perspective by least squares, as in Deep3DFaceRecon: each image axis is an affine function
    of the standard points; the scale is the mean length of its two rows.

    Args:
        points5: ``(5, 2)`` image pixels: the viewer's left eye, right eye, nose tip, the viewer's
            left and right mouth corner.
        image_size: (width, height) of the photo.
        standard_points: ``(5, 3)`` the same points of the standard face, y up.

    Returns:
        the transform of a 224 crop.

    Raises:
        ValueError: If a shape differs, the points are not finite, coincide, lie on one line, have
            an absurd scale, or the crop would lie outside the photo.
    """
    # Flipped in float32 as upstream does: after the truncations above, a difference in the last bit
    # becomes a whole pixel.
    points = np.array(points5, dtype=np.float32)  # (5, 2)
    standard = np.asarray(standard_points, dtype=np.float64)  # (5, 3)
    if points.shape != (5, 2) or standard.shape != (5, 3):
        raise ValueError(
            "points5 must have shape (5, 2) and standard_points (5, 3), "
            f"got {points.shape} and {standard.shape}"
        )
    if not np.isfinite(points).all():
        raise ValueError(f"points5 must be finite, got {points.tolist()}")
    w0, h0 = image_size
    points[:, 1] = np.float32(h0 - 1) - points[:, 1]

    spread = np.linalg.svd(points - points.mean(axis=0), compute_uv=False)  # (2,)
    if spread[1] <= _MIN_FLATNESS * spread[0]:
        raise ValueError(f"points5 coincide or lie on one line: {points.tolist()}")
    rows, translation = _fit_weak_perspective(points, standard)  # (2, 3), (2,)
    scale = float(np.linalg.norm(rows, axis=1).mean())
    transform = CropTransform(w0, h0, _RESCALE_FACTOR / scale, *translation.tolist())
    x0, y0, x1, y1 = transform.image_box()
    if x0 == x1 or y0 == y1:
        raise ValueError(f"the crop around points5 lies beside the {w0}x{h0} photo")
    return transform


def crop_image(image: NDArray[np.uint8], transform: CropTransform) -> NDArray[np.uint8]:
    """Cuts the crop out of a photo: bicubic, black outside.

    The pixels equal those of resizing the whole photo to ``transform.width x height`` with Pillow's
    bicubic filter, columns before rows, and cropping the result; only the part that the crop covers
    is computed.

    Args:
        image: ``(h0, w0, 3)`` uint8 RGB.
        transform: where the crop lies in ``image``.

    Returns:
        ``(size, size, 3)`` uint8 RGB.

    Raises:
        ValueError: If ``image`` has another dtype or is not of the transform's size.
    """
    if image.shape != (transform.h0, transform.w0, 3) or image.dtype != np.uint8:
        raise ValueError(
            f"image must be ({transform.h0}, {transform.w0}, 3) uint8, "
            f"got {image.shape} {image.dtype}"
        )
    crop = np.zeros((transform.size, transform.size, 3), dtype=np.uint8)
    columns = axis_weights(transform.w0, transform.width, transform.left, transform.size)
    rows = axis_weights(transform.h0, transform.height, transform.up, transform.size)
    if columns is None or rows is None:
        return crop
    covered = resize_window(image, columns, rows)  # (rows, columns, 3)
    below, right = rows.start + covered.shape[0], columns.start + covered.shape[1]
    crop[rows.start : below, columns.start : right] = covered
    return crop


def _fit_weak_perspective(
    points: NDArray[np.float32], standard: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Least-squares ``points ~ standard @ rows.T + translation``; rows (2, 3), translation (2,)."""
    homogeneous = np.concatenate([standard, np.ones((len(standard), 1))], axis=1)  # (5, 4)
    solution, *_ = np.linalg.lstsq(homogeneous, points.astype(np.float64), rcond=None)  # (4, 2)
    return solution[:3].T, solution[3]


def _nearest(original: int, resized: int, offset: int, size: int) -> tuple[int, NDArray[np.intp]]:
    """The photo pixels that the crop covers along one axis.

    Returns:
        the first covered photo pixel, and (n,) the nearest crop pixel of it and its successors.
    """
    # Pillow steps through the source by repeated addition. Adding in the same order rounds the same
    # way; a product could land on the other side of a pixel border.
    step = resized / original
    steps = np.full(original, step)  # (original,)
    steps[0] = step * 0.5
    index = np.add.accumulate(steps).astype(np.intp)  # (original,) pixels of the resized photo
    low, high = np.searchsorted(index, [max(offset, 0), min(offset + size, resized)])
    return int(low), index[low : max(low, high)] - offset


def _as_points(points: ArrayLike) -> NDArray[np.float64]:
    array = np.asarray(points, dtype=np.float64)
    if array.ndim == 0 or array.shape[-1] != 2:
        raise ValueError(f"points must have shape (..., 2), got {array.shape}")
    return array
