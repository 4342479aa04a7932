"""Loading stored weights into a network."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torchvision.models.resnet import Bottleneck

from tddfa3.errors import AssetError
from tddfa3.networks.weights import fold_batch_norms, load_network


def small_network() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.PReLU(4))


def weights(seed: int = 0) -> dict[str, Tensor]:
    torch.manual_seed(seed)
    state = small_network().state_dict()
    state["1.running_mean"] = torch.rand(4)
    state["1.running_var"] = torch.rand(4) + 0.5
    return state


def load(tensors: dict[str, Tensor]) -> nn.Module:
    return load_network(small_network, tensors, source="net.safetensors", device="cpu")


def test_network_computes_what_its_stored_weights_say() -> None:
    stored = weights()
    reference = small_network().eval()
    reference.load_state_dict(stored)
    images = torch.rand(2, 3, 9, 9)
    network = load(stored)
    torch.testing.assert_close(network(images), reference(images), rtol=1e-5, atol=1e-6)
    assert not network.training
    assert not any(parameter.requires_grad for parameter in network.parameters())


def test_loading_does_not_change_the_stored_weights() -> None:
    stored = weights()
    load(stored)
    for name, tensor in weights().items():
        torch.testing.assert_close(stored[name], tensor, rtol=0, atol=0)


def test_batch_norms_are_folded_also_where_layers_are_attributes() -> None:
    projection = nn.Sequential(nn.Conv2d(8, 16, 1, stride=2, bias=False), nn.BatchNorm2d(16))
    blocks = Bottleneck(8, 4, stride=2, downsample=projection), Bottleneck(16, 4)
    network = nn.Sequential(*blocks).eval().requires_grad_(False)
    images = torch.rand(2, 8, 64, 64)
    expected = network(images)
    fold_batch_norms(network)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in network.modules())
    torch.testing.assert_close(network(images), expected, rtol=1e-4, atol=1e-5)


def test_loading_leaves_the_random_state_alone() -> None:
    stored = weights()
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    load(stored)
    torch.testing.assert_close(torch.rand(3), expected, rtol=0, atol=0)


def test_half_precision_weights_are_widened() -> None:
    network = load(
        {name: t.half() if t.is_floating_point() else t for name, t in weights().items()}
    )
    assert all(parameter.dtype == torch.float32 for parameter in network.parameters())
    assert network(torch.zeros(1, 3, 8, 8)).dtype == torch.float32


def test_counters_may_be_missing_and_leftovers_are_ignored() -> None:
    stored = weights()
    del stored["1.num_batches_tracked"]
    stored["classifier.weight"] = torch.zeros(10, 4)
    assert load(stored)(torch.zeros(2, 3, 5, 5)).shape == (2, 4, 3, 3)


def test_missing_weight_is_named() -> None:
    stored = weights()
    del stored["0.bias"]
    with pytest.raises(AssetError, match=r"net\.safetensors: 1 of .* missing \(0\.bias\)"):
        load(stored)


def test_wrong_shape_is_named_with_both_shapes() -> None:
    stored = weights()
    stored["0.bias"] = torch.zeros(5)
    with pytest.raises(AssetError, match=r"0\.bias has shape \(5,\) instead of \(4,\)"):
        load(stored)
