"""Is there an image at all: found out from the beginning of an archive, in every format."""

from __future__ import annotations

import os
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs.pipeline.shards import ReadOptions, Shard, holds_an_image
from jobs.pipeline.shards.reader import RangeReader
from jobs.pipeline.storage.store import StoreError
from tests.support.counting import sizes_of_reads
from tests.support.shard_tools import only_shard, picture, write_files

OPTIONS = ReadOptions()


def tar(path: Path, *names: str) -> None:
    folder = path.with_suffix(".files")
    write_files(folder, *names)
    with tarfile.open(path, "w:gz" if path.suffix == ".gz" else "w") as archive:
        for name in names:
            archive.add(folder / name, name)


def zipped(path: Path, *names: str) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(name, picture(name))


@pytest.mark.parametrize(("make", "name"), [(tar, "a.tar"), (tar, "a.tar.gz"), (zipped, "a.zip")])
@pytest.mark.parametrize(
    ("names", "holds"),
    [
        (["a.jpg"], True),
        (["notes.txt", "sub/b.PNG"], True),
        ([f"{number}.txt" for number in range(300)] + ["z.webp"], True),
        (["notes.txt", "._a.jpg"], False),
        ([], False),
    ],
)
def test_archives(
    tmp_path: Path, make: Callable[..., None], name: str, names: list[str], holds: bool
) -> None:
    make(tmp_path / name, *names)
    assert holds_an_image([only_shard(tmp_path / name)]) is holds


@pytest.mark.parametrize("name", ["a.tar", "a.tar.gz", "a.zip", "a.parquet"])
def test_what_cannot_be_read_may_hold_one(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"\x1f\x8b" * name.endswith("gz") + os.urandom(5000))
    assert holds_an_image([only_shard(tmp_path / name)])


def test_a_parquet_file_without_images_may_hold_some_under_another_name(tmp_path: Path) -> None:
    pq.write_table(pa.table({"number": [1]}), tmp_path / "a.parquet")
    assert holds_an_image([only_shard(tmp_path / "a.parquet")])


@pytest.mark.parametrize("make", [tar, zipped])
def test_of_a_large_archive_only_the_beginning_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: Callable[..., None]
) -> None:
    path = tmp_path / f"a.{'tar' if make is tar else 'zip'}"
    make(path, *(f"{number}.jpg" for number in range(500)))
    shard = only_shard(path)
    ends = []
    pread = RangeReader.pread

    def watched(self: RangeReader, offset: int, count: int) -> bytes:
        ends.append(offset + count)
        return pread(self, offset, count)

    monkeypatch.setattr(RangeReader, "pread", watched)
    assert holds_an_image([shard])
    assert max(ends, default=0) < shard.size / 10


def test_of_a_long_list_only_the_beginning_is_read_unless_it_names_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    comments = "# nothing yet\n" * 20_000
    named = "".join(f"{number}.jpg\n" for number in range(50_000))
    (tmp_path / "named.txt").write_text(named)
    (tmp_path / "late.txt").write_text(comments + "a.jpg\n")
    long, late = only_shard(tmp_path / "named.txt"), only_shard(tmp_path / "late.txt")
    sizes = sizes_of_reads(monkeypatch)
    assert holds_an_image([long])
    assert sum(sizes) < len(named) / 4
    assert holds_an_image([late])
    (tmp_path / "late.txt").write_text(comments)
    assert not holds_an_image([late])


def test_the_first_of_many_is_enough(tmp_path: Path) -> None:
    tar(tmp_path / "a.tar", "a.jpg")
    gone = Shard("gone", "gs://nobody/opens.tar", "tar", 1, "x")
    assert holds_an_image([only_shard(tmp_path / "a.tar"), gone])


def test_one_image_after_many_shards_without_any_is_found(tmp_path: Path) -> None:
    tar(tmp_path / "empty.tar", "a.txt")
    tar(tmp_path / "last.tar", "a.jpg")
    empty = only_shard(tmp_path / "empty.tar")
    assert not holds_an_image([empty] * 100)
    assert holds_an_image([*[empty] * 100, only_shard(tmp_path / "last.tar")])


def test_storage_that_fails_for_all_is_raised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tar(tmp_path / "a.tar", "a.txt")
    shard = only_shard(tmp_path / "a.tar")

    def fails(self: RangeReader, offset: int, count: int) -> bytes:
        raise StoreError("unavailable", shard.uri, "no route to host")

    monkeypatch.setattr(RangeReader, "pread", fails)
    with pytest.raises(StoreError, match="no route"):
        holds_an_image([shard, shard])
