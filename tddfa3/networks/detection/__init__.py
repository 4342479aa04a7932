"""Face detectors: from a photo to boxes and five points per face."""

from __future__ import annotations

import torch

from tddfa3.assets.bundle import AUTO, AssetBundle
from tddfa3.errors import UserError
from tddfa3.networks.detection.base import Detections, Detector
from tddfa3.networks.detection.landmarks106 import INPUT_SIZE, LandmarkNetwork, Landmarks106
from tddfa3.networks.detection.mtcnn import Cascade, Mtcnn, MtcnnConfig
from tddfa3.networks.detection.mtcnn_networks import OUTPUT_SIZE, REFINE_SIZE, MtcnnNetworks
from tddfa3.networks.detection.retinaface import RetinaFace, RetinaFaceConfig
from tddfa3.networks.detection.retinaface_network import RetinaFaceNetwork
from tddfa3.networks.detection.whole import WholeImage
from tddfa3.networks.engine import Engine, Network

__all__ = [
    "Detections",
    "Detector",
    "Mtcnn",
    "MtcnnConfig",
    "RetinaFace",
    "RetinaFaceConfig",
    "WholeImage",
    "build_detector",
]

_DETECTORS = ("retinaface", "mtcnn", "none")


def build_detector(
    name: str,
    bundle: AssetBundle,
    device: torch.device | str,
    config: RetinaFaceConfig | MtcnnConfig | None = None,
    engine: Engine | None = None,
) -> Detector:
    """Loads a detector of the bundle.

    Args:
        name: ``retinaface``, ``mtcnn``, ``none`` for images that are 224x224 crops already, or
            ``auto`` for the first that the bundle declares.
        bundle: holds the weights.
        device: where PyTorch runs, unless ``engine`` is given.
        config: settings of the named detector; None for the defaults.
        engine: runs its networks; None for the fastest on ``device``.

    Returns:
        the detector, ready to run.

    Raises:
        UserError: If the name is unknown or the bundle has no such detector.
        AssetError: If the stored weights do not fit.
        ValueError: If ``config`` belongs to another detector.
    """
    if name not in (AUTO, *_DETECTORS):
        raise UserError(f"detector: {name!r} is unknown; choose of {', '.join(_DETECTORS)}")
    name = bundle.choose_detector(name)
    if name == "none":
        if config is not None:
            raise ValueError("detector 'none' has no settings")
        return WholeImage()
    engine = engine or Engine(device=device)
    if name == "mtcnn":
        if config is not None and not isinstance(config, MtcnnConfig):
            raise ValueError(f"detector 'mtcnn' takes a MtcnnConfig, got {type(config).__name__}")
        return Mtcnn(_cascade(engine, bundle), device=engine.device, config=config)
    if config is not None and not isinstance(config, RetinaFaceConfig):
        raise ValueError(
            f"detector 'retinaface' takes a RetinaFaceConfig, got {type(config).__name__}"
        )
    return _retinaface(engine, bundle, config or RetinaFaceConfig())


def _cascade(engine: Engine, bundle: AssetBundle) -> Cascade:
    def part(name: str, size: int | None) -> Network:
        return engine.network(MtcnnNetworks, bundle, "mtcnn", (None, 3, size, size), part=name)

    return Cascade(part("pnet", None), part("rnet", REFINE_SIZE), part("onet", OUTPUT_SIZE))


def _retinaface(engine: Engine, bundle: AssetBundle, config: RetinaFaceConfig) -> RetinaFace:
    size = config.size
    boxes = engine.network(RetinaFaceNetwork, bundle, "retinaface", (None, 3, size, size))
    points = engine.network(
        LandmarkNetwork, bundle, "landmarks106", (None, 3, INPUT_SIZE, INPUT_SIZE)
    )
    landmarks = Landmarks106(points, device=engine.device, batch_size=config.face_batch_size)
    return RetinaFace(boxes, landmarks, device=engine.device, config=config)
