"""The scheduler on a real Ray: deaths, poisoned chunks, refusals. Rows are exact in all of them."""

from __future__ import annotations

import dataclasses
import os
import signal
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from jobs.pipeline.drive import pool as pooling
from jobs.pipeline.drive import scheduler as scheduling
from jobs.pipeline.drive.failures import StoppedEarly
from jobs.pipeline.drive.planning import Planner
from jobs.pipeline.drive.pool import ActorPool
from jobs.pipeline.drive.scheduler import Scheduler
from jobs.pipeline.drive.sizing import PoolSize
from jobs.pipeline.drive.work import (
    ActorDied,
    ChunkDone,
    ChunkGivenUp,
    Event,
    ShardPlanned,
    Tick,
    Waiting,
)
from jobs.pipeline.label.actor import Assignment
from jobs.pipeline.record.config import LabelConfig
from jobs.pipeline.record.parts import decode_part
from jobs.pipeline.record.run import open_run
from jobs.pipeline.storage.store import StoreError
from tddfa3.errors import UserError
from tests.support.fakes import (
    KILLS,
    RAISES,
    SLOW,
    DyingAtStart,
    DyingPlanner,
    FailingPublisher,
    FakeFactory,
    write_images,
)

pytestmark = pytest.mark.usefixtures("local_ray")
ONE, TWO = PoolSize(1, 1, 1, 0), PoolSize(2, 2, 1, 0)
CONFIG = LabelConfig(assets="x", chunk_images=5, batch=4)


def make_scheduler(
    folder: Path,
    size: PoolSize,
    factory: Any = None,
    *,
    limit: int = 0,
    stopping: Callable[[], bool] = lambda: False,
    **options: Any,
) -> Scheduler:
    paths = (str(folder / "in"), str(folder / "out"))
    config = dataclasses.replace(CONFIG, paths=paths, limit=limit)
    factory = factory or FakeFactory()
    run = open_run(config, factory.facts(config))
    pool = ActorPool(Assignment.of(run, factory, 1), size, **options)
    return Scheduler(
        run.shards, Planner.of(run), pool, limit=limit, stopping=stopping, resumed=run.resumed
    )


def drive(scheduler: Scheduler, react: Callable[[Event], None] = lambda event: None) -> list[Event]:
    events: list[Event] = []
    for event in scheduler.run():
        react(event)
        if not isinstance(event, Tick):
            events.append(event)
    return events


def statuses(folder: Path) -> Counter[str]:
    """By status; fails when an image is there twice."""
    parts = sorted((folder / "out" / "annotations").rglob("*.parquet"))
    table = pa.concat_tables([decode_part(part.read_bytes()) for part in parts])
    ids = table.column("image_id").to_pylist()
    assert len(ids) == len(set(ids))
    return Counter(table.column("status").to_pylist())


def of_kind(events: list[Event], kind: type) -> list[Any]:
    return [event for event in events if isinstance(event, kind)]


def test_all_shards_are_labelled_by_several_actors(tmp_path: Path) -> None:
    for name in "abc":
        write_images(tmp_path / "in" / name, 20, dict.fromkeys(range(20), SLOW))
    events = drive(make_scheduler(tmp_path, TWO))
    assert statuses(tmp_path) == {"ok": 60}
    assert len(of_kind(events, ShardPlanned)) == 3
    assert len({done.actor.pid for done in of_kind(events, ChunkDone)}) == 2


def test_a_run_with_nothing_left_starts_no_actor(tmp_path: Path) -> None:
    for name in "abc":
        write_images(tmp_path / "in" / name, 4)
    drive(make_scheduler(tmp_path, TWO))
    ticks: list[Tick] = []
    events = drive(
        make_scheduler(tmp_path, TWO),
        lambda event: ticks.append(event) if isinstance(event, Tick) else None,
    )
    assert len(of_kind(events, ShardPlanned)) == 3
    assert of_kind(events, ChunkDone) == []
    assert ticks
    assert {tick.actors_wanted for tick in ticks} == {0}


def test_an_actor_killed_at_work_costs_nothing(tmp_path: Path) -> None:
    write_images(tmp_path / "in" / "s", 60, dict.fromkeys(range(60), SLOW))
    killed: list[int] = []

    def kill_first(event: Event) -> None:
        if isinstance(event, ChunkDone) and not killed:
            killed.append(event.actor.pid)
            os.kill(event.actor.pid, signal.SIGKILL)

    events = drive(make_scheduler(tmp_path, TWO), kill_first)
    assert statuses(tmp_path) == {"ok": 60}
    [death] = of_kind(events, ActorDied)
    assert death.actor.pid == killed[0]
    assert not death.node_died


def test_images_that_kill_their_process_become_crashed_rows(tmp_path: Path) -> None:
    wishes = {3: KILLS, 12: KILLS, 13: KILLS, 17: RAISES}
    write_images(tmp_path / "in" / "s", 30, wishes)
    events = drive(make_scheduler(tmp_path, TWO))
    assert statuses(tmp_path) == {"ok": 26, "crashed": 3, "label_error": 1}
    # Two deaths find the chunk, one more each image.
    assert len(of_kind(events, ActorDied)) <= 2 * 2 + 3 + 1
    assert of_kind(drive(make_scheduler(tmp_path, ONE)), ChunkDone) == []


def test_a_chunk_that_always_fails_is_given_up_and_the_rest_is_done(tmp_path: Path) -> None:
    write_images(tmp_path / "in" / "s", 20)
    events = drive(make_scheduler(tmp_path, ONE, FailingPublisher(RuntimeError("a bug"))))
    [given_up] = of_kind(events, ChunkGivenUp)
    assert (given_up.number, given_up.images) == (1, 5)
    assert given_up.reason == "RuntimeError: a bug"
    assert statuses(tmp_path) == {"ok": 15}
    drive(make_scheduler(tmp_path, ONE))
    assert statuses(tmp_path) == {"ok": 20}


@pytest.mark.parametrize("kind", ["full", "denied", "unavailable"])
def test_lost_storage_stops_the_run(tmp_path: Path, kind: Any) -> None:
    write_images(tmp_path / "in" / "s", 20)
    factory = FailingPublisher(StoreError(kind, "s3://b/x", "it is so"))
    with pytest.raises(StoppedEarly, match="s3://b/x: it is so"):
        drive(make_scheduler(tmp_path, ONE, factory))


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (UserError("assets/x: no weights"), "could not be built: assets/x: no weights$"),
        (ValueError("bad value\nsecond line"), "could not be built: ValueError: bad value$"),
    ],
)
def test_an_actor_that_cannot_be_built_stops_the_run(
    tmp_path: Path, error: Exception, message: str
) -> None:
    write_images(tmp_path / "in" / "s", 3)
    with pytest.raises(UserError, match=message):
        drive(make_scheduler(tmp_path, ONE, FakeFactory(build_error=error)))


def test_actors_that_always_die_while_they_start_stop_the_run(tmp_path: Path) -> None:
    write_images(tmp_path / "in" / "s", 3)
    with pytest.raises(UserError, match="actors die while they start"):
        drive(make_scheduler(tmp_path, ONE, DyingAtStart()))


def test_what_is_missing_is_said_and_waited_for_as_long_as_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pooling, "_FIRST_REPORT", 0.5)
    write_images(tmp_path / "in" / "s", 3)
    events: list[Event] = []
    with pytest.raises(StoppedEarly, match=r"--wait.*64 CPU and 0 GPU; no node has that"):
        drive(make_scheduler(tmp_path, PoolSize(1, 1, 64, 0), wait=1.5), events.append)
    [waiting] = of_kind(events, Waiting)
    assert "64 CPU" in waiting.reason


def test_actors_beyond_those_that_are_there_are_not_waited_for(tmp_path: Path) -> None:
    write_images(tmp_path / "in" / "s", 60)
    ticks: list[Tick] = []
    drive(
        make_scheduler(tmp_path, PoolSize(3, 9, 2, 0)),
        lambda event: ticks.append(event) if isinstance(event, Tick) else None,
    )
    assert statuses(tmp_path) == {"ok": 60}
    assert max(tick.actors_wanted for tick in ticks) > 2
    assert max(tick.actors_ready for tick in ticks) <= 2


def test_an_actor_over_its_memory_is_replaced_between_chunks(tmp_path: Path) -> None:
    write_images(tmp_path / "in" / "s", 20)
    events = drive(make_scheduler(tmp_path, ONE, memory_limit=1.0))
    assert len({done.actor.pid for done in of_kind(events, ChunkDone)}) >= 2
    assert of_kind(events, ActorDied) == []
    assert statuses(tmp_path) == {"ok": 20}


def test_limit_ends_the_listing_of_shards(tmp_path: Path) -> None:
    for name in "abcde":
        write_images(tmp_path / "in" / name, 4)
    events = drive(make_scheduler(tmp_path, ONE, limit=6))
    assert [event.plan.images for event in of_kind(events, ShardPlanned)] == [4, 2]
    assert statuses(tmp_path) == {"ok": 6}


def test_stopping_ends_the_loop_and_what_is_committed_stays(tmp_path: Path) -> None:
    write_images(tmp_path / "in" / "s", 40, dict.fromkeys(range(40), SLOW))
    done: list[Event] = []
    scheduler = make_scheduler(tmp_path, ONE, stopping=lambda: bool(done))
    drive(scheduler, lambda event: done.append(event) if isinstance(event, ChunkDone) else None)
    assert 5 <= statuses(tmp_path)["ok"] < 40
    drive(make_scheduler(tmp_path, ONE))
    assert statuses(tmp_path) == {"ok": 40}


def test_plans_are_made_just_ahead_of_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a low-water mark of one chunk, later shards are listed while earlier ones are done."""
    monkeypatch.setattr(scheduling, "_LOW_WATER", 1)
    monkeypatch.setattr(scheduling, "_PLANS_AT_ONCE", 1)
    monkeypatch.setattr(scheduling, "IN_FLIGHT", 1)
    for name in "abcdef":
        write_images(tmp_path / "in" / name, 20)
    events = drive(make_scheduler(tmp_path, ONE))
    kinds = [type(event) for event in events]
    assert kinds.index(ChunkDone) < len(kinds) - 1 - kinds[::-1].index(ShardPlanned)
    assert statuses(tmp_path) == {"ok": 120}


def test_a_shard_whose_listing_kills_is_a_shard_error_and_the_rest_is_labelled(
    tmp_path: Path,
) -> None:
    for name in "abc":
        write_images(tmp_path / "in" / name, 4)
    scheduler = make_scheduler(tmp_path, ONE)
    planner = scheduler._planner
    scheduler._planner = DyingPlanner(**vars(planner))
    events = drive(scheduler)
    [error] = [e.plan.error for e in of_kind(events, ShardPlanned) if e.plan.error]
    assert "the process that listed it died" in error
    assert statuses(tmp_path) == {"ok": 8, "shard_error": 1}
    drive(make_scheduler(tmp_path, ONE))
    assert statuses(tmp_path) == {"ok": 12}


@pytest.fixture(autouse=True)
def _quick_polling(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scheduling, "_POLL", 0.05)
