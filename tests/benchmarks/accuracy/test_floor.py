"""Fitting a face model to points finds the face that the points came from."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.accuracy.floor import Landmarks68, fit, read_points
from tddfa3.assets.generators.open_face import open_face_model
from tddfa3.geometry.camera import project, rotation_matrix, to_camera


@pytest.fixture(scope="module")
def landmarks() -> Landmarks68:
    return Landmarks68.of(open_face_model(3000))


def picture_of(
    model: Landmarks68, angle: list[float], coefficients: np.ndarray | float
) -> np.ndarray:
    """(68,2) pixels of a 224 x 224 picture."""
    shape = torch.from_numpy(model.mean + model.basis @ coefficients)[None]
    rotation = rotation_matrix(torch.tensor([angle], dtype=torch.float64))
    camera = to_camera(shape, rotation, torch.zeros(1, 3, dtype=torch.float64))
    return project(camera)[0].numpy() * [1, -1] + [0, 224]


def test_a_rendered_face_is_found_again(landmarks: Landmarks68) -> None:
    coefficients = np.random.default_rng(0).normal(0, 0.5, landmarks.basis.shape[2])
    angle = [0.1, -0.4, 0.2]
    points = picture_of(landmarks, angle, coefficients)
    found = fit(landmarks, points * 2 + 30, (508, 508))
    assert np.linalg.norm(found.errors, axis=1).mean() < 0.5
    np.testing.assert_allclose(found.pose[:3], angle, atol=0.03)


def test_pose_alone_leaves_the_shape_as_an_error(landmarks: Landmarks68) -> None:
    wide = np.zeros(landmarks.basis.shape[2])
    wide[0] = 2.0
    points = picture_of(landmarks, [0.0, 0.0, 0.0], wide)
    rigid = fit(landmarks._replace(basis=landmarks.basis[:, :, :0]), points, (224, 224))
    whole = fit(landmarks, points, (224, 224))
    assert rigid.coefficients.size == 0
    left = [np.linalg.norm(f.errors, axis=1).mean() for f in (rigid, whole)]
    assert left[0] > 1.0 > 0.4 > left[1]


def test_the_open_face_fits_photographs_better_than_its_landmarks_jitter(shared: Path) -> None:
    model = Landmarks68.of(open_face_model())
    fits = [fit(model, *photo) for photo in read_points(shared / "photos").values()]
    errors = [np.linalg.norm(found.errors, axis=1).mean() for found in fits]
    assert np.mean(errors) < 1.0
    assert max(errors) < 2.0
