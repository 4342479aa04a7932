"""What is measured, and for how long."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jobs.pipeline.record.config import ActorRange, LabelConfig

OUTPUTS: Mapping[str, Mapping[str, Any]] = {
    # Coefficients, camera and quality alone.
    "none": {"landmarks": (), "masks": ()},
    "labels": {},
    "everything": {
        "meshes": "both",
        "mesh_format": "obj",
        "textures": "jpg",
        "overlays": "sheet",
    },
}
"""Options of ``jobs.label`` by the name of an output set."""

DETECTORS = {"retinaface": "RetinaFace", "mtcnn": "MTCNN"}
"""Detectors and what tables call them, the costliest first."""
BACKBONES = {"resnet50": "ResNet-50", "mbnetv3": "MobileNetV3"}
"""Likewise the backbones."""


@dataclass(frozen=True)
class Settings:
    """Settings of one run of all benchmarks.

    Attributes:
        assets: bundle with the networks and the face model.
        photos: folder of photographs; None: the default ones.
        threads: of the library, and of all actors together.
        seconds: for each comparison.
        rounds: least number of rounds of each comparison, whatever the time.
        job_images: images that each job labels.
        planned_shards: number of shards that are planned.
        planned_images: number of images in each of them.
        loop_images: images that pass the scheduler with a labeler that does nothing.
        quick: fewer variants.
        device: where the library runs.
        original_seconds: what 3DDFA-V3's own program takes for a photograph on this machine, with
            everything on; None: it was not timed here.
        detectors: of the bundle, to measure; the first is the usual one.
        backbones: likewise.
    """

    assets: Path
    photos: Path | None
    threads: int
    seconds: float
    rounds: int
    job_images: int
    planned_shards: int
    planned_images: int
    loop_images: int
    quick: bool
    device: str = "cpu"
    original_seconds: float | None = None
    detectors: tuple[str, ...] = tuple(DETECTORS)
    backbones: tuple[str, ...] = tuple(BACKBONES)


def label_config(settings: Settings, *, outputs: str = "labels", **options: Any) -> LabelConfig:
    """The job's config for a variant, with its own ``options``."""
    networks = {"detector": settings.detectors[0], "backbone": settings.backbones[0]}
    return LabelConfig(
        assets=str(settings.assets),
        device="cuda" if settings.device.startswith("cuda") else "cpu",
        **{**networks, **OUTPUTS[outputs], **options},
    )


def actors(count: int) -> ActorRange:
    """Exactly ``count`` actors."""
    return ActorRange(count, count)
