"""What is planned when a run is started again: nothing twice, and what failed or changed."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jobs.pipeline.record.config import LabelConfig
from tddfa3.errors import UserError
from tests.support.fakes import (
    NO_FACE,
    TWO_FACES,
    FakeFactory,
    FunctionLabeler,
    fake_labeler,
    write_images,
)
from tests.support.one_start import Job, write_tar


def test_what_is_committed_is_not_planned_again(tmp_path: Path) -> None:
    write_images(tmp_path / "in", 10)
    job = Job(tmp_path)
    job.actor.label_chunk(job.orders()[1])
    assert [order.chunk.number for order in Job(tmp_path).orders()] == [0, 2]
    Job(tmp_path).finish()
    assert Job(tmp_path).orders() == []


def test_retry_failed_replaces_the_part_and_keeps_the_other_rows(tmp_path: Path) -> None:
    """The labeler failed the first time, as with a bug that has been repaired since."""
    write_images(tmp_path / "in", 6, {1: TWO_FACES, 2: NO_FACE})

    @dataclass(frozen=True)
    class Broken(FakeFactory):
        def build(self, config: LabelConfig, threads: int) -> Any:
            def labeler(images: Sequence[np.ndarray]) -> list[list[Any]]:
                if any(image[1, 1, 0] == 3 for image in images):
                    raise RuntimeError("a bug")
                return fake_labeler(images)

            return FunctionLabeler(labeler)

    Job(tmp_path, Broken()).finish()
    before = Job(tmp_path).rows()
    assert [r["status"] for r in before] == ["ok", "ok", "ok", "no_face", "label_error", "ok", "ok"]
    job = Job(tmp_path, retry_failed=True)
    assert [order.chunk.number for order in job.orders()] == [0]
    [result] = job.finish()
    assert result.counts["status"] == {"no_face": 1, "ok": 3}
    after = job.rows()
    assert after[4]["status"] == "ok"
    assert [r for r in after if r["key"] != after[4]["key"]] == [
        r for r in before if r["key"] != after[4]["key"]
    ]


def test_limit_takes_the_first_images_whatever_the_chunks(tmp_path: Path) -> None:
    write_images(tmp_path / "in" / "a", 6)
    write_images(tmp_path / "in" / "b", 6)
    job = Job(tmp_path, limit=8)
    job.finish()
    ids = [row["image_id"] for row in job.rows()]
    assert ids == [f"a/img{i:04d}.png" for i in range(6)] + ["b/img0000.png", "b/img0001.png"]


def test_new_shards_are_taken_up_and_old_ones_left(tmp_path: Path) -> None:
    write_tar(tmp_path / "in" / "a.tar", ["x.png", "y.png"])
    Job(tmp_path).finish()
    write_tar(tmp_path / "in" / "b.tar", ["z.png"])
    job = Job(tmp_path)
    assert [order.chunk.shard_id for order in job.orders()] == ["b.tar"]


def test_changed_content_is_refused_or_labelled_under_an_id_of_its_own(tmp_path: Path) -> None:
    write_tar(tmp_path / "in" / "a.tar", ["x.png", "y.png"])
    Job(tmp_path).finish()
    write_tar(tmp_path / "in" / "a.tar", ["y.png", "z.png", "w.png"])
    with pytest.raises(UserError, match=r"a\.tar changed .*--accept-changed"):
        Job(tmp_path).orders()
    Job(tmp_path, accept_changed=True).finish()
    job = Job(tmp_path)
    assert job.orders() == []
    assert Counter(row["shard"] for row in job.rows()) == {"a.tar": 2, "a.tar@2": 3}
    marks = list((tmp_path / "out" / "_run" / "superseded").rglob("*.json"))
    assert [json.loads(mark.read_text())["shard"] for mark in marks] == ["a.tar"]


def test_a_shard_cut_short_is_labelled_as_far_as_it_goes_and_again_when_it_is_whole(
    tmp_path: Path,
) -> None:
    names = [f"n{i}.png" for i in range(10)]
    whole = write_tar(tmp_path / "in" / "a.tar", names)
    (tmp_path / "in" / "a.tar").write_bytes(whole[: 1024 * 6 + 600])
    job = Job(tmp_path)
    [plan] = job.plans()
    assert plan.error is not None
    job.finish()
    rows = job.rows()
    assert [row["status"] for row in rows].count("shard_error") == 1
    read = [row for row in rows if row["status"] == "ok"]
    assert 5 <= len(read) <= 6
    error = next(row for row in rows if row["status"] == "shard_error")
    assert error["shard"] == "a.tar"
    assert "offset" in error["error"]
    assert len(Job(tmp_path).plans()[0].pending) <= 1

    (tmp_path / "in" / "a.tar").write_bytes(whole)
    Job(tmp_path).finish()
    rows = Job(tmp_path).rows()
    assert [(row["key"], row["status"]) for row in rows] == [(row["key"], "ok") for row in rows]
    assert len(rows) == 10
    assert Job(tmp_path).orders() == []
