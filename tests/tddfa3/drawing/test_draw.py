"""Drawings lie where the labels say, whatever the photograph's size."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tddfa3.drawing.draw import (
    PART_COLORS,
    POINT_COLOR,
    SHEET_CELL,
    covered_by_face,
    overlay,
    render_over,
    sheet,
)
from tddfa3.geometry.crop import CropTransform

Picture = NDArray[np.uint8]


def grey(width: int, height: int) -> Picture:
    return np.full((height, width, 3), 90, np.uint8)


def make_face(width: int, height: int, side: float, **changes: Any) -> Any:
    """A face in the middle of a photograph whose crop is ``side`` image pixels wide."""
    crop = CropTransform(width, height, 224 / side, width / 2, height / 2)
    rows, columns = np.mgrid[:224, :224]
    disc = np.hypot(rows - 111.5, columns - 111.5) < 80
    labels = np.where(disc, 8, 0).astype(np.uint8)
    labels[90:110, 70:90] = 1
    render = np.where(disc[..., None], 200, 0).astype(np.uint8).repeat(3, axis=2)
    angle = np.arange(68) * 2 * np.pi / 68
    points = crop.to_image(111.5 + 70 * np.stack([np.cos(angle), np.sin(angle)], axis=1))
    x, y = crop.to_image([111.5, 111.5])
    face = {
        "box": np.array([x - side / 3, y - side / 3, x + side / 3, y + side / 3], np.float32),
        "score": 0.98,
        "crop": crop,
        "landmarks": {"68": points, "134": points[:3]},
        "landmarks_visible": {"68": angle > 1, "134": np.ones(3, bool)},
        "seg": (disc.astype(np.uint8) << 7) | (labels == 1),
        "seg_visible": labels,
        "renders": {"face": render, "shape": render},
        "yaw": 10.0,
        "pitch": -5.0,
        "roll": 0.5,
    }
    return SimpleNamespace(**(face | changes))


def where_color(picture: Picture, color: tuple[int, int, int]) -> NDArray[np.float64]:
    """Mean (x, y) of the pixels that are nearly of that colour."""
    rows, columns = np.nonzero((np.abs(picture.astype(int) - color) < 40).all(axis=-1))
    return np.array([columns.mean(), rows.mean()])


class TestRenderOver:
    def test_on_a_ready_crop_pixel_by_pixel(self) -> None:
        rng = np.random.default_rng(0)
        image, render = rng.integers(0, 256, (2, 224, 224, 3)).astype(np.uint8)
        mask = rng.random((224, 224)) > 0.5
        before = image.copy(), render.copy(), mask.copy()
        result = render_over(image, render, mask, CropTransform.identity())
        assert np.array_equal(result, np.where(mask[..., None], render, image))
        for now, then in zip((image, render, mask), before, strict=True):
            assert np.array_equal(now, then)

    @pytest.mark.parametrize(("size", "side"), [((640, 480), 300), ((90, 120), 70), ((50, 40), 9)])
    def test_stays_in_the_crops_box_and_matches_its_labels(
        self, size: tuple[int, int], side: float
    ) -> None:
        face = make_face(*size, side)
        mask = face.seg_visible > 0
        result = render_over(grey(*size), face.renders["face"], mask, face.crop)
        x0, y0, x1, y1 = face.crop.image_box()
        outside = np.ones(result.shape[:2], bool)
        outside[max(0, y0 - 1) : y1 + 1, max(0, x0 - 1) : x1 + 1] = False
        assert (result[outside] == 90).all()
        nearest = face.crop.labels_to_image(mask.astype(np.uint8)) > 0
        assert ((result[..., 0] > 145) == nearest).mean() > 0.99

    def test_a_crop_that_reaches_beyond_the_photo(self) -> None:
        face = make_face(100, 60, 300)
        result = render_over(grey(100, 60), face.renders["face"], face.seg_visible > 0, face.crop)
        assert result.shape == (60, 100, 3)
        assert (result == 200).all()  # the disc is larger than the photograph

    def test_edges_are_soft(self) -> None:
        face = make_face(640, 480, 400)
        result = render_over(grey(640, 480), face.renders["face"], face.seg_visible > 0, face.crop)
        assert len(np.unique(result)) > 10
        assert result.min() == 90
        assert result.max() == 200

    def test_a_crop_beside_the_photo_changes_nothing(self) -> None:
        transform = replace(CropTransform.identity(), tx=5000.0)
        image = grey(224, 224)
        result = render_over(image, image + 50, np.ones((224, 224)), transform)
        assert np.array_equal(result, image)

    def test_bad_arrays_are_named(self) -> None:
        image, identity = grey(224, 224), CropTransform.identity()
        halves: Any = image / 2
        with pytest.raises(ValueError, match=r"image must be uint8 .* not float64"):
            render_over(halves, image, image[..., 0], identity)
        with pytest.raises(ValueError, match=r"render must be uint8 .*\(224, 224\)"):
            render_over(image, image[..., 0], image[..., 0], identity)
        with pytest.raises(ValueError, match=r"mask \(10, 10\)"):
            render_over(image, image, np.ones((10, 10)), identity)


class TestOverlay:
    def test_without_faces_it_is_the_photo(self) -> None:
        image = grey(300, 200)
        result = overlay(image, [])
        assert np.array_equal(result, image)
        assert result is not image

    def test_large_photos_are_reduced_and_small_ones_are_not_enlarged(self) -> None:
        assert overlay(grey(2000, 1000), [], max_side=500).shape == (250, 500, 3)
        assert overlay(grey(20, 10), []).shape == (10, 20, 3)
        assert overlay(grey(2000, 1000), [], max_side=None).shape == (1000, 2000, 3)

    @pytest.mark.parametrize(("width", "height", "max_side"), [(600, 500, None), (2400, 2000, 600)])
    def test_parts_and_landmarks_lie_where_they_should(
        self, width: int, height: int, max_side: int | None
    ) -> None:
        face = make_face(width, height, width / 2, box=np.array([5, 5, 20, 20]), score=1.0)
        result = overlay(grey(width, height), [face], max_side=max_side)
        scale = result.shape[1] / width
        expected = (face.crop.to_image([79.5, 99.5]) + 0.5) * scale - 0.5
        eye = 0.55 * np.array(PART_COLORS[0]) + 0.45 * 90
        found = where_color(result, tuple(eye.astype(int)))
        assert np.abs(found - expected).max() < 1.5
        centre = (face.landmarks["68"].mean(0) + 0.5) * scale - 0.5
        strokes = where_color(result, POINT_COLOR)
        assert np.abs(strokes - centre).max() < 0.1 * width * scale

    def test_every_face_is_drawn_and_the_photo_left_alone(self) -> None:
        image = grey(800, 400)
        before = image.copy()
        left = make_face(800, 400, 150)
        shifted = replace(left.crop, tx=left.crop.tx - 250)
        left.crop, left.box = shifted, left.box - [250, 0, 250, 0]
        left.landmarks = {"68": left.landmarks["68"] - [250, 0]}
        result = overlay(image, [left, make_face(800, 400, 150)])
        changed = (result != image).any(axis=(0, 2))
        assert changed[100:200].any()
        assert changed[350:450].any()
        assert not changed[600:].any()
        assert np.array_equal(image, before)

    def test_what_a_face_lacks_is_not_drawn(self) -> None:
        face = make_face(400, 400, 200, seg_visible=None, landmarks={})
        result = overlay(grey(400, 400), [face])
        # Box corners and caption only: the middle is untouched.
        assert (result[150:250, 150:250] == 90).all()
        assert (result != 90).any()

    @pytest.mark.parametrize("size", [(1, 1), (3, 200), (30, 20)])
    def test_tiny_photos_and_faces_far_outside(self, size: tuple[int, int]) -> None:
        face = make_face(*size, 8)
        face.landmarks["68"] = face.landmarks["68"] + 1e7
        face.box = face.box * 1e6
        assert overlay(grey(*size), [face]).shape == (size[1], size[0], 3)

    def test_bad_arrays_are_named(self) -> None:
        with pytest.raises(ValueError, match="photo must be uint8"):
            overlay(grey(9, 9)[..., 0], [])
        face = make_face(100, 100, 50)
        face.landmarks["68"] = np.full((68, 2), np.nan)
        with pytest.raises(ValueError, match=r"points must be finite and \(N, 2\)"):
            overlay(grey(100, 100), [face])


class TestSheet:
    def test_one_cell_per_result_four_to_a_row(self) -> None:
        face = make_face(400, 300, 250)
        # photo, shape, face, two landmark sets, visible parts, eight parts
        assert sheet(grey(400, 300), face).shape == (4 * 384, 4 * SHEET_CELL, 3)
        few = make_face(400, 300, 250, renders={}, landmarks={}, seg=None)
        assert sheet(grey(400, 300), few).shape == (384, 2 * SHEET_CELL, 3)
        assert sheet(grey(400, 300), few, columns=1).shape == (2 * 384, SHEET_CELL, 3)

    def test_cells_hold_what_they_should(self) -> None:
        face = make_face(512, 512, 400)
        image = grey(512, 512)
        result = sheet(image, face, part_names=["right_eye"])
        cells = result.reshape(4, 512, 4, 512, 3).swapaxes(1, 2).reshape(16, 512, 512, 3)
        below_title = slice(60, None)
        assert (cells[0][below_title] == 90).all()
        expected = render_over(image, face.renders["shape"], covered_by_face(face), face.crop)
        assert np.array_equal(cells[1][below_title], expected[below_title])
        eye = (0.55 * np.array(PART_COLORS[0]) + 0.45 * 90).astype(int)
        assert (
            np.abs(where_color(cells[6], tuple(eye)) - face.crop.to_image([79.5, 99.5])).max() < 1
        )
        assert (cells[14:] == 255).all()  # nothing left to show

    def test_hidden_landmarks_are_rings(self) -> None:
        face = make_face(512, 512, 400, renders={}, seg=None, seg_visible=None)
        face.landmarks = {"134": np.array([[200.0, 250.0], [300.0, 250.0]])}
        face.landmarks_visible = {"134": np.array([True, False])}
        cell = sheet(grey(512, 512), face)[:, 512:]
        assert tuple(cell[250, 200]) == POINT_COLOR
        assert tuple(cell[250, 300]) != POINT_COLOR
        assert np.abs(where_color(cell[:, :250], POINT_COLOR) - [200, 250]).max() < 0.3

    def test_a_small_face_is_shown_larger(self) -> None:
        face = make_face(3000, 2000, 120)
        result = sheet(grey(3000, 2000), face)
        cell = result[: result.shape[0] // 4, 512:1024]  # the shape's render
        assert (cell > 150).all(axis=-1).mean() > 0.05
        far = make_face(3000, 2000, 120)
        far.box += np.array([1400, 900, 1400, 900], np.float32)  # in the corner of the photograph
        assert sheet(grey(3000, 2000), far).shape == result.shape

    def test_small_photos(self) -> None:
        assert sheet(grey(60, 80), make_face(60, 80, 50)).shape == (4 * 160, 4 * 120, 3)
        assert sheet(grey(1, 1), make_face(1, 1, 50)).shape == (8, 8, 3)
        assert sheet(grey(500, 2), make_face(500, 2, 400)).shape == (4 * 2, 4 * SHEET_CELL, 3)
