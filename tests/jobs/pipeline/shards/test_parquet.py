"""Parquet shards: Hugging Face's image struct, plain binary columns, nulls and damage."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs.pipeline.shards import ReadOptions, index_shard, read_members
from tests.support.shard_tools import only_shard, picture, read_all, read_errors

#: What ``datasets.Image()`` is stored as.
HF_IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def hf_file(path: Path, count: int, row_group_size: int = 10, size: int = 700) -> None:
    images = [
        {"bytes": picture(str(number), size), "path": f"{number:04d}.jpg"}
        for number in range(count)
    ]
    columns = {"image": pa.array(images, HF_IMAGE), "label": pa.array(range(count), pa.int64())}
    pq.write_table(pa.table(columns), path, row_group_size=row_group_size)


def test_hugging_face_images(tmp_path: Path) -> None:
    hf_file(tmp_path / "a.parquet", 35)
    index, contents = read_all(tmp_path / "a.parquet")
    assert index.error is None
    assert [member.offset for member in index.members] == list(range(35))
    assert contents == {f"{number:04d}.jpg": picture(str(number)) for number in range(35)}


@pytest.mark.parametrize("kind", [pa.binary(), pa.large_binary()])
def test_a_plain_binary_column_is_found_or_named(tmp_path: Path, kind: pa.DataType) -> None:
    pictures = [picture(str(number)) for number in range(25)]
    columns = {"jpg": pa.array(pictures, kind), "other": pa.array([b"x"] * 25, pa.binary())}
    pq.write_table(pa.table({"jpg": columns["jpg"]}), tmp_path / "one.parquet", row_group_size=7)
    assert list(read_all(tmp_path / "one.parquet")[1].values()) == pictures
    pq.write_table(pa.table(columns), tmp_path / "two.parquet")
    error = read_all(tmp_path / "two.parquet")[0].error
    assert error is not None
    assert "several columns" in error
    options = ReadOptions(image_column="jpg")
    contents = read_all(tmp_path / "two.parquet", options)[1]
    assert contents == {f"{number:08d}": content for number, content in enumerate(pictures)}


def test_a_column_that_cannot_be_used_is_explained(tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": ["a"], "n": [1]}), tmp_path / "a.parquet")
    assert "no column holds image bytes (text, n)" in str(read_all(tmp_path / "a.parquet")[0].error)
    error = read_all(tmp_path / "a.parquet", ReadOptions(image_column="picture"))[0].error
    assert error == "no column 'picture'; there are text, n"
    error = read_all(tmp_path / "a.parquet", ReadOptions(image_column="text"))[0].error
    assert "is string" in str(error)


def test_rows_without_bytes_are_their_own_errors(tmp_path: Path) -> None:
    images = [
        {"bytes": picture("0"), "path": "same.jpg"},
        {"bytes": None, "path": "elsewhere.jpg"},
        None,
        {"bytes": b"", "path": None},
        {"bytes": picture("4"), "path": "same.jpg"},
    ]
    pq.write_table(pa.table({"image": pa.array(images, HF_IMAGE)}), tmp_path / "a.parquet")
    index, contents = read_all(tmp_path / "a.parquet")
    assert index.error is None
    assert contents["same.jpg"] == picture("0")
    assert contents["same.jpg#2"] == picture("4")
    assert contents["00000003"] == b""
    assert "no image bytes" in contents["elsewhere.jpg"]
    assert "no image bytes" in contents["00000002"]


def test_webdataset_keys_are_kept(tmp_path: Path) -> None:
    table = pa.table({"__key__": ["x/1", "x/2"], "jpg": pa.array([b"1", b"2"], pa.binary())})
    pq.write_table(table, tmp_path / "a.parquet")
    assert read_all(tmp_path / "a.parquet")[1] == {"x/1": b"1", "x/2": b"2"}


@pytest.mark.parametrize("row_group_size", [1, 7, 30, 1000])
def test_chunks_in_any_order(tmp_path: Path, row_group_size: int) -> None:
    hf_file(tmp_path / "a.parquet", 100, row_group_size)
    shard = only_shard(tmp_path / "a.parquet")
    members = index_shard(shard).members
    for first in (0, 20, 40, 15, 90, 0, 60):
        found = [c for _, c in read_members(shard, members[first : first + 20])]
        assert found == [picture(str(number)) for number in range(first, min(first + 20, 100))]
    odd = [content for _, content in read_members(shard, members[1::2])]
    assert odd == [picture(str(number)) for number in range(1, 100, 2)]


def test_only_the_row_groups_of_a_chunk_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hf_file(tmp_path / "a.parquet", 100, 10, size=100_000)
    shard = only_shard(tmp_path / "a.parquet")
    members = index_shard(shard).members
    sizes: list[int] = []
    from jobs.pipeline.storage.local import LocalFiles

    real = LocalFiles.read

    def counted(self: LocalFiles, rel: str, start: int | None, end: int | None) -> bytes:
        data = real(self, rel, start, end)
        sizes.append(len(data))
        return data

    monkeypatch.setattr(LocalFiles, "read", counted)
    assert len(list(read_members(shard, members[50:60]))) == 10
    assert sum(sizes) < 3_000_000


def test_the_limit_on_members_holds(tmp_path: Path) -> None:
    hf_file(tmp_path / "a.parquet", 3)
    options = ReadOptions(max_member_bytes=699)
    shard = only_shard(tmp_path / "a.parquet", options)
    assert [error.kind for error in read_errors(shard, options)] == ["too_large"] * 3


def test_damage_is_named_and_contained(tmp_path: Path) -> None:
    hf_file(tmp_path / "a.parquet", 30, 10, size=5000)
    data = bytearray((tmp_path / "a.parquet").read_bytes())
    metadata = pq.read_metadata(tmp_path / "a.parquet")
    page = metadata.row_group(1).column(0)
    start = page.dictionary_page_offset or page.data_page_offset
    data[start : start + 30] = b"\xff" * 30
    (tmp_path / "a.parquet").write_bytes(data)
    index, contents = read_all(tmp_path / "a.parquet")
    assert index.error is None
    values = list(contents.values())
    assert all(isinstance(value, bytes) for value in values[:10] + values[20:])
    assert all("damaged" in str(value) for value in values[10:20])


@pytest.mark.parametrize("content", [b"", b"PAR1", b"not parquet" * 100])
def test_files_that_are_no_parquet(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.parquet").write_bytes(content)
    index, contents = read_all(tmp_path / "a.parquet")
    assert "Parquet" in str(index.error)
    assert contents == {}


def test_a_truncated_file_is_a_shard_error(tmp_path: Path) -> None:
    hf_file(tmp_path / "a.parquet", 30)
    data = (tmp_path / "a.parquet").read_bytes()
    (tmp_path / "a.parquet").write_bytes(data[:-100])
    assert f"offset {len(data) - 100}" in str(read_all(tmp_path / "a.parquet")[0].error)
