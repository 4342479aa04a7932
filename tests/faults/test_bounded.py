"""What must not grow does not: memory of actor and driver over chunks, what is read ahead."""

from __future__ import annotations

import dataclasses
import json
import os
import statistics
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from jobs.pipeline.drive.planning import Planner
from jobs.pipeline.label.actor import BATCHES_AHEAD, Assignment, LabelActor
from jobs.pipeline.record.config import LabelConfig
from jobs.pipeline.record.run import open_run
from jobs.pipeline.storage.store import Store
from tests.faults.arena import Arena, finish
from tests.support.fakes import MeshFactory, png, write_images

MIB = 2**20
CHUNKS = 200


def resident(pid: int) -> int:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_memory_of_actor_and_driver_over_200_chunks(arena: Arena) -> None:
    """Two images of 0.9 MB (decoded) a chunk: keeping one of each chunk would cost 180 MB."""
    folder = Path(arena.input, "a")
    folder.mkdir(parents=True)
    data = png(size=(640, 480))
    for i in range(2 * CHUNKS):
        (folder / f"img{i:04d}.png").write_bytes(data)
    process = arena.start("--chunk-images", "2")
    arena.wait_for_parts(CHUNKS // 4, process)
    before = resident(process.pid)
    arena.wait_for_parts(CHUNKS - 5, process)
    assert process.poll() is None, "measured while it runs"
    after = resident(process.pid)
    finish(process).expect(0)
    assert after - before < 16 * MIB
    actor = [record["memory"] for record in chunk_records(Path(arena.output))]
    assert len(actor) == CHUNKS
    quarter = CHUNKS // 4
    first, last = actor[quarter : 2 * quarter], actor[-quarter:]
    assert statistics.median(last) - statistics.median(first) < 24 * MIB


def chunk_records(output: Path) -> list[dict[str, Any]]:
    lines = [
        json.loads(line)
        for file in sorted((output / "_run" / "logs").glob("*.jsonl"))
        for line in file.read_text().splitlines()
    ]
    return [line for line in lines if line["event"] == "chunk"]


def test_a_slow_sink_slows_reading_down(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While no mesh can be published, no more is read than may wait, and then all the rest."""
    images, threads = 400, 2
    write_images(tmp_path / "in", images)
    config = LabelConfig(assets="x", batch=4, chunk_images=images, meshes="pca")
    config = dataclasses.replace(config, paths=(str(tmp_path / "in"), str(tmp_path / "out")))
    factory = MeshFactory()
    run = open_run(config, factory.facts(config))
    actor = LabelActor()
    actor.setup(Assignment.of(run, factory, threads))
    [order] = Planner.of(run).plan(run.shards[0]).pending
    reads, sink_works = [], threading.Event()
    read, publish_new = Store.read, Store.publish_new

    def counted(store: Store, rel: str, *span: Any) -> bytes:
        if rel.endswith(".png"):
            reads.append(rel)
        return read(store, rel, *span)

    def slow(store: Store, rel: str, data: bytes) -> bool:
        if rel.startswith("meshes/"):
            sink_works.wait()
        return publish_new(store, rel, data)

    monkeypatch.setattr(Store, "read", counted)
    monkeypatch.setattr(Store, "publish_new", slow)
    worker = threading.Thread(target=actor.label_chunk, args=(order,))
    worker.start()
    held = until_it_rests(reads)
    sink_works.set()
    worker.join(60)
    # Waiting for the networks, in the batch, waiting to be published, and being read at once.
    assert 0 < held <= (BATCHES_AHEAD + 1) * config.batch + 4 * threads + 40
    assert len(reads) == images


def until_it_rests(items: list[str]) -> int:
    """How many there are when none has been added for a second."""
    count, since = -1, time.monotonic()
    while time.monotonic() - since < 1:
        if len(items) != count:
            count, since = len(items), time.monotonic()
        time.sleep(0.01)
    return count
