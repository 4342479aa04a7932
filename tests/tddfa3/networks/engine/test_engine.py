"""Choosing an engine, and the settings that are for CUDA."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tddfa3.errors import UnavailableError, UserError
from tddfa3.networks import engine as engine_module
from tddfa3.networks.engine import Engine
from tddfa3.networks.engine.cuda import TunedNetwork
from tddfa3.networks.engine.export import PlainPReLU, SubsampledConvolution, spell_out


def test_auto_is_onnx_on_the_cpu_and_torch_elsewhere() -> None:
    assert Engine("auto", "cpu").kind == "onnx"
    assert Engine("auto", "cuda").kind == "torch"
    assert Engine("torch", "cpu").kind == "torch"


def test_auto_is_torch_where_onnxruntime_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_module, "onnx_is_installed", lambda: False)
    assert Engine("auto", "cpu").kind == "torch"
    with pytest.raises(UnavailableError, match="pip install onnxruntime onnx"):
        Engine("onnx", "cpu")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"name": "tensorrt"}, "choose of auto, torch, onnx"),
        ({"name": "onnx", "device": "cuda"}, "onnx runs on the CPU only"),
        ({"precision": "int8"}, "choose of fp32, bf16, fp16"),
        ({"precision": "bf16"}, "are for CUDA"),
        ({"compiled": True}, "are for CUDA"),
    ],
)
def test_what_cannot_be_run_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        Engine(**settings)


@pytest.mark.parametrize("shape", [(3, 5), (2, 5, 7, 6)])
def test_spelled_out_prelu_is_prelu(shape: tuple[int, ...]) -> None:
    prelu = nn.PReLU(5)
    with torch.no_grad():
        prelu.weight.copy_(torch.tensor([-0.5, 0.0, 0.25, 1.0, 2.0]))
    network = nn.Sequential(nn.Identity(), nn.Sequential(prelu))
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    expected = network(x).detach()
    spell_out(network)
    assert sum(isinstance(m, PlainPReLU) for m in network.modules()) == 1
    assert not any(isinstance(m, nn.PReLU) for m in network.modules())
    torch.testing.assert_close(network(x), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    ("convolution", "replaced"),
    [
        (nn.Conv2d(3, 4, 1, stride=2), True),
        (nn.Conv2d(3, 4, 1, stride=(2, 3), bias=False), True),
        (nn.Conv2d(3, 4, 1), False),
        (nn.Conv2d(3, 4, 1, stride=2, padding=1), False),
        (nn.Conv2d(3, 6, 1, stride=2, groups=3), False),
        (nn.Conv2d(3, 4, 3, stride=2, padding=1), False),
    ],
)
def test_strided_1x1_convolution_picks_its_pixels_first(
    convolution: nn.Conv2d, replaced: bool
) -> None:
    network = nn.Sequential(nn.Sequential(convolution))
    x = torch.randn((2, 3, 7, 8), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = network(x)
        spell_out(network)
        found = network(x)
    assert any(isinstance(m, SubsampledConvolution) for m in network.modules()) == replaced
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)


class TwoOutputs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, 4, 3)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        y = self.layer(x)
        return y, y.mean(dim=(2, 3))


@pytest.mark.parametrize(("precision", "tolerance"), [("bf16", 3e-2), ("fp16", 3e-3)])
def test_reduced_precision_takes_and_gives_float32(precision: str, tolerance: float) -> None:
    torch.manual_seed(0)
    module = TwoOutputs().eval().requires_grad_(False)
    x = torch.rand(2, 3, 8, 8)
    expected = module(x)
    found = TunedNetwork(module, precision, compiled=False)(x)
    assert isinstance(found, tuple)
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.dtype == torch.float32
        assert 0 < float((ours - theirs).abs().max()) < tolerance


def test_outputs_outlive_the_next_call_of_a_compiled_network(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """CUDA graphs write every result into the same memory, as the stand-in here does."""
    asked: dict[str, Any] = {}
    memory = torch.zeros(2)

    def compile_as_graph(module: nn.Module, **settings: Any) -> Any:
        asked.update(settings)
        return lambda x: memory.copy_(x.flatten()[:2])

    monkeypatch.setattr(torch, "compile", compile_as_graph)
    network = TunedNetwork(nn.Identity(), "fp32", compiled=True)
    first = network(torch.full((1, 1, 1, 2), 1.0))
    network(torch.full((1, 1, 1, 2), 2.0))
    assert first.tolist() == [1.0, 1.0]
    assert asked == {"mode": "reduce-overhead", "dynamic": False}
