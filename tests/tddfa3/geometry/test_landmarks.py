"""Landmark sets, landmark marching, and the way from the crop frame to crop pixels."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import pytest
import torch

from tddfa3.assets.bundle import AssetBundle, FaceModelData
from tddfa3.coefficients import split
from tddfa3.geometry.camera import project, rotation_matrix, to_camera
from tddfa3.geometry.face_model import FaceModel, Geometry
from tddfa3.geometry.landmarks import (
    LANDMARK_SETS,
    LandmarkIndex,
    gather,
    marching_rows,
    to_crop_pixels,
)
from tests.support.golden import CROPS, FOUND, golden_crop, golden_geometry, golden_names

GOLDEN = golden_names([*FOUND, *CROPS])
SIZES = {"68": 68, "106": 106, "106_2d": 106, "134": 134}


@pytest.fixture(scope="module")
def data(small_bundle: AssetBundle) -> FaceModelData:
    return small_bundle.face_model()


@pytest.fixture(scope="module")
def model(data: FaceModelData) -> FaceModel:
    return FaceModel(data)


def faces(model: FaceModel, angle: list[list[float]]) -> Geometry:
    """Mean faces at these (pitch, yaw, roll)."""
    alpha = torch.zeros(len(angle), model.sizes.total)
    if angle:
        alpha[:, model.sizes.slices()["angle"]] = torch.tensor(angle)
    return model(split(alpha.to(model.mean_shape.device), model.sizes))


TURNED = [[0.0, 0, 0], [0, 0.7, 0], [0.2, -0.7, 0.5], [-0.3, 0.4, -1.0]]


@pytest.mark.parametrize("name", GOLDEN)
def test_golden_landmarks(
    name: str, golden: Callable[[str], Mapping[str, np.ndarray]], golden_bundle: AssetBundle
) -> None:
    """All four sets, in the crop frame and in image pixels, against upstream."""
    wanted = golden(name)
    data = golden_bundle.face_model()
    geometry = golden_geometry(FaceModel(data), wanted)
    crop = golden_crop(wanted)
    index = LandmarkIndex(data)
    for landmark_set in LANDMARK_SETS:
        points = gather(geometry.points, index.indices(landmark_set, geometry))
        np.testing.assert_allclose(points[0], wanted[f"ldm{landmark_set}_crop"], atol=1e-3)
        pixels = crop.to_image(to_crop_pixels(points)[0].numpy())
        np.testing.assert_allclose(pixels, wanted[f"ldm{landmark_set}_image"], atol=1e-3)


@pytest.mark.parametrize("rows", [0, 1, 4])
@pytest.mark.parametrize("name", LANDMARK_SETS)
def test_shapes(name: str, rows: int, data: FaceModelData, model: FaceModel) -> None:
    geometry = faces(model, TURNED[:rows])
    index = LandmarkIndex(data).indices(name, geometry)
    assert index.dtype == torch.int64
    assert index.shape == (rows, SIZES[name])
    points = to_crop_pixels(gather(geometry.points, index))
    assert points.shape == (rows, SIZES[name], 2)


@pytest.mark.parametrize("name", ["68", "106", "134"])
def test_fixed_sets_are_the_bundles_vertices(
    name: str, data: FaceModelData, model: FaceModel
) -> None:
    index = LandmarkIndex(data).indices(name, faces(model, TURNED))
    for row in index:
        np.testing.assert_array_equal(row, data.landmarks[name])


def test_marching_is_per_face(data: FaceModelData, model: FaceModel) -> None:
    """A face's contour does not depend on the other faces of its batch."""
    landmark_index = LandmarkIndex(data)
    together = landmark_index.indices("106_2d", faces(model, TURNED))
    alone = [landmark_index.indices("106_2d", faces(model, [angle]))[0] for angle in TURNED]
    assert torch.equal(together, torch.stack(alone))
    assert len({tuple(row.tolist()) for row in together}) > 1, "turned faces have other contours"


def test_marching_by_its_definition(data: FaceModelData, model: FaceModel) -> None:
    """With roll removed: the leftmost vertex of rows 0..15, the chin, the rightmost of 17..32."""
    geometry = faces(model, TURNED)
    angle = geometry.coefficients.angle.clone()
    angle[:, 2] = 0
    level = project(to_camera(geometry.shape, rotation_matrix(angle), geometry.coefficients.trans))
    index = LandmarkIndex(data).indices("106_2d", geometry)
    later_rows_take = {int(v): i for i, row in enumerate(data.parallel) for v in row}
    for face, x in enumerate(level[..., 0].numpy()):
        for i, row in enumerate(data.parallel):
            own = [v for v in np.sort(row) if later_rows_take[int(v)] == i]
            if i == 16 or not own:
                wanted = data.landmarks["106"][i]
            else:
                wanted = own[np.argmin(x[own]) if i < 16 else np.argmax(x[own])]
            assert index[face, i] == wanted, f"face {face}, contour point {i}"
        np.testing.assert_array_equal(index[face, 33:], data.landmarks["106"][33:])


def test_roll_does_not_move_the_silhouette(data: FaceModelData, model: FaceModel) -> None:
    rolled = faces(model, [[0.1, 0.5, 0.0], [0.1, 0.5, 1.2]])
    first, second = LandmarkIndex(data).indices("106_2d", rolled)
    assert torch.equal(first, second)


def test_marched_contour_lies_further_out(data: FaceModelData, model: FaceModel) -> None:
    """On the side a head turns towards, the fixed contour hides behind the cheek; the marched one
    is never inside it."""
    geometry = faces(model, [[0.0, 0.7, 0.0]])
    index = LandmarkIndex(data)
    fixed, marched = (
        gather(geometry.points, index.indices(name, geometry))[0, :, 0]
        for name in ("106", "106_2d")
    )
    assert (marched[17:33] >= fixed[17:33] - 1e-4).all()
    assert (marched[:16] <= fixed[:16] + 1e-4).all()
    assert (marched[17:33] - fixed[17:33]).max() > 1


def test_marching_rows_table() -> None:
    """Sorted and padded with the row's own first vertex; shared vertices go to the later row; an
    empty row keeps the fixed landmark; the chin's row is left out."""
    parallel = [np.array([2 * i]) for i in range(33)]
    parallel[0] = np.array([70, 0, 9])
    parallel[5] = np.array([70, 10])
    parallel[7] = np.array([], dtype=np.int64)
    parallel[16] = np.array([32, 80, 81, 82, 83])
    contour = np.arange(200, 233)
    table = marching_rows(tuple(parallel), contour, 300)
    assert table.shape == (32, 2)
    assert table[0].tolist() == [0, 9]
    assert table[5].tolist() == [10, 70]
    assert table[7].tolist() == [207, 207]
    assert table[15].tolist() == [30, 30]
    assert table[16].tolist() == [34, 34]


def test_to_crop_pixels_flips_y_about_223() -> None:
    points = torch.tensor([[[0.0, 0.0], [10.0, 223.0]]])
    assert to_crop_pixels(points).tolist() == [[[0.0, 223.0], [10.0, 0.0]]]


def test_gather_takes_any_width() -> None:
    values = torch.arange(24.0).view(2, 4, 3)
    picked = gather(values, torch.tensor([[3, 0], [1, 1]]))
    assert torch.equal(picked, torch.stack([values[0, [3, 0]], values[1, [1, 1]]]))


def test_wrong_input_is_named(data: FaceModelData, model: FaceModel) -> None:
    with pytest.raises(ValueError, match="'98' is not one of 68, 106, 106_2d, 134"):
        LandmarkIndex(data).indices("98", faces(model, []))
    with pytest.raises(ValueError, match=r"points \(2, 4, 3\) and index \(1, 2\)"):
        gather(torch.zeros(2, 4, 3), torch.zeros(1, 2, dtype=torch.int64))
    with pytest.raises(ValueError, match=r"points must have shape \(\.\.\., 2\)"):
        to_crop_pixels(torch.zeros(2, 3))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("name", LANDMARK_SETS)
def test_cuda_landmarks_equal_the_cpus(name: str, data: FaceModelData, model: FaceModel) -> None:
    """By position, not by vertex: two vertices of a contour may tie within a rounding error."""
    here = faces(model, TURNED)
    wanted = gather(here.points, LandmarkIndex(data).indices(name, here))
    there = faces(FaceModel(data).cuda(), TURNED)
    found = gather(there.points, LandmarkIndex(data).cuda().indices(name, there))
    torch.testing.assert_close(found.cpu(), wanted, rtol=0, atol=0.01)
