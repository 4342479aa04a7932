"""Every block of ``docs/recipes.md`` runs as it stands there, and what it computes is right."""

from __future__ import annotations

import importlib
import importlib.util
import os
import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets
import huggingface_hub
import numpy as np
import polars as pl
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pytest
import torch

from jobs.pipeline.output.recipes import FaceTensors, shape_of
from jobs.pipeline.record.rows import decode_png
from tddfa3.assets.bundle import AssetBundle
from tddfa3.errors import UserError
from tests.support.made_run import FACES, make_run

DOCUMENT = Path(__file__).resolve().parent.parent.parent / "docs" / "recipes.md"


def blocks(language: str) -> list[tuple[str, str]]:
    """(heading and number, text) of the document's code blocks."""
    found, heading = [], ""
    pattern = rf"^## ([^\n]+)$|^```{language}\n(.*?)^```$"
    for match in re.finditer(pattern, DOCUMENT.read_text(), re.MULTILINE | re.DOTALL):
        if match[1]:
            heading, number = match[1], 0
        else:
            number += 1
            found.append((f"{heading} {number}", match[2]))
    return found


PYTHON = dict(blocks("python"))
COMMANDS = [line for _, block in blocks("bash") for line in block.splitlines() if line]


@pytest.fixture(scope="module")
def folder(small_bundle: AssetBundle, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The current folder, with ``labels`` and the training shards in it; no network."""
    made = make_run(small_bundle, tmp_path_factory.getbasetemp() / "made-run")
    folder = tmp_path_factory.mktemp("recipes")
    shutil.copytree(made, folder / "labels")
    before = Path.cwd()
    os.chdir(folder)
    with pytest.MonkeyPatch.context() as patch:
        # Not by environment variables: they are read once, on import, for all tests of the process.
        patch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
        patch.setattr(datasets.config, "HF_DATASETS_CACHE", str(folder / "cache"))
        yield folder
    os.chdir(before)
    # Before version 1 the library's sessions stay as offline as they were made.
    getattr(huggingface_hub.utils, "reset_sessions", lambda: None)()


@pytest.fixture(scope="module")
def faces(folder: Path) -> list[dict[str, Any]]:
    rows = ds.dataset(folder / "labels/annotations").to_table().to_pylist()
    return [row for row in rows if row["face_index"] is not None]


def command(line: str) -> int:
    """Runs ``python -m jobs.x …`` in this process."""
    python, option, module, *arguments = shlex.split(line)
    assert (python, option) == ("python", "-m")
    code: int = importlib.import_module(module).main(arguments)
    return code


def run(name: str) -> dict[str, Any]:
    """What a Python block defines."""
    names: dict[str, Any] = {}
    exec(compile(PYTHON[name], f"recipes.md: {name}", "exec"), names)
    return names


@pytest.mark.parametrize("line", COMMANDS, ids=[f"{i}" for i in range(len(COMMANDS))])
def test_commands(folder: Path, line: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert command(line) == 0
    shown = capsys.readouterr()
    assert shown.out or "--out" in line
    if "--out" in line:
        assert (folder / "frontal.csv").read_text().startswith("image_id,face_index,box")


def test_all_blocks_are_tested() -> None:
    text = Path(__file__).read_text()
    tested = {name for name in PYTHON if f'run("{name}")' in text or f'PYTHON["{name}"]' in text}
    assert tested == set(PYTHON)


def test_duckdb(folder: Path, faces: list[dict[str, Any]]) -> None:
    found = run("DuckDB 1")["faces"]
    assert len(found) == FACES
    expected = {row["image_id"]: tuple(row["ldm68"][60:62]) for row in faces}
    assert {name: (x, y) for name, _, x, y in found} == expected
    yaws = [abs(row[1]) for row in found]
    assert yaws == sorted(yaws)


@pytest.mark.parametrize("library", ["Polars", "pandas"])
def test_data_frames(folder: Path, faces: list[dict[str, Any]], library: str) -> None:
    names = run("Polars 1") if library == "Polars" else run("pandas 1")
    frame, points = names["faces"], names["points"]
    assert len(frame) == len(points) == FACES
    expected = {row["image_id"]: row["ldm68"] for row in faces}
    for name, value in zip(frame["image_id"], points, strict=True):
        np.testing.assert_array_equal(value.ravel(), np.float32(expected[name]))


def test_pyarrow(folder: Path, faces: list[dict[str, Any]]) -> None:
    names = run("pyarrow 1")
    expected = {row["image_id"]: row["coef_exp"] for row in faces}
    for name, value in zip(names["table"]["image_id"], names["expressions"], strict=True):
        np.testing.assert_array_equal(value, np.float32(expected[name.as_py()]))
    assert names["about"]["parts"][4] == "nose"
    assert names["about"]["columns"]["ldm68"]["frame"] == "image pixels"


def test_lists_of_one_length(folder: Path, faces: list[dict[str, Any]]) -> None:
    names = run("Lists of one length 1")
    assert names["arrays"].schema.field("ldm68").type.list_size == 136
    assert names["arrays"].to_pylist() == names["table"].to_pylist()
    assert names["frame"].schema["ldm68_visible"] == pl.Array(pl.Boolean, 68)
    assert names["frame"]["box"].to_list() == names["table"]["box"].to_pylist()


def test_lancedb(folder: Path, faces: list[dict[str, Any]]) -> None:
    if importlib.util.find_spec("lancedb") is None:
        pytest.skip("lancedb is not installed")
    names = run("Lists of one length 1")
    exec(compile(PYTHON["LanceDB 1"], "recipes.md: LanceDB 1", "exec"), names)
    assert names["alike"].count_rows() == FACES
    first = names["faces"]["image_id"][0].as_py()
    assert first in {row["image_id"] for row in names["nearest"]}
    assert names["nearest"][0]["_distance"] == 0


def test_spark(folder: Path, faces: list[dict[str, Any]]) -> None:
    if importlib.util.find_spec("pyspark") is None:
        pytest.skip("pyspark is not installed")
    if shutil.which("java") is None:
        pytest.skip("there is no Java")
    found = {row["image_id"]: row["nose_x"] for row in run("Spark 1")["collected"]}
    assert found == {row["image_id"]: row["ldm68"][60] for row in faces}


def test_hugging_face_as_stored(folder: Path, faces: list[dict[str, Any]]) -> None:
    names = run("Hugging Face datasets 1")
    assert len(names["faces"]) == FACES
    [row] = [row for row in faces if row["image_id"] == names["faces"][0]["image_id"]]
    np.testing.assert_array_equal(names["points"].ravel(), np.float32(row["ldm68"]))


def test_hugging_face_with_decoded_masks(folder: Path, faces: list[dict[str, Any]]) -> None:
    names = run("Hugging Face datasets 2")
    assert len(names["faces"]) == FACES
    assert names["rows"].features["status"].names[:2] == ["ok", "no_face"]
    assert names["rows"].features["ldm68"].length == 136
    assert names["rows"].features["points106"].length == 212  # though all of them are null
    [row] = [row for row in faces if row["image_id"] == names["faces"][0]["image_id"]]
    np.testing.assert_array_equal(np.asarray(names["mask"]), decode_png(row["seg_visible"]))


def test_hugging_face_typed(folder: Path, faces: list[dict[str, Any]]) -> None:
    names = run("Hugging Face datasets 3")
    typed = names["faces"]
    assert len(typed) == FACES
    assert isinstance(typed.features["seg"], datasets.Image)
    assert typed.features["ldm68"] == datasets.Array2D((68, 2), "float32")
    assert typed.features["camera_R"] == datasets.Array2D((3, 3), "float32")
    assert typed.features["status"].int2str(0) == "ok"
    [row] = [row for row in faces if row["image_id"] == typed[0]["image_id"]]
    np.testing.assert_array_equal(names["points"], np.reshape(row["ldm68"], (68, 2)))
    np.testing.assert_allclose(names["camera"], np.reshape(row["camera_K"], (3, 3)))
    assert names["mask"].size == (224, 224)
    labels = set(np.unique(np.asarray(names["mask"]))) - {0}
    parts = typed.features["visible_parts"].feature.names
    assert set(names["seen"]) == {parts[label - 1] for label in labels}


def test_torch(folder: Path, faces: list[dict[str, Any]]) -> None:
    names = run("PyTorch 1")
    assert len(names["faces"]) == FACES
    assert names["points"].shape[1:] == (68, 2)
    assert names["masks"].shape[1:] == (224, 224)
    assert names["masks"].dtype == torch.uint8


def test_webdataset(folder: Path, faces: list[dict[str, Any]]) -> None:
    if not (folder / "shards").exists():
        [line] = [line for line in COMMANDS if "--layout webdataset" in line]
        assert command(line) == 0
    names = run("PyTorch 2")
    assert names["image"].shape == (224, 224, 3)
    assert names["points"].shape == (68, 2)
    assert names["about"]["image_id"] in {row["image_id"] for row in faces}


def test_a_mesh_of_one_row(folder: Path) -> None:
    names = run("A mesh of one row 1")
    assert (folder / "face.glb").read_bytes()[:4] == b"glTF"
    points = np.reshape(names["row"]["ldm68"], (68, 2))
    distances = np.linalg.norm(names["on_photo"][:, None] - points[None], axis=2).min(axis=0)
    assert distances.max() < 0.01


def test_masks_of_the_photograph(folder: Path) -> None:
    names = run("Masks of the photograph 1")
    height, width = names["row"]["image_height"], names["row"]["image_width"]
    assert names["photo"].shape == (height, width)
    x, y = np.reshape(names["row"]["ldm68"], (68, 2))[30]
    assert names["nose"][round(y), round(x)]


def test_tensors_are_those_of_the_rows(folder: Path, faces: list[dict[str, Any]]) -> None:
    columns = ["ldm68", "ldm68_visible", "points5", "camera_R", "coef_sh", "yaw", "face_index"]
    tensors = FaceTensors("labels", columns, pc.field("shard") == "photos")
    rows = [row for row in faces if row["shard"] == "photos"]
    assert len(tensors) == len(rows) == 2
    for i, row in enumerate(rows):
        item = tensors[i]
        for name in columns:
            np.testing.assert_allclose(item[name].numpy().ravel(), np.ravel(row[name]))
    assert tensors[0]["ldm68_visible"].dtype == torch.bool
    assert tensors[0]["yaw"].shape == ()


def test_what_tensors_cannot_be_made_of(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no column nose"):
        FaceTensors("labels", ["nose"])
    with pytest.raises(UserError, match="image_id is text"):
        FaceTensors("labels", ["image_id"])
    with pytest.raises(UserError, match=r"not an output of jobs\.label"):
        FaceTensors(str(tmp_path), ["yaw"])


@pytest.mark.parametrize(
    ("name", "size", "shape"),
    [
        ("ldm106_2d", 212, (106, 2)),
        ("ldm106_2d_visible", 106, (106,)),
        ("points5", 10, (5, 2)),
        ("points106", 212, (106, 2)),
        ("camera_K", 9, (3, 3)),
        ("camera_t", 3, (3,)),
        ("box", 4, (4,)),
    ],
)
def test_shapes(name: str, size: int, shape: tuple[int, ...]) -> None:
    assert shape_of(name, size) == shape
