"""The faces that get a picture: which ones, and what the page knows about each."""

from __future__ import annotations

import base64
import copy
from collections.abc import Iterable, Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from jobs.pipeline.output.database import Database
from jobs.pipeline.output.reading import LabelledRun
from jobs.report_page.facts import VARIABLES, Faces, Histogram
from tddfa3.conventions import LANDMARK_SETS
from tddfa3.geometry.crop import CropTransform

Name = tuple[str, int]
"""image_id and face_index."""
Row = dict[str, Any]
"""Column name to value, as the view ``faces`` has it."""

WORST_AND_BEST = 40
"""Faces from either end of the ranking that get a picture in any case."""
# Label maps are shown at this size: enough to point at an eye.
_MAP_SIZE = 112
# Crop pixels are kept as sixteenths in int16, which reaches nine crops to either side.
_FRACTION = 16
_LONGEST_RUN = 255


def choose(
    faces: Faces, histograms: Sequence[Histogram], ends: Iterable[Faces], most: int
) -> dict[Name, str]:
    """Names of the faces that get a picture, with their part files.

    First the worst and the best, then one face for every bin of every histogram, then others:
    however rare a bar is, brushing it shows a face.

    Args:
        faces: the sample that the histograms count.
        histograms: of ``faces``.
        ends: the worst and the best faces.
        most: how many names to return, at most.
    """
    chosen: dict[Name, str] = {}
    for few in ends:
        chosen.update(zip(few.names, few.parts, strict=True))
    order = [*_covering(faces, histograms), *range(min(len(faces), most))]
    for i in order:
        if len(chosen) >= most:
            break
        chosen[faces.names[i]] = faces.parts[i]
    return dict(list(chosen.items())[:most])


def _covering(faces: Faces, histograms: Sequence[Histogram]) -> list[int]:
    """Positions of the first face in each bin of each histogram."""
    found: set[int] = set()
    for histogram in histograms:
        values = faces.values[:, VARIABLES.index(histogram.variable)]  # (rows,)
        bins, first = np.unique(histogram.bin_of(values), return_index=True)
        found.update(first[bins >= 0].tolist())
    return sorted(found)


def fetch(run: LabelledRun, chosen: dict[Name, str]) -> dict[Name, Row]:
    """The whole rows of the chosen faces, read from their part files alone.

    ``overlay_uri`` is that of the image, which in the part file only the image's first row names.
    """
    if not chosen:
        return {}
    parts = set(chosen.values())
    few = copy.copy(run)
    few.parts = tuple(part for part in run.parts if part.rel in parts)
    images = ", ".join(sorted({_quoted(image) for image, _ in chosen}))
    with Database(few) as database:
        rows = database.table(f"SELECT * FROM faces WHERE image_id IN ({images})").to_pylist()
    overlays = {row["image_id"]: row["overlay_uri"] for row in rows if row["overlay_uri"]}
    found = {(row["image_id"], row["face_index"]): row for row in rows}
    return {
        name: {**found[name], "overlay_uri": overlays.get(name[0])}
        for name in chosen
        if name in found
    }


def described(row: Row, values: NDArray[np.float32]) -> dict[str, Any]:
    """A face as the page's scripts want it, without its picture.

    Args:
        row: of the face.
        values: (variables,) float32, as in :attr:`jobs.report_page.facts.Faces.values`.
    """
    crop = CropTransform.from_params(row["crop_params"])
    labels = None if row["seg_visible"] is None else _decoded(row["seg_visible"])  # (224, 224)
    return {
        "id": row["image_id"],
        "face": row["face_index"],
        "faces": row["n_faces"],
        "width": row["image_width"],
        "height": row["image_height"],
        "part": row["part"],
        "values": [None if np.isnan(v) else round(float(v), 5) for v in values],
        "landmarks": {
            name: _packed(crop.to_crop(np.reshape(row[f"ldm{name}"], (-1, 2))))  # (N, 2)
            for name in LANDMARK_SETS
            if row.get(f"ldm{name}") is not None
        },
        "labels": None if labels is None else _run_lengths(labels),
    }


def _decoded(data: bytes) -> NDArray[np.uint8] | None:
    labels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE)
    return None if labels is None else labels.astype(np.uint8)


def _packed(points: NDArray[np.float64]) -> str:
    """(N, 2) crop pixels as little-endian int16, in base64."""
    limits = np.iinfo(np.int16)
    whole = np.clip(np.round(points * _FRACTION), limits.min, limits.max)  # (N, 2)
    return base64.b64encode(whole.astype("<i2").tobytes()).decode()


def _run_lengths(labels: NDArray[np.uint8]) -> str:
    """(H, W) labels, reduced, row by row as pairs of (label, count), a byte each, in base64."""
    small = cv2.resize(labels, (_MAP_SIZE, _MAP_SIZE), interpolation=cv2.INTER_NEAREST).reshape(-1)
    starts = np.concatenate([[0], np.flatnonzero(np.diff(small)) + 1, [small.size]])  # (runs + 1,)
    pairs = bytearray()
    for start, length in zip(starts[:-1], np.diff(starts), strict=True):
        left = int(length)
        while left > 0:
            pairs += bytes((int(small[start]), min(left, _LONGEST_RUN)))
            left -= _LONGEST_RUN
    return base64.b64encode(pairs).decode()


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
