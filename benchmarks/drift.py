"""How far the labels move when the networks are run by another engine or in another precision."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import torch

from benchmarks.inputs import Encoded, decoded
from benchmarks.settings import Settings
from benchmarks.timing import measure_in_turn
from tddfa3.assets.bundle import AssetBundle
from tddfa3.device import crops_to_tensor
from tddfa3.geometry.crop import crop_image, estimate_crop
from tddfa3.labeler import FaceLabeler
from tddfa3.networks.backbones import build_backbone
from tddfa3.networks.detection import build_detector
from tddfa3.networks.engine import Engine


def engines(device: str, threads: int) -> dict[str, Engine]:
    """Title to engine; the others are compared with the first."""
    if device.startswith("cuda"):
        return {
            "torch fp32": Engine("torch", device),
            "torch bf16": Engine("torch", device, precision="bf16"),
            "torch fp16": Engine("torch", device, precision="fp16"),
            "torch fp32, compiled": Engine("torch", device, compiled=True),
            "torch bf16, compiled": Engine("torch", device, precision="bf16", compiled=True),
        }
    return {"torch fp32": Engine("torch", device, threads), "onnx": Engine("onnx", device, threads)}


def measure_drift(settings: Settings, photos: Sequence[Encoded]) -> list[dict[str, Any]]:
    """One row per engine: the backbone's time, and how far the landmarks of the same crops move."""
    bundle = AssetBundle.load(settings.assets)
    backbone = settings.backbones[0]
    labeler = FaceLabeler(
        bundle,
        detector="none",
        backbone=backbone,
        device=settings.device,
        engine="torch",
        threads=settings.threads,
    )
    crops = same_crops(bundle, photos, settings.device)
    networks = {
        title: build_backbone(backbone, bundle, settings.device, engine)
        for title, engine in engines(settings.device, settings.threads).items()
    }
    with torch.inference_mode():
        points = {title: landmarks(labeler, network(crops)) for title, network in networks.items()}
        timings = measure_in_turn(
            {title: partial(network, crops) for title, network in networks.items()},
            seconds=settings.seconds,
            least=settings.rounds,
            cuda=settings.device.startswith("cuda"),
        )
    first = next(iter(points.values()))
    return [
        {
            "engine": title,
            "wall_ms": 1000 * timings[title].wall / len(crops),
            "cpu_ms": 1000 * timings[title].cpu / len(crops),
            **distances(points[title], first),
            "runs": timings[title].runs,
        }
        for title in networks
    ]


def distances(found: np.ndarray, expected: np.ndarray) -> dict[str, float]:
    """Mean and largest distance between points (..., 2) in crop pixels."""
    apart = np.linalg.norm(found - expected, axis=-1)
    return {"mean_px": float(apart.mean()), "largest_px": float(apart.max())}


def landmarks(labeler: FaceLabeler, alpha: torch.Tensor) -> np.ndarray:
    """The 68 landmarks of coefficients (B, total): (B, 68, 2) crop pixels."""
    return labeler.label_coefficients(alpha).landmarks["68"].double().cpu().numpy()


def same_crops(bundle: AssetBundle, photos: Sequence[Encoded], device: str) -> torch.Tensor:
    """Crops of the faces that MTCNN finds, because every bundle can have its trained weights."""
    images = decoded(photos)
    standard = bundle.face_model().standard_points
    cut = []
    for image, found in zip(
        images, build_detector("mtcnn", bundle, "cpu").detect(images), strict=True
    ):
        for points in found.points5:
            cut.append(crop_image(image, estimate_crop(points, image.shape[1::-1], standard)))
    if not cut:
        raise ValueError("no face was found in any photograph")
    return crops_to_tensor(np.stack(cut), torch.device(device))
