"""The least error that a face model allows: fits it to all 68 points of photographs.

``python -m benchmarks.accuracy.floor --photos DIR``

Photographs have MediaPipe's 68 points beside them (NAME.mediapipe68.txt). Pose, identity and
expression are fitted by Gauss-Newton steps; the error that is left is the face model's, and no
network can be better. The first half of the names may be used for tuning, the second is held out.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
import tyro
from PIL import Image
from torch import Tensor

from jobs.exits import ExitCode, run_program
from tddfa3.assets.generators.open_face import open_face_model
from tddfa3.assets.generators.synthetic.face import synthetic_face_model
from tddfa3.assets.generators.synthetic.seeded import NamedRandom
from tddfa3.assets.upstream import standard_points
from tddfa3.conventions import CROP_SIZE
from tddfa3.errors import UserError
from tddfa3.geometry.camera import project, rotation_matrix, to_camera
from tddfa3.geometry.crop import estimate_crop

Floats = npt.NDArray[np.floating[Any]]
SUFFIX = ".mediapipe68.txt"
POINT_SPREAD, DISTANCE_SPREAD = 1.0, 0.5
"""Standard deviations of the points in crop pixels, and of the distance in model units. Those of
the coefficients are 1; the rest of the pose has no prior."""
MAX_STEPS = 20


class Landmarks68(NamedTuple):
    """A face model at its 68 landmarks, float64.

    Attributes:
        mean: (68,3).
        basis: (68,3,n) identity and expression, side by side.
    """

    mean: Floats
    basis: Floats

    @classmethod
    def of(cls, model: Mapping[str, Any], columns: int = 40) -> Landmarks68:
        """From the dictionary of ``face_model.npy``; the first ``columns`` of both bases."""
        at, vertices = model["ldm68"], len(model["u"]) // 3
        bases = [
            model[key].reshape(vertices, 3, -1)[at][..., :columns].astype(np.float64)
            for key in ("id", "exp")
        ]
        mean = model["u"].reshape(vertices, 3)[at]
        return cls(mean.astype(np.float64), np.concatenate(bases, 2))


class Fit(NamedTuple):
    """A face model fitted to 68 points.

    Attributes:
        pose: (6,) pitch, yaw, roll in radians, translation.
        coefficients: (n,).
        errors: (68,2) found minus given, x right, y up, in % of the distance of the outer eye
            corners.
    """

    pose: Floats
    coefficients: Floats
    errors: Floats


def fit(model: Landmarks68, points: Floats, size: tuple[int, int]) -> Fit:
    """Fits pose and coefficients to points.

    Args:
        model: the face model.
        points: (68,2) image pixels.
        size: (width, height) of the image.
    """
    crop = estimate_crop(standard_points(_flat(points))[:, :2], size, standard_points(model.mean))
    target = crop.to_crop(points) * [1, -1] + [0, CROP_SIZE]
    goal, basis = torch.from_numpy(target), torch.from_numpy(model.basis)
    mean = torch.from_numpy(model.mean)
    precision = torch.cat(
        [torch.tensor([0, 0, 0, 0, 0, 1 / DISTANCE_SPREAD]), torch.ones(basis.shape[2])]
    ).double()

    def projected(unknown: Tensor) -> Tensor:
        shape = (mean + basis @ unknown[6:])[None]
        return project(to_camera(shape, rotation_matrix(unknown[None, :3]), unknown[None, 3:6]))[0]

    unknown = torch.zeros(len(precision), dtype=torch.float64)
    for _ in range(MAX_STEPS):
        slope = torch.func.jacfwd(projected)(unknown).reshape(-1, len(unknown)) / POINT_SPREAD
        left = (goal - projected(unknown)).reshape(-1) / POINT_SPREAD
        normal = slope.T @ slope + torch.diag(precision**2)
        step = torch.linalg.solve(normal, slope.T @ left - precision**2 * unknown)
        unknown = unknown + step
        if float(step.abs().max()) < 1e-4:
            break
    error = (projected(unknown) - goal).numpy()
    scale = float(np.linalg.norm(target[36] - target[45]))
    return Fit(unknown[:6].numpy(), unknown[6:].numpy(), 100 * error / scale)


def _flat(points: Floats) -> Floats:
    return np.concatenate([points, np.zeros((68, 1))], 1)


def read_points(folder: Path) -> dict[str, tuple[Floats, tuple[int, int]]]:
    """Name to points (68,2) and the photograph's (width, height), sorted by name."""
    found: dict[str, tuple[Floats, tuple[int, int]]] = {}
    for path in sorted(folder.glob(f"*{SUFFIX}")):
        name = path.name.removesuffix(SUFFIX)
        photos = [path.with_name(name + end) for end in (".jpg", ".png")]
        (photo,) = (photo for photo in photos if photo.exists())
        with Image.open(photo) as image:
            found[name] = (np.loadtxt(path), image.size)
    return found


def row(title: str, fits: Sequence[Fit], constant: Floats) -> str:
    """A line of the table; ``constant`` (68,2) is each landmark's mean error over all photos."""
    errors = np.stack([found.errors for found in fits])
    mean = np.linalg.norm(errors, axis=2).mean()
    varying = np.linalg.norm(errors - constant, axis=2).mean()
    return f"| {title} | {mean:.2f} | {varying:.2f} |"


@dataclass(frozen=True)
class FloorConfig:
    """How near any fit of the face models can come to landmarks that people placed."""

    photos: Annotated[Path, tyro.conf.arg(metavar="DIR")]
    """Photographs, each with its landmarks beside it."""


def main() -> int:
    """Runs the program; returns its exit code."""
    config = tyro.cli(FloorConfig, prog="python -m benchmarks.accuracy.floor")
    return run_program(lambda: measure(config))


def measure(config: FloorConfig) -> ExitCode:
    """Fits both face models to all photographs and prints the errors that are left."""
    photos = list(read_points(config.photos).values())
    if not photos:
        raise UserError(f"--photos {config.photos}: no photograph with NAME{SUFFIX} beside it")
    half = len(photos) // 2
    print("| fitted to all 68 points | mean error, % | without constant offsets, % |")
    print("|---|---|---|")
    models = {"synthetic": synthetic_face_model(NamedRandom(0), 9000), "open": open_face_model()}
    for name, model in models.items():
        for way, columns in (("", 40), (", pose only", 0)):
            fits = [fit(Landmarks68.of(model, columns), *photo) for photo in photos]
            constant = np.mean([found.errors for found in fits], axis=0)
            print(row(f"{name}{way}, tuning half", fits[:half], constant))
            print(row(f"{name}{way}, held out", fits[half:], constant))
    return ExitCode.DONE


if __name__ == "__main__":
    sys.exit(main())
