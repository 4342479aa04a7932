"""Pictures for people to look at: results drawn over the photograph.

Everything takes and returns RGB uint8 and leaves its arguments unchanged. Points are image pixels
(whole numbers are pixel centres). Labels and renders belong to the 224 crop and are placed on the
photograph by its :class:`~tddfa3.geometry.crop.CropTransform`, with soft edges.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Protocol

import cv2
import numba
import numpy as np
from numpy.typing import ArrayLike, NDArray

from tddfa3.geometry.crop import CropTransform
from tddfa3.images.photo import Photo, factor_of, pixels_of, scale_pixels

Picture = NDArray[np.uint8]
Color = tuple[int, int, int]

OVERLAY_SIDE = 1280
"""Longer side of an overlay, in pixels, unless the photograph is smaller."""
SHEET_CELL = 512
"""Longer side of one picture of a sheet, in pixels."""
SHEET_COLUMNS = 4
"""Pictures in a row of a sheet."""

# Bright colours with a dark rim stand out on any skin.
PART_COLORS: tuple[Color, ...] = (
    (0, 210, 255),  # right eye
    (40, 110, 255),  # left eye
    (255, 225, 0),  # right eyebrow
    (255, 145, 0),  # left eyebrow
    (0, 225, 110),  # nose
    (255, 45, 85),  # upper lip
    (255, 90, 225),  # lower lip
    (165, 130, 255),  # skin
)
"""RGB of each part, in the order of the labels."""
POINT_COLOR: Color = (60, 255, 90)
BOX_COLOR: Color = (255, 235, 60)
RIM_COLOR: Color = (0, 0, 0)
PART_OPACITY = 0.55
SKIN_OPACITY = 0.25
"""Lower than the other parts' opacity, because the skin is large and lies beneath them."""

STROKES_68 = (
    (0, 16, False),  # contour
    (17, 21, False),  # eyebrows
    (22, 26, False),
    (27, 30, False),  # nose
    (31, 35, False),
    (36, 41, True),  # eyes
    (42, 47, True),
    (48, 59, True),  # lips
    (60, 67, True),
)
"""Lines through the 68 points in iBUG's order: (first, last, closed)."""
LANDMARK_TITLES = {
    "68": "68 landmarks",
    "106": "106 landmarks",
    "106_2d": "106 landmarks, contour as seen",
    "134": "134 landmarks",
}
# A sheet shows at most this many sides of the face's box in every direction from its centre.
_ZOOM_MARGIN = 1.6
_SUBPIXEL_BITS = 4
_STRIP = 64  # rows blended at a time, to stay in the processor's cache


class Drawable(Protocol):
    """What drawing needs of a face; :class:`tddfa3.face.Face` documents the attributes."""

    box: NDArray[np.float32]
    score: float
    yaw: float
    pitch: float
    roll: float
    crop: CropTransform
    landmarks: dict[str, NDArray[np.float32]]
    landmarks_visible: dict[str, NDArray[np.bool_]]
    seg: Picture | None
    seg_visible: Picture | None
    renders: dict[str, NDArray[np.generic]]


def overlay(
    photo: Photo, faces: Sequence[Drawable], *, max_side: int | None = OVERLAY_SIDE
) -> Picture:
    """Draws all faces over the photograph: visible parts, 68 landmarks, boxes, scores and angles.

    Args:
        photo: uint8 (H, W, 3) RGB, or reduced.
        faces: its faces; results that a face lacks are not drawn.
        max_side: longer side of the result in pixels for larger photographs; None keeps the size.

    Returns:
        uint8 (h, w, 3) RGB.

    Raises:
        ValueError: If ``photo`` has another shape or dtype, or landmarks are not finite.
    """
    image, faces = pixels_of(photo), [_as_decoded(face, photo) for face in faces]
    _check_picture("photo", image)
    canvas = _Canvas.of(image, max_side)
    for face in faces:
        if face.seg_visible is not None:
            canvas.tint(face.seg_visible, face.crop)
    for face in faces:
        if "68" in face.landmarks:
            canvas.strokes(face.landmarks["68"], canvas.width_for(face))
    for face in faces:
        canvas.box(face.box, canvas.width_for(face))
        canvas.caption(face)
    return canvas.picture


def sheet(
    photo: Photo,
    face: Drawable,
    *,
    part_names: Sequence[str] = (),
    cell: int = SHEET_CELL,
    columns: int = SHEET_COLUMNS,
) -> Picture:
    """Upstream's visualisation: one picture per result, in rows.

    In order: the photograph; shape and face rendered over it; the landmark sets, hidden points as
    rings; the visible parts; each part by itself, including where it is hidden. Results that
    ``face`` lacks are left out.

    Args:
        photo: uint8 (H, W, 3) RGB of any size, or reduced. Around a small face only a part of the
            photograph is shown.
        face: the face to show.
        part_names: titles of the parts.
        cell: longer side of each picture in pixels; less if it would have to be enlarged to more
            than twice its size.
        columns: pictures in a row.

    Returns:
        uint8 (h, w, 3) RGB.

    Raises:
        ValueError: If ``photo`` has another shape or dtype, or landmarks are not finite.
    """
    image, face = pixels_of(photo), _as_decoded(face, photo)
    _check_picture("photo", image)
    empty = _Canvas.of(image, cell, enlarge=2, window=_surroundings(image, face))
    drawn: list[tuple[str, Callable[[_Canvas], None]]] = [("photo", lambda canvas: None)]
    covered = covered_by_face(face)
    for name in ("shape", "face"):
        if name in face.renders:
            layer = _with_mask(np.asarray(face.renders[name], np.uint8), covered)
            drawn.append(
                (f"{name} rendered", partial(_Canvas.paste, layer=layer, transform=face.crop))
            )
    width = empty.width_for(face)
    for name, points in face.landmarks.items():
        seen = face.landmarks_visible.get(name)
        drawing = partial(_Canvas.points, points=points, width=width, visible=seen)
        drawn.append((LANDMARK_TITLES.get(name, name), drawing))
    if face.seg_visible is not None:
        drawing = partial(_Canvas.tint, labels=face.seg_visible, transform=face.crop)
        drawn.append(("visible parts", drawing))
    if face.seg is not None:
        for part in range(len(PART_COLORS)):
            labels = np.where(face.seg >> part & 1, part + 1, 0).astype(np.uint8)
            drawing = partial(
                _Canvas.tint, labels=labels, transform=face.crop, skin_opacity=PART_OPACITY
            )
            title = part_names[part] if part < len(part_names) else f"part {part + 1}"
            drawn.append((title.replace("_", " "), drawing))
    grid, cells = _grid(empty, len(drawn), columns)
    for canvas, (title, draw) in zip(cells, drawn, strict=True):
        draw(canvas)
        canvas.title(title)
    return grid


def render_over(
    image: Picture, render: Picture, mask: NDArray[np.generic], transform: CropTransform
) -> Picture:
    """Places a render of the crop over the photograph, with soft edges.

    Args:
        image: uint8 (H, W, 3) RGB.
        render: uint8 (224, 224, 3) RGB.
        mask: (224, 224), nonzero where the render covers the photograph.
        transform: where the crop lies in ``image``.

    Returns:
        uint8 (H, W, 3) RGB.

    Raises:
        ValueError: If a shape or dtype differs.
    """
    _check_picture("image", image)
    _check_picture("render", render)
    canvas = _Canvas.of(image, None)
    canvas.paste(_with_mask(render, mask != 0), transform)
    return canvas.picture


def covered_by_face(face: Drawable) -> NDArray[np.bool_]:
    """Mask, bool (224, 224), of the pixels where any of the face's renders is not 0."""
    covered = np.zeros((face.crop.size, face.crop.size), bool)
    for picture in face.renders.values():
        covered |= (picture != 0).any(axis=-1)
    return covered


def _as_decoded(face: Drawable, photo: Photo) -> Drawable:
    """The face with box, landmarks and crop in pixels of the decoded, maybe reduced, photo."""
    factor = factor_of(photo)
    if factor == 1:
        return face

    reduced = copy(face)
    reduced.box = scale_pixels(face.box, 1 / factor)
    reduced.landmarks = {name: scale_pixels(p, 1 / factor) for name, p in face.landmarks.items()}
    reduced.crop = face.crop.reduced(factor)
    return reduced


@dataclass
class _Canvas:
    """A picture being drawn on: the image from ``origin`` (x, y) on, scaled by ``scale``."""

    picture: Picture
    scale: float
    origin: tuple[int, int] = (0, 0)

    @classmethod
    def of(
        cls,
        image: Picture,
        max_side: int | None,
        enlarge: float = 1.0,
        window: tuple[int, int, int, int] | None = None,
    ) -> _Canvas:
        """A canvas of the image, or of the part ``window`` (x0, y0, x1, y1) of it.

        ``max_side`` limits the longer side in pixels, ``enlarge`` the scale.
        """
        x0, y0, x1, y1 = window or (0, 0, image.shape[1], image.shape[0])
        image = np.ascontiguousarray(image[y0:y1, x0:x1])
        height, width = image.shape[:2]
        scale = 1.0 if max_side is None else min(enlarge, max_side / max(height, width))
        if scale == 1.0:
            return cls(image.copy(), scale, (x0, y0))
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        method = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
        resized = cv2.resize(image, size, interpolation=method).astype(np.uint8, copy=False)
        return cls(resized, scale, (x0, y0))

    def title(self, text: str) -> None:
        height = max(10, round(max(self.picture.shape[:2]) / 26))
        _text(self.picture, text, (height // 2, height // 2), height)

    def width_for(self, face: Drawable) -> float:
        """Line width that suits the face's size in the picture, in pixels."""
        x0, y0, x1, y1 = face.box
        side = max(x1 - x0, y1 - y0) * self.scale
        return float(np.clip(side / 150, 1.0, max(self.picture.shape[:2]) / 250 + 1))

    def tint(
        self, labels: Picture, transform: CropTransform, skin_opacity: float = SKIN_OPACITY
    ) -> None:
        """Colours the parts in ``labels`` (224, 224), 0 or part + 1."""
        rows, columns = (np.flatnonzero(labels.any(axis=axis)) for axis in (1, 0))
        if len(rows):
            y, x = int(rows[0]), int(columns[0])
            part = labels[y : rows[-1] + 1, x : columns[-1] + 1]
            self.paste(_tinted(part, skin_opacity), transform, (x, y))

    def paste(
        self,
        layer: NDArray[np.float32],
        transform: CropTransform,
        corner: tuple[int, int] = (0, 0),
    ) -> None:
        """Blends a layer of the crop, or a window of one, into the picture.

        Args:
            layer: float32 (H, W, 4), premultiplied RGB 0..255 and opacity 0..1.
            transform: where the crop lies in the photograph.
            corner: column and row of the crop at which the layer begins.
        """
        step = (
            self.scale * transform.w0 / transform.width,
            self.scale * transform.h0 / transform.height,
        )
        # Place of the layer's edge, not of its first pixel's centre, in this picture.
        start = (
            (transform.left + corner[0]) * step[0] - self.origin[0] * self.scale,
            (transform.up + corner[1]) * step[1] - self.origin[1] * self.scale,
        )
        if min(step) < 1:
            # Averaged first, because sampling alone would skip pixels of the crop.
            size = layer.shape[1], layer.shape[0]
            shrunk = [max(1, round(n * min(s, 1.0))) for n, s in zip(size, step, strict=True)]
            smaller = cv2.resize(layer, (shrunk[0], shrunk[1]), interpolation=cv2.INTER_AREA)
            layer = smaller.astype(np.float32, copy=False)
            step = (step[0] * size[0] / shrunk[0], step[1] * size[1] / shrunk[1])
        height, width = self.picture.shape[:2]
        # The layer's edge fades over half a layer pixel on each side.
        x0, y0 = (max(0, math.floor(start[i] - step[i] / 2)) for i in (0, 1))
        x1, y1 = (
            min(most, math.ceil(start[i] + step[i] * (layer.shape[1 - i] + 0.5)))
            for i, most in ((0, width), (1, height))
        )
        if x0 >= x1 or y0 >= y1:
            return
        for top in range(y0, y1, _STRIP):
            # Layer pixel i lies at start + (i + 0.5) step - 0.5 in the picture.
            matrix = np.array(
                [
                    [1 / step[0], 0, (x0 + 0.5 - start[0]) / step[0] - 0.5],
                    [0, 1 / step[1], (top + 0.5 - start[1]) / step[1] - 0.5],
                ]
            )
            window = self.picture[top : min(y1, top + _STRIP), x0:x1]
            flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
            warped = cv2.warpAffine(layer, matrix, (x1 - x0, len(window)), flags=flags)
            _lay_over(window, np.asarray(warped, np.float32))

    def points(
        self, points: ArrayLike, width: float, visible: NDArray[np.bool_] | None = None
    ) -> None:
        """Draws points as dots with a dark rim, hidden ones as rings."""
        placed = self._placed(points)
        seen = np.ones(len(placed), bool) if visible is None else visible
        radius, rim = 1.1 * width, max(1, round(0.7 * width))
        inner, outer = _shifted(radius), _shifted(radius + rim + 0.5)
        options = (cv2.LINE_AA, _SUBPIXEL_BITS)
        for place, is_seen in zip(placed, seen, strict=True):
            if is_seen:
                cv2.circle(self.picture, place, outer, RIM_COLOR, -1, *options)
                cv2.circle(self.picture, place, inner, POINT_COLOR, -1, *options)
            else:
                cv2.circle(self.picture, place, inner, RIM_COLOR, 2 * rim + 1, *options)
                cv2.circle(self.picture, place, inner, POINT_COLOR, 1, *options)

    def strokes(self, points: ArrayLike, width: float) -> None:
        """Draws the 68 landmarks as lines with a dark rim."""
        placed = np.array(self._placed(points), np.int32)
        lines = [placed[first : last + 1] for first, last, _ in STROKES_68]
        for color, thickness in _rimmed(POINT_COLOR, 0.8 * width):
            for line, (_, _, closed) in zip(lines, STROKES_68, strict=True):
                cv2.polylines(
                    self.picture, [line], closed, color, thickness, cv2.LINE_AA, _SUBPIXEL_BITS
                )

    def box(self, box: ArrayLike, width: float) -> None:
        """Draws the corners of the box x0, y0, x1, y1, which hide less than a full frame."""
        (x0, y0), (x1, y1) = self._placed(np.asarray(box, np.float64).reshape(2, 2))
        arm = round(0.18 * min(abs(x1 - x0), abs(y1 - y0)))
        for color, thickness in _rimmed(BOX_COLOR, width):
            for x, toward_x in ((x0, arm), (x1, -arm)):
                for y, toward_y in ((y0, arm), (y1, -arm)):
                    corner = np.array([[x + toward_x, y], [x, y], [x, y + toward_y]], np.int32)
                    cv2.polylines(
                        self.picture, [corner], False, color, thickness, cv2.LINE_AA, _SUBPIXEL_BITS
                    )

    def caption(self, face: Drawable) -> None:
        """Writes score and head pose above the box of a face that is large enough."""
        x0, y0, x1, y1 = (np.asarray(face.box) - np.tile(self.origin, 2) + 0.5) * self.scale
        height = round(min((x1 - x0) / 14, max(self.picture.shape[:2]) / 40))
        if height < 9:
            return
        text = (
            f"{face.score:.2f}  yaw {face.yaw:+.0f}  pitch {face.pitch:+.0f}  roll {face.roll:+.0f}"
        )
        above = round(y0) - 2 * height
        _text(self.picture, text, (round(x0), above if above >= 0 else round(y1) + height), height)

    def _placed(self, points: ArrayLike) -> list[tuple[int, int]]:
        """Image pixels to fixed-point pixels of this picture; points far outside are clipped."""
        given = np.asarray(points, np.float64)
        if given.ndim != 2 or given.shape[1] != 2 or not np.isfinite(given).all():
            raise ValueError(f"points must be finite and (N, 2), not {given.shape}")
        reach = 4.0 * max(self.picture.shape[:2])
        placed = np.clip(scale_pixels(given - self.origin, self.scale), -reach, reach)
        return [(_shifted(x), _shifted(y)) for x, y in placed]


@numba.njit(nogil=True, cache=True)
def _lay_over(picture: Picture, layer: NDArray[np.float32]) -> None:  # pragma: no cover (compiled)
    """Blends a layer (H, W, 4) into the picture (H, W, 3) in place."""
    for y in range(picture.shape[0]):
        for x in range(picture.shape[1]):
            through = np.float32(1) - layer[y, x, 3]
            for c in range(3):
                mixed = np.rint(picture[y, x, c] * through + layer[y, x, c])
                picture[y, x, c] = np.uint8(min(max(mixed, np.float32(0)), np.float32(255)))


def _rimmed(color: Color, width: float) -> tuple[tuple[Color, int], ...]:
    """The passes, (colour, thickness), of a line with a dark rim.

    A thin line has no rim, which would hide too much of a small face.
    """
    thickness = max(1, round(width))
    return ((color, 1),) if width <= 1 else ((RIM_COLOR, thickness + 2), (color, thickness))


def _surroundings(image: Picture, face: Drawable) -> tuple[int, int, int, int]:
    """The part to show, x0, y0, x1, y1: the whole photograph or, for a small face, around it."""
    height, width = image.shape[:2]
    x0, y0, x1, y1 = (float(v) for v in face.box)
    reach = _ZOOM_MARGIN * max(x1 - x0, y1 - y0, 1.0)
    if 2 * reach >= max(width, height):
        return 0, 0, width, height
    x, y = (x0 + x1) / 2, (y0 + y1) / 2
    # Moved into the photograph rather than cut off by its edge.
    left = round(min(max(x - reach, 0), max(width - 2 * reach, 0)))
    top = round(min(max(y - reach, 0), max(height - 2 * reach, 0)))
    side = math.ceil(2 * reach)
    return left, top, min(width, left + side), min(height, top + side)


def _tinted(labels: Picture, skin_opacity: float) -> NDArray[np.float32]:
    """Labels (H, W), 0 or part + 1, as a premultiplied layer (H, W, 4)."""
    return np.take(_tints(skin_opacity), labels, axis=0)


@lru_cache(maxsize=4)
def _tints(skin_opacity: float) -> NDArray[np.float32]:
    """Table (256, 4) of each label's premultiplied colour and opacity."""
    colors = np.array(PART_COLORS, np.float32)
    opacity = np.full((len(colors), 1), PART_OPACITY, np.float32)
    opacity[-1] = skin_opacity
    table = np.zeros((256, 4), np.float32)
    # Parts beyond the palette start over.
    part = np.arange(255) % len(PART_COLORS)
    table[1:] = np.concatenate([colors * opacity, opacity], axis=1)[part]
    return table


def _with_mask(render: Picture, mask: NDArray[np.bool_]) -> NDArray[np.float32]:
    """A render (H, W, 3) as a premultiplied layer (H, W, 4), opaque where the mask is set."""
    if render.shape[:2] != mask.shape:
        raise ValueError(f"render {render.shape} and mask {mask.shape} must be of one size")
    opacity = mask[..., None].astype(np.float32)
    return np.concatenate([render * opacity, opacity], axis=2)


def _text(picture: Picture, text: str, corner: tuple[int, int], height: int) -> None:
    """Writes white text with a dark rim, its top left corner at ``corner``."""
    font = cv2.FONT_HERSHEY_SIMPLEX
    thickness = max(1, round(height / 12))
    size = cv2.getFontScaleFromHeight(font, height, thickness)
    x, y = corner[0], corner[1] + height
    # The rim is the text drawn shifted: thicker text would also be longer in some OpenCV versions.
    for right, down in ((-1, -1), (-1, 1), (1, -1), (1, 1), (0, 2)):
        place = (x + right * thickness, y + down * thickness)
        cv2.putText(picture, text, place, font, size, RIM_COLOR, thickness, cv2.LINE_AA)
    cv2.putText(picture, text, (x, y), font, size, (255, 255, 255), thickness, cv2.LINE_AA)


def _grid(canvas: _Canvas, count: int, columns: int) -> tuple[Picture, list[_Canvas]]:
    """Repeats a canvas ``count`` times, row by row on white.

    Returns:
        the whole picture, and its cells as canvases that share its memory.
    """
    height, width = canvas.picture.shape[:2]
    columns = min(columns, count)
    grid = np.full((math.ceil(count / columns) * height, columns * width, 3), 255, np.uint8)
    cells = []
    for i in range(count):
        y, x = i // columns * height, i % columns * width
        window = grid[y : y + height, x : x + width]
        window[...] = canvas.picture
        cells.append(_Canvas(window, canvas.scale, canvas.origin))
    return grid, cells


def _shifted(value: float) -> int:
    return round(value * (1 << _SUBPIXEL_BITS))


def _check_picture(name: str, picture: Picture) -> None:
    if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3 or not picture.size:
        raise ValueError(
            f"{name} must be uint8 of shape (H, W, 3), not {picture.dtype} {picture.shape}"
        )
