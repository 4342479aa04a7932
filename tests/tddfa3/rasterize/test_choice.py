"""Which rasterizer is built for a choice and a device."""

from __future__ import annotations

import sys
import types
import warnings

import pytest
import torch

from tddfa3.errors import UnavailableError, UserError
from tddfa3.rasterize import build_rasterizer
from tddfa3.rasterize.cpu import CpuRasterizer
from tests.support import fake_nvdiffrast as fake
from tests.support.fake_nvdiffrast import GPU, placed


@pytest.fixture
def cuda_with_nvdiffrast(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if torch had a CUDA device and nvdiffrast were installed."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    package = types.ModuleType("nvdiffrast")
    package.torch = fake  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "nvdiffrast", package)
    monkeypatch.setitem(sys.modules, "nvdiffrast.torch", fake)


@pytest.mark.parametrize("choice", ["auto", "cpu"])
def test_cpu_device_takes_the_cpu_silently(choice: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        rasterizer = build_rasterizer(choice, "cpu", threads=3)
    assert isinstance(rasterizer, CpuRasterizer)
    assert rasterizer.threads == 3
    assert rasterizer.name == "cpu"


def test_threads_default_to_torchs() -> None:
    assert CpuRasterizer().threads == torch.get_num_threads()


def test_auto_takes_nvdiffrast_where_it_works(cuda_with_nvdiffrast: None) -> None:
    for choice in ("auto", "nvdiffrast"):
        rasterizer = build_rasterizer(choice, "cuda")
        assert rasterizer.name == "nvdiffrast"
        assert rasterizer.device == GPU


def test_auto_falls_back_to_the_cpu_with_one_warning(
    cuda_with_nvdiffrast: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "nvdiffrast", None)
    with pytest.warns(RuntimeWarning, match="drawn on the CPU: nvdiffrast can't be imported") as w:
        rasterizer = build_rasterizer("auto", "cuda:0")
    assert len(w) == 1
    assert rasterizer.name == "cpu"


def test_nvdiffrast_asked_for_but_missing_is_an_error(
    cuda_with_nvdiffrast: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UnavailableError, match="CUDA devices only"):
        build_rasterizer("nvdiffrast", "cpu")
    monkeypatch.setitem(sys.modules, "nvdiffrast", None)
    with pytest.raises(UnavailableError, match="can't be imported"):
        build_rasterizer("nvdiffrast", "cuda")


def test_an_unknown_choice_names_the_known_ones() -> None:
    with pytest.raises(UserError, match=r"'opengl' is not known; .*auto, nvdiffrast, cpu"):
        build_rasterizer("opengl", "cpu")


def test_the_cpu_rasterizer_returns_results_to_the_tensors_device(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.Tensor, "to", placed)
    rasterizer = CpuRasterizer(threads=1)
    pos = torch.tensor([[[-1.0, -1, 0, 1], [3, -1, 0, 1], [-1, 3, 0, 1]]])
    tri = torch.tensor([[0, 1, 2]], dtype=torch.int32)
    there = rasterizer.rasterize(placed(pos, GPU), placed(tri, GPU), (4, 4))
    assert there.device == GPU
    assert (fake.values(there)[..., 3] == 1).all()
    whole = torch.tensor([[0, 1]], dtype=torch.int32)
    assert rasterizer.coverage(placed(pos, GPU), placed(tri, GPU), whole, (4, 4)).device == GPU
    attr = placed(torch.ones(1, 3, 2), GPU)
    assert rasterizer.interpolate(attr, there, placed(tri, GPU)).device == GPU
