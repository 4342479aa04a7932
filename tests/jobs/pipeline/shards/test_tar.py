"""Tar shards made by the programs that people make them with, whole and damaged."""

from __future__ import annotations

import gzip
import io
import os
import random
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest
import webdataset
import zstandard

from jobs.pipeline.shards import ReadOptions, index_shard, read_members
from tests.support.counting import sizes_of_preads
from tests.support.shard_tools import only_shard, picture, read_all, read_errors, write_files

GNU_TAR = shutil.which("tar")
BSD_TAR = shutil.which("bsdtar")
CMAKE = shutil.which("cmake")
LONG = "folder-" + "x" * 80 + "/" + "y" * 90 + "/" + "z" * 120 + ".jpg"


def tar(folder: Path, *arguments: str, program: str | None = GNU_TAR) -> Path:
    """An archive of ``folder`` made by a tar program; ``arguments`` come before the names."""
    if program is None:
        pytest.skip("no such tar program on this machine")
    path = folder.parent / "archive.tar"
    command = [program, *arguments, "-cf", str(path), "-C", str(folder), "."]
    subprocess.run(command, check=True, capture_output=True)
    return path


def small_tar(path: Path, *names: str, size: int = 700) -> bytes:
    """An archive by Python's tarfile, and its bytes."""
    with tarfile.open(path, "w") as archive:
        for name in names:
            info = tarfile.TarInfo(name)
            info.size = size
            archive.addfile(info, io.BytesIO(picture(name, size)))
    return path.read_bytes()


def compress(data: bytes, kind: str) -> bytes:
    if kind == "gz":
        return gzip.compress(data)
    return zstandard.ZstdCompressor(write_checksum=True).compress(data)


@pytest.mark.parametrize("style", ["gnu", "pax", "ustar", "v7", "oldgnu", "posix"])
def test_gnu_tar_in_all_its_formats(tmp_path: Path, style: str) -> None:
    names = ["a.jpg", "sub/b.PNG", "sub/deep/c d é.webp"]
    write_files(tmp_path / "in", *names, "notes.txt", "sub/._b.PNG")
    index, contents = read_all(tar(tmp_path / "in", f"--format={style}"))
    assert index.error is None
    keys = {"a": "a.jpg", "sub/b": "sub/b.PNG", "sub/deep/c d é": "sub/deep/c d é.webp"}
    assert contents == {key: picture(name) for key, name in keys.items()}


@pytest.mark.parametrize("style", ["gnu", "pax"])
def test_long_names(tmp_path: Path, style: str) -> None:
    write_files(tmp_path / "in", LONG)
    index, contents = read_all(tar(tmp_path / "in", f"--format={style}"))
    assert index.error is None
    assert contents == {LONG.removesuffix(".jpg"): picture(LONG)}


@pytest.mark.parametrize("style", ["gnutar", "pax"])
def test_bsd_tar(tmp_path: Path, style: str) -> None:
    """libarchive's writer: bsdtar, or cmake, which carries the same library."""
    names = ["a.jpg", "sub/é b.png", LONG]
    write_files(tmp_path / "in", *names)
    os.link(tmp_path / "in/a.jpg", tmp_path / "in/z.jpg")
    if BSD_TAR is not None:
        path = tar(tmp_path / "in", f"--format={style}", program=BSD_TAR)
    elif CMAKE is not None:
        path = tmp_path / "archive.tar"
        command = [CMAKE, "-E", "tar", "cf", str(path), f"--format={style}", "."]
        subprocess.run(command, check=True, cwd=tmp_path / "in")
    else:
        pytest.skip("neither bsdtar nor cmake on this machine")
    index, contents = read_all(path)
    assert index.error is None
    pictures = {name.rpartition(".")[0]: picture(name) for name in names}
    assert contents == {**pictures, "z": picture("a.jpg")}


@pytest.mark.parametrize("suffix", [".tar", ".tar.gz"])
def test_webdataset(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"train-000000{suffix}"
    with webdataset.TarWriter(str(path)) as writer:
        for number in range(30):
            key = f"part{number % 3}/{number:06d}"
            writer.write({"__key__": key, "jpg": picture(key), "json": {"n": number}})
    index, contents = read_all(path)
    assert index.error is None
    assert [member.key for member in index.members] == [
        f"part{number % 3}/{number:06d}" for number in range(30)
    ]
    assert contents == {member.key: picture(member.key) for member in index.members}


def test_webdataset_shard_writer_and_reader_agree_with_us(tmp_path: Path) -> None:
    with webdataset.ShardWriter(str(tmp_path / "s-%04d.tar"), maxcount=4, verbose=0) as writer:
        for number in range(10):
            writer.write({"__key__": f"{number:03d}", "png": picture(str(number)), "cls": number})
    ours: dict[str, bytes | str] = {}
    for path in sorted(tmp_path.glob("*.tar")):
        ours |= read_all(path)[1]
    urls = [str(path) for path in sorted(tmp_path.glob("*.tar"))]
    theirs = {
        sample["__key__"]: sample["png"]
        for sample in webdataset.WebDataset(urls, shardshuffle=False)
    }
    assert ours == theirs
    assert len(ours) == 10


def test_several_images_of_a_sample_each_get_their_whole_name(tmp_path: Path) -> None:
    small_tar(tmp_path / "a.tar", "0.left.jpg", "0.right.jpg", "0.json", "1.jpg", "2.seg.png")
    index, contents = read_all(tmp_path / "a.tar")
    assert [member.key for member in index.members] == ["0.left.jpg", "0.right.jpg", "1", "2"]
    assert contents["0.right.jpg"] == picture("0.right.jpg")


def test_repeated_names_are_numbered_in_order(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        for number in range(3):
            info = tarfile.TarInfo("x/same.jpg" if number < 2 else "./x/same.jpg")
            info.size = 600
            archive.addfile(info, io.BytesIO(picture(str(number), 600)))
    index, contents = read_all(tmp_path / "a.tar")
    assert [member.key for member in index.members] == [
        "x/same.jpg",
        "x/same.jpg#2",
        "x/same.jpg#3",
    ]
    assert list(contents.values()) == [picture(str(number), 600) for number in range(3)]


def test_hard_links_are_what_they_link_to_and_symbolic_ones_are_left_out(tmp_path: Path) -> None:
    write_files(tmp_path / "in", "a.jpg", "data.bin")
    os.link(tmp_path / "in/a.jpg", tmp_path / "in/b.jpg")
    os.link(tmp_path / "in/data.bin", tmp_path / "in/c.jpg")
    (tmp_path / "in/d.jpg").symlink_to("a.jpg")
    index, contents = read_all(tar(tmp_path / "in", "--sort=name"))
    assert index.error is None
    assert contents == {"a": picture("a.jpg"), "b": picture("a.jpg"), "c": picture("data.bin")}


def test_a_hard_link_to_nothing_is_that_members_error(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        info = tarfile.TarInfo("b.jpg")
        info.type, info.linkname = tarfile.LNKTYPE, "gone.jpg"
        archive.addfile(info)
    index, contents = read_all(tmp_path / "a.tar")
    assert index.error is None
    assert "gone.jpg" in contents["b"]


def test_names_that_are_not_utf8_and_names_that_climb_are_only_names(tmp_path: Path) -> None:
    names = [b"caf\xe9.jpg".decode("utf-8", "surrogateescape"), "../../etc/x.jpg", "/abs/y.jpg"]
    with tarfile.open(tmp_path / "a.tar", "w", format=tarfile.GNU_FORMAT) as archive:
        for name in names:
            info = tarfile.TarInfo(name)
            info.size = 10
            archive.addfile(info, io.BytesIO(b"0123456789"))
    index, _ = read_all(tmp_path / "a.tar")
    assert [member.key for member in index.members] == ["caf\\udce9", "../../etc/x", "/abs/y"]
    assert index.members[0].name == names[0]
    assert sorted(os.listdir(tmp_path)) == ["a.tar"]


def test_sparse_files_are_reported_and_what_follows_is_read(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    with open(tmp_path / "in/a.jpg", "wb") as file:
        for block in range(40):
            file.seek(block * 100_000)
            file.write(b"x" * 5000)
    write_files(tmp_path / "in", "b.jpg")
    for style in ("gnu", "posix"):
        path = tar(tmp_path / "in", "--sparse", "--sort=name", f"--format={style}")
        index, contents = read_all(path)
        assert index.error is None
        assert contents["b"] == picture("b.jpg")
        if len(index.members[0].error) == 0:
            pytest.skip("this file system keeps no holes")
        assert "sparse" in contents["a"]


def test_members_over_the_limit_are_not_read(tmp_path: Path) -> None:
    small_tar(tmp_path / "a.tar", "a.jpg", size=2000)
    options = ReadOptions(max_member_bytes=1999)
    shard = only_shard(tmp_path / "a.tar", options)
    (error,) = read_errors(shard, options)
    assert error.kind == "too_large"
    assert "2000" in str(error)


@pytest.mark.parametrize("kind", ["plain", "gz", "zst"])
def test_an_archive_cut_anywhere_gives_what_is_whole_and_says_where_it_ends(
    tmp_path: Path, kind: str
) -> None:
    names = [f"{number}.jpg" for number in range(6)]
    whole = small_tar(tmp_path / "whole.tar", *names)
    path = tmp_path / ("cut.tar" if kind == "plain" else f"cut.tar.{kind}")
    stored = whole if kind == "plain" else compress(whole, kind)
    last_byte = {name: 1536 * number + 512 + 700 for number, name in enumerate(names)}
    # Up to the end-of-archive marker of the plain one: what follows it is padding.
    lengths = [*range(1, 9728, 389), 511, 512, 513, 1535, 1536, 9727]
    for length in lengths if kind == "plain" else range(5, len(stored), 7):
        path.write_bytes(stored[:length])
        index, contents = read_all(path)
        assert index.error is not None
        assert "offset" in index.error
        if kind == "plain":
            expected = [name for name in names if last_byte[name] <= length]
            assert [member.name for member in index.members] == expected
        for member in index.members:
            assert contents[member.key] == picture(member.name)


def test_a_damaged_header_in_the_middle_is_not_the_end(tmp_path: Path) -> None:
    """Python's tarfile stops at it without a word."""
    data = bytearray(small_tar(tmp_path / "a.tar", "0.jpg", "1.jpg", "2.jpg"))
    data[1536 + 5] ^= 0xFF
    (tmp_path / "a.tar").write_bytes(data)
    index, contents = read_all(tmp_path / "a.tar")
    assert list(contents) == ["0"]
    assert index.error is not None
    assert "offset 1536" in index.error


@pytest.mark.parametrize("kind", ["gz", "zst"])
def test_damage_in_a_compressed_archive_ends_it_there(tmp_path: Path, kind: str) -> None:
    names = [f"{number:03d}.jpg" for number in range(300)]
    whole = small_tar(tmp_path / "whole.tar", *names, size=20_000)
    noise = random.Random(0).randbytes(20_000)
    stored = bytearray(compress(whole.replace(picture("150.jpg", 20_000), noise), kind))
    stored[len(stored) // 2] ^= 0x55
    (tmp_path / f"a.tar.{kind}").write_bytes(stored)
    index, contents = read_all(tmp_path / f"a.tar.{kind}")
    assert index.error is not None
    assert "decompressed" in index.error
    assert 0 < len(contents) < 300
    assert all(isinstance(content, bytes) for content in contents.values())


@pytest.mark.parametrize("kind", ["gz", "zst"])
def test_compressed_archives_in_several_members_or_frames(tmp_path: Path, kind: str) -> None:
    names = [f"{number}.jpg" for number in range(50)]
    whole = small_tar(tmp_path / "whole.tar", *names)
    pieces = [whole[start : start + 10_007] for start in range(0, len(whole), 10_007)]
    path = tmp_path / f"a.tar.{kind}"
    path.write_bytes(b"".join(compress(piece, kind) for piece in pieces))
    index, contents = read_all(path)
    assert index.error is None
    assert contents == {name[:-4]: picture(name) for name in names}


@pytest.mark.parametrize("kind", ["gz", "zst"])
def test_chunks_of_a_compressed_archive_in_any_order(tmp_path: Path, kind: str) -> None:
    names = [f"{number:03d}.jpg" for number in range(100)]
    whole = small_tar(tmp_path / "whole.tar", *names, size=30_000)
    (tmp_path / f"a.tar.{kind}").write_bytes(compress(whole, kind))
    shard = only_shard(tmp_path / f"a.tar.{kind}")
    members = index_shard(shard).members
    for first in (0, 10, 20, 60, 30, 90, 0, 95):
        chunk = members[first : first + 10]
        found = {member.key: content for member, content in read_members(shard, chunk)}
        assert found == {
            f"{n:03d}": picture(f"{n:03d}.jpg", 30_000) for n in range(first, first + 10) if n < 100
        }


def test_appended_archives_are_read_through(tmp_path: Path) -> None:
    first = small_tar(tmp_path / "1.tar", "a.jpg", "b.jpg")
    second = small_tar(tmp_path / "2.tar", "b.jpg", "c.jpg")
    (tmp_path / "both.tar").write_bytes(first + second)
    index, contents = read_all(tmp_path / "both.tar")
    assert index.error is None
    assert sorted(contents) == ["a", "b.jpg", "b.jpg#2", "c"]
    (tmp_path / "both.tar").write_bytes(first + b"garbage" * 1000)
    assert read_all(tmp_path / "both.tar")[0].error is None


def test_an_empty_archive_and_a_file_that_is_none(tmp_path: Path) -> None:
    small_tar(tmp_path / "empty.tar")
    index, contents = read_all(tmp_path / "empty.tar")
    assert (index.error, contents) == (None, {})
    for content in (b"", b"not a tar" * 200):
        (tmp_path / "none.tar").write_bytes(content)
        index, contents = read_all(tmp_path / "none.tar")
        assert index.error is not None
        assert "offset 0" in index.error
        assert contents == {}


def test_compression_is_seen_by_content_not_by_name(tmp_path: Path) -> None:
    data = small_tar(tmp_path / "a.tar", "a.jpg")
    (tmp_path / "a.tar").write_bytes(gzip.compress(data))
    (tmp_path / "b.tar.gz").write_bytes(data)
    for name in ("a.tar", "b.tar.gz"):
        assert read_all(tmp_path / name)[1] == {"a": picture("a.jpg")}


def test_a_large_size_in_binary(tmp_path: Path) -> None:
    """GNU's base-256 sizes; the archive need not be that large to announce it."""
    info = tarfile.TarInfo("huge.jpg")
    info.size = 10 * 2**30
    header = info.tobuf(tarfile.GNU_FORMAT)
    (tmp_path / "a.tar").write_bytes(header + b"x" * 1000)
    index, contents = read_all(tmp_path / "a.tar")
    assert contents == {}
    assert index.error == "the archive ends inside huge.jpg at offset 512"


def test_an_archive_replaced_after_listing_is_not_read_by_old_offsets(tmp_path: Path) -> None:
    small_tar(tmp_path / "a.tar", "a.jpg", "b.jpg")
    shard = only_shard(tmp_path / "a.tar")
    members = index_shard(shard).members
    small_tar(tmp_path / "a.tar", "c.jpg", size=100)
    assert "changed" in str(index_shard(shard).error)
    errors = [content for _, content in read_members(shard, members)]
    assert [getattr(error, "kind", None) for error in errors] == ["changed", "changed"]
    (tmp_path / "a.tar").unlink()
    errors = [content for _, content in read_members(shard, members)]
    assert all("a.tar" in str(error) and "offset" in str(error) for error in errors)


def test_reading_does_not_run_ahead_of_its_consumer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_tar(tmp_path / "a.tar", *[f"{n}.jpg" for n in range(20)], size=4 << 20)
    shard = only_shard(tmp_path / "a.tar")
    members = index_shard(shard).members
    read = sizes_of_preads(monkeypatch)
    contents = read_members(shard, members)
    next(contents)
    assert sum(read) <= 33 << 20
    assert sum(1 for _ in contents) == 19
