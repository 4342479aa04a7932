"""The log: whole files of whole lines, whatever happens, and never a reason to stop."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest

from jobs.pipeline.drive import logs
from jobs.pipeline.drive.logs import RunLog
from jobs.pipeline.storage.store import Store, StoreError


def lines(folder: Path) -> list[dict]:
    files = sorted((folder / "_run" / "logs").iterdir())
    return [json.loads(line) for file in files for line in file.read_text().splitlines()]


def test_records_are_published_together_and_once(tmp_path: Path) -> None:
    log = RunLog(Store.open(str(tmp_path)), "r1")
    log.write("start", shards=2)
    log.write("chunk", path=Path("x"), text="zeile\nzwei \udc80")
    assert not (tmp_path / "_run").exists()
    log.publish()
    log.publish()
    assert [(r["event"], r["run"]) for r in lines(tmp_path)] == [("start", "r1"), ("chunk", "r1")]
    assert lines(tmp_path)[1]["text"] == "zeile\nzwei \udc80"


def test_files_are_of_a_bounded_number_of_records(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logs, "_RECORDS_PER_FILE", 10)
    log = RunLog(Store.open(str(tmp_path)), "r")
    for i in range(25):
        log.write("chunk", number=i)
    log.publish()
    names = sorted(path.name for path in (tmp_path / "_run" / "logs").iterdir())
    assert names == ["r.0001.jsonl", "r.0002.jsonl", "r.jsonl"]
    assert sorted(r["number"] for r in lines(tmp_path)) == list(range(25))


def test_a_log_that_cannot_be_written_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = RunLog(Store.open(str(tmp_path)), "r")
    log.write("start")

    def refuse(store: Store, rel: str, data: bytes) -> None:
        raise StoreError("unavailable", rel, "throttled")

    with monkeypatch.context() as patch:
        patch.setattr(Store, "publish", refuse)
        log.publish()
    assert not (tmp_path / "_run").exists()
    log.publish()
    assert [record["event"] for record in lines(tmp_path)] == ["start"]


def test_a_store_that_does_not_answer_holds_nobody_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Publishing goes on in the background; closing gives it a moment, and no more."""
    answers, asked = threading.Event(), threading.Event()
    publish = Store.publish

    def hang(store: Store, rel: str, data: bytes) -> None:
        asked.set()
        answers.wait(60)
        publish(store, rel, data)

    monkeypatch.setattr(Store, "publish", hang)
    monkeypatch.setattr(logs, "_SECONDS_BETWEEN", 0.0)
    log = RunLog(Store.open(str(tmp_path)), "r")
    log._next = 0.0
    log.write("start")
    log.publish_if_due()
    assert asked.wait(10)
    for _ in range(3):
        log.write("chunk")
        log.publish_if_due()
    log.close(0.05)
    assert not (tmp_path / "_run").exists()
    answers.set()
    log.close(30)
    assert [record["event"] for record in lines(tmp_path)] == ["start", "chunk", "chunk", "chunk"]


def test_times_are_utc_with_milliseconds(tmp_path: Path) -> None:
    log = RunLog(Store.open(str(tmp_path)), "r")
    log.write("start")
    log.publish()
    assert lines(tmp_path)[0]["time"][10] == "T"
    assert lines(tmp_path)[0]["time"][19] == "."
    assert lines(tmp_path)[0]["time"].endswith("Z")
