"""A photograph, and detectors small enough to run in every test."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from skimage import data
from torch import Tensor, nn

from tddfa3.networks.detection.landmarks106 import LandmarkNetwork, Landmarks106
from tddfa3.networks.detection.retinaface import RetinaFace, RetinaFaceConfig
from tddfa3.networks.detection.retinaface_network import RetinaFaceNetwork
from tddfa3.networks.weights import load_network


@pytest.fixture(scope="session")
def astronaut() -> NDArray[np.uint8]:
    """(512, 512, 3) RGB with one large face (NASA, public domain)."""
    return data.astronaut()


@pytest.fixture(scope="session")
def random_retinaface() -> Callable[..., RetinaFace]:
    """Makes detectors with random weights, whose "faces" are anything: for what holds always."""
    torch.manual_seed(0)
    network = RetinaFaceNetwork()
    for layer in network.body.modules():
        if isinstance(layer, nn.Conv2d):
            # PyTorch's own start makes activations fade from layer to layer.
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
    boxes, landmarks = random_weights(network), random_weights(LandmarkNetwork())
    for level in range(3):
        # So that a handful of the small anchors pass in an image of noise, with boxes near them.
        margin = 0.5 if level == 0 else 100.0
        boxes[f"ClassHead.{level}.conv1x1.weight"] *= 3
        boxes[f"ClassHead.{level}.conv1x1.bias"] = torch.tensor([margin, -margin] * 2)
        boxes[f"BboxHead.{level}.conv1x1.weight"] *= 0.1

    def make(**settings: float) -> RetinaFace:
        config = RetinaFaceConfig(**{"size": 64, **settings})  # type: ignore[arg-type]
        network = load_network(RetinaFaceNetwork, boxes, source="random", device="cpu")
        points = load_network(LandmarkNetwork, landmarks, source="random", device="cpu")
        finder = Landmarks106(points, device="cpu", batch_size=config.face_batch_size)
        return RetinaFace(network, finder, device="cpu", config=config)

    return make


def random_weights(network: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in network.state_dict().items()}
