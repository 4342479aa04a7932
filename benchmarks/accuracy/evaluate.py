"""Measures a bundle's errors on photographs.

``python -m benchmarks.accuracy.evaluate --bundle DIR --photos DIR [--sheet FILE.png]``

Photographs have MediaPipe's 68 points beside them (NAME.mediapipe68.txt). They are labelled by
the library with MTCNN's points, as by ``python -m jobs.label``. The first half of the names, in
order, may be used for tuning; the second half is held out. Two baselines show what the network
adds: the mean face with all coefficients 0, and the mean face posed by the detector's five points.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import cv2
import numpy as np
import numpy.typing as npt
import torch
import tyro

from benchmarks.accuracy.measure import (
    GROUPS,
    Measured,
    ReferencePhoto,
    measure,
    read_photos,
    summary,
)
from benchmarks.accuracy.sheet import write_sheet
from jobs.exits import ExitCode, run_program
from tddfa3.assets.bundle import AUTO, AssetBundle
from tddfa3.face import Face
from tddfa3.geometry.camera import image_camera
from tddfa3.labeler import FaceLabeler
from tddfa3.outputs import Outputs
from training.pose import five_points

COLUMNS = ("mean", *GROUPS, "yaw", "pitch", "opening")


@dataclass(frozen=True)
class Evaluation:
    """Measurements by the way in which faces were found, one per photograph, sorted by name.

    Attributes:
        network: the bundle's network.
        rigid: the mean face posed by five points.
        zero: all coefficients 0.
        undetected: names of photographs in which no face was detected.
    """

    network: list[Measured]
    rigid: list[Measured]
    zero: list[Measured]
    undetected: list[str]

    @property
    def ways(self) -> dict[str, list[Measured]]:
        """Title in the table to measurements."""
        return {"network": self.network, "rigid pose": self.rigid, "all zero": self.zero}


def evaluate(
    photos: Sequence[ReferencePhoto],
    faces: Sequence[Face | None],
    mean_landmarks: npt.NDArray[np.floating],
) -> Evaluation:
    """Measures the faces that were found.

    Args:
        photos: with their reference points.
        faces: found in them; None where there is none.
        mean_landmarks: (68,3), the mean face's.
    """
    result = Evaluation([], [], [], [])
    for photo, face in zip(photos, faces, strict=True):
        if face is None or face.points5 is None:
            result.undetected.append(photo.name)
            continue
        camera = face.camera
        result.network.append(measure(photo, face.landmarks["68"], face.yaw, face.pitch, camera))
        unmoved = image_camera(np.zeros(3), np.zeros(3), face.crop)
        result.zero.append(measure(photo, unmoved.project(mean_landmarks), 0.0, 0.0, camera))
        points, yaw, pitch = rigid_pose(face.points5, mean_landmarks, camera.K)
        result.rigid.append(measure(photo, points, yaw, pitch, camera))
    return result


def rigid_pose(
    points5: npt.NDArray[np.floating], mean: npt.NDArray[np.floating], K: npt.NDArray[np.floating]
) -> tuple[npt.NDArray[np.float64], float, float]:
    """The mean face posed by five points.

    Args:
        points5: (5,2) image pixels.
        mean: (68,3), the mean face's landmarks.
        K: (3,3) intrinsics of the photograph's camera.

    Returns:
        its landmarks (68,2) in image pixels, yaw and pitch in degrees.
    """
    flip = np.diag([1.0, -1.0, -1.0])
    model = mean.astype(np.float64) @ flip
    five, target = five_points(model), points5.astype(np.float64)
    _, rotation, translation = cv2.solvePnP(five, target, K, None, flags=cv2.SOLVEPNP_SQPNP)
    rotation, translation = cv2.solvePnPRefineLM(five, target, K, None, rotation, translation)
    projected, _ = cv2.projectPoints(model, rotation, translation, K, None)
    turn = flip @ cv2.Rodrigues(rotation)[0] @ flip
    yaw = -np.degrees(np.arcsin(np.clip(turn[2, 0], -1, 1)))
    return projected[:, 0], float(yaw), float(np.degrees(np.arctan2(turn[2, 1], turn[2, 2])))


def label(labeler: FaceLabeler, photos: Sequence[ReferencePhoto]) -> list[Face | None]:
    """The face in each photograph that is nearest to the reference points.

    A photograph may show more faces than the one with reference points.
    """
    found: list[Face | None] = []
    for photo in photos:
        (faces,) = labeler([photo.image])
        middle = photo.reference.mean(axis=0)
        found.append(
            min(
                faces,
                key=lambda face: float(np.linalg.norm(face.landmarks["68"].mean(axis=0) - middle)),
                default=None,
            )
        )
    return found


def tables(evaluation: Evaluation) -> str:
    """Tables in Markdown: per way all photographs and both halves, then every photograph."""
    total = len(evaluation.network) + len(evaluation.undetected)
    halves = halved(evaluation)
    lines = [
        f"{len(evaluation.network)} of {total} faces detected. Landmark errors in % of the "
        "distance of the outer eye corners; yaw and pitch: mean absolute error in degrees; "
        "opening: correlation of the gap between the lips.",
        "",
        "| | " + " | ".join(COLUMNS) + " |",
        "|---" * (len(COLUMNS) + 1) + "|",
    ]
    for way, faces in evaluation.ways.items():
        for half, names in halves.items():
            chosen = [face for face in faces if face.name in names]
            if chosen:
                lines.append(_row(f"{way}, {half}", summary(chosen)))
    lines += ["", "| photograph | mean | yaw error | pitch error | opening | reference |"]
    lines.append("|---|---|---|---|---|---|")
    lines += [
        f"| {face.name} | {face.mean:.1f} | {face.yaw_error:+.1f} | {face.pitch_error:+.1f} | "
        f"{face.opening:.2f} | {face.reference_opening:.2f} |"
        for face in evaluation.network
    ]
    lines += [f"| {name} | not detected | | | | |" for name in evaluation.undetected]
    return "\n".join(lines)


def halved(evaluation: Evaluation) -> dict[str, set[str]]:
    """Names of all photographs, of those for tuning, and of those held out."""
    names = sorted([face.name for face in evaluation.network] + evaluation.undetected)
    middle = (len(names) + 1) // 2
    return {"all": set(names), "tuning": set(names[:middle]), "held out": set(names[middle:])}


def _row(title: str, figures: object) -> str:
    assert isinstance(figures, dict)
    cells = [f"{figures[name]:.2f}" for name in COLUMNS]
    return f"| {title} | " + " | ".join(cells) + " |"


@dataclass(frozen=True)
class EvaluateConfig:
    """How far a bundle's landmarks are from those that people placed."""

    bundle: Annotated[Path, tyro.conf.arg(metavar="DIR")]
    """What is measured."""
    photos: Annotated[Path, tyro.conf.arg(metavar="DIR")]
    """Photographs, each with its landmarks beside it."""
    refine: str = AUTO
    """As of the labeler."""
    sheet: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """Write a picture of every labelled photograph."""


def main() -> int:
    """Runs the program; returns its exit code."""
    config = tyro.cli(EvaluateConfig, prog="python -m benchmarks.accuracy.evaluate")
    return run_program(lambda: report(config))


def report(config: EvaluateConfig) -> ExitCode:
    """Labels the photographs and prints the errors."""
    torch.set_num_threads(1)
    bundle = AssetBundle.load(config.bundle)
    photos = read_photos(config.photos)
    outputs = Outputs(renders=("shape",)) if config.sheet else Outputs()
    labeler = FaceLabeler(
        bundle, detector="mtcnn", faces="all", outputs=outputs, refine=config.refine
    )
    faces = label(labeler, photos)
    data = bundle.face_model()
    evaluation = evaluate(photos, faces, data.mean_shape[data.landmarks["68"]])
    print(tables(evaluation))
    if config.sheet:
        write_sheet(config.sheet, photos, faces)
    return ExitCode.DONE


if __name__ == "__main__":
    sys.exit(main())
