"""Outputs that version 0.1 began: read, continued, and written anew by a compaction."""

from __future__ import annotations

import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from jobs import compact, export, query, status, verify
from jobs.pipeline.output import compacting
from jobs.pipeline.output.recipes import FaceTensors, typed_faces
from jobs.pipeline.record.parts import decode_part
from jobs.pipeline.record.schema import list_lengths
from tddfa3.errors import UserError
from tests.support.fakes import NO_FACE, png
from tests.support.labelled import label
from tests.support.version_1 import label_as_version_1


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    names = ["x 1.png", "IMG 2.PNG", "é.png", "~.png", "5.png", "6.png", "broken.png"]
    (tmp_path / "in" / "a b").mkdir(parents=True)
    for number, name in enumerate(names):
        data = b"no image" if "broken" in name else png(NO_FACE if number == 4 else 0, number)
        (tmp_path / "in" / "a b" / name).write_bytes(data)
    return tmp_path


def parts(out: Path) -> dict[str, pa.Table]:
    return {
        path.relative_to(out).as_posix(): decode_part(path.read_bytes())
        for path in sorted((out / "annotations").rglob("*.parquet"))
    }


def test_what_stands_for_version_1_is_like_its_own_file(folder: Path) -> None:
    real = Path(__file__).resolve().parent.parent / "data" / "part-format-1.parquet"
    out = label_as_version_1(folder)
    ours = pq.read_schema(next((out / "annotations").rglob("*.parquet")))
    theirs = pq.read_schema(real)
    # That file is older than a few columns.
    assert set(theirs.names) < set(ours.names)
    for field in theirs:
        assert ours.field(field.name).type == field.type
    assert pa.types.is_fixed_size_list(ours.field("points106").type)
    assert list_lengths(theirs).items() <= list_lengths(ours).items()


def test_a_run_goes_on_under_its_names(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = label_as_version_1(folder, chunks=1)
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    assert verify.main([str(out)]) == 3
    assert label(folder) == out
    for path, data in before.items():
        assert path.read_bytes() == data, path
    assert list(parts(out)) == [f"annotations/a%20b/{n:06d}.parquet" for n in range(2)]
    names = {path.name for path in (out / "meshes").rglob("*.ply")}
    assert "x%201.png_0.ply" in names
    assert all("%" in str(path.relative_to(out)) for path in (out / "meshes").rglob("*.ply"))
    capsys.readouterr()
    assert verify.main([str(out)]) == 0
    assert capsys.readouterr().out.endswith("proved\n")
    assert status.main([str(out)]) == 0
    old, new = (pq.read_schema(out / rel).field("box").type for rel in parts(out))
    assert (pa.types.is_fixed_size_list(old), pa.types.is_list(new)) == (True, True)


def test_an_image_may_be_called_like_the_metadata(tmp_path: Path) -> None:
    """Reading passes over a key of the file's metadata, and changes nothing else of it."""
    (tmp_path / "in" / "a").mkdir(parents=True)
    (tmp_path / "in" / "a" / "ARROW:schema").with_suffix(".png").write_bytes(png())
    for labelled in (label, label_as_version_1):
        out = labelled(tmp_path)
        [path] = (out / "annotations").rglob("*.parquet")
        where = pc.field("key") == "ARROW:schema.png"
        assert decode_part(path.read_bytes(), ["key"], where).num_rows == 1
        shutil.rmtree(out)


def test_a_run_that_is_done_has_nothing_to_do(folder: Path) -> None:
    out = label_as_version_1(folder)
    before = {path: path.read_bytes() for path in (out / "annotations").rglob("*.parquet")}
    label(folder)
    assert {p: p.read_bytes() for p in (out / "annotations").rglob("*.parquet")} == before


def test_what_failed_is_done_again_in_place(folder: Path) -> None:
    out = label_as_version_1(folder)
    label(folder, retry_failed=True)
    assert verify.main([str(out)]) == 0
    first, second = (pq.read_schema(out / rel).field("box").type for rel in parts(out))
    assert sorted(map(pa.types.is_list, (first, second))) == [False, True]


@pytest.mark.parametrize("chunks", [None, 1])
def test_a_compaction_is_of_the_present_format(
    folder: Path, tmp_path: Path, chunks: int | None
) -> None:
    out = label_as_version_1(folder, chunks)
    label(folder)
    dest = tmp_path / "dest"
    assert compact.main([str(out), str(dest)]) == 0
    order = [("key", "ascending"), ("face_index", "ascending")]
    expected = pa.concat_tables([t.replace_schema_metadata(None) for t in parts(out).values()])
    [path] = (dest / "annotations").iterdir()
    table = pq.read_table(path)
    assert table.replace_schema_metadata(None).equals(expected.sort_by(order))
    assert not any(pa.types.is_fixed_size_list(field.type) for field in table.schema)
    assert list_lengths(table.schema)["ldm68"] == 136
    assert len(FaceTensors(str(dest), ["ldm68"])) == len(FaceTensors(str(out), ["ldm68"])) == 5


def test_a_compaction_that_it_began_is_refused(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, dest = label_as_version_1(folder), tmp_path / "dest"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compacting, "FORMAT_VERSION", 1)
        assert compact.main([str(out), str(dest)]) == 0
    before = {path: path.read_bytes() for path in dest.rglob("*") if path.is_file()}
    capsys.readouterr()
    assert compact.main([str(out), str(dest)]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "begun by version 0.1: give another DEST" in said
    assert {path: path.read_bytes() for path in dest.rglob("*") if path.is_file()} == before


def test_programs_read_it(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = label_as_version_1(folder, chunks=1)
    label(folder)
    capsys.readouterr()
    sql = "SELECT count(*) AS faces, sum(box[1] * 0 + 1) AS boxes FROM faces"
    assert query.main([str(out), sql, "--format", "csv"]) == 0
    assert capsys.readouterr().out.split() == ["faces,boxes", "5,5.0"]
    assert export.main([str(out), str(tmp_path / "dest"), "--landmarks", "pts"]) == 0
    assert len(list((tmp_path / "dest/landmarks/a%20b").iterdir())) == 5


def test_where_a_library_reads_the_files_itself_it_is_refused(folder: Path) -> None:
    out = label_as_version_1(folder, chunks=1)
    label(folder)
    with pytest.raises(UserError, match=r"tddfa3 0\.1.*jobs\.compact"):
        typed_faces(str(out))
