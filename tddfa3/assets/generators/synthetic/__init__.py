"""Seeded stand-ins for the licensed assets: same keys, shapes and ranges, but nothing is trained.

The face is procedural; the networks are random, with statistics that keep their outputs plausible.
MTCNN is the exception: its trained weights are free (MIT) and come from the installed package.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tddfa3.assets import convert, mtcnn_weights, upstream
from tddfa3.assets.bundle import BACKBONES, DETECTOR_FILES, AssetBundle
from tddfa3.assets.bundle_writer import BundleContents, Origin, existing_bundle, write_bundle
from tddfa3.assets.generators.synthetic.backbones import synthetic_backbone
from tddfa3.assets.generators.synthetic.face import (
    landmark_crop_places,
    similarity_landmarks,
    synthetic_face_model,
)
from tddfa3.assets.generators.synthetic.landmark_net import synthetic_landmark_net
from tddfa3.assets.generators.synthetic.lattice import FULL_VERTICES
from tddfa3.assets.generators.synthetic.retinaface import synthetic_retinaface
from tddfa3.assets.generators.synthetic.seeded import NamedRandom
from tddfa3.assets.generators.synthetic.upstream_files import (
    write_upstream_files as _write_upstream_files,
)
from tddfa3.errors import AssetError

__all__ = ["synthesize"]

# Raise it with every change that gives other numbers: bundles of an older one are made again.
GENERATOR_VERSION = 1
ORIGIN = Origin(source="tddfa3.assets.generators.synthetic", licence="MIT")
NOTICE = (
    "Synthetic: a procedural face and random networks, for tests and for trying the programs out. "
    "The results are not labels of real faces."
)


def synthesize(
    dest: str | Path,
    seed: int = 0,
    vertices: int = FULL_VERTICES,
    backbones: Sequence[str] = tuple(BACKBONES),
    detectors: Sequence[str] = tuple(DETECTOR_FILES),
    write_upstream_files: Path | None = None,
) -> AssetBundle:
    """Writes the synthetic bundle of a seed, or returns the one that is already there.

    The same arguments give the same tensors on every machine.

    Args:
        dest: folder of the bundle.
        seed: of everything that is random.
        vertices: of the face model.
        backbones: names of the backbones to include.
        detectors: names of the detectors to include.
        write_upstream_files: a folder that also gets the assets in upstream's formats.

    Returns:
        the bundle.

    Raises:
        AssetError: If a network is unknown, there are too few vertices, or ``dest`` holds
            something else.
    """
    dest = Path(dest)
    backbones = _chosen("backbone", backbones, BACKBONES)
    detectors = _chosen("detector", detectors, DETECTOR_FILES)
    recipe = {
        "kind": "synthetic",
        "version": GENERATOR_VERSION,
        "seed": seed,
        "vertices": vertices,
        "backbones": backbones,
        "detectors": detectors,
    }
    there = existing_bundle(dest, recipe)
    if there is not None and write_upstream_files is None:
        return there
    random = NamedRandom(seed)
    model = synthetic_face_model(random, vertices)
    landmarks = similarity_landmarks(model)
    networks = _synthetic_networks(random, model, backbones, detectors)
    if write_upstream_files is not None:
        _write_upstream_files(write_upstream_files, model, landmarks, networks)
    if there is not None:
        return there
    return write_bundle(dest, _contents(recipe, model, landmarks, networks))


def _chosen(kind: str, names: Iterable[str], known: Iterable[str]) -> list[str]:
    unknown = [name for name in names if name not in known]
    if unknown:
        raise AssetError(f"unknown {kind} {unknown[0]!r}; choose from {', '.join(known)}")
    return [name for name in known if name in names]


def _synthetic_networks(
    random: NamedRandom, model: dict[str, Any], backbones: list[str], detectors: list[str]
) -> dict[str, dict[str, Tensor]]:
    """Upstream's file names -> tensors."""
    networks = {}
    with torch.no_grad():
        if "resnet50" in backbones:
            networks[upstream.RESNET50_PTH] = synthetic_backbone(random, "resnet50")
        if "mbnetv3" in backbones:
            networks[upstream.MBNETV3_PTH] = synthetic_backbone(random, "mbnetv3")
        if "retinaface" in detectors:
            places = landmark_crop_places(model)
            networks[upstream.LANDMARKS106_PTH] = synthetic_landmark_net(random, places)
            networks[upstream.RETINAFACE_PTH] = synthetic_retinaface(random)
    return networks


def _contents(
    recipe: dict[str, Any],
    model: dict[str, Any],
    landmarks: np.ndarray[Any, Any],
    networks: dict[str, dict[str, Tensor]],
) -> BundleContents:
    files = {upstream.NETWORK_FILES[name][0]: tensors for name, tensors in networks.items()}
    origins = {}
    if "mtcnn" in recipe["detectors"]:
        (mtcnn_file,) = DETECTOR_FILES["mtcnn"]
        files[mtcnn_file] = convert.read_mtcnn()
        origins[mtcnn_file] = mtcnn_weights.origin()
    return BundleContents(
        name=f"synthetic seed {recipe['seed']}, {recipe['vertices']} vertices",
        origin=ORIGIN,
        notice=NOTICE,
        recipe=recipe,
        face_model=upstream.face_model_from_upstream(model, landmarks),
        networks=files,
        origins=origins,
    )
