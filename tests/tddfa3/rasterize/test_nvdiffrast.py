"""The CUDA wrapper against a stand-in that enforces nvdiffrast's documented contract."""

from __future__ import annotations

import sys
import types

import numpy as np
import pytest
import torch

from tddfa3.errors import UnavailableError
from tddfa3.rasterize.cpu import CpuRasterizer
from tddfa3.rasterize.nvdiffrast import NvdiffrastRasterizer, import_nvdiffrast, open_nvdiffrast
from tests.support import fake_nvdiffrast as fake
from tests.support.fake_nvdiffrast import CPU, GPU, Placed, placed

SIZE = (12, 14)
ONE = CpuRasterizer(threads=1)


@pytest.fixture
def rasterizer() -> NvdiffrastRasterizer:
    return NvdiffrastRasterizer(fake, GPU)


@pytest.fixture
def mesh() -> tuple[torch.Tensor, torch.Tensor]:
    """pos (3,9,4), tri (8,3), on the CPU."""
    rng = np.random.default_rng(0)
    w = rng.uniform(0.5, 2, (3, 9, 1))
    pos = np.concatenate([rng.uniform(-1.4, 1.4, (3, 9, 3)) * [1, 1, 0.5] * w, w], axis=2)
    tri = np.stack([rng.choice(9, 3, replace=False) for _ in range(8)])
    return torch.from_numpy(pos.astype(np.float32)), torch.from_numpy(tri.astype(np.int32))


def close(got: torch.Tensor, expected: torch.Tensor) -> bool:
    return np.allclose(fake.values(got), expected.numpy(), atol=1e-5)


def test_instanced_mode(
    rasterizer: NvdiffrastRasterizer, mesh: tuple[torch.Tensor, torch.Tensor]
) -> None:
    pos, tri = mesh
    rast = rasterizer.rasterize(placed(pos, GPU), placed(tri, GPU), SIZE)
    assert rast.device == GPU
    assert close(rast, ONE.rasterize(pos, tri, SIZE))


def test_range_mode(
    rasterizer: NvdiffrastRasterizer, mesh: tuple[torch.Tensor, torch.Tensor]
) -> None:
    pos, tri = mesh
    ranges = torch.tensor([[0, 8], [3, 2], [5, 0]], dtype=torch.int32)
    # Every second row of a wider table: not contiguous.
    ranges = torch.stack([ranges, ranges], dim=1)[:, 0]
    rast = rasterizer.rasterize(placed(pos[0], GPU), placed(tri, GPU), SIZE, placed(ranges, CPU))
    assert close(rast, ONE.rasterize(pos[0], tri, SIZE, ranges))


def test_ranges_on_the_device_are_refused(
    rasterizer: NvdiffrastRasterizer, mesh: tuple[torch.Tensor, torch.Tensor]
) -> None:
    pos, tri = mesh
    ranges = placed(torch.tensor([[0, 8]], dtype=torch.int32), GPU)
    with pytest.raises(ValueError, match="on the CPU"):
        rasterizer.rasterize(placed(pos[0], GPU), placed(tri, GPU), SIZE, ranges)


def test_tensors_elsewhere_strided_or_unaligned_are_put_right(
    rasterizer: NvdiffrastRasterizer, mesh: tuple[torch.Tensor, torch.Tensor]
) -> None:
    pos, tri = mesh
    expected = ONE.rasterize(pos, tri, SIZE)
    from_cpu = rasterizer.rasterize(placed(pos, CPU), placed(tri, CPU), SIZE)
    assert from_cpu.device == CPU
    assert close(from_cpu, expected)
    strided = placed(pos.permute(2, 0, 1).contiguous().permute(1, 2, 0), GPU)
    assert not strided.is_contiguous()
    assert close(rasterizer.rasterize(strided, placed(tri, GPU), SIZE), expected)
    shifted = torch.cat([torch.zeros(1), pos.flatten()])[1:].view(pos.shape)
    assert shifted.data_ptr() % 16
    assert close(rasterizer.rasterize(placed(shifted, GPU), placed(tri, GPU), SIZE), expected)


def test_resolution_of_numpy_integers_is_passed_as_ints(
    rasterizer: NvdiffrastRasterizer, mesh: tuple[torch.Tensor, torch.Tensor]
) -> None:
    pos, tri = (placed(t, GPU) for t in mesh)
    height, width = np.array(SIZE)
    assert rasterizer.rasterize(pos, tri, (height, width)).shape == (3, *SIZE, 4)


@pytest.mark.parametrize("attributes", ["per image", "one for all", "flat"])
def test_interpolate(
    rasterizer: NvdiffrastRasterizer, mesh: tuple[torch.Tensor, torch.Tensor], attributes: str
) -> None:
    pos, tri = mesh
    rast = ONE.rasterize(pos, tri, SIZE)
    attr = {
        "per image": torch.rand(3, 9, 5),
        "one for all": torch.rand(1, 9, 5),
        "flat": torch.rand(9, 5),
    }[attributes]
    got = rasterizer.interpolate(placed(attr, GPU), placed(rast, GPU), placed(tri, GPU))
    assert got.device == GPU
    assert close(got, ONE.interpolate(attr, rast, tri))


def test_coverage(
    rasterizer: NvdiffrastRasterizer, mesh: tuple[torch.Tensor, torch.Tensor]
) -> None:
    pos, tri = mesh
    ranges = torch.tensor([[0, 3], [3, 5], [8, 0]], dtype=torch.int32)
    got = rasterizer.coverage(placed(pos, GPU), placed(tri, GPU), ranges, SIZE)
    assert got.device == GPU
    np.testing.assert_array_equal(fake.values(got), ONE.coverage(pos, tri, ranges, SIZE).numpy())


def test_empty_inputs_do_not_reach_nvdiffrast(rasterizer: NvdiffrastRasterizer) -> None:
    tri = placed(torch.tensor([[0, 1, 2]], dtype=torch.int32), GPU)
    no_tri = placed(torch.zeros((0, 3), dtype=torch.int32), GPU)
    no_ranges = torch.zeros((0, 2), dtype=torch.int32)
    pos = placed(torch.ones(2, 3, 4), GPU)
    assert rasterizer.rasterize(pos[:0], tri, SIZE).shape == (0, *SIZE, 4)
    assert not rasterizer.rasterize(pos, no_tri, SIZE).any()
    assert rasterizer.rasterize(pos[0], tri, SIZE, no_ranges).shape == (0, *SIZE, 4)
    empty = placed(torch.zeros(0, *SIZE, 4), GPU)
    assert rasterizer.interpolate(pos[:0], empty, tri).shape == (0, *SIZE, 4)
    assert rasterizer.coverage(pos[:0], tri, no_ranges, SIZE).shape == (0, 0, *SIZE)


def test_coordinates_that_are_not_finite_are_refused(
    rasterizer: NvdiffrastRasterizer, mesh: tuple[torch.Tensor, torch.Tensor]
) -> None:
    pos, tri = mesh
    pos[1, 4, 2] = torch.nan
    with pytest.raises(ValueError, match="batch index 1"):
        rasterizer.rasterize(placed(pos, GPU), placed(tri, GPU), SIZE)


def test_the_context_is_made_once(mesh: tuple[torch.Tensor, torch.Tensor]) -> None:
    pos, tri = (placed(t, GPU) for t in mesh)
    before = fake.RasterizeCudaContext.created
    rasterizer = NvdiffrastRasterizer(fake, GPU)
    for _ in range(3):
        rasterizer.rasterize(pos, tri, SIZE)
    assert fake.RasterizeCudaContext.created == before + 1


def test_the_stand_in_refuses_what_nvdiffrast_refuses(
    mesh: tuple[torch.Tensor, torch.Tensor],
) -> None:
    """Otherwise the tests above would prove nothing."""
    pos, tri = (placed(t, GPU) for t in mesh)
    context = fake.RasterizeCudaContext(GPU)
    for bad_pos, bad_tri in [
        (placed(pos, CPU), tri),
        (pos, placed(tri, CPU)),
        (pos.double(), tri),
        (pos, tri.long()),
        (pos.transpose(0, 1), tri),
        (pos[:0], tri),
        (pos, tri[:0]),
    ]:
        with pytest.raises(AssertionError):
            fake.rasterize(context, bad_pos, bad_tri, SIZE)
    ranges = placed(torch.tensor([[0, 8]], dtype=torch.int32), GPU)
    with pytest.raises(AssertionError):
        fake.rasterize(context, pos[0], tri, SIZE, ranges)
    assert isinstance(pos[0], Placed)
    assert pos[0].device == GPU


def test_a_missing_package_is_named_with_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "nvdiffrast", None)
    with pytest.raises(UnavailableError, match=r"pip install .*non-commercial.*'cpu'"):
        import_nvdiffrast()


def test_a_missing_device_is_named_with_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UnavailableError, match=r"not on cpu; .*'cpu'"):
        open_nvdiffrast(CPU)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UnavailableError, match=r"torch sees none; .*'cpu'"):
        open_nvdiffrast(GPU)


def test_a_context_that_fails_is_an_unavailable_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(device: torch.device) -> None:
        raise RuntimeError("no kernel image")

    library = types.SimpleNamespace(RasterizeCudaContext=refuse)
    with pytest.raises(UnavailableError, match=r"cuda:0 \(no kernel image\)"):
        NvdiffrastRasterizer(library, GPU)


def sphere() -> tuple[torch.Tensor, torch.Tensor]:
    """A ball of 2,048 triangles in a perspective view: pos (1,V,4), tri (T,3)."""
    rows, columns = 32, 32
    theta, phi = np.meshgrid(
        np.linspace(0.01, np.pi - 0.01, rows + 1), np.linspace(0, 2 * np.pi, columns + 1)
    )
    x, y = np.sin(theta) * np.cos(phi), np.sin(theta) * np.sin(phi)
    w = 3 + np.cos(theta)
    pos = np.stack([2 * x, 2 * y, 1.5 * w - 3, w], axis=-1).reshape(1, -1, 4)
    at = np.arange(columns * (rows + 1)).reshape(columns, rows + 1)[:, :rows].ravel()
    below = at + rows + 1
    tri = np.concatenate(
        [np.stack([at, at + 1, below], 1), np.stack([below, at + 1, below + 1], 1)]
    )
    return torch.from_numpy(pos.astype(np.float32)), torch.from_numpy(tri.astype(np.int32))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_cuda_draws_what_the_cpu_draws() -> None:
    """Equal but for what nvdiffrast's coarser snapping, 1/16 pixel, moves along edges."""
    pytest.importorskip("nvdiffrast.torch", exc_type=ImportError)
    cuda = open_nvdiffrast(torch.device("cuda"))
    pos, tri = sphere()
    pos = pos.repeat(3, 1, 1) * torch.tensor([1.0, 0.7, 1.9]).view(3, 1, 1) ** torch.tensor(
        [1, 1, 0, 0]
    )
    size = (224, 224)
    expected = ONE.rasterize(pos, tri, size)
    got = cuda.rasterize(pos.cuda(), tri.cuda(), size).cpu()
    same = got[..., 3] == expected[..., 3]
    assert same.float().mean() > 0.97
    assert ((got[..., 3] > 0) == (expected[..., 3] > 0)).float().mean() > 0.998
    assert (got - expected)[same].abs().max() < 0.02
    ranges = torch.tensor([[0, 100], [100, 900]], dtype=torch.int32)
    drawn = cuda.rasterize(pos[0].cuda(), tri.cuda(), size, ranges).cpu()
    alone = ONE.rasterize(pos[0], tri, size, ranges)
    assert (drawn[..., 3] == alone[..., 3]).float().mean() > 0.97
    groups = cuda.coverage(pos.cuda(), tri.cuda(), ranges, size).cpu()
    assert (groups == ONE.coverage(pos, tri, ranges, size)).float().mean() > 0.998
    attr = torch.rand(1, pos.shape[1], 3)
    colours = cuda.interpolate(attr.cuda(), expected.cuda(), tri.cuda()).cpu()
    assert torch.allclose(colours, ONE.interpolate(attr, expected, tri), atol=1e-5)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_the_cpu_rasterizer_takes_cuda_tensors() -> None:
    pos, tri = sphere()
    rast = ONE.rasterize(pos.cuda(), tri.cuda(), SIZE)
    assert rast.is_cuda
    assert torch.equal(rast.cpu(), ONE.rasterize(pos, tri, SIZE))
    attr = torch.rand(1, pos.shape[1], 3)
    colours = ONE.interpolate(attr.cuda(), rast, tri.cuda())
    assert colours.is_cuda
    assert torch.equal(colours.cpu(), ONE.interpolate(attr, rast.cpu(), tri))
