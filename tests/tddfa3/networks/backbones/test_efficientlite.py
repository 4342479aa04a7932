"""The open bundle's network: sizes, frames of the input, and the same numbers from onnxruntime."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tddfa3.networks.backbones.efficientlite import EfficientLite, SameConvolution
from tddfa3.networks.engine.export import example_input, export, outputs_of
from tddfa3.networks.engine.session import OnnxNetwork, prepare
from tddfa3.networks.weights import load_network

HEAD_SIZES = (40, 40, 20, 3, 27, 2, 1)


@pytest.fixture(scope="module")
def network() -> EfficientLite:
    torch.manual_seed(0)
    network = EfficientLite(HEAD_SIZES).eval()
    with torch.no_grad():  # a trunk whose activations neither vanish nor all saturate
        for module in network.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
    return network


@pytest.fixture(scope="module")
def crops() -> torch.Tensor:
    return torch.rand(3, 3, 224, 224, generator=torch.Generator().manual_seed(1))


def test_one_row_per_crop(network: EfficientLite, crops: torch.Tensor) -> None:
    with torch.no_grad():
        rows = network(crops)
        assert rows.shape == (3, sum(HEAD_SIZES))
        assert rows.dtype == torch.float32
        assert network(crops[:0]).shape == (0, sum(HEAD_SIZES))
        assert (rows[0] - rows[1]).abs().max() > 1e-3
        single = torch.cat([network(crop[None]) for crop in crops])
    torch.testing.assert_close(rows, single, rtol=1e-4, atol=1e-4)


def test_sees_the_means_of_2x2_pixels(network: EfficientLite, crops: torch.Tensor) -> None:
    means = crops.reshape(3, 3, 112, 2, 112, 2).mean(dim=(3, 5))
    with torch.no_grad():
        torch.testing.assert_close(network(crops), network.from_halved(means), rtol=0, atol=1e-4)


def test_outputs_are_scaled(network: EfficientLite, crops: torch.Tensor) -> None:
    with torch.no_grad():
        before = network(crops)
        network.output_scale[7] = 3.0
        after = network(crops)
        network.output_scale[7] = 1.0
    torch.testing.assert_close(after[:, 7], 3 * before[:, 7])
    torch.testing.assert_close(after[:, :7], before[:, :7], rtol=0, atol=0)


@pytest.mark.parametrize(("kernel", "size", "pads"), [(3, 112, (0, 1)), (5, 28, (1, 2))])
def test_stride_of_two_pads_as_tensorflow(kernel: int, size: int, pads: tuple[int, int]) -> None:
    torch.manual_seed(0)
    convolution = SameConvolution(2, 3, kernel, size, stride=2)
    x = torch.randn(1, 2, size, size)
    expected = F.conv2d(F.pad(x, pads * 2), convolution.weight, convolution.bias, stride=2)
    assert expected.shape[-1] == convolution.output_size == size // 2
    torch.testing.assert_close(convolution(x), expected)


def test_stored_in_half_precision_it_runs_in_single(
    network: EfficientLite, crops: torch.Tensor
) -> None:
    halves = {name: tensor.half() for name, tensor in network.state_dict().items()}
    assert sum(tensor.nbytes for tensor in halves.values()) < 6.5e6
    loaded = load_network(lambda: EfficientLite(HEAD_SIZES), halves, source="test", device="cpu")
    assert all(parameter.dtype == torch.float32 for parameter in loaded.parameters())
    with torch.no_grad():
        expected = network(crops)
        assert (loaded(crops) - expected).abs().max() < 0.01 * expected.abs().max()


def test_onnxruntime_computes_the_same(
    network: EfficientLite, crops: torch.Tensor, tmp_path: Path
) -> None:
    example = example_input((None, 3, 224, 224))
    export(network, example, [0], tmp_path / "exported.onnx")
    (tmp_path / "prepared").mkdir()
    prepare(tmp_path / "exported.onnx", tmp_path / "prepared")
    onnx = OnnxNetwork(tmp_path / "prepared", threads=1)
    for images in (example, crops, crops[:1]):
        (expected,) = outputs_of(network, images)
        assert (onnx(images) - expected).abs().max() < 1e-5 * expected.abs().max()
