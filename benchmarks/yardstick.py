"""The original's speed, measured on this machine or estimated from another.

The original (3DDFA-V3's own program) was timed once, on two threads of another machine, with
everything on. Without it, the network that both run can be timed here: ResNet-50 in plain PyTorch,
one crop at a time. The original's detector and networks are assumed to be slower or faster here by
the same factor; the rest of its time is assumed to be the same.

If you have the original on this machine, time it and give the time with ``--original``.
"""

from __future__ import annotations

from typing import Any

import torch

from benchmarks.ceiling import HEADS
from benchmarks.settings import Settings
from benchmarks.timing import measure_in_turn
from tddfa3.conventions import CROP_SIZE
from tddfa3.networks.backbones.resnet50 import ResNet50

ORIGINAL_DETECTOR, ORIGINAL_BACKBONE, ORIGINAL_REST = 0.64, 0.085, 2.425
"""Seconds per photograph, medians: detector and alignment, ResNet-50, everything else."""
ORIGINAL = ORIGINAL_DETECTOR + ORIGINAL_BACKBONE + ORIGINAL_REST
THREADS = 2


def measure_yardstick(settings: Settings) -> dict[str, Any]:
    """The plain network's time, and the original's time that follows from it."""
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
    """The original's time per photograph, if its ResNet-50 takes ``plain_resnet50`` seconds."""
    factor = plain_resnet50 / ORIGINAL_BACKBONE
    return (ORIGINAL_DETECTOR + ORIGINAL_BACKBONE) * factor + ORIGINAL_REST
