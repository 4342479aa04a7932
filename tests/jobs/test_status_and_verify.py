"""What the two programs say of runs that are whole, half done, or tampered with."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from jobs import status, verify
from jobs.pipeline.record.parts import decode_part, encode_part
from tests.support.fakes import NO_FACE, TWO_FACES, write_images
from tests.support.labelled import label

PART = "annotations/a/000000.parquet"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_images(tmp_path / "in" / "a", 10, {1: NO_FACE, 2: TWO_FACES})
    write_images(tmp_path / "in" / "b", 5)
    (tmp_path / "in" / "b" / "img0003.png").write_bytes(b"")
    return tmp_path


def test_a_whole_run_is_complete_and_proved(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = label(folder)
    assert status.main([str(out), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["images"], said["images_done"], said["faces"], said["failed"]) == (15, 15, 14, 1)
    assert (said["chunks"], said["chunks_done"]) == (5, 5)
    assert said["statuses"] == {"decode_error": 1, "no_face": 1, "ok": 13}
    assert said["complete"]
    assert not said["running"]
    assert verify.main([str(out), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["proved"]
    assert (said["images_listed"], said["ok"], said["no_face"], said["failed"]) == (15, 13, 1, 1)
    assert said["objects"] == 14
    assert said["orphans"] == []


def test_text_for_people(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = label(folder)
    status.main([str(out)])
    assert "  chunks  5 of 5 committed\n  images  15 of 15\n" in capsys.readouterr().out
    verify.main([str(out)])
    said = capsys.readouterr().out
    assert said.startswith("images in 15 = ok 13 + no_face 1 + failed 1\n")
    assert said.endswith("proved\n")


def test_a_run_half_done_is_incomplete_not_wrong(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = label(folder, chunks=2)
    assert status.main([str(out), "--json"]) == 3
    said = json.loads(capsys.readouterr().out)
    assert (said["images_done"], said["chunks_done"], said["chunks"]) == (8, 2, 5)
    assert verify.main([str(out), "--json"]) == 3
    said = json.loads(capsys.readouterr().out)
    assert said["problems"] == []
    assert len(said["missing"]) == 3


def test_a_limited_run_is_complete_at_its_limit(folder: Path) -> None:
    out = label(folder, limit=6)
    assert status.main([str(out)]) == 0
    assert verify.main([str(out)]) == 0


def change_rows(out: Path, change: Callable[[list[dict[str, Any]]], list[dict[str, Any]]]) -> None:
    table = decode_part((out / PART).read_bytes())
    rows = change(table.to_pylist())
    changed = pa.Table.from_pylist(rows, schema=table.schema)
    (out / PART).write_bytes(encode_part(changed))


def set_value(row: int, name: str, value: Any) -> Callable[[list[dict]], list[dict]]:
    def change(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        rows[row][name] = value
        return rows

    return change


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda rows: rows[1:], "image img0000.png has no row"),
        (lambda rows: [*rows, rows[0]], "has faces [0, 0] of 1"),
        (set_value(0, "key", "other.png"), "image other.png is not of this chunk"),
        (set_value(0, "image_id", "a/other"), "wrong image_id"),
        (set_value(0, "status", "perhaps"), "has status perhaps"),
        (set_value(0, "status", "no_face"), "has 1 rows for status no_face"),
        (set_value(2, "face_index", 5), "has faces [5, 1] of 2"),
        (set_value(0, "mesh_pca_sha256", "00"), "its digest is not the one in its row"),
        (set_value(0, "mesh_pca_bytes", 1), "its row says 1"),
        (set_value(0, "mesh_pca_uri", "meshes/a/none.ply"), "meshes/a/none.ply: no such file"),
    ],
)
def test_rows_that_were_tampered_with_are_found(
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    change: Callable[[list[dict[str, Any]]], list[dict[str, Any]]],
    problem: str,
) -> None:
    out = label(folder)
    change_rows(out, change)
    assert verify.main([str(out)]) == 1
    said = capsys.readouterr().out
    assert problem in said
    assert PART in said
    assert said.endswith("contradicted\n")


def test_a_part_cut_short_is_found(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = label(folder)
    data = (out / PART).read_bytes()
    (out / PART).write_bytes(data[: len(data) // 2])
    assert verify.main([str(out)]) == 1
    assert PART in capsys.readouterr().out
    assert status.main([str(out)]) == 3
    assert f"unreadable part: {out}/{PART}: cannot read with pyarrow" in capsys.readouterr().out


def test_objects_changed_or_gone_are_found(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = label(folder)
    changed, gone = out / "meshes/a/img0000.png_0.ply", out / "meshes/b/img0001.png_0.ply"
    changed.write_bytes(changed.read_bytes()[:-1] + b"\xaa")
    gone.unlink()
    assert verify.main([str(out)]) == 1
    said = capsys.readouterr().out
    assert "meshes/a/img0000.png_0.ply: its digest" in said
    assert "meshes/b/img0001.png_0.ply: no such file" in said
    assert verify.main([str(out), "--no-digests"]) == 1
    assert "img0000" not in capsys.readouterr().out


def test_what_belongs_to_nobody_is_reported_and_no_contradiction(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = label(folder)
    strays = ["annotations/a/000099.parquet", "annotations/z/000000.parquet", "meshes/a/x_0.ply"]
    for stray in strays:
        (out / stray).parent.mkdir(exist_ok=True)
        (out / stray).write_bytes(b"x")
    assert verify.main([str(out), "--json"]) == 0
    assert sorted(json.loads(capsys.readouterr().out)["orphans"]) == strays


@pytest.mark.parametrize("program", [status.main, verify.main])
def test_no_run_is_exit_code_2(
    program: Callable[[list[str]], int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert program([str(tmp_path)]) == 2
    assert "not an output of jobs.label" in capsys.readouterr().err
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / "a.parquet").write_bytes(b"part files alone are not a run")
    assert program([str(tmp_path)]) == 2
    assert "no run there (_run/manifest.json is missing)" in capsys.readouterr().err
