"""``jobs.query``: views, macros, formats, and what bad input gives."""

from __future__ import annotations

import base64
import csv
import io
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.ipc
import pyarrow.parquet as pq
import pytest

from jobs import query
from jobs.exits import reading_code
from jobs.pipeline.output.database import Database
from jobs.pipeline.output.reading import LabelledRun
from jobs.pipeline.record.schema import list_lengths
from tddfa3.assets.bundle import AssetBundle
from tddfa3.errors import UserError
from tests.support.made_run import COUNTS, FACES, IMAGES, make_run


@pytest.fixture(scope="module")
def output(small_bundle: AssetBundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(small_bundle, tmp_path_factory.getbasetemp() / "made-run")


@pytest.fixture(scope="module")
def database(output: Path) -> Iterator[Database]:
    with Database(LabelledRun(str(output))) as database:
        yield database


@pytest.fixture(scope="module")
def rows(output: Path) -> pa.Table:
    return ds.dataset(output / "annotations").to_table()


def one(database: Database, sql: str) -> dict:
    [row] = database.table(sql).to_pylist()
    return row


def test_views(database: Database, rows: pa.Table) -> None:
    assert one(database, "SELECT count(*) AS n FROM faces")["n"] == FACES
    images = database.table("SELECT * FROM images").to_pylist()
    assert len(images) == len({image["image_id"] for image in images}) == IMAGES
    assert {status: 0 for status in COUNTS} | {
        status: sum(image["status"] == status for image in images) for status in COUNTS
    } == COUNTS
    assert sum(image["labelled"] for image in images) == FACES
    assert one(database, "SELECT count(*) AS n FROM rows")["n"] == rows.num_rows
    parts = database.table("SELECT * FROM parts").to_pylist()
    assert [part["label"] for part in parts] == list(range(1, 9))
    assert parts[4] == {"label": 5, "part": "nose", "bit": 16}


def test_columns_come_out_as_they_went_in(database: Database, output: Path) -> None:
    """Types, fixed sizes included, and values; ``part`` is the file a row is in."""
    table = database.table("SELECT * FROM rows ORDER BY part, key, face_index")
    files = sorted((output / "annotations").rglob("*.parquet"))
    expected = pa.concat_tables(
        pq.read_table(f).sort_by([("key", "ascending"), ("face_index", "ascending")]) for f in files
    )
    lengths = list_lengths(expected.schema)
    assert lengths["ldm68"] == 136
    for field in expected.schema:
        ours = table.schema.field(field.name)
        if field.name in lengths:
            assert ours.type.list_size == lengths[field.name], field.name
        assert table[field.name].to_pylist() == expected[field.name].to_pylist(), field.name
    names = {str(f.relative_to(output)) for f in files}
    assert set(table["part"].to_pylist()) == names


def test_landmark_macros(database: Database) -> None:
    row = one(
        database,
        "SELECT ldm68, landmark(ldm68, 30) AS nose, landmarks(ldm68) AS points FROM faces LIMIT 1",
    )
    points = np.array(row["ldm68"]).reshape(68, 2)
    assert [row["nose"]["x"], row["nose"]["y"]] == points[30].tolist()
    assert [[p["x"], p["y"]] for p in row["points"]] == points.tolist()


def test_pose_angle(database: Database) -> None:
    turned = "[0, -1, 0, 1, 0, 0, 0, 0, 1]::FLOAT[9]"
    straight = "[1, 0, 0, 0, 1, 0, 0, 0, 1]::FLOAT[9]"
    row = one(database, f"SELECT pose_angle({turned}, {straight}) AS a, "
                        f"pose_angle({straight}, {straight}) AS b, "
                        f"pose_angle({straight}, NULL) AS c")  # fmt: skip
    assert row["a"] == pytest.approx(90)
    assert row["b"] == pytest.approx(0)
    assert row["c"] is None
    # Between the photograph and its mirror image, the angle of R1 R2^T.
    poses = database.table("SELECT camera_R FROM faces WHERE shard = 'photos'")["camera_R"]
    first, second = (np.array(pose).reshape(3, 3) for pose in poses.to_pylist())
    cosine = (np.trace(first @ second.T) - 1) / 2
    sql = (
        "SELECT pose_angle(a.camera_R, b.camera_R) AS degrees FROM faces a, faces b "
        "WHERE a.image_id = 'photos/astronaut.png' AND b.image_id = 'photos/mirrored.jpg'"
    )
    assert one(database, sql)["degrees"] == pytest.approx(np.degrees(np.arccos(cosine)), abs=1e-3)


def test_part_areas(database: Database) -> None:
    import cv2

    faces = database.table(
        "SELECT seg, seg_visible, crop_params, p.part, p.label, p.bit, "
        "part_area(seg_visible, p.part) AS visible, part_area_full(seg, p.part) AS full_area, "
        "image_pixels(part_area(seg_visible, p.part), crop_params) AS on_image "
        "FROM faces, parts p"
    ).to_pylist()
    assert len(faces) == 8 * FACES
    for face in faces:
        visible, full = (
            cv2.imdecode(np.frombuffer(face[name], np.uint8), cv2.IMREAD_UNCHANGED)
            for name in ("seg_visible", "seg")
        )
        assert face["visible"] == (visible == face["label"]).sum()
        assert face["full_area"] == ((full & face["bit"]) > 0).sum()
        assert face["on_image"] == pytest.approx(face["visible"] / face["crop_params"][2] ** 2)


def test_quality_falls_with_the_distance_of_the_points(database: Database) -> None:
    faces = database.table("SELECT quality, quality_points FROM faces").to_pylist()
    for face in faces:
        assert face["quality"] == pytest.approx(max(0, 1 - 5 * face["quality_points"]), abs=1e-6)


def test_csv_json_parquet_and_arrow_agree(
    output: Path, tmp_path: Path, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    sql = "SELECT image_id, yaw, seg, box FROM faces ORDER BY image_id"
    tables = {}
    for form in ("csv", "json", "parquet", "arrow"):
        file = tmp_path / f"result.{form}"
        assert query.main([str(output), sql, "--format", form, "--out", str(file)]) == 0
        assert query.main([str(output), sql, "--format", form]) == 0
        assert capsysbinary.readouterr().out == file.read_bytes()
        tables[form] = file.read_bytes()
    expected = pq.read_table(io.BytesIO(tables["parquet"])).to_pylist()
    assert len(expected) == FACES
    assert pa.ipc.open_stream(tables["arrow"]).read_all().to_pylist() == expected
    as_json = json.loads(tables["json"])
    assert [base64.b64decode(row["seg"]) for row in as_json] == [row["seg"] for row in expected]
    assert [row["box"] for row in as_json] == [row["box"] for row in expected]
    as_csv = list(csv.DictReader(io.StringIO(tables["csv"].decode())))
    assert [float(row["yaw"]) for row in as_csv] == [row["yaw"] for row in expected]
    assert [json.loads(row["box"]) for row in as_csv] == [row["box"] for row in expected]


def test_json_has_no_word_for_nan(output: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sql = "SELECT 'nan'::FLOAT AS a, [1, 'inf'::FLOAT] AS b, {'c': 'nan'::FLOAT} AS c"
    assert query.main([str(output), sql, "--format", "json"]) == 0
    assert json.loads(capsys.readouterr().out, parse_constant=pytest.fail) == [
        {"a": None, "b": [1, None], "c": {"c": None}}
    ]


def test_a_reader_that_has_seen_enough(output: Path) -> None:
    """``| head`` ends the program quietly."""
    sql = "SELECT * FROM range(2000000)"
    command = [sys.executable, "-m", "jobs.query", str(output), sql, "--format", "csv"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.read(5) == b"range"
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 0


def test_no_rows_are_a_result_too(output: Path, tmp_path: Path) -> None:
    for form, empty in (("csv", b"yaw\r\n"), ("json", b"[]\n")):
        file = tmp_path / form
        sql = "SELECT yaw FROM faces WHERE false"
        assert query.main([str(output), sql, "--format", form, "--out", str(file)]) == 0
        assert file.read_bytes() == empty


def test_table_for_a_person(output: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sql = "SELECT '[x]' AS text, ldm68, seg, error FROM rows ORDER BY image_id DESC LIMIT 2"
    assert query.main([str(output), sql]) == 0
    shown = capsys.readouterr()
    assert "[x]" in shown.out
    assert "130 more]" in shown.out
    assert "(2 rows)" in shown.out
    assert shown.err == ""


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ("SELEC 1", "syntax error"),
        ("SELECT no_such_column FROM faces", "no_such_column"),
        ("SELECT * FROM nowhere", "nowhere"),
        ("SELECT part_area(seg_visible, 'ear') FROM faces", "there are right_eye"),
        ("SELECT * FROM sys", "sys"),
        ("", "give a SELECT"),
    ],
)
def test_bad_sql(output: Path, sql: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert query.main([str(output), sql]) == 2
    shown = capsys.readouterr()
    assert message in shown.err
    assert "Traceback" not in shown.err
    assert shown.out == ""


def test_a_failed_query_leaves_no_file(output: Path, tmp_path: Path) -> None:
    sql = "SELECT part_area(seg_visible, 'ear') FROM faces"
    assert query.main([str(output), sql, "--out", str(tmp_path / "x.csv")]) == 2
    assert list(tmp_path.iterdir()) == []


def test_not_an_output(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert query.main([str(tmp_path), "SELECT 1"]) == 2
    assert "not an output of jobs.label" in capsys.readouterr().err


def test_binary_formats_do_not_go_to_a_terminal(
    output: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    assert query.main([str(output), "SELECT 1", "--format", "parquet"]) == 2
    assert "--out" in capsys.readouterr().err


def test_an_unfinished_run_says_so(
    output: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = tmp_path / "out"
    shutil.copytree(output, copy)
    missing = sorted((copy / "annotations").rglob("*.parquet"))[0]
    missing.unlink()
    assert query.main([str(copy), "SELECT count(*) AS n FROM images", "--format", "csv"]) == 0
    shown = capsys.readouterr()
    assert int(shown.out.splitlines()[1]) == IMAGES - 2
    assert "not finished (3 of 4 part files)" in shown.err
    shutil.rmtree(copy / "annotations")
    assert query.main([str(copy), "SELECT yaw, ldm68 FROM faces", "--format", "csv"]) == 0
    assert capsys.readouterr().out == "yaw,ldm68\r\n"


def test_rows_of_superseded_content_are_left_out(output: Path, tmp_path: Path) -> None:
    copy = tmp_path / "out"
    shutil.copytree(output, copy)
    mark = copy / "_run" / "superseded" / "photos@2.json"
    mark.parent.mkdir()
    mark.write_text(json.dumps({"shard": "photos", "by": "photos@2"}))
    with Database(LabelledRun(str(copy))) as database:
        shards = database.table("SELECT DISTINCT shard FROM images")["shard"].to_pylist()
        assert shards == ["more.tar"]
        assert one(database, "SELECT count(*) AS n FROM faces")["n"] == 2
        assert one(database, "SELECT count(DISTINCT shard) AS n FROM rows")["n"] == 2


@pytest.mark.parametrize("name", ["out", "out [1] * {a,b}"])
def test_a_part_that_vanishes_is_named(output: Path, tmp_path: Path, name: str) -> None:
    """Also where the folder's name looks like a pattern."""
    copy = tmp_path / name
    shutil.copytree(output, copy)
    run = LabelledRun(str(copy))
    with Database(run) as database:
        assert one(database, "SELECT count(*) AS n FROM faces")["n"] == FACES
        (copy / run.parts[-1].rel).unlink()
        with pytest.raises(UserError, match=re.escape(run.parts[-1].rel)) as caught:
            database.table("SELECT sum(yaw) FROM faces")
    assert reading_code(caught.value) == 3


def test_through_the_store_alone(
    output: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A store that is no local folder gives the same rows."""
    monkeypatch.setenv("TDDFA3_ALLOW_MEMORY", "1")
    from jobs.pipeline.storage.store import Store

    memory = Store.open(f"memory:{tmp_path.name}")
    for entry in Store.open(str(output)).list():
        memory.publish(entry.rel, (output / entry.rel).read_bytes())
    sql = "SELECT * FROM faces ORDER BY image_id"
    with Database(LabelledRun(memory.url)) as there, Database(LabelledRun(str(output))) as here:
        assert there.table(sql).equals(here.table(sql))
