"""One start of a run in this process, without Ray: its plans, its orders, its rows."""

from __future__ import annotations

import dataclasses
import io
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from jobs.pipeline.drive.planning import PendingShard, Planner
from jobs.pipeline.label.actor import Assignment, ChunkResult, LabelActor
from jobs.pipeline.record.config import LabelConfig
from jobs.pipeline.record.orders import ChunkOrder
from jobs.pipeline.record.parts import decode_part
from jobs.pipeline.record.run import Run, open_run
from tests.support.fakes import (
    PLAIN,
    FakeFactory,
    png,
)

CONFIG = LabelConfig(assets="x", chunk_images=4, batch=3)


class Job:
    """One start of a run in this process."""

    def __init__(self, tmp_path: Path, factory: Any = None, **options: Any) -> None:
        paths = (str(tmp_path / "in"), str(tmp_path / "out"))
        self.factory = factory or FakeFactory()
        self.config = dataclasses.replace(CONFIG, paths=paths, **options)
        self.run: Run = open_run(self.config, self.factory.facts(self.config))
        run = self.run
        self.planner = Planner.of(run)
        self.actor = LabelActor()
        self.actor.setup(Assignment.of(run, self.factory, 2))

    def plans(self) -> list[PendingShard]:
        left = self.config.limit or None
        plans = []
        for shard in self.run.shards:
            plans.append(self.planner.plan(shard, left))
            left = None if left is None else left - plans[-1].images
        return plans

    def orders(self) -> list[ChunkOrder]:
        return [order for plan in self.plans() for order in plan.pending]

    def finish(self) -> list[ChunkResult]:
        return [self.actor.label_chunk(order) for order in self.orders()]

    def rows(self) -> list[dict[str, Any]]:
        parts = sorted((Path(self.run.store.url) / "annotations").rglob("*.parquet"))
        table = pa.concat_tables([decode_part(part.read_bytes()) for part in parts])
        return sorted(
            table.to_pylist(),
            key=lambda row: (row["shard"], row["key"] or "", row["face_index"] or 0),
        )


def write_tar(path: Path, names: Sequence[str]) -> bytes:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for i, name in enumerate(names):
            data = png(PLAIN, i)
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path.read_bytes()
