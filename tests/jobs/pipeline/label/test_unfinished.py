"""Of a chunk that was not finished, what is done is kept, and used only if it fits."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jobs.pipeline.record.config import LabelConfig
from jobs.pipeline.record.partial import save_partial
from jobs.pipeline.record.rows import ImageRecord
from tests.support.fakes import (
    NO_FACE,
    FunctionLabeler,
    MeshFactory,
    write_images,
)
from tests.support.one_start import Job


@dataclass(frozen=True)
class Held(MeshFactory):
    """Its labeler stops before the image of shade ``at``, until ``go`` is set."""

    at: int = 4
    calls: list[int] = field(default_factory=list)
    go: threading.Event = field(default_factory=threading.Event)
    stuck: threading.Event = field(default_factory=threading.Event)

    def build(self, config: LabelConfig, threads: int) -> Any:
        labeler = super().build(config, threads)

        def held_labeler(images: Sequence[np.ndarray]) -> list[list[Any]]:
            if any(image[1, 1, 0] == self.at for image in images):
                self.stuck.set()
                assert self.go.wait(60)
            self.calls.extend(int(image[1, 1, 0]) for image in images)
            return labeler(images)

        return FunctionLabeler(held_labeler)


def test_what_is_done_of_an_unfinished_chunk_is_kept_and_not_done_again(tmp_path: Path) -> None:
    write_images(tmp_path / "in", 8, {1: NO_FACE})
    options = {"meshes": "pca", "chunk_images": 8, "batch": 2}
    first = Held()
    job = Job(tmp_path, first, **options)
    [order] = job.orders()
    worker = threading.Thread(target=job.actor.label_chunk, args=(order,))
    worker.start()
    assert first.stuck.wait(60)
    [(chunk, steps)] = job.actor.progress().items()
    assert chunk == (order.chunk.shard_id, 0)
    assert steps > 0
    deadline = time.monotonic() + 30
    while job.actor.save_unfinished() < 4 and time.monotonic() < deadline:
        time.sleep(0.01)  # meshes are published in threads
    assert not job.run.store.exists(job.run.layout.part(order.chunk))

    second = Held(at=-1)
    again = Job(tmp_path, second, **options)
    [order] = again.orders()
    assert order.partial
    again.actor.label_chunk(order)
    assert second.calls == [4, 5, 6, 7]
    rows = again.rows()
    assert [row["status"] for row in rows] == ["ok", "no_face"] + ["ok"] * 6
    assert all(row["mesh_pca_uri"] for row in rows if row["status"] == "ok")
    assert list((tmp_path / "out" / "_run" / "partial").rglob("*.parquet")) == []
    first.go.set()
    worker.join(60)
    assert again.rows() == rows, "who goes on after all does no harm"


@pytest.mark.parametrize("damage", [b"", b"PAR1 no parquet PAR1"])
def test_kept_rows_that_cannot_be_used_are_made_again(tmp_path: Path, damage: bytes) -> None:
    write_images(tmp_path / "in", 4)
    job = Job(tmp_path)
    [order] = job.orders()
    job.run.store.publish(job.run.layout.partial(order.chunk), damage)
    [order] = job.orders()
    assert order.partial
    job.actor.label_chunk(order)
    assert Counter(row["status"] for row in job.rows()) == {"ok": 4}


def test_kept_rows_of_other_content_are_not_used(tmp_path: Path) -> None:
    write_images(tmp_path / "in", 4)
    job = Job(tmp_path)
    [order] = job.orders()
    row = ImageRecord(order.shard.id, "img0000.png").row("no_face")
    other = dataclasses.replace(order.shard, etag="other")
    rel = job.run.layout.partial(order.chunk)
    save_partial(job.run.store, rel, other, [row], job.run.schema)
    job.finish()
    assert Counter(row["status"] for row in job.rows()) == {"ok": 4}
