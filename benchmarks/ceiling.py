"""The fastest that any arrangement of the same work could be.

That is the networks' operations at the speed at which this machine multiplies matrices.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn

from benchmarks.settings import Settings
from benchmarks.timing import measure_in_turn
from tddfa3.conventions import CROP_SIZE
from tddfa3.networks.backbones.resnet50 import ResNet50
from tddfa3.networks.detection.landmarks106 import INPUT_SIZE, LandmarkNetwork
from tddfa3.networks.detection.retinaface import RetinaFaceConfig
from tddfa3.networks.detection.retinaface_network import RetinaFaceNetwork

HEADS = (80, 64, 80, 3, 27, 2, 1)
"""Sizes of the heads of 3DDFA-V3's backbones."""
_SIDE = 1024

# What a photograph with one face needs: architecture, side of its input, how often it is run.
_NETWORKS: dict[str, tuple[Callable[[], nn.Module], int, int]] = {
    "RetinaFace": (RetinaFaceNetwork, RetinaFaceConfig().size, 1),
    "106 points, twice": (LandmarkNetwork, INPUT_SIZE, 2),
    "ResNet-50": (lambda: ResNet50(HEADS), CROP_SIZE, 1),
}


def measure_ceiling(settings: Settings) -> dict[str, Any]:
    """Operations of a photograph's networks, and how many of them this machine does in a second.

    Operations are the additions and multiplications of direct convolutions.
    """
    operations = {
        name: runs * operations_of(network, side)
        for name, (network, side, runs) in _NETWORKS.items()
    }
    matrix = np.random.default_rng(0).random((_SIDE, _SIDE), dtype=np.float32)
    product = {"": lambda: matrix @ matrix}
    timing = measure_in_turn(product, seconds=settings.seconds / 4, least=5)[""]
    # By processor time, because NumPy uses all cores, whatever number of threads is measured.
    per_second = settings.threads * 2 * _SIDE**3 / timing.cpu
    return {
        "operations": operations,
        "operations_per_second": per_second,
        "images_per_second": per_second / sum(operations.values()),
    }


def operations_of(network: Callable[[], nn.Module], side: int) -> int:
    """Operations of the convolutions and linear layers in one run on one (side, side) image."""
    found = 0

    def count(layer: nn.Module, _: Any, output: torch.Tensor) -> None:
        nonlocal found
        assert isinstance(layer, (nn.Conv2d, nn.Linear))
        found += 2 * output.numel() * layer.weight[0].numel()

    with torch.device("meta"):
        module = network().eval()
        for layer in module.modules():
            if isinstance(layer, (nn.Conv2d, nn.Linear)):
                layer.register_forward_hook(count)
        with torch.inference_mode():
            module(torch.empty(1, 3, side, side))
    return found
