"""Renders training pictures: ``python -m training.render FOLDER --count N``.

Every shard of 1,000 pictures depends only on its number and the seed, so several processes can
share the work (``--first``), and an interrupted run continues. One core renders about 20 pictures
a second.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import cv2
import numpy as np
import numpy.typing as npt
import torch
import tyro

from tddfa3.assets.face_model_data import FaceModelData
from tddfa3.assets.generators.open_face import open_face_model
from tddfa3.assets.generators.synthetic.face import similarity_landmarks
from tddfa3.assets.upstream import face_model_from_upstream
from tddfa3.errors import UserError
from tddfa3.networks.backbones.efficientlite import INPUT_SIZE
from training.scene import PICTURES_PER_PERSON, Studio

SHARD_PICTURES = 1000
SEED = 0


@dataclass(frozen=True)
class Renders:
    """Pictures and the coefficients that made them.

    Attributes:
        pictures: uint8 (N,112,112,3) RGB.
        coefficients: float32 (N,total).
    """

    pictures: npt.NDArray[np.uint8]
    coefficients: npt.NDArray[np.float32]


def face_model_data() -> FaceModelData:
    """The open face, as in a bundle."""
    model = open_face_model()
    return face_model_from_upstream(model, similarity_landmarks(model))


def render_shard(studio: Studio, seed: int, number: int, count: int = SHARD_PICTURES) -> Renders:
    """A shard, or its first ``count`` pictures, if that is a multiple of a person's pictures."""
    random = np.random.default_rng([seed, number])
    total = studio.people.sizes.total
    pictures = np.empty((count, INPUT_SIZE, INPUT_SIZE, 3), np.uint8)
    coefficients = np.empty((count, total), np.float32)
    for start in range(0, count, PICTURES_PER_PERSON):
        several = studio.pictures(
            random, studio.person(random), min(PICTURES_PER_PERSON, count - start)
        )
        for i, (picture, row) in enumerate(several, start):
            pictures[i], coefficients[i] = picture, row
    return Renders(pictures, coefficients)


def shard_path(folder: Path, number: int) -> Path:
    """The file of a shard."""
    return folder / f"shard-{number:04d}.npz"


def save_shard(path: Path, shard: Renders) -> None:
    """Writes a shard; readers see the whole file or none."""
    scratch = path.with_suffix(".partial")
    with scratch.open("wb") as file:
        np.savez(file, pictures=shard.pictures, coefficients=shard.coefficients)
    os.replace(scratch, path)


def load_shards(folder: Path) -> Renders:
    """All shards of a folder, in the order of their numbers.

    Raises:
        UserError: there is none.
    """
    paths = sorted(folder.glob("shard-*.npz"))
    if not paths:
        raise UserError(
            f"{folder} holds no rendered pictures; make some with "
            f"`python -m training.render {folder}`"
        )
    parts = []
    for path in paths:
        with np.load(path) as file:
            parts.append((file["pictures"], file["coefficients"]))
    pictures, coefficients = zip(*parts, strict=True)
    return Renders(np.concatenate(pictures), np.concatenate(coefficients))


@dataclass(frozen=True)
class RenderConfig:
    """Render shards of faces whose coefficients are known."""

    folder: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="FOLDER")]
    """Where the shards are written."""
    count: int = 30_000
    """Pictures."""
    first: int = 0
    """Number of the first shard."""
    seed: int = SEED
    """Of all that is random in the pictures."""


def main() -> None:
    """Renders the shards that are missing."""
    options = tyro.cli(RenderConfig, prog="python -m training.render")
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    options.folder.mkdir(parents=True, exist_ok=True)
    studio = Studio(face_model_data())
    for i in range(-(-options.count // SHARD_PICTURES)):
        path = shard_path(options.folder, options.first + i)
        if path.exists():
            continue
        start = time.perf_counter()
        count = min(SHARD_PICTURES, options.count - i * SHARD_PICTURES)
        save_shard(path, render_shard(studio, options.seed, options.first + i, count))
        rate = count / (time.perf_counter() - start)
        print(f"{path.name}: {count} pictures, {rate:.1f} a second", flush=True)


if __name__ == "__main__":
    main()
