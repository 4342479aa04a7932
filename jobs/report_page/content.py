"""What a report holds: its options, what is read from the output, and what the page gets.

A string after a field of :class:`ReportConfig` is its help text on the command line.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Annotated, Any

import numpy as np
import tyro

from jobs.pipeline.output.database import Database
from jobs.pipeline.output.reading import LabelledRun
from jobs.report_page import facts, gallery, meshes
from jobs.report_page.gallery import Name, Row
from jobs.report_page.pictures import Picture, PictureMaker
from jobs.report_page.speed import Timeline
from tddfa3.errors import UserError

MOST_MISSING_SHOWN = 20
"""Most unreadable files that the page lists."""


@dataclass(frozen=True)
class ReportConfig:
    """One self-contained HTML page about an output: totals, failures, distributions, faces, speed.

    The page needs no network and nothing beside it; open it in any current browser.
    """

    output: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="OUTPUT")]
    """Folder with the labels, local or s3://."""
    out: Annotated[str, tyro.conf.arg(metavar="FILE")] = "report.html"
    """Where the page is written, local or s3://."""
    sample: Annotated[int, tyro.conf.arg(metavar="N")] = 20_000
    """Faces in the distributions; of more, the same N are taken each time. Totals count all."""
    gallery: Annotated[int, tyro.conf.arg(metavar="N")] = 240
    """Faces with a picture: the worst, the best, and some from every part of every distribution."""
    open_face: Annotated[
        tyro.conf.UseAppendAction[tuple[str, ...]], tyro.conf.arg(metavar="IMAGE_ID:FACE")
    ] = ()
    """A face to show in 3D; may be given again. Default: the one with the best fit."""
    assets: Annotated[str, tyro.conf.arg(metavar="DIR")] = ""
    """Bundle that the labels were made with, for the 3D view; default: the one of the label job."""
    s3_endpoint: Annotated[str, tyro.conf.arg(metavar="URL")] = ""
    """Endpoint of the S3 server, when it is not AWS."""


@dataclass
class Collected:
    """Everything that the page is made of, except the meshes.

    Attributes:
        totals: counts over everything that is committed.
        sample: the faces in the histograms.
        histograms: of ``sample``.
        fit: the variable that ranks faces from best to worst.
        rows: of the faces that have a picture.
        values: (variables,) float32 of each of these faces, and of others.
        worst: the faces with the worst fit, worst first.
        best: the faces with the best fit, best first.
        pictures: of the faces in ``rows``.
    """

    totals: facts.RunSummary
    sample: facts.Faces
    histograms: list[facts.Histogram]
    fit: str
    rows: dict[Name, Row]
    values: dict[Name, np.ndarray]
    worst: list[Name]
    best: list[Name]
    pictures: dict[Name, Picture]


def collect(config: ReportConfig, run: LabelledRun, opened: Sequence[Name]) -> Collected:
    """Read everything from the output.

    Args:
        config: the options.
        run: the output.
        opened: faces that must be among those with a picture.

    Raises:
        UserError: a face of ``opened`` is not in the output.
    """
    with Database(run) as database:
        totals = facts.totals(run, database)
        sample = facts.sample(database, config.sample)
        histograms = facts.histograms(sample)
        known = {histogram.variable.name for histogram in histograms}
        # Without a detector there are no points to compare with, only what is visible of the mesh.
        fit = "quality_points" if "quality_points" in known else "quality_visible"
        few = max(1, min(gallery.WORST_AND_BEST, config.gallery // 3, totals.faces // 4))
        largest, smallest = facts.extremes(database, fit, few)
        worst, best = (largest, smallest) if fit == "quality_points" else (smallest, largest)
        named = facts.named(database, opened)
    for face in opened:
        if face not in named.names:
            raise UserError(f"--open-face {face[0]}:{face[1]}: no such face in {config.output}")
    chosen = gallery.choose(sample, histograms, (named, worst, best), config.gallery)
    rows = gallery.fetch(run, chosen)
    pictures = PictureMaker(run, config.s3_endpoint).all(rows.values())
    values: dict[Name, np.ndarray] = {}
    for faces in (sample, worst, best, named):
        values.update(zip(faces.names, faces.values, strict=True))
    return Collected(
        totals,
        sample,
        histograms,
        fit,
        rows,
        values,
        worst.names,
        best.names,
        dict(zip(rows, pictures, strict=True)),
    )


def solids(
    config: ReportConfig, run: LabelledRun, collected: Collected, opened: Sequence[Name]
) -> tuple[list[dict[str, Any]], str]:
    """The faces to be seen in 3D, or the reason why there are none.

    Raises:
        UserError: the user named faces that cannot be made.
    """
    names = list(dict.fromkeys(opened)) or collected.best[:1]
    rows = [collected.rows[name] for name in names if name in collected.rows]
    try:
        return meshes.glbs(run, config.assets, rows), ""
    except UserError as error:
        if opened:
            raise
        return [], str(error)


def data(
    run: LabelledRun, collected: Collected, solid: list[dict[str, Any]], why_none: str
) -> dict[str, Any]:
    """What the page's scripts get, as JSON values."""
    columns = [facts.VARIABLES.index(h.variable) for h in collected.histograms]
    worst, best = set(collected.worst), set(collected.best)
    faces = []
    for name, row in collected.rows.items():
        picture = collected.pictures[name]
        face = gallery.described(row, collected.values[name][columns])
        face |= {"picture": picture.jpeg, "source": picture.source}
        face |= {"worst": name in worst, "best": name in best}
        faces.append(face)
    return {
        "output": run.store.url,
        "variables": [facts.described(histogram) for histogram in collected.histograms],
        "columns": [facts.packed(collected.sample.values[:, column]) for column in columns],
        "sampled": len(collected.sample),
        "total": collected.totals.faces,
        "fit": collected.fit,
        "parts": list(run.part_names),
        "faces": faces,
        "meshes": solid,
        "no_mesh": why_none,
        "speed": Timeline(run.store).described(),
    }


def context(
    config: ReportConfig,
    run: LabelledRun,
    collected: Collected,
    missing: Sequence[tuple[str, str]],
) -> dict[str, Any]:
    """What the page's template gets."""
    progress = run.completeness()
    manifest = run.manifest or {}
    unread = [
        (name[0], picture.unread) for name, picture in collected.pictures.items() if picture.unread
    ]
    return {
        "output": config.output,
        "made": datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        "unfinished": None if progress is None or progress.finished else str(progress),
        "totals": collected.totals,
        "sampled": len(collected.sample),
        "superseded": run.superseded,
        "missing": missing[:MOST_MISSING_SHOWN],
        "missing_not_shown": max(0, len(missing) - MOST_MISSING_SHOWN),
        "unread": unread,
        "facts": run.facts,
        "config": manifest.get("config", {}),
        "versions": run.versions,
        "created": manifest.get("created", ""),
    }
