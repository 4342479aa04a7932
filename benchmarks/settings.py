"""What is measured, and with how much patience."""

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
"""Options of ``jobs.label`` by the name of what comes out."""

DETECTORS = {"retinaface": "RetinaFace", "mtcnn": "MTCNN"}
BACKBONES = {"resnet50": "ResNet-50", "mbnetv3": "MobileNetV3"}
"""Networks and what they are called, the costliest first."""


@dataclass(frozen=True)
class Settings:
    """Of one run of all benchmarks.

    Attributes:
        assets: bundle with the networks and the face model.
        photos: folder of photographs; None: those found by default.
        threads: of the library, and of all actors together.
        seconds: for each comparison.
        rounds: of each comparison at least, whatever the time.
        job_images: labelled by each job.
        planned_shards, planned_images: of the planning benchmark; images of each shard.
        loop_images: through the scheduler with a labeller that does nothing.
        quick: fewer variants.
        device: where the library runs.
        original_seconds: that the original takes for a photograph on this machine, with everything
            on; None: nobody has timed it here.
        detectors, backbones: to measure, of the bundle; the first of each is the usual one.
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
    """The job's config for a variant; ``options`` are its own."""
    networks = {"detector": settings.detectors[0], "backbone": settings.backbones[0]}
    return LabelConfig(
        assets=str(settings.assets),
        device="cuda" if settings.device.startswith("cuda") else "cpu",
        **{**networks, **OUTPUTS[outputs], **options},
    )


def actors(count: int) -> ActorRange:
    """Exactly ``count`` actors."""
    return ActorRange(count, count)
