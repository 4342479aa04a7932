"""Networks that turn a 224 crop into the coefficient vector."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import nn

from tddfa3.assets.bundle import AssetBundle
from tddfa3.backbones.mobilenetv3 import MobileNetV3
from tddfa3.backbones.resnet50 import ResNet50
from tddfa3.coefficients import CoefficientSizes
from tddfa3.conventions import CROP_SIZE
from tddfa3.engine import Engine, Network
from tddfa3.errors import UserError

__all__ = ["build_backbone"]

_BACKBONES: dict[str, Callable[[Sequence[int]], nn.Module]] = {
    "resnet50": ResNet50,
    "mbnetv3": MobileNetV3,
}


def build_backbone(
    name: str,
    bundle: AssetBundle,
    device: torch.device | str,
    engine: Engine | None = None,
) -> Network:
    """Loads a backbone of the bundle, ready to run.

    Args:
        name: ``resnet50`` (more exact) or ``mbnetv3`` (faster).
        engine: what runs it; None: the fastest on ``device``.

    Returns:
        A callable: crops ``(B, 3, 224, 224)`` float32 RGB 0..1 -> coefficients
        ``(B, bundle.sizes.total)`` float32, ordered as :class:`tddfa3.coefficients.Coefficients`.

    Raises:
        UserError: if the name is unknown or the bundle has no such backbone.
        AssetError: if the stored weights do not fit the architecture.
    """
    if name not in _BACKBONES:
        raise UserError(f"backbone: {name!r} is unknown; choose of {', '.join(_BACKBONES)}")
    if name not in bundle.backbones:
        offered = ", ".join(bundle.backbones) or "none"
        raise UserError(
            f"backbone: the assets in {bundle.path} have no {name!r} (they have: {offered}); "
            "choose one of those or assets that have it"
        )
    network = _BACKBONES[name]
    engine = engine or Engine(device=device)
    return engine.network(
        lambda: network(_head_sizes(bundle.sizes)),
        bundle,
        f"backbone_{name}",
        (None, 3, CROP_SIZE, CROP_SIZE),
    )


def _head_sizes(sizes: CoefficientSizes) -> tuple[int, ...]:
    # The translation has two heads: x and y in one, z in the other.
    return (sizes.id, sizes.exp, sizes.alb, sizes.angle, sizes.sh, sizes.trans - 1, 1)
