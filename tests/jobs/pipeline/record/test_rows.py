"""Rows, part files and what they say about themselves, opened by the readers people use."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from jobs.pipeline.record.config import LabelConfig
from jobs.pipeline.record.parts import (
    UnreadableError,
    decode_part,
    encode_part,
    read_about,
    read_part,
)
from jobs.pipeline.record.rows import ImageRecord, count, image_rows, png, to_table
from jobs.pipeline.record.schema import FILTERED, LabelSchema, columns, read_metadata
from jobs.pipeline.storage.store import Store
from tests.support.fakes import FakeFactory, fake_face
from tests.support.fixed_lists import with_fixed_lists

FACTS = FakeFactory().facts(LabelConfig())
SCHEMA = LabelSchema(FACTS, "f" * 64, {"tddfa3": "0"})
VERSION = re.escape(pa.__version__)
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
    return bytes(encode_part(to_table(some_rows(), SCHEMA, {"chunk": {"number": 3}})))


def test_columns_and_types_are_those_that_are_documented() -> None:
    types = {c.name: str(c.type) for c in columns(FACTS)}
    lengths = {c.name: c.length for c in columns(FACTS)}
    expected = {
        "image_id": ("string", None),
        "image_width": ("int32", None),
        "n_faces": ("int16", None),
        "box": ("list<element: float>", 4),
        "crop_params": ("list<element: double>", 5),
        "coef_id": ("list<element: float>", 80),
        "coef_exp": ("list<element: float>", 64),
        "coef_sh": ("list<element: float>", 27),
        "points106": ("list<element: float>", 212),
        "camera_K": ("list<element: float>", 9),
        "ldm68": ("list<element: float>", 136),
        "ldm106_2d": ("list<element: float>", 212),
        "ldm134": ("list<element: float>", 268),
        "ldm68_visible": ("list<element: bool>", 68),
        "seg": ("binary", None),
        "masks_rle": ("string", None),
        "mesh_pca_uri": ("string", None),
        "texture_bytes": ("int64", None),
    }
    assert {name: (types[name], lengths[name]) for name in expected} == expected
    assert len(types) == len(columns(FACTS))


def test_list_sizes_follow_the_assets() -> None:
    facts = type(FACTS)(name="x", digest="y", coefficients={"id": 5}, landmarks={"68": 7, "106": 9})
    lengths = {c.name: c.length for c in columns(facts)}
    assert (lengths["coef_id"], lengths["ldm68"], lengths["ldm106_2d"]) == (5, 14, 18)


def test_what_is_written_reads_back() -> None:
    table = decode_part(some_part())
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
    assert read_about(store, "p.parquet", store.size_etag("p.parquet")[0]) == about


def test_a_footer_longer_than_the_first_read_is_read_in_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "p.parquet").write_bytes(some_part())
    monkeypatch.setattr("jobs.pipeline.record.parts._FOOTER_GUESS", 100)
    store = Store.open(str(tmp_path))
    assert read_about(store, "p.parquet", store.size_etag("p.parquet")[0])["counts"]["images"] == 3


def test_nothing_but_parquets_own_types_is_written(tmp_path: Path) -> None:
    """Before version 26 pyarrow cannot read fixed-size lists with nulls; here no file has any."""
    path = tmp_path / "p.parquet"
    path.write_bytes(some_part())
    assert b"ARROW:schema" not in pq.read_metadata(path).metadata
    found = {field.name: field.type for field in pq.read_schema(path)}
    assert found == {c.name: c.type for c in columns(FACTS)}
    assert not any(pa.types.is_fixed_size_list(kind) for kind in found.values())


def test_a_null_list_holds_nothing(tmp_path: Path) -> None:
    table = decode_part(some_part())
    assert table["points106"].null_count == table.num_rows
    assert len(table["ldm68"].combine_chunks().values) == 2 * 136
    assert [None if box is None else len(box) for box in table["box"].to_pylist()] == [
        4, 4, None, None,
    ]  # fmt: skip


def test_the_footer_holds_what_readers_filter_by_and_no_more() -> None:
    """A PNG's least and greatest bytes help nobody."""
    data = some_part()
    group = pq.read_metadata(pa.BufferReader(data)).row_group(0)
    chunks = [group.column(i) for i in range(group.num_columns)]
    kept = {c.path_in_schema for c in chunks if c.is_stats_set and c.statistics.has_min_max}
    assert kept <= set(FILTERED)
    assert {"image_id", "status", "yaw", "face_index"} <= kept
    footer = int.from_bytes(data[-8:-4], "little")
    assert footer < 25_000


def test_lists_of_one_length_are_had_again_by_a_cast() -> None:
    table = decode_part(some_part())
    fixed = table.cast(with_fixed_lists(table.schema))
    assert pa.types.is_fixed_size_list(fixed.schema.field("ldm68").type)
    assert fixed.to_pylist() == table.to_pylist()


def test_what_cannot_be_read_says_which_file_and_with_what(tmp_path: Path) -> None:
    data = bytearray(some_part())
    middle = data.index(b"PAR1") + 100
    data[middle : middle + 400] = bytes(400)
    (tmp_path / "p.parquet").write_bytes(data)
    store = Store.open(str(tmp_path))
    with pytest.raises(
        UnreadableError, match=rf"p\.parquet: cannot read with pyarrow {pa.__version__}"
    ):
        read_part(store, "p.parquet")
    assert read_about(store, "p.parquet", len(data))["counts"]["images"] == 3


def test_a_file_cut_short_is_no_part(tmp_path: Path) -> None:
    (tmp_path / "p.parquet").write_bytes(some_part()[:-10])
    store = Store.open(str(tmp_path))
    with pytest.raises(UnreadableError, match=rf"p\.parquet: .* pyarrow {VERSION}: not a whole"):
        read_about(store, "p.parquet", store.size_etag("p.parquet")[0])


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


def test_only_encodings_that_every_reader_knows() -> None:
    """pyarrow 16.0 fails at nulls in byte streams that are split, as Spark 3 does at any."""
    group = pq.read_metadata(pa.BufferReader(some_part())).row_group(0)
    chunks = [group.column(i) for i in range(group.num_columns)]
    assert {chunk.compression for chunk in chunks} == {"ZSTD"}
    known = {"PLAIN", "RLE", "RLE_DICTIONARY", "PLAIN_DICTIONARY"}
    assert {name for chunk in chunks for name in chunk.encodings} <= known


def test_label_maps_are_lossless_pngs() -> None:
    labels = np.random.default_rng(0).integers(0, 9, (224, 224), dtype=np.uint8)
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(png(labels)))), labels)


def test_duckdb_polars_and_pandas_read_it(tmp_path: Path) -> None:
    path = tmp_path / "p.parquet"
    path.write_bytes(some_part())
    query = f"select list_sum(box::FLOAT[4]) from '{path}' where face_index = 1"
    assert duckdb.execute(query).fetchall() == [(4.0,)]
    assert pl.read_parquet(path)["ldm68"][0].len() == 136
    assert pl.read_parquet(path).schema["box"] == pl.List(pl.Float32)
    frame = pd.read_parquet(path)
    assert frame["status"].tolist()[2] == "no_face"
    np.testing.assert_array_equal(frame["box"][1], np.ones(4, np.float32))
