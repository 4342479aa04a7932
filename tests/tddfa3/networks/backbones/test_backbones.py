"""Backbones: upstream's coefficients from upstream's crops, any batch, clear refusals."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from skimage import data

from tddfa3.assets.bundle import AssetBundle
from tddfa3.errors import AssetError, UserError
from tddfa3.networks.backbones import build_backbone
from tddfa3.networks.backbones.mobilenetv3 import MobileNetV3
from tddfa3.networks.backbones.resnet50 import ResNet50
from tddfa3.networks.engine import Network


@pytest.fixture(scope="module")
def full_backbone(golden_bundle: AssetBundle) -> Callable[[str], Network]:
    return cache(lambda name: build_backbone(name, golden_bundle, "cpu"))


@pytest.fixture(scope="module")
def crops() -> torch.Tensor:
    """Five different 224 cuts of one photo, ``(5, 3, 224, 224)`` RGB 0..1."""
    photo = torch.from_numpy(data.astronaut()).permute(2, 0, 1).float() / 255
    return torch.stack([photo[:, 30 * i : 30 * i + 224, 50 * i : 50 * i + 224] for i in range(5)])


@pytest.mark.parametrize("backbone", ["resnet50", "mbnetv3"])
@pytest.mark.parametrize(
    "photo", ["astronaut__retinaface", "ex1__retinaface", "crop_astronaut__none", "crop_ex1__none"]
)
def test_golden_coefficients(
    full_backbone: Callable[[str], Network],
    golden: Callable[[str], Mapping[str, NDArray]],
    backbone: str,
    photo: str,
) -> None:
    expected = golden(f"{photo}__{backbone}__nvdr")
    crop = torch.from_numpy(expected["crop"]).permute(2, 0, 1)[None].float() / 255
    coefficients = full_backbone(backbone)(crop)
    np.testing.assert_allclose(coefficients[0].numpy(), expected["alpha"], rtol=0, atol=1e-4)


@pytest.fixture(scope="module")
def small_backbone(small_bundle: AssetBundle) -> Network:
    return build_backbone("mbnetv3", small_bundle, "cpu")


def test_batch_equals_single_crops(
    small_bundle: AssetBundle, small_backbone: Network, crops: torch.Tensor
) -> None:
    batched = small_backbone(crops)
    assert batched.shape == (5, small_bundle.sizes.total)
    assert batched.dtype == torch.float32
    single = torch.cat([small_backbone(crop[None]) for crop in crops])
    torch.testing.assert_close(batched, single, rtol=0, atol=1e-4)


def test_empty_batch(small_bundle: AssetBundle, small_backbone: Network) -> None:
    assert small_backbone(torch.zeros(0, 3, 224, 224)).shape == (0, small_bundle.sizes.total)


def test_same_crop_gives_the_same_coefficients(
    small_backbone: Network, crops: torch.Tensor
) -> None:
    torch.testing.assert_close(small_backbone(crops), small_backbone(crops), rtol=0, atol=0)


@pytest.mark.parametrize(("network", "features"), [(ResNet50, 2048), (MobileNetV3, 960)])
def test_heads_follow_the_sizes_asked_for(
    network: Callable[[tuple[int, ...]], torch.nn.Module], features: int
) -> None:
    with torch.device("meta"):
        built = network((5, 4, 3, 3, 27, 2, 1))
        output = built(torch.zeros(2, 3, 224, 224))
    assert output.shape == (2, 45)
    assert built.state_dict()["final_layers.1.weight"].shape == (4, features, 1, 1)


def test_unknown_name_is_refused_with_the_choices(small_bundle: AssetBundle) -> None:
    with pytest.raises(UserError, match=r"no 'vgg' \(they have: mbnetv3\)"):
        build_backbone("vgg", small_bundle, "cpu")


def test_auto_is_the_first_that_the_bundle_declares(
    small_bundle: AssetBundle, small_backbone: Network, crops: torch.Tensor
) -> None:
    auto = build_backbone("auto", small_bundle, "cpu")
    torch.testing.assert_close(auto(crops), small_backbone(crops), rtol=0, atol=0)


@pytest.mark.parametrize("said", [{"architecture": "VGG-19"}, {"input_size": 112}])
def test_a_network_that_is_unknown_here_is_named(
    small_bundle: AssetBundle, said: dict[str, object]
) -> None:
    declared = {"mbnetv3": {**small_bundle.manifest["backbones"]["mbnetv3"], **said}}
    manifest = {**small_bundle.manifest, "backbones": declared}
    other = AssetBundle(small_bundle.path, manifest)
    with pytest.raises(AssetError, match=rf"{next(iter(said.values()))}.*ResNet-50"):
        build_backbone("mbnetv3", other, "cpu")


def test_absent_backbone_is_refused_with_what_is_there(small_bundle: AssetBundle) -> None:
    with pytest.raises(UserError, match=r"no 'resnet50' \(they have: mbnetv3\)"):
        build_backbone("resnet50", small_bundle, "cpu")
