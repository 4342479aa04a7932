"""Networks that turn a 224 crop into the coefficient vector."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import nn

from tddfa3.assets.bundle import AssetBundle
from tddfa3.coefficients import CoefficientSizes
from tddfa3.conventions import CROP_SIZE
from tddfa3.errors import AssetError
from tddfa3.networks.backbones.efficientlite import EfficientLite
from tddfa3.networks.backbones.mobilenetv3 import MobileNetV3
from tddfa3.networks.backbones.resnet50 import ResNet50
from tddfa3.networks.engine import Engine, Network

__all__ = ["ARCHITECTURES", "build_backbone"]

ARCHITECTURES: dict[str, Callable[[Sequence[int]], nn.Module]] = {
    "ResNet-50": ResNet50,
    "MobileNetV3-Large": MobileNetV3,
    "EfficientNet-Lite0": EfficientLite,
}
"""Architectures that a bundle may declare, each with a constructor that takes the head sizes."""


def build_backbone(
    name: str,
    bundle: AssetBundle,
    device: torch.device | str,
    engine: Engine | None = None,
) -> Network:
    """Loads a backbone of the bundle, ready to run.

    Args:
        name: one of ``bundle.backbones``, or "auto" for the first of them.
        bundle: holds the weights.
        device: where PyTorch runs, unless ``engine`` is given.
        engine: runs the network; None for the fastest on ``device``.

    Returns:
        A callable: crops ``(B, 3, 224, 224)`` float32 RGB 0..1 -> coefficients
        ``(B, bundle.sizes.total)`` float32, ordered as :class:`tddfa3.coefficients.Coefficients`.

    Raises:
        UserError: If the bundle has no such backbone.
        AssetError: If its architecture or input size is unknown, or the stored weights do not fit.
    """
    declared = bundle.backbone(bundle.choose_backbone(name))
    if declared.architecture not in ARCHITECTURES or declared.input_size != CROP_SIZE:
        raise AssetError(
            f"{bundle.path}: backbone {name} is {declared.architecture} for crops of "
            f"{declared.input_size}; this version of tddfa3 knows {', '.join(ARCHITECTURES)} for "
            f"crops of {CROP_SIZE}"
        )
    network = ARCHITECTURES[declared.architecture]
    engine = engine or Engine(device=device)
    return engine.network(
        lambda: network(_head_sizes(bundle.sizes)),
        bundle,
        declared.file.removesuffix(".safetensors"),
        (None, 3, CROP_SIZE, CROP_SIZE),
    )


def _head_sizes(sizes: CoefficientSizes) -> tuple[int, ...]:
    # The translation has two heads: x and y in one, z in the other.
    return (sizes.id, sizes.exp, sizes.alb, sizes.angle, sizes.sh, sizes.trans - 1, 1)
