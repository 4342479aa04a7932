"""The original's speed: as it was measured here, or carried over from where it was.

The original (3DDFA-V3's own program) was timed once, on two threads of another machine, with
everything on. What can be timed again here without it is the network that both run: ResNet-50 as
PyTorch runs it when nothing is done about it, one crop at a time. The original's detector and
networks are taken to be slower or faster here as that is; the rest of its time is left as it was.

Whoever has the original on this machine times it, and says what it takes (``--original``).
"""

from __future__ import annotations

from typing import Any

import torch

from benchmarks.ceiling import HEADS
from benchmarks.settings import Settings
from benchmarks.timing import measure_in_turn
from tddfa3.conventions import CROP_SIZE
from tddfa3.networks.backbones.resnet50 import ResNet50

# Seconds per photograph, medians: detector and alignment, ResNet-50, all else.
ORIGINAL_DETECTOR, ORIGINAL_BACKBONE, ORIGINAL_REST = 0.64, 0.085, 2.425
ORIGINAL = ORIGINAL_DETECTOR + ORIGINAL_BACKBONE + ORIGINAL_REST
THREADS = 2


def measure_yardstick(settings: Settings) -> dict[str, Any]:
    """The plain network's time, and what the original's comes to."""
    network = ResNet50(HEADS).eval()
    crop = torch.rand(1, 3, CROP_SIZE, CROP_SIZE)
    before = torch.get_num_threads()
    torch.set_num_threads(THREADS)
    try:
        with torch.inference_mode():
            timing = measure_in_turn(
                {"": lambda: network(crop)}, seconds=settings.seconds / 2, least=3
            )[""]
    finally:
        torch.set_num_threads(before)
    seconds = settings.original_seconds or expected_seconds(timing.wall)
    return {
        "measured_here": settings.original_seconds is not None,
        "plain_resnet50_seconds": timing.wall,
        "there_seconds": ORIGINAL_BACKBONE,
        "original_images_per_second_there": 1 / ORIGINAL,
        "original_images_per_second_here": 1 / seconds,
    }


def expected_seconds(plain_resnet50: float) -> float:
    """Of the original per photograph, where its ResNet-50 takes so many seconds per crop."""
    factor = plain_resnet50 / ORIGINAL_BACKBONE
    return (ORIGINAL_DETECTOR + ORIGINAL_BACKBONE) * factor + ORIGINAL_REST
