"""Runs of the label job in this process, with a labeler that only pretends; no Ray."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jobs.pipeline.drive.logs import RunLog
from jobs.pipeline.drive.planning import Planner
from jobs.pipeline.label.actor import Assignment, LabelActor
from jobs.pipeline.record.config import LabelConfig
from jobs.pipeline.record.orders import ChunkOrder
from jobs.pipeline.record.run import open_run
from tests.support.fakes import MeshFactory


def label(folder: Path, chunks: int | None = None, **options: Any) -> Path:
    """Labels ``folder/in`` into ``folder/out``; ``chunks`` leaves it half done."""
    paths = (str(folder / "in"), str(folder / "out"))
    config = LabelConfig(paths=paths, assets="x", chunk_images=4, **{"meshes": "pca", **options})
    factory = MeshFactory()
    run = open_run(config, factory.facts(config))
    actor = LabelActor()
    actor.setup(Assignment.of(run, factory, 2))
    planner = Planner.of(run)
    left = config.limit or None
    orders: list[ChunkOrder] = []
    for shard in run.shards:
        plan = planner.plan(shard, left)
        left = None if left is None else left - plan.images
        orders += plan.pending
    log = RunLog(run.store, run.id)
    log.write("start")
    for order in orders[:chunks]:
        result = actor.label_chunk(order)
        log.write("chunk", images=result.counts["images"], already_done=False)
    log.write("end")
    log.publish()
    return folder / "out"
