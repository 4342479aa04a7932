"""Refining by the detector's points: closer to them, never worse, batches as single faces."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from tddfa3.assets.bundle import AssetBundle
from tddfa3.assets.generators.open_face import EXPRESSION_NAMES
from tddfa3.coefficients import join, split
from tddfa3.drawing.sample import random_coefficients
from tddfa3.geometry.camera import rotation_matrix
from tddfa3.geometry.face_model import FaceModel
from tddfa3.geometry.landmarks import to_crop_pixels
from tddfa3.geometry.quality import five_from_68
from tddfa3.geometry.refine import (
    LEADING,
    POINT_OFFSETS,
    PointRefiner,
    opens_more_than_it_moves,
    rotation_derivatives,
)


class Faces:
    """Some faces of the small bundle, and where their five points are."""

    def __init__(self, bundle: AssetBundle) -> None:
        data = bundle.face_model()
        self.model = FaceModel(data).eval()
        self.sizes = data.sizes
        self.landmarks = torch.from_numpy(data.landmarks["68"]).long()
        self.refiner = PointRefiner(data)
        self.alpha = join(random_coefficients(self.model, 6, seed=4))

    def five(self, alpha: Tensor) -> Tensor:
        points = to_crop_pixels(self.model(split(alpha, self.sizes)).points)[:, self.landmarks]
        return torch.from_numpy(np.stack([five_from_68(p) for p in points.numpy()])).float()

    def distance(self, alpha: Tensor, points5: Tensor) -> Tensor:
        return (self.five(alpha) - points5).norm(dim=2).mean(dim=1)


@pytest.fixture(scope="module")
def faces(small_bundle: AssetBundle) -> Faces:
    return Faces(small_bundle)


def test_derivatives_of_the_rotation() -> None:
    angle = torch.tensor([[0.3, -0.7, 0.2], [0.0, 1.2, -2.0]], dtype=torch.float64)
    for axis, derivative in enumerate(rotation_derivatives(angle)):
        step = torch.zeros(3, dtype=torch.float64)
        step[axis] = 1e-6
        measured = (rotation_matrix(angle + step) - rotation_matrix(angle - step)) / 2e-6
        torch.testing.assert_close(derivative, measured, rtol=0, atol=1e-9)


def test_the_jacobian_is_that_of_the_five_points(faces: Faces) -> None:
    start = faces.alpha.double()
    parameters = len(faces.refiner.spread)
    points, jacobian = faces.refiner._linearised(start)
    np.testing.assert_allclose(points, faces.five(faces.alpha), rtol=0, atol=1e-3)
    for k in range(parameters):
        moved = torch.zeros(len(start), parameters, dtype=torch.float64)
        moved[:, k] = 1e-5
        ahead, _ = faces.refiner._linearised(faces.refiner._moved(start, moved))
        behind, _ = faces.refiner._linearised(faces.refiner._moved(start, -moved))
        measured = (ahead - behind).flatten(1) / 2e-5
        torch.testing.assert_close(jacobian[..., k], measured, rtol=1e-5, atol=1e-5)


def test_a_wrong_pose_comes_back(faces: Faces) -> None:
    wrong = split(faces.alpha, faces.sizes)
    wrong = wrong._replace(
        angle=wrong.angle + torch.tensor([0.08, -0.1, 0.06]),
        trans=wrong.trans + torch.tensor([0.05, -0.04, 0.1]),
    )
    points5 = faces.five(faces.alpha)
    before, refined = join(wrong), faces.refiner(join(wrong), points5)
    assert (faces.distance(before, points5) > 3).all()
    assert (faces.distance(refined, points5) < 0.35 * faces.distance(before, points5)).all()
    truth, found = split(faces.alpha, faces.sizes), split(refined, faces.sizes)
    assert (found.angle - truth.angle).norm() < (wrong.angle - truth.angle).norm()
    torch.testing.assert_close(found.alb, wrong.alb, rtol=0, atol=0)
    torch.testing.assert_close(found.sh, wrong.sh, rtol=0, atol=0)


def test_where_a_detector_sets_its_points_is_taken_into_account(
    faces: Faces, small_bundle: AssetBundle
) -> None:
    offset = torch.tensor(POINT_OFFSETS["mtcnn"])
    of_mtcnn = PointRefiner(small_bundle.face_model(), "mtcnn")
    points5 = faces.five(faces.alpha)
    refined = of_mtcnn(faces.alpha, points5 + offset)
    torch.testing.assert_close(refined, faces.alpha, rtol=0, atol=2e-4)
    assert (faces.distance(of_mtcnn(faces.alpha, points5), points5) > 0.5).all()


def test_the_opening_of_mouth_and_eyes_is_left_to_the_network(open_bundle: AssetBundle) -> None:
    data = open_bundle.face_model()
    held = torch.from_numpy(opens_more_than_it_moves(data))
    assert held[[EXPRESSION_NAMES.index(name) for name in ("jaw_open", "eyes_close")]].all()
    assert not held[EXPRESSION_NAMES.index("smile")]
    alpha = torch.zeros(1, data.sizes.total)
    refiner = PointRefiner(data)
    points5, _ = refiner._linearised(alpha.double())
    moved = refiner(alpha, points5 + torch.tensor([3.0, -2.0]) * torch.arange(5)[:, None])
    exp = split(moved, data.sizes).exp[0, :LEADING]
    assert exp[held[:LEADING]].abs().max() < 1e-3
    assert exp[~held[:LEADING]].abs().max() > 0.01


def test_points_that_agree_change_nothing(faces: Faces) -> None:
    refined = faces.refiner(faces.alpha, faces.five(faces.alpha))
    torch.testing.assert_close(refined, faces.alpha, rtol=0, atol=2e-4)


def test_a_batch_is_its_faces(faces: Faces) -> None:
    points5 = faces.five(faces.alpha) + torch.randn(6, 5, 2, generator=torch.manual_seed(1)) * 4
    batched = faces.refiner(faces.alpha, points5)
    single = [faces.refiner(a[None], p[None]) for a, p in zip(faces.alpha, points5, strict=True)]
    torch.testing.assert_close(batched, torch.cat(single), rtol=0, atol=1e-5)
    assert faces.refiner(faces.alpha[:0], points5[:0]).shape == (0, faces.sizes.total)


@pytest.mark.parametrize(
    "points5",
    [
        torch.zeros(1, 5, 2),
        torch.full((1, 5, 2), 1e9),
        torch.tensor([[[0.0, 0.0], [1.0, 1.0], [2.0, 2.0], [3.0, 3.0], [4.0, 4.0]]]),
        torch.tensor([[[224.0, 0.0], [0.0, 0.0], [112.0, 9.0], [224.0, 224.0], [0.0, 224.0]]]),
    ],
    ids=["one point", "far away", "a line", "mirrored"],
)
def test_degenerate_points_do_no_harm(faces: Faces, points5: Tensor) -> None:
    alpha = faces.alpha[:1]
    refined = faces.refiner(alpha, points5)
    assert torch.isfinite(refined).all()
    before, after = faces.distance(alpha, points5), faces.distance(refined, points5)
    assert (after <= before * (1 + 1e-5)).all()


def test_points_that_are_not_finite_leave_the_face_alone(faces: Faces) -> None:
    points5 = faces.five(faces.alpha) + 3
    points5[1, 2, 0] = float("nan")
    points5[3, 4, 1] = float("inf")
    refined = faces.refiner(faces.alpha, points5)
    torch.testing.assert_close(refined[[1, 3]], faces.alpha[[1, 3]], rtol=0, atol=0)
    assert (refined[[0, 2]] != faces.alpha[[0, 2]]).any(dim=1).all()


def test_wrong_shapes_are_named(faces: Faces) -> None:
    with pytest.raises(ValueError, match=r"points5 must be \(6, 5, 2\)"):
        faces.refiner(faces.alpha, torch.zeros(5, 5, 2))
    with pytest.raises(ValueError, match="finite"):
        faces.refiner(faces.alpha * float("nan"), torch.zeros(6, 5, 2))
