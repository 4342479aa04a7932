"""Counts, estimates and lines for a person."""

from __future__ import annotations

import io
from typing import Any

import pytest

from jobs.pipeline.drive import progress as module
from jobs.pipeline.drive.progress import Progress, Totals, duration


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(module.time, "monotonic", clock)
    return clock


def counts(images: int, **statuses: int) -> dict[str, Any]:
    return {"images": images, "faces": statuses.get("ok", 0), "status": statuses}


def test_totals_of_listed_shards_stand_for_the_others() -> None:
    totals = Totals(shards=4)
    totals.planned(images=100, pending=60, error=None, shard_id="a")
    totals.planned(images=300, pending=300, error=None, shard_id="b")
    totals.done(counts(20, ok=15, no_face=3, crashed=2))
    assert totals.images_left == 340 + 2 * 200
    assert totals.failed == 2
    assert totals.faces == 15


def test_errors_of_shards_are_kept_up_to_a_number() -> None:
    totals = Totals(shards=100)
    for i in range(100):
        totals.planned(0, 0, "cut short", f"s{i}")
    assert totals.shards_in_error == 100
    assert totals.shard_errors[0] == "s0: cut short"
    assert len(totals.shard_errors) == 20


def test_plain_lines_come_every_few_seconds_and_tell_rate_and_time_left(clock: Clock) -> None:
    totals, stream = Totals(shards=1), io.StringIO()
    totals.planned(images=1000, pending=1000, error=None, shard_id="a")
    with Progress(totals, stream) as progress:
        for _ in range(41):
            clock.now += 0.5
            totals.done(counts(5, ok=4, label_error=1))
            progress.show(actors_ready=1, actors_wanted=2)
    lines = stream.getvalue().splitlines()
    assert len(lines) == 4
    assert lines[-1] == (
        "200 of 1,000 images · 160 faces · 40 failed · 10.0 images/s · 1 min 20 s left · "
        "1 of 2 actors ready"
    )
    assert "\x1b" not in stream.getvalue()


def test_the_rate_is_that_of_the_last_minute(clock: Clock) -> None:
    totals = Totals(shards=1)
    progress = Progress(totals, io.StringIO())
    for per_step in [100] * 30 + [1] * 30:
        clock.now += 5
        totals.done(counts(per_step, ok=per_step))
        progress.show(1, 1)
    assert progress.rate() == pytest.approx(0.2)


def test_nothing_is_promised_while_nothing_is_known(clock: Clock) -> None:
    line = Progress(Totals(shards=3), io.StringIO()).line()
    assert "time left unknown" in line
    assert "0 of about 0 images" in line


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-1, "0 s"), (59.4, "59 s"), (60, "1 min 00 s"), (3599, "59 min 59 s"),
     (7260, "2 h 01 min"), (200_000, "2 d 7 h")],
)  # fmt: skip
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text
