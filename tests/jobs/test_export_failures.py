"""``jobs.export`` where something is wrong, missing, or was not labelled in the first place."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pytest

from jobs import export
from jobs.pipeline.record.config import LabelConfig
from jobs.pipeline.record.index import load_index, save_index
from jobs.pipeline.record.layout import Layout
from jobs.pipeline.record.parts import decode_part, encode_part
from jobs.pipeline.record.schema import list_lengths
from jobs.pipeline.shards import list_shards
from jobs.pipeline.storage.store import Store
from tddfa3.assets.bundle import AssetBundle
from tests.support.made_run import FACES, make_run


@pytest.fixture(scope="module")
def output(small_bundle: AssetBundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(small_bundle, tmp_path_factory.getbasetemp() / "made-run")


def run(output: Path, dest: Path, *options: str) -> None:
    assert export.main([str(output), str(dest), *options]) == 0


def labels_of(png: bytes) -> np.ndarray:
    return cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_UNCHANGED)


@pytest.mark.parametrize("where", ["yaw > 1000", "false -- a comment"])
def test_a_filter_that_matches_nothing(
    output: Path, tmp_path: Path, where: str, capsys: pytest.CaptureFixture[str]
) -> None:
    dest = tmp_path / "dest"
    run(output, dest, "--poses", "--where", where)
    assert "no face matches" in capsys.readouterr().out
    assert not dest.exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--poses", "--where", "no_column > 1"), "no_column"),
        (("--poses", "--where", "(((("), "syntax error"),
        ((), "nothing to export"),
        (("--landmarks", "xml"), "xml: not one of pts, json"),
        (("--poses", "--limit", "-1"), "--limit -1"),
        (("--layout", "webdataset", "--samples-per-shard", "0"), "--samples-per-shard"),
        (("--meshes", "pca", "--assets", "/nowhere"), "/nowhere"),
    ],
)
def test_bad_usage(
    output: Path,
    tmp_path: Path,
    options: tuple[str, ...],
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    dest = tmp_path / "dest"
    assert export.main([str(output), str(dest), *options]) == 2
    assert message in capsys.readouterr().err
    assert not dest.exists()


def test_a_dest_in_the_output_is_refused(output: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for dest in (output, output / "x"):
        assert export.main([str(output), str(dest), "--meshes", "pca"]) == 2
        assert "lies in OUTPUT" in capsys.readouterr().err


def test_other_assets_are_refused(
    output: Path, tmp_path: Path, open_bundle: AssetBundle, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--meshes", "pca", "--assets", str(open_bundle.path)]
    assert export.main([str(output), str(tmp_path / "dest"), *options]) == 2
    assert "but the labels were made with" in capsys.readouterr().err


@pytest.fixture
def moved(output: Path, tmp_path: Path) -> Path:
    """The run with an input of its own, which may be damaged."""
    shutil.copytree(output.parent, tmp_path / "run")
    new = str(tmp_path / "run" / "in")
    store = Store.open(str(tmp_path / "run" / "out"))
    limits = LabelConfig()
    for shard in list_shards([new]):
        rel = Layout().index(shard.id)
        index = load_index(store, rel).index
        save_index(store, rel, shard, index, limits.chunk_images, limits.chunk_bytes)
    return tmp_path / "run"


def test_missing_things_are_named_and_the_rest_is_done(
    moved: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photo = moved / "in/photos/astronaut.png"
    kept = photo.read_bytes()
    photo.unlink()
    dest = tmp_path / "dest"
    arguments = [str(moved / "out"), str(dest), "--layout", "webdataset"]
    assert export.main(arguments) == 3
    shown = capsys.readouterr()
    assert re.search(r"missing: photos/astronaut.png face 0: .*no such file", shown.err)
    assert f"{FACES - 1} faces" in shown.out
    photo.write_bytes(kept[:-1] + b"x")
    assert export.main(arguments) == 3
    assert "its digest differs" in capsys.readouterr().err
    photo.write_bytes(kept)
    assert export.main(arguments) == 0
    assert f"{FACES} faces" in capsys.readouterr().out


def test_numbers_that_make_no_face(
    moved: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = moved / "out/annotations/photos/000000.parquet"
    table = decode_part(path.read_bytes())
    position = table.schema.get_field_index("coef_exp")
    field = table.schema.field("coef_exp")
    length = list_lengths(table.schema)["coef_exp"]
    broken = pa.array([[float("nan")] * length] * table.num_rows, field.type)
    path.write_bytes(encode_part(table.set_column(position, field, broken)))
    assert export.main([str(moved / "out"), str(tmp_path / "dest"), "--meshes", "pca"]) == 3
    shown = capsys.readouterr()
    assert "missing: photos/astronaut.png face 0: coef_exp" in shown.err
    assert f"{FACES - 1} faces, {FACES - 1} files" in shown.out


def test_an_archive_that_changed(
    moved: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with (moved / "in/more.tar").open("ab") as file:
        file.write(b"\0" * 10240)
    arguments = [str(moved / "out"), str(tmp_path / "dest"), "--layout", "webdataset"]
    assert export.main(arguments) == 3
    assert capsys.readouterr().err.count("the archive changed") == 2


def test_an_unfinished_run(moved: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sorted((moved / "out/annotations").rglob("*.parquet"))[0].unlink()
    shutil.rmtree(moved / "out/_run/index")
    run(moved / "out", tmp_path / "dest", "--poses")
    assert "not finished" in capsys.readouterr().err


def test_what_was_not_labelled_is_made_again(moved: Path, tmp_path: Path) -> None:
    """Sets and masks that the rows lack follow from the coefficients."""
    rows = ds.dataset(moved / "out/annotations").to_table().to_pylist()
    [row] = [row for row in rows if row["image_id"] == "photos/mirrored.jpg"]
    for path in (moved / "out/annotations").rglob("*.parquet"):
        table = decode_part(path.read_bytes())
        for name in ("ldm106_2d", "ldm106_2d_visible", "seg", "seg_visible"):
            position = table.schema.get_field_index(name)
            field = table.schema.field(name)
            table = table.set_column(position, field, pa.nulls(table.num_rows, field.type))
        path.write_bytes(encode_part(table))
    manifest = moved / "out/_run/manifest.json"
    content = json.loads(manifest.read_text())
    content["config"] |= {"landmarks": ["68"], "masks": []}
    manifest.write_text(json.dumps(content))
    options = ("--landmarks", "json", "--landmark-sets", "68,106_2d", "--masks", "png",
               "--mask-frame", "crop")  # fmt: skip
    run(moved / "out", tmp_path / "dest", *options)
    about = json.loads((tmp_path / "dest/landmarks/photos/mirrored.jpg_0.json").read_text())
    np.testing.assert_allclose(np.ravel(about["landmarks"]["106_2d"]), row["ldm106_2d"], atol=1e-3)
    assert about["visible"]["106_2d"] == row["ldm106_2d_visible"]
    labels = labels_of((tmp_path / "dest/masks/photos/mirrored.jpg_0.png").read_bytes())
    np.testing.assert_array_equal(labels, labels_of(row["seg_visible"]))
