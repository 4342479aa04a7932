"""Numbers of an output: totals, failures, and a sample of its faces' values."""

from __future__ import annotations

import base64
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from jobs.pipeline.output.database import Database
from jobs.pipeline.output.reading import LabelledRun
from jobs.pipeline.record.schema import OK_STATUSES, failed_images

MOST_BINS, FEWEST_BINS = 40, 12
_MOST_REASONS = 40
_MOST_SHARD_ERRORS = 50
# Values outside these quantiles go into the outermost bins if they would squeeze the others.
_QUANTILES = (0.002, 0.998)
_SQUEEZED = 1.6


@dataclass(frozen=True, slots=True)
class Variable:
    """A number of a face that has a histogram.

    Attributes:
        name: column of :class:`Faces` and name in the page's scripts.
        label: what the page calls it.
        unit: "" where there is none.
        hint: one line that explains it.
        sql: how it is written in a condition on the view ``faces``.
        doubtful: beyond this value a label is worth a look; None where no value says so.
    """

    name: str
    label: str
    unit: str
    hint: str
    sql: str
    doubtful: float | None = None


VARIABLES = (
    Variable("yaw", "Yaw", "°", "positive: the nose turns to the image's right", "yaw"),
    Variable("pitch", "Pitch", "°", "positive: the nose goes down", "pitch"),
    Variable("roll", "Roll", "°", "positive: the head tilts counter-clockwise", "roll"),
    Variable("size", "Face size", "px", "side of a square as large as the box", "face_size(box)"),
    Variable("score", "Detector's score", "", "0 to 1, higher is surer", "score"),
    Variable(
        "quality_points",
        "Misfit, five points",
        "iod",
        "distance to the detector's five points, in inter-ocular distances; lower is better",
        "quality_points",
        0.1,
    ),
    Variable(
        "quality_points106",
        "Misfit, 106 points",
        "iod",
        "distance to the detector's 106 points, in inter-ocular distances; lower is better",
        "quality_points106",
        0.1,
    ),
    Variable(
        "quality_visible",
        "Visible share",
        "",
        "share of the mesh's vertices that are visible; falls as the head turns",
        "quality_visible",
    ),
    Variable(
        "quality_coverage",
        "Coverage",
        "",
        "share of the crop that the mesh covers",
        "quality_coverage",
    ),
)
"""In the order of the page, and of the columns of :attr:`Faces.values`."""


@dataclass(frozen=True, slots=True)
class Failure:
    """Images that failed for one reason.

    Attributes:
        status: that of their rows.
        reason: their error; digits in it may differ among them.
        images: how many.
        example: the ``image_id`` of one.
    """

    status: str
    reason: str
    images: int
    example: str


@dataclass(frozen=True)
class RunSummary:
    """Counts over everything that is committed.

    Attributes:
        images: in all.
        faces: labelled.
        statuses: images by status.
        failures: the most frequent ones first; the rare ones are left out.
        shard_errors: the first ones, as (shard, reason).
        n_shard_errors: how many there are.
    """

    images: int
    faces: int
    statuses: dict[str, int]
    failures: list[Failure]
    shard_errors: list[tuple[str, str]]
    n_shard_errors: int

    @property
    def failed(self) -> int:
        """Images whose status is a failure."""
        return failed_images(self.statuses)

    @property
    def failures_not_listed(self) -> int:
        """Failed images that ``failures`` leaves out."""
        return self.failed - sum(failure.images for failure in self.failures)


@dataclass(frozen=True)
class Histogram:
    """Bins of equal width; the outermost ones also hold what lies beyond.

    Attributes:
        variable: what is counted.
        low: lower end of the first bin.
        step: width of a bin.
        bins: how many.
    """

    variable: Variable
    low: float
    step: float
    bins: int

    @property
    def high(self) -> float:
        """Upper end of the last bin."""
        return self.low + self.step * self.bins

    def bin_of(self, values: NDArray[np.float32]) -> NDArray[np.int64]:
        """(n,) bin of each of n values; -1 where the value is NaN."""
        position = np.floor((values.astype(np.float64) - self.low) / self.step)
        bins = np.clip(np.nan_to_num(position, nan=-1), 0, self.bins - 1).astype(np.int64)
        return np.where(np.isnan(values), -1, bins)


@dataclass(frozen=True)
class Faces:
    """Values of some faces, a row each.

    Attributes:
        names: image_id and face_index.
        parts: the part file that holds the face.
        values: (rows, variables) float32, NaN where there is none.
    """

    names: list[tuple[str, int]]
    parts: list[str]
    values: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.names)


def totals(run: LabelledRun, database: Database) -> RunSummary:
    """Count everything that is committed."""
    by_status = database.table(
        "SELECT status, count(*) AS images FROM images GROUP BY status ORDER BY status"
    ).to_pylist()
    statuses = {row["status"]: int(row["images"]) for row in by_status}
    faces = database.table("SELECT count(*) AS n FROM faces")["n"][0].as_py()
    shard_errors = database.table(
        "SELECT shard, error FROM rows WHERE status = 'shard_error' ORDER BY shard"
    ).to_pylist()
    current = [row for row in shard_errors if row["shard"] not in run.superseded]
    return RunSummary(
        images=sum(statuses.values()),
        faces=int(faces),
        statuses=statuses,
        failures=_failures(database),
        shard_errors=[(r["shard"], r["error"] or "") for r in current[:_MOST_SHARD_ERRORS]],
        n_shard_errors=len(current),
    )


def _failures(database: Database) -> list[Failure]:
    """Failed images by reason, digits aside; the most frequent first."""
    healthy = ", ".join(f"'{status}'" for status in OK_STATUSES)
    rows = database.table(
        "SELECT status, min(error) AS reason, count(*) AS images, min(image_id) AS example "
        f"FROM images WHERE status NOT IN ({healthy}) "
        "GROUP BY status, regexp_replace(error, '[0-9]+', '0', 'g') "
        f"ORDER BY images DESC, status, reason LIMIT {_MOST_REASONS}"
    ).to_pylist()
    return [Failure(r["status"], r["reason"] or "", r["images"], r["example"]) for r in rows]


def sample(database: Database, most: int) -> Faces:
    """Up to ``most`` faces, as good as random.

    Their order depends on their names alone, so it is the same each time.
    """
    return _faces(database, f"ORDER BY md5(image_id || '/' || face_index), image_id LIMIT {most}")


def extremes(database: Database, by: str, most: int) -> tuple[Faces, Faces]:
    """The ``most`` faces with the largest, and the ``most`` with the smallest value of ``by``."""
    order = f"WHERE {by} IS NOT NULL ORDER BY {by} %s, image_id, face_index LIMIT {most}"
    return _faces(database, order % "DESC"), _faces(database, order % "ASC")


def named(database: Database, names: Sequence[tuple[str, int]]) -> Faces:
    """The faces with these names, as far as they exist."""
    wanted = " OR ".join(
        f"(image_id = '{image.replace(chr(39), chr(39) * 2)}' AND face_index = {face})"
        for image, face in names
    )
    return _faces(database, f"WHERE {wanted or 'false'} ORDER BY image_id, face_index")


def _faces(database: Database, tail: str) -> Faces:
    columns = ", ".join(f"({v.sql})::FLOAT AS {v.name}" for v in VARIABLES)
    inner = f"SELECT image_id, face_index, part, {columns} FROM faces"
    # A second level, so that ORDER BY can name the variables.
    table = database.table(f"SELECT * FROM ({inner}) {tail}")
    return Faces(
        names=list(
            zip(table["image_id"].to_pylist(), table["face_index"].to_pylist(), strict=True)
        ),
        parts=table["part"].to_pylist(),
        values=np.stack([_floats(table[v.name]) for v in VARIABLES], axis=1),  # (rows, variables)
    )


def packed(values: NDArray[np.float32]) -> str:
    """Little-endian float32 in base64."""
    return base64.b64encode(values.astype("<f4").tobytes()).decode()


def _floats(column: pa.ChunkedArray) -> NDArray[np.float32]:
    values: NDArray[np.float32] = column.to_numpy().astype(np.float32)
    return np.where(np.isfinite(values), values, np.float32(np.nan))


def histograms(faces: Faces) -> list[Histogram]:
    """A histogram of every variable that at least one face has."""
    found = []
    for column, variable in enumerate(VARIABLES):
        values = faces.values[:, column]  # (rows,)
        known = values[~np.isnan(values)]
        if len(known):
            found.append(Histogram(variable, *bins(known)))
    return found


def bins(values: Sequence[float] | NDArray[np.float32]) -> tuple[float, float, int]:
    """(lower end, width, number) of bins with a round width; more values get more bins.

    Args:
        values: at least one, none of them NaN.
    """
    numbers = np.asarray(values, dtype=np.float64)
    low, high = float(numbers.min()), float(numbers.max())
    inner_low, inner_high = (float(q) for q in np.quantile(numbers, _QUANTILES))
    if high - low > _SQUEEZED * (inner_high - inner_low) > 0:
        low, high = inner_low, inner_high
    wanted = min(MOST_BINS, max(FEWEST_BINS, round(2 * math.sqrt(len(numbers)))))
    step = _round_step((high - low) / wanted or abs(high) / wanted or 1.0)
    start = math.floor(low / step) * step
    return start, step, max(1, math.floor((high - start) / step) + 1)


def _round_step(width: float) -> float:
    power = 10.0 ** math.floor(math.log10(width))
    return power * next(f for f in (1.0, 2.0, 2.5, 5.0, 10.0) if f * power >= width * (1 - 1e-9))


def described(histogram: Histogram) -> dict[str, Any]:
    """A histogram as the page's scripts want it."""
    variable = histogram.variable
    return {
        "name": variable.name,
        "label": variable.label,
        "unit": variable.unit,
        "hint": variable.hint,
        "sql": variable.sql,
        "doubtful": variable.doubtful,
        "low": histogram.low,
        "step": histogram.step,
        "bins": histogram.bins,
    }
