"""Rows, part files and what they say about themselves, opened by the readers people use."""

from __future__ import annotations

import io
import json
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fakes import FakeEngine, fake_face
from PIL import Image

from jobs.pipeline.config import LabelConfig
from jobs.pipeline.parts import encode_part, read_footer, read_part
from jobs.pipeline.rows import ImageRecord, count, image_rows, png, to_table
from jobs.pipeline.schema import LabelSchema, columns, read_metadata
from jobs.pipeline.store import Store

FACTS = FakeEngine().facts(LabelConfig())
SCHEMA = LabelSchema(FACTS, "f" * 64, {"tddfa3": "0"})
IMAGE = np.zeros((4, 6, 3), np.uint8)


def some_rows() -> list[dict]:
    faces = [fake_face(IMAGE, k, 2) for k in range(2)]
    record = ImageRecord("a/b.tar", "one", 6, 4, "00")
    return [
        *image_rows(record, faces),
        *image_rows(ImageRecord("a/b.tar", "two", 6, 4, "01"), []),
        ImageRecord("a/b.tar", "three").row("decode_error", "zero bytes"),
    ]


def some_part() -> bytes:
    return encode_part(to_table(some_rows(), SCHEMA, {"chunk": {"number": 3}}))


def test_columns_and_types_are_those_that_are_documented() -> None:
    types = {c.name: str(c.type) for c in columns(FACTS)}
    expected = {
        "image_id": "string",
        "image_width": "int32",
        "n_faces": "int16",
        "box": "fixed_size_list<item: float>[4]",
        "crop_params": "fixed_size_list<item: double>[5]",
        "coef_id": "fixed_size_list<item: float>[80]",
        "coef_exp": "fixed_size_list<item: float>[64]",
        "coef_sh": "fixed_size_list<item: float>[27]",
        "points106": "fixed_size_list<item: float>[212]",
        "camera_K": "fixed_size_list<item: float>[9]",
        "ldm68": "fixed_size_list<item: float>[136]",
        "ldm106_2d": "fixed_size_list<item: float>[212]",
        "ldm134": "fixed_size_list<item: float>[268]",
        "ldm68_visible": "fixed_size_list<item: bool>[68]",
        "seg": "binary",
        "masks_rle": "string",
        "mesh_pca_uri": "string",
        "texture_bytes": "int64",
    }
    assert {name: types[name] for name in expected} == expected
    assert len(types) == len(columns(FACTS))


def test_list_sizes_follow_the_assets() -> None:
    facts = type(FACTS)(name="x", digest="y", coefficients={"id": 5}, landmarks={"68": 7, "106": 9})
    types = {c.name: c.type for c in columns(facts)}
    assert types["coef_id"].list_size == 5
    assert types["ldm68"].list_size == 14
    assert types["ldm106_2d"].list_size == 18


def test_what_is_written_reads_back() -> None:
    table = read_part(some_part())
    assert table.column("status").to_pylist() == ["ok", "ok", "no_face", "decode_error"]
    assert table.column("n_faces").to_pylist() == [2, 2, 0, None]
    assert table.column("face_index").to_pylist() == [0, 1, None, None]
    assert table.column("box").null_count == 2
    assert table.column("box").to_pylist()[1] == [1.0] * 4
    assert table.column("ldm106").null_count == 4
    assert table.column("image_id").to_pylist()[0] == "a/b.tar/one"


def test_a_value_of_another_size_is_refused_by_name() -> None:
    rows = some_rows()
    rows[0]["box"] = np.zeros(5)
    with pytest.raises(ValueError, match=r"box: 4 values expected, not shape \(5,\)"):
        to_table(rows, SCHEMA, {})


def test_a_column_that_is_not_in_the_schema_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="frobnicate"):
        to_table([{**some_rows()[0], "frobnicate": 1}], SCHEMA, {})


def test_an_unknown_status_is_refused() -> None:
    with pytest.raises(ValueError, match="perhaps"):
        ImageRecord("s", "k").row("perhaps")


def test_nan_scalars_become_null() -> None:
    rows = some_rows()
    rows[0]["quality_points"] = float("nan")
    assert to_table(rows, SCHEMA, {}).column("quality_points").to_pylist()[0] is None


def test_counts_are_of_images_not_rows() -> None:
    rows = [*some_rows(), ImageRecord("s", "").row("shard_error", "cut") | {"key": None}]
    assert count(rows) == {
        "images": 3,
        "faces": 2,
        "status": {"decode_error": 1, "no_face": 1, "ok": 1},
        "shard_errors": 1,
    }


def test_the_file_says_what_its_columns_mean(tmp_path: Path) -> None:
    (tmp_path / "p.parquet").write_bytes(some_part())
    about = read_metadata(pq.read_schema(tmp_path / "p.parquet"))
    assert about["columns"]["yaw"]["unit"] == "deg"
    assert about["columns"]["ldm68"]["frame"] == "image pixels"
    assert about["parts"] == list(FACTS.part_names)
    assert about["counts"]["faces"] == 2
    assert about["chunk"] == {"number": 3}
    assert about["plan"] == "f" * 64
    store = Store.open(str(tmp_path))
    assert read_footer(store, "p.parquet", store.size_etag("p.parquet")[0]) == about


def test_a_footer_longer_than_the_first_read_is_read_in_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "p.parquet").write_bytes(some_part())
    monkeypatch.setattr("jobs.pipeline.parts._FOOTER_GUESS", 100)
    store = Store.open(str(tmp_path))
    assert read_footer(store, "p.parquet", store.size_etag("p.parquet")[0])["counts"]["images"] == 3


def test_a_file_cut_short_is_no_part(tmp_path: Path) -> None:
    (tmp_path / "p.parquet").write_bytes(some_part()[:-10])
    store = Store.open(str(tmp_path))
    with pytest.raises(ValueError, match=r"p\.parquet"):
        read_footer(store, "p.parquet", store.size_etag("p.parquet")[0])


def test_parquet_of_others_has_no_metadata_of_ours() -> None:
    with pytest.raises(ValueError, match="not a part file"):
        read_metadata(pa.schema([("a", pa.int32())]))


def test_hugging_face_features_name_every_column() -> None:
    features = json.loads(SCHEMA.arrow().metadata[b"huggingface"])["info"]["features"]
    assert set(features) == {c.name for c in columns(FACTS)}
    assert features["box"] == {
        "feature": {"dtype": "float32", "_type": "Value"},
        "length": 4,
        "_type": "Sequence",
    }
    assert features["crop_params"]["feature"]["dtype"] == "float64"
    assert features["seg"]["dtype"] == "binary"


def test_floats_are_split_into_byte_streams() -> None:
    data = pq.ParquetFile(pa.BufferReader(some_part())).metadata.row_group(0)
    kept = {data.column(i).path_in_schema: data.column(i) for i in range(data.num_columns)}
    assert "BYTE_STREAM_SPLIT" in kept["coef_id.list.element"].encodings
    assert "BYTE_STREAM_SPLIT" in kept["score"].encodings
    assert kept["score"].compression == "ZSTD"


def test_label_maps_are_lossless_pngs() -> None:
    labels = np.random.default_rng(0).integers(0, 9, (224, 224), dtype=np.uint8)
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(png(labels)))), labels)


def test_duckdb_polars_and_pandas_read_it(tmp_path: Path) -> None:
    path = tmp_path / "p.parquet"
    path.write_bytes(some_part())
    query = f"select list_sum(box::FLOAT[4]) from '{path}' where face_index = 1"
    assert duckdb.execute(query).fetchall() == [(4.0,)]
    assert pl.read_parquet(path)["ldm68"][0].len() == 136
    assert pl.read_parquet(path).schema["box"] == pl.Array(pl.Float32, 4)
    frame = pd.read_parquet(path)
    assert frame["status"].tolist()[2] == "no_face"
    np.testing.assert_array_equal(frame["box"][1], np.ones(4, np.float32))
