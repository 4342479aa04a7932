"""The 3DMM: shape, normals, shading; parity with upstream; other topologies and sizes."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping

import numpy as np
import pytest
import torch
from torch import Tensor

from tddfa3.assets.bundle import AssetBundle, FaceModelData
from tddfa3.coefficients import CoefficientSizes, split
from tddfa3.geometry.face_model import (
    FaceModel,
    Geometry,
    directional_shading,
    normals_by_gather,
    sh_shading,
)
from tests.support.golden import CROPS, FOUND, golden_geometry, golden_names

GOLDEN = golden_names([*FOUND, *CROPS])


@pytest.fixture(scope="module")
def data(small_bundle: AssetBundle) -> FaceModelData:
    return small_bundle.face_model()


@pytest.fixture(scope="module")
def model(data: FaceModelData) -> FaceModel:
    return FaceModel(data)


@pytest.fixture(scope="module")
def full_model(golden_bundle: AssetBundle) -> FaceModel:
    return FaceModel(golden_bundle.face_model())


def random_alpha(sizes: CoefficientSizes, rows: int) -> Tensor:
    generator = torch.Generator().manual_seed(rows)
    alpha = 0.3 * torch.randn(rows, sizes.total, generator=generator)
    alpha[:, sizes.slices()["trans"]] *= 0.3
    return alpha


def tensors(geometry: Geometry) -> dict[str, Tensor]:
    names = ("shape", "rotation", "normals", "camera", "points")
    return {name: getattr(geometry, name) for name in names}


@pytest.mark.parametrize("name", GOLDEN)
def test_golden_geometry(
    name: str, golden: Callable[[str], Mapping[str, np.ndarray]], full_model: FaceModel
) -> None:
    """Given upstream's coefficients: its vertices, projected points and texture."""
    wanted = golden(name)
    geometry = golden_geometry(full_model, wanted)
    at = wanted["vertex_idx"]
    np.testing.assert_allclose(geometry.camera[0, at], wanted["v3d"], atol=1e-5)
    np.testing.assert_allclose(geometry.points[0, at], wanted["v2d"], atol=1e-3)
    texture = full_model.texture(geometry)[0]
    np.testing.assert_allclose(texture[at], wanted["face_texture"], atol=1e-5)
    assert texture.min() >= 0
    assert texture.max() <= 1


def test_mean_face_comes_back_for_zero_coefficients(data: FaceModelData, model: FaceModel) -> None:
    geometry = model(split(torch.zeros(1, data.sizes.total), data.sizes))
    np.testing.assert_array_equal(geometry.shape[0], data.mean_shape)
    np.testing.assert_allclose(
        model.albedo(geometry.coefficients.alb)[0], data.mean_albedo / 255, atol=1e-6
    )
    nose = data.landmarks["106"][54]
    assert geometry.normals[0, nose, 2] > 0.8, "the tip of a frontal nose looks into the camera"


def test_shape_and_albedo_are_linear_in_the_coefficients(
    data: FaceModelData, model: FaceModel
) -> None:
    """By the definition, in float64."""
    c = split(random_alpha(data.sizes, 3).double(), data.sizes)
    shape = (
        data.mean_shape
        + np.einsum("vck,bk->bvc", data.id_basis.astype(np.float64), c.id)
        + np.einsum("vck,bk->bvc", data.exp_basis.astype(np.float64), c.exp)
    )
    albedo = data.mean_albedo + np.einsum(
        "vck,bk->bvc", data.albedo_basis.astype(np.float64), c.alb
    )
    np.testing.assert_allclose(model.shape(c.id.float(), c.exp.float()), shape, atol=1e-5)
    np.testing.assert_allclose(model.albedo(c.alb.float()), albedo / 255, atol=1e-5)


def test_batch_equals_its_faces_one_by_one(data: FaceModelData, model: FaceModel) -> None:
    alpha = random_alpha(data.sizes, 5)
    together = model(split(alpha, data.sizes))
    assert len(together) == 5
    for i, row in enumerate(alpha):
        alone = model(split(row[None], data.sizes))
        for name, value in tensors(alone).items():
            # 1e-6 model units are 1e-4 pixels; small triangles turn a last bit of a vertex into
            # more of a normal.
            atol = {"normals": 2e-5, "points": 1e-4}.get(name, 1e-6)
            torch.testing.assert_close(
                tensors(together)[name][i : i + 1], value, rtol=1e-6, atol=atol, msg=name
            )
        torch.testing.assert_close(
            model.normals(together.shape)[i : i + 1], model.normals(together.shape[i : i + 1])
        )
        torch.testing.assert_close(
            model.texture(together)[i : i + 1], model.texture(alone), rtol=0, atol=2e-5
        )


def test_empty_batch(data: FaceModelData, model: FaceModel) -> None:
    geometry = model(split(torch.zeros(0, data.sizes.total), data.sizes))
    v = data.n_vertices
    assert len(geometry) == 0
    assert {name: tuple(value.shape) for name, value in tensors(geometry).items()} == {
        "shape": (0, v, 3),
        "rotation": (0, 3, 3),
        "normals": (0, v, 3),
        "camera": (0, v, 3),
        "points": (0, v, 2),
    }
    assert model.texture(geometry).shape == (0, v, 3)
    assert directional_shading(geometry.normals).shape == (0, v, 3)


def test_other_coefficient_sizes(data: FaceModelData) -> None:
    """A bundle with 40 + 40 + 20 coefficients is the same model cut short."""
    short = dataclasses.replace(
        data,
        id_basis=np.ascontiguousarray(data.id_basis[..., :40]),
        exp_basis=np.ascontiguousarray(data.exp_basis[..., :40]),
        albedo_basis=np.ascontiguousarray(data.albedo_basis[..., :20]),
    )
    sizes = CoefficientSizes(id=40, exp=40, alb=20)
    assert short.sizes == sizes
    c = split(random_alpha(sizes, 2), sizes)
    longer = split(torch.zeros(2, data.sizes.total), data.sizes)._replace(
        angle=c.angle, sh=c.sh, trans=c.trans
    )
    for name in ("id", "exp", "alb"):
        getattr(longer, name)[:, : getattr(sizes, name)] = getattr(c, name)
    cut, whole = FaceModel(short), FaceModel(data)
    geometry, wanted = cut(c), whole(longer)
    torch.testing.assert_close(geometry.camera, wanted.camera, rtol=0, atol=1e-5)
    torch.testing.assert_close(cut.texture(geometry), whole.texture(wanted), rtol=0, atol=1e-5)


def tetrahedron() -> FaceModelData:
    """Four vertices, four triangles turned outwards, and a fifth vertex without any."""
    vertices = np.array(
        [[1, 1, 1], [-1, -1, 1], [-1, 1, -1], [1, -1, -1], [9, 9, 9]], dtype=np.float32
    )
    triangles = np.array([[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]], dtype=np.int32)
    around = np.full((5, 3), len(triangles), dtype=np.int32)
    for i in range(4):
        around[i] = np.flatnonzero((triangles == i).any(axis=1))
    nothing = np.zeros((5, 3, 1), dtype=np.float32)
    vertex = np.zeros(1, dtype=np.int32)
    return FaceModelData(
        mean_shape=vertices,
        id_basis=nothing,
        exp_basis=nothing,
        mean_albedo=np.full((5, 3), 128, dtype=np.float32),
        albedo_basis=nothing,
        triangles=triangles,
        vertex_triangles=around,
        uv=np.zeros((5, 2), dtype=np.float32),
        landmarks={name: np.zeros(int(name), dtype=np.int32) for name in ("68", "106", "134")},
        part_names=("skin",),
        part_vertices=(vertex,),
        part_triangles=(triangles[:1],),
        parallel=(vertex,) * 33,
        standard_points=np.zeros((5, 3)),
    )


def test_normals_of_a_tetrahedron_point_outwards() -> None:
    model = FaceModel(tetrahedron())
    shape = model.shape(torch.zeros(1, 1), torch.zeros(1, 1))
    normals = model.normals(shape)[0]
    torch.testing.assert_close(normals[:4], shape[0, :4] / 3**0.5)
    assert normals[4].tolist() == [0, 0, 0], "a vertex without triangles has no direction"


def test_normals_survive_triangles_without_area() -> None:
    model = FaceModel(tetrahedron())
    flat = torch.zeros(2, 5, 3)
    flat[1] = model.mean_shape.view(5, 3)
    normals = model.normals(flat)
    assert normals[0].abs().max() == 0
    torch.testing.assert_close(normals[1], model.normals(flat[1:])[0])


def test_compiled_normals_equal_the_readable_ones(data: FaceModelData, model: FaceModel) -> None:
    c = split(random_alpha(data.sizes, 3), data.sizes)
    shape = model.shape(c.id, c.exp)
    normals = model.normals(shape)
    wanted = normals_by_gather(shape, model.triangles, model.vertex_triangles)
    torch.testing.assert_close(normals, wanted, rtol=0, atol=5e-6)
    lengths = normals.norm(dim=-1)
    assert ((lengths - 1).abs() < 1e-5).logical_or(lengths == 0).all()


def test_normals_can_be_differentiated(model: FaceModel) -> None:
    shape = model.mean_shape.view(1, -1, 3).clone().requires_grad_()
    model.normals(shape)[..., 2].sum().backward()
    assert shape.grad is not None
    assert torch.isfinite(shape.grad).all()
    assert shape.grad.abs().max() > 0


def test_normals_turn_with_the_face(data: FaceModelData, model: FaceModel) -> None:
    """Rotated normals are the normals of the rotated face."""
    geometry = model(split(random_alpha(data.sizes, 2), data.sizes))
    turned = model.normals(geometry.shape @ geometry.rotation)
    torch.testing.assert_close(geometry.normals, turned, rtol=0, atol=2e-5)


def test_sh_shading_band_by_band() -> None:
    """Each coefficient lights its own channel by its own harmonic, on top of the ambient 0.8.

    Constants: A_l K_lm of Ramamoorthi and Hanrahan (A = pi, 2 pi / 3, pi / 4, times upstream's own
    norms), as plain numbers.
    """
    normals = torch.nn.functional.normalize(torch.randn(1, 40, 3), dim=-1)
    x, y, z = normals[0].unbind(-1)
    first, second, third = 0.886227, 1.772454, 2.426901
    harmonics = [
        torch.full_like(x, first),
        -second * y,
        second * z,
        -second * x,
        third * x * y,
        -third * y * z,
        third / 12**0.5 * (3 * z**2 - 1),
        -third * x * z,
        third / 2 * (x**2 - y**2),
    ]
    ambient = sh_shading(normals, torch.zeros(1, 27))[0]
    torch.testing.assert_close(ambient, torch.full((40, 3), 0.8 * first))
    for channel in range(3):
        for band in range(9):
            sh = torch.zeros(1, 27)
            sh[0, 9 * channel + band] = 1
            lit = sh_shading(normals, sh)[0] - ambient
            wanted = torch.zeros(40, 3)
            wanted[:, channel] = harmonics[band]
            torch.testing.assert_close(lit, wanted, rtol=1e-4, atol=1e-5)


def test_directional_shading_of_known_directions() -> None:
    """Into the camera: five lights, four of them at 54.7 degrees. Away from it: none."""
    normals = torch.tensor([[[0.0, 0, 1], [0, 0, -1], [1, 0, 0]]])
    grey = directional_shading(normals)[0]
    frontal = 0.78 * 1.7 * (1 + 4 / 3**0.5) / 5
    sideways = 0.78 * 1.7 * (2 / 3**0.5) / 5
    torch.testing.assert_close(grey[:, 0], torch.tensor([frontal, 0.0, sideways]))
    assert torch.equal(grey[:, :1].expand(3, 3), grey)


def test_wrong_shapes_are_named(data: FaceModelData, model: FaceModel) -> None:
    sizes, v = data.sizes, data.n_vertices
    with pytest.raises(ValueError, match=rf"id must have shape \(B, {sizes.id}\), not \(2, 3\)"):
        model.shape(torch.zeros(2, 3), torch.zeros(2, sizes.exp))
    with pytest.raises(ValueError, match=rf"exp must have shape \(2, {sizes.exp}\), not \(1, "):
        model.shape(torch.zeros(2, sizes.id), torch.zeros(1, sizes.exp))
    with pytest.raises(ValueError, match="alb must have shape"):
        model.albedo(torch.zeros(sizes.alb))
    with pytest.raises(ValueError, match=rf"shape must be \(B, {v}, 3\), not \(1, 4, 3\)"):
        model.normals(torch.zeros(1, 4, 3))
    with pytest.raises(ValueError, match=r"sh must have shape \(2, 27\), not \(1, 27\)"):
        sh_shading(torch.zeros(2, 5, 3), torch.zeros(1, 27))
    with pytest.raises(ValueError, match=r"normals must be \(B, V, 3\)"):
        sh_shading(torch.zeros(5, 3), torch.zeros(1, 27))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_cuda_equals_cpu(data: FaceModelData, model: FaceModel) -> None:
    alpha = random_alpha(data.sizes, 4)
    geometry = model(split(alpha, data.sizes))
    on_cuda = FaceModel(data).cuda()
    there = on_cuda(split(alpha.cuda(), data.sizes))
    for name, value in tensors(geometry).items():
        atol = {"normals": 1e-4, "points": 1e-3}.get(name, 1e-5)
        torch.testing.assert_close(tensors(there)[name].cpu(), value, rtol=0, atol=atol, msg=name)
    torch.testing.assert_close(
        on_cuda.texture(there).cpu(), model.texture(geometry), rtol=0, atol=1e-4
    )
