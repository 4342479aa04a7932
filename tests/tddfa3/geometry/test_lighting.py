"""Light solved on rendered faces: the light that they were rendered with comes back."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tddfa3.assets.bundle import AssetBundle
from tddfa3.coefficients import Coefficients
from tddfa3.drawing.sample import random_coefficients
from tddfa3.geometry import lighting
from tddfa3.geometry.face_model import FaceModel, Geometry, sh_shading
from tddfa3.geometry.lighting import LightSolver


class Scene:
    """Faces under a strong, coloured light from the side, and the colours seen on them."""

    def __init__(self, bundle: AssetBundle) -> None:
        data = bundle.face_model()
        self.model = FaceModel(data).eval()
        self.solver = LightSolver(data)
        self.truth = random_coefficients(self.model, 4, seed=7)._replace(sh=coloured_light(4))
        self.geometry: Geometry = self.model(self.truth)
        self.visible = self.geometry.normals[..., 2] > 0
        self.colors = self.model.albedo(self.truth.alb) * self.shading(self.truth)

    def shading(self, coefficients: Coefficients) -> Tensor:
        return sh_shading(self.geometry.normals, coefficients.sh)

    def solve(self, guess: Coefficients, colors: Tensor | None = None) -> Coefficients:
        seen = self.colors if colors is None else colors
        return self.solver(seen, self.visible, self.geometry.normals, guess, self.model)

    def error(self, found: Coefficients) -> Tensor:
        """Mean deviation of the colours of the visible skin, per face."""
        drawn = self.model.albedo(found.alb) * self.shading(found)
        skin = torch.zeros(self.model.n_vertices, dtype=torch.bool)
        skin[self.solver.skin] = True
        counted = self.visible & skin & (self.geometry.normals[..., 2] > 0.25)
        return torch.stack(
            [(drawn - self.colors)[k][counted[k]].abs().mean() for k in range(len(drawn))]
        )


def coloured_light(count: int) -> Tensor:
    sh = torch.zeros(count, 3, 9)
    sh[:, :, 0] = torch.tensor([0.1, 0.0, -0.15])
    sh[:, :, 3] = torch.linspace(-0.25, 0.25, count)[:, None]
    sh[:, 1, 1], sh[:, 0, 2] = 0.1, 0.12
    return sh.flatten(1)


@pytest.fixture(scope="module")
def scene(small_bundle: AssetBundle) -> Scene:
    return Scene(small_bundle)


def test_the_light_of_a_rendered_face_comes_back(scene: Scene) -> None:
    guess = scene.truth._replace(sh=torch.zeros(4, 27))
    found = scene.solve(guess)
    assert (scene.error(guess) > 0.04).all()
    assert (scene.error(found) < 0.01).all()
    shading, truth = scene.shading(found), scene.shading(scene.truth)
    seen = scene.visible & (scene.geometry.normals[..., 2] > 0.25)
    assert (shading - truth)[seen].abs().mean() < 0.06
    for name in ("id", "exp", "angle", "trans"):
        assert getattr(found, name) is getattr(guess, name)


def test_the_colour_of_the_skin_comes_back_too(scene: Scene) -> None:
    guess = scene.truth._replace(sh=torch.zeros(4, 27), alb=torch.zeros_like(scene.truth.alb))
    assert (scene.error(scene.solve(guess)) < 0.3 * scene.error(guess)).all()


def test_hair_over_the_forehead_hardly_counts(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It hides a fifth of the skin; plain least squares would be misled three times as far."""
    guess = scene.truth._replace(sh=torch.zeros(4, 27))
    colors = scene.colors.clone()
    colors[:, scene.geometry.shape[0, :, 1] > 0.5] = 0.02
    error = scene.error(scene.solve(guess, colors))
    monkeypatch.setattr(lighting, "_reweighted", lambda weights, residual: weights)
    misled = scene.error(scene.solve(guess, colors))
    assert (error < 0.45 * misled).all()
    assert error.median() < 0.015


def test_a_batch_is_its_faces(scene: Scene) -> None:
    guess = scene.truth._replace(sh=torch.zeros(4, 27))
    batched = scene.solve(guess)
    for k in range(4):
        one = slice(k, k + 1)
        single = scene.solver(
            scene.colors[one],
            scene.visible[one],
            scene.geometry.normals[one],
            Coefficients(*(part[one] for part in guess)),
            scene.model,
        )
        torch.testing.assert_close(single.sh, batched.sh[one], rtol=0, atol=1e-4)
        torch.testing.assert_close(single.alb, batched.alb[one], rtol=0, atol=1e-3)


def test_a_face_without_visible_skin_keeps_its_light(scene: Scene) -> None:
    hidden = torch.zeros_like(scene.visible)
    found = scene.solver(scene.colors, hidden, scene.geometry.normals, scene.truth, scene.model)
    torch.testing.assert_close(found.alb, scene.truth.alb, rtol=0, atol=0)
    torch.testing.assert_close(found.sh, scene.truth.sh, rtol=0, atol=0)
