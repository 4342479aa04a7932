"""The main job as people start it: exit codes, messages, signals, and a driver that is killed."""

from __future__ import annotations

import random
import re
import subprocess
import sys
import tarfile
import time
import zipfile
from collections import Counter
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from jobs.label import main
from jobs.verify import verify
from tests.support.fakes import NO_FACE, RAISES, SLOW, TWO_FACES, FakeFactory, write_images
from tests.support.shared_ray import address

PROGRAM = [sys.executable, "-m", "tests.support.label_with_fake"]
OPTIONS = ["--assets", "x", "--chunk-images", "10", "--batch", "4"]
Rows = list[tuple[Any, ...]]


def start(folder: Path, env: dict[str, str], *options: str) -> subprocess.Popen[str]:
    line = [*PROGRAM, str(folder / "in"), str(folder / "out"), *OPTIONS, *options]
    return subprocess.Popen(
        line, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def finish(process: subprocess.Popen[str], seconds: float = 120) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=seconds)
    return process.returncode, out, err


def rows(folder: Path) -> Rows:
    """What DuckDB reads, in an order of its own making; no column that may differ is left out."""
    query = f"select * from '{folder}/out/annotations/**/*.parquet' order by image_id, face_index"
    return duckdb.execute(query).fetchall()


def committed(folder: Path) -> int:
    return len(list((folder / "out" / "annotations").rglob("*.parquet")))


def wait_for_parts(folder: Path, count: int, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 90
    while committed(folder) < count and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)


@pytest.fixture
def slow_input(tmp_path: Path) -> Path:
    for name in ("a", "b"):
        write_images(tmp_path / "in" / name, 60, {i: SLOW for i in range(60)} | {7: NO_FACE})
    return tmp_path


@pytest.mark.slow
def test_a_driver_killed_three_times_ends_with_the_rows_of_one_that_was_not(
    slow_input: Path, worker_environment: dict[str, str], local_ray: None
) -> None:
    """Every column of every row is the same. Other deaths and signals: ``tests/faults``."""
    dice = random.Random(0)
    for _ in range(3):
        process = start(slow_input, worker_environment, "--ray-address", address())
        wait_for_parts(slow_input, committed(slow_input) + 1, process)
        time.sleep(dice.uniform(0, 0.6))
        process.kill()
        finish(process)
    whole = slow_input / "whole"
    whole.mkdir()
    (whole / "in").symlink_to(slow_input / "in")
    for folder in (slow_input, whole):
        assert main([str(folder / "in"), str(folder / "out"), *OPTIONS], FakeFactory()) == 0
    assert rows(slow_input) == rows(whole)
    assert len(rows(slow_input)) == 120
    proof, _ = verify(str(slow_input / "out"))
    assert proof.proved
    assert proof.orphans == []


def test_a_run_and_what_it_says(
    tmp_path: Path, local_ray: None, capsys: pytest.CaptureFixture[str]
) -> None:
    write_images(tmp_path / "in" / "s", 20, {1: NO_FACE, 2: TWO_FACES, 3: RAISES})
    (tmp_path / "in" / "s" / "img0004.png").write_bytes(b"")
    line = [str(tmp_path / "in"), str(tmp_path / "out"), *OPTIONS]
    assert main(line, FakeFactory()) == 0
    out, err = capsys.readouterr()
    assert re.match(r"done: 20 images, 18 faces in \d+ s", out)
    assert "  decode_error: 1\n  label_error: 1\n  no_face: 1\n  ok: 17\n" in out
    assert "\x1b" not in out + err

    assert main(["--resume", str(tmp_path / "out")], FakeFactory()) == 0
    assert "0 images, 0 faces" in capsys.readouterr().out
    assert len(rows(tmp_path)) == 21


def test_duckdb_polars_and_pandas_read_a_whole_run(tmp_path: Path, local_ray: None) -> None:
    write_images(tmp_path / "in" / "s", 25, {1: NO_FACE, 2: TWO_FACES})
    assert main([str(tmp_path / "in"), str(tmp_path / "out"), *OPTIONS], FakeFactory()) == 0
    parts = str(tmp_path / "out" / "annotations" / "s" / "*.parquet")
    query = (
        f"select status, count(distinct image_id), count(*) from '{parts}' group by 1 order by 1"
    )
    assert duckdb.execute(query).fetchall() == [("no_face", 1, 1), ("ok", 24, 25)]
    assert pl.read_parquet(parts)["coef_id"].drop_nulls().list.len().unique().to_list() == [80]
    frame = pd.read_parquet(tmp_path / "out" / "annotations" / "s")
    assert Counter(frame["status"]) == {"ok": 25, "no_face": 1}


def test_an_unreadable_shard_is_exit_code_3(
    tmp_path: Path, local_ray: None, capsys: pytest.CaptureFixture[str]
) -> None:
    write_images(tmp_path / "in" / "s", 3)
    (tmp_path / "in" / "broken.tar").write_bytes(random.Random(0).randbytes(5000))
    assert main([str(tmp_path / "in"), str(tmp_path / "out"), *OPTIONS], FakeFactory()) == 3
    assert "shard error: broken.tar: " in capsys.readouterr().out
    statuses = Counter(row[6] for row in rows(tmp_path))
    assert statuses == {"ok": 3, "shard_error": 1}


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["in", "out", *OPTIONS, "--chunk-images", "0"], "--chunk-images"),
        (["nowhere", "out", *OPTIONS], "nowhere: no such file or folder"),
        (["in", "out", *OPTIONS, "--device", "cuda", "--gpus-per-actor", "0"], "--device cuda"),
        (["--resume", "nowhere"], "no run there"),
    ],
)
def test_bad_input_is_exit_code_2_with_one_line_and_nothing_written(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    named: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    write_images(tmp_path / "in", 1)
    before = sorted(tmp_path.rglob("*"))
    assert main(options, FakeFactory()) == 2
    message = capsys.readouterr().err
    assert named in message
    assert message.count("\n") == 1
    assert sorted(tmp_path.rglob("*")) == before


def test_an_actor_that_no_machine_holds_is_exit_code_2_and_leaves_nothing(
    tmp_path: Path, local_ray: None, capsys: pytest.CaptureFixture[str]
) -> None:
    write_images(tmp_path / "in", 1)
    line = [str(tmp_path / "in"), str(tmp_path / "out"), *OPTIONS, "--cpus-per-actor", "999"]
    assert main(line, FakeFactory()) == 2
    assert "no actor fits on this machine" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_real_assets_that_are_not_there_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_images(tmp_path / "in", 1)
    line = [str(tmp_path / "in"), str(tmp_path / "out"), "--assets", str(tmp_path / "nothing")]
    assert main(line) == 2
    assert "nothing" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def no_images(folder: Path) -> list[Path]:
    """Inputs of every kind, none of which holds an image."""
    folder.mkdir()
    (folder / "folder").mkdir()
    with tarfile.open(folder / "bare.tar", "w"):
        pass
    (folder / "note.txt").write_text("hello\n")
    with tarfile.open(folder / "texts.tar", "w") as archive:
        archive.add(folder / "note.txt", "a.txt")
    with tarfile.open(folder / "texts.tar.gz", "w:gz") as archive:
        archive.add(folder / "note.txt", "a.txt")
    (folder / "note.txt").unlink()
    packed = zstandard.compress((folder / "texts.tar").read_bytes())
    (folder / "texts.tar.zst").write_bytes(packed)
    with zipfile.ZipFile(folder / "texts.zip", "w") as zipped:
        zipped.writestr("a.txt", "hello")
        zipped.writestr("__MACOSX/a.jpg", "no photograph")
    with zipfile.ZipFile(folder / "bare.zip", "w"):
        pass
    rows = pa.table({"image": pa.array([], pa.binary())})
    pq.write_table(rows, folder / "rows.parquet")
    for name in ("list.txt", "list.csv", "list.jsonl"):
        (folder / name).write_text("\n")
    return sorted(folder.iterdir())


def refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The one line on stderr of a command that is refused, with nothing on stdout."""
    assert main([*arguments, *OPTIONS], FakeFactory()) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    return err


def test_an_input_without_one_image_is_exit_code_2_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("jobs.label.ray_session", lambda *_, **__: pytest.fail("Ray was wanted"))
    inputs = no_images(tmp_path / "in")
    (tmp_path / "there").mkdir()
    before = sorted(tmp_path.rglob("*"))
    for given in inputs:
        for output in ("out", "there"):
            error = refused([str(given), str(tmp_path / output)], capsys)
            assert str(given) in error
            assert re.search("not one image|no images", error)
    assert "not one image" in refused([str(tmp_path / "in"), str(tmp_path / "out")], capsys)
    several = [str(path) for path in inputs if path.is_file()]
    assert "not one image" in refused([*several, str(tmp_path / "out")], capsys)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_cluster_that_does_not_answer_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    write_images(tmp_path / "in", 1)
    line = [str(tmp_path / "in"), str(tmp_path / "out"), "--ray-address", "127.0.0.1:1"]
    assert "nobody answers" in refused(line, capsys)
    assert not (tmp_path / "out").exists()


def test_one_image_after_shards_without_any_is_labelled(tmp_path: Path, local_ray: None) -> None:
    no_images(tmp_path / "in")
    write_images(tmp_path / "in" / "zz", 1)
    assert main([str(tmp_path / "in"), str(tmp_path / "out"), *OPTIONS], FakeFactory()) == 0
    assert [row[6] for row in rows(tmp_path)] == ["ok"]
    proof, unlisted = verify(str(tmp_path / "out"))
    assert (proof.proved, unlisted) == (True, 0)


def test_a_run_whose_input_was_emptied_stays_as_it_is(
    tmp_path: Path, local_ray: None, capsys: pytest.CaptureFixture[str]
) -> None:
    write_images(tmp_path / "photos", 3)
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        archive.add(tmp_path / "photos", "photos")
    line = [str(tmp_path / "a.tar"), str(tmp_path / "out")]
    assert main([*line, *OPTIONS], FakeFactory()) == 0
    capsys.readouterr()
    before = {path: path.read_bytes() for path in tmp_path.rglob("out/**/*") if path.is_file()}
    with tarfile.open(tmp_path / "a.tar", "w"):
        pass
    assert "not one image" in refused([*line, "--accept-changed"], capsys)
    after = {path: path.read_bytes() for path in tmp_path.rglob("out/**/*") if path.is_file()}
    assert after == before
