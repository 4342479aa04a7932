"""``jobs.compact``: few large files with exactly the same rows, in order."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from jobs import compact, query
from jobs.pipeline.output import compacting
from jobs.pipeline.output.reading import LabelledRun
from jobs.pipeline.record.config import LabelConfig
from jobs.pipeline.record.parts import encode_part
from jobs.pipeline.record.rows import ImageRecord, Row, to_table
from jobs.pipeline.record.schema import LabelSchema, read_metadata
from tddfa3.assets.bundle import AssetBundle
from tests.support.fakes import FakeFactory
from tests.support.made_run import COUNTS, FACES, IMAGES, make_run

ORDER = [("shard", "ascending"), ("key", "ascending"), ("face_index", "ascending")]


@pytest.fixture(scope="module")
def output(small_bundle: AssetBundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(small_bundle, tmp_path_factory.getbasetemp() / "made-run")


def rows_of(folder: Path) -> pa.Table:
    table = ds.dataset(sorted(map(str, (folder / "annotations").rglob("*.parquet")))).to_table()
    return table.replace_schema_metadata(None)


def image_rows(shard: str, i: int) -> list[Row]:
    image = ImageRecord(shard, f"k{i:03d}", 10, 10, "0" * 64)
    faces = i % 4
    if faces == 0:
        return [image.row("no_face", n_faces=0)]
    found = image.row("ok", n_faces=faces)
    return [found | {"face_index": k, "yaw": i + k / 4} for k in reversed(range(faces))]


@pytest.fixture
def large(tmp_path: Path) -> Path:
    """Rows without labels: shards of 300, 7 and 1 images, a folder's name that sorts otherwise
    than its shard's id, up to three faces an image, in no order, and a shard error."""
    schema = LabelSchema(FakeFactory().facts(LabelConfig()), "plan", {"tddfa3": "test"})
    shuffled = random.Random(0)
    for shard, folder, images in (("b b", "b~20b", 300), ("b-", "b-", 7), ("a", "a", 1)):
        order = shuffled.sample(range(images), images)
        for first in range(0, images, 25):
            rows = [row for i in order[first : first + 25] for row in image_rows(shard, i)]
            table = to_table(rows, schema, {"chunk": {"shard": shard}})
            path = tmp_path / "large/annotations" / folder / f"{first:06d}.parquet"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(encode_part(table))
    error = ImageRecord("a", "").row("shard_error", "cut off at 7") | {"key": None}
    table = to_table([error], schema, {"chunk": {"shard": "a"}})
    (tmp_path / "large/annotations/a/shard_error.parquet").write_bytes(encode_part(table))
    return tmp_path / "large"


@pytest.mark.parametrize("rows_per_file", [1000, 60, 9])
def test_the_same_rows_in_order(large: Path, tmp_path: Path, rows_per_file: int) -> None:
    dest = tmp_path / "dest"
    assert compact.main([str(large), str(dest), "--rows-per-file", str(rows_per_file)]) == 0
    expected = rows_of(large).sort_by(ORDER)
    assert rows_of(dest).equals(expected)
    files = sorted((dest / "annotations").iterdir())
    # Three faces of one image are never parted.
    assert all(pq.read_metadata(f).num_rows <= rows_per_file + 2 for f in files)
    images = [set(pq.read_table(f, columns=["image_id"])["image_id"].to_pylist()) for f in files]
    assert sum(map(len, images)) == len(set().union(*images))


def test_counts_are_those_of_the_rows(large: Path, tmp_path: Path) -> None:
    assert compact.main([str(large), str(tmp_path / "dest"), "--rows-per-file", "60"]) == 0
    before, after = LabelledRun(str(large)), LabelledRun(str(tmp_path / "dest"))
    for name in ("images", "faces", "shard_errors"):
        totals = [sum(f["counts"][name] for f in run.footers()) for run in (before, after)]
        assert totals[0] == totals[1] > 0
    assert all("chunk" not in footer for footer in after.footers())


def test_a_real_run(output: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Metadata, statistics, page index, and everything that reads an output reads this."""
    dest = tmp_path / "dest"
    assert compact.main([str(output), str(dest)]) == 0
    assert rows_of(dest).equals(rows_of(output).sort_by(ORDER))
    [file] = (dest / "annotations").iterdir()
    old = pq.read_schema(next((output / "annotations").rglob("*.parquet")))
    new = pq.read_schema(file)
    assert new.equals(old)
    assert new.metadata[b"huggingface"] == old.metadata[b"huggingface"]
    about = read_metadata(new)
    assert about["counts"] == {
        "images": IMAGES, "faces": FACES, "shard_errors": 0, "status": COUNTS,
    }  # fmt: skip
    assert about["assets"] == read_metadata(old)["assets"]
    group = pq.read_metadata(file).row_group(0)
    chunk = group.column(0)
    assert chunk.path_in_schema == "image_id"
    assert chunk.statistics.min == "more.tar/a/astronaut"
    assert chunk.has_offset_index
    assert chunk.has_column_index
    assert [c.column_index for c in group.sorting_columns] == [
        new.get_field_index(name) for name, _ in ORDER
    ]
    chunks = [group.column(i) for i in range(group.num_columns)]
    [yaw] = [c for c in chunks if c.path_in_schema == "yaw"]
    [mask] = [c for c in chunks if c.path_in_schema == "seg_visible"]
    assert yaw.statistics.min == min(y for y in rows_of(dest)["yaw"].to_pylist() if y is not None)
    assert not mask.is_stats_set
    assert "4 files" not in (dest / "README.md").read_text()
    assert f"{FACES:,} faces in {IMAGES:,} images" in (dest / "README.md").read_text()
    capsys.readouterr()
    for folder in (output, dest):
        sql = "SELECT image_id, yaw, part_area(seg_visible, 'nose') FROM faces ORDER BY image_id"
        assert query.main([str(folder), sql, "--format", "csv"]) == 0
    shown = capsys.readouterr()
    first, second = shown.out[: len(shown.out) // 2], shown.out[len(shown.out) // 2 :]
    assert first == second
    assert shown.err == ""


def test_photographs_are_found_from_a_compaction(output: Path, tmp_path: Path) -> None:
    from jobs import export

    compact.main([str(output), str(tmp_path / "compact")])
    options = ["--layout", "webdataset"]
    for source in (output, tmp_path / "compact"):
        dest = tmp_path / f"from-{source.name}"
        assert export.main([str(source), str(dest), *options]) == 0
    names = [
        (tmp_path / d / "faces-000000.tar").stat().st_size for d in ("from-out", "from-compact")
    ]
    assert names[0] == names[1]


def test_a_stopped_compaction_goes_on(
    large: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [str(large), str(tmp_path / "dest"), "--rows-per-file", "60"]
    encode = compacting.encode
    made: list[int] = []

    def stopping(table: pa.Table) -> pa.Buffer:
        if len(made) == 3:
            raise KeyboardInterrupt
        made.append(table.num_rows)
        return encode(table)

    monkeypatch.setattr(compact, "encode", stopping)
    assert compact.main(arguments) == 4
    there = {p: p.stat().st_mtime_ns for p in (tmp_path / "dest/annotations").iterdir()}
    assert len(there) == 3
    assert query.main([str(tmp_path / "dest"), "SELECT count(*) FROM rows"]) == 0
    assert "3 of 11 part files" in capsys.readouterr().err
    monkeypatch.undo()
    assert compact.main(arguments) == 0
    assert "(3 were there before)" in capsys.readouterr().out
    assert {p: p.stat().st_mtime_ns for p in there} == there
    assert rows_of(tmp_path / "dest").equals(rows_of(large).sort_by(ORDER))


def test_another_state_of_the_run_is_refused(
    large: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [str(large), str(tmp_path / "dest")]
    assert compact.main(arguments) == 0
    assert compact.main([*arguments, "--rows-per-file", "9"]) == 2
    assert "give another DEST" in capsys.readouterr().err
    (large / "annotations/a/shard_error.parquet").unlink()
    assert compact.main(arguments) == 2
    assert "of 15 part files" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("dest", "options", "message"),
    [("full", (), "not empty"), ("large/in", (), "lies in OUTPUT"),
     ("new", ("--rows-per-file", "0"), "--rows-per-file 0")],
)  # fmt: skip
def test_bad_usage(
    large: Path,
    tmp_path: Path,
    dest: str,
    options: tuple[str, ...],
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full/mine.txt").write_text("mine")
    assert compact.main([str(large), str(tmp_path / dest), *options]) == 2
    assert message in capsys.readouterr().err
    assert [p.name for p in (tmp_path / "full").iterdir()] == ["mine.txt"]


def test_unfinished_and_empty_runs(
    output: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(output, copy)
    sorted((copy / "annotations").rglob("*.parquet"))[0].unlink()
    assert compact.main([str(copy), str(tmp_path / "dest")]) == 0
    assert "not finished (3 of 4 part files)" in capsys.readouterr().err
    shutil.rmtree(copy / "annotations")
    assert compact.main([str(copy), str(tmp_path / "dest2")]) == 0
    assert "nothing is committed yet" in capsys.readouterr().out
    assert not (tmp_path / "dest2").exists()


def test_a_part_that_is_gone_is_named(
    large: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    plan = compact.make_plan

    def then_lose_one(run: LabelledRun, rows_per_file: int) -> compacting.CompactionPlan:
        made = plan(run, rows_per_file)
        (large / "annotations/b-/000000.parquet").unlink()
        return made

    monkeypatch.setattr(compact, "make_plan", then_lose_one)
    assert compact.main([str(large), str(tmp_path / "dest")]) == 3
    assert "annotations/b-/000000.parquet" in capsys.readouterr().err
    assert json.loads((tmp_path / "dest/_run/compaction.json").read_text())["source_parts"] == 15
