"""Planning of a million images, and the driver's cost with a labeler that does nothing."""

from __future__ import annotations

import io
import os
import tarfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from benchmarks.machine import peak_memory
from benchmarks.running import run_job
from benchmarks.settings import actors
from jobs.pipeline.drive.planning import PendingShard, Planner
from jobs.pipeline.label.factory import Labeler
from jobs.pipeline.record.config import LabelConfig
from jobs.pipeline.record.facts import AssetFacts
from jobs.pipeline.record.run import Run, open_run


class NothingFactory:
    """Makes labelers that find no face in any image, and take no time for it."""

    def facts(self, config: LabelConfig) -> AssetFacts:
        """See :class:`jobs.pipeline.label.factory.LabelerFactory`."""
        return AssetFacts(name="nothing", digest="nothing")

    def build(self, config: LabelConfig, threads: int) -> Labeler:
        """See :class:`jobs.pipeline.label.factory.LabelerFactory`."""
        return NoFaces()


class NoFaces:
    """Finds no face in any image."""

    needed_side = None

    def __init__(self) -> None:
        self.computed_with: dict[str, str] = {}

    def __call__(self, images: Sequence[Any], /) -> list[list[Any]]:
        """No face for each image."""
        return [[] for _ in images]


def measure_plans(folder: Path, shards: int, images: int) -> dict[str, Any]:
    """Plans a new run, then plans it again with half of it committed.

    Args:
        folder: for input and output; must be empty.
        shards: number of tar shards.
        images: number of images in each.
    """
    write_shards(folder / "planned", shards, images)
    run = _run(folder / "planned", folder / "planned-out")
    started = time.perf_counter()
    plans = _plan(run)
    planned = time.perf_counter() - started
    for plan in plans:
        for order in plan.pending[::2]:
            run.store.publish(run.layout.part(order.chunk), b"committed")
    started = time.perf_counter()
    left = _plan(_run(folder / "planned", folder / "planned-out"))
    resumed = time.perf_counter() - started
    return {
        "shards": shards,
        "images": sum(plan.images for plan in plans),
        "chunks": sum(plan.chunks for plan in plans),
        "chunks_left": sum(len(plan.pending) for plan in left),
        "plan_seconds": planned,
        "resume_seconds": resumed,
        "planner_bytes": peak_memory(),
    }


def measure_loop(folder: Path, images: int, total: int) -> dict[str, Any]:
    """Labels ``total`` images, in shards of ``images`` each, with Ray actors that do nothing."""
    write_shards(folder / "looped", max(1, total // images), min(images, total))
    row = run_job(_config(folder / "looped", folder / "looped-out"), NothingFactory())
    return {f"loop_{name}": value for name, value in row.items() if name != "idle"}


def write_shards(folder: Path, shards: int, images: int) -> None:
    """Makes tar shards of the same small images: one file under many names."""
    folder.mkdir()
    first = folder / "000000.tar"
    picture = io.BytesIO()
    Image.new("RGB", (2, 2)).save(picture, "PNG")
    with tarfile.open(first, "w") as tar:
        for i in range(images):
            member = tarfile.TarInfo(f"{i:07d}.png")
            member.size = len(picture.getvalue())
            tar.addfile(member, io.BytesIO(picture.getvalue()))
    for number in range(1, shards):
        os.link(first, folder / f"{number:06d}.tar")


def _plan(run: Run) -> list[PendingShard]:
    planner = Planner.of(run)
    return [planner.plan(shard) for shard in run.shards]


def _run(given: Path, output: Path) -> Run:
    config = _config(given, output)
    return open_run(config, NothingFactory().facts(config))


def _config(given: Path, output: Path) -> LabelConfig:
    return LabelConfig(
        paths=(str(given), str(output)), assets="none", actors=actors(1), cpus_per_actor=1
    )
