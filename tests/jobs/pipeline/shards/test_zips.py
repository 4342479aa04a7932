"""Zip shards made by zip and zipfile, whole, damaged and hostile."""

from __future__ import annotations

import io
import os
import shutil
import struct
import subprocess
import zipfile
from pathlib import Path

import pytest

from jobs.pipeline.shards import ReadOptions, index_shard, read_members
from tests.support.counting import sizes_of_preads
from tests.support.shard_tools import only_shard, picture, read_all, write_files

ZIP = shutil.which("zip")


def make_zip(path: Path, *names: str, method: int = zipfile.ZIP_DEFLATED, size: int = 700) -> None:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name in names:
            archive.writestr(name, picture(name, size))


@pytest.mark.parametrize("arguments", [["-0"], ["-9"], ["-fd"], ["-fz"], ["-X", "-D"]])
def test_info_zip(tmp_path: Path, arguments: list[str]) -> None:
    if ZIP is None:
        pytest.skip("no zip program on this machine")
    names = ["a.jpg", "sub/b.PNG", "sub/deep/c d.webp", "sub/é.tif"]
    write_files(tmp_path / "in", *names, "notes.txt")
    command = [ZIP, "-q", "-r", *arguments, "../a.zip", "."]
    subprocess.run(command, check=True, cwd=tmp_path / "in")
    index, contents = read_all(tmp_path / "a.zip")
    assert index.error is None
    assert contents == {name: picture(name) for name in names}


def test_a_zip_written_to_a_pipe_has_sizes_after_the_data(tmp_path: Path) -> None:
    if ZIP is None:
        pytest.skip("no zip program on this machine")
    write_files(tmp_path / "in", "a.jpg", "b.jpg")
    with open(tmp_path / "a.zip", "wb") as target:
        command = f"{ZIP} -q - a.jpg b.jpg | cat"
        subprocess.run(command, shell=True, check=True, cwd=tmp_path / "in", stdout=target)
    assert read_all(tmp_path / "a.zip")[1] == {n: picture(n) for n in ("a.jpg", "b.jpg")}


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2])
def test_python_zipfile(tmp_path: Path, method: int) -> None:
    names = [f"{number % 7}/{number}.jpg" for number in range(100)]
    make_zip(tmp_path / "a.zip", *names, method=method)
    index, contents = read_all(tmp_path / "a.zip")
    assert [member.key for member in index.members] == names, "in the order of the bytes"
    assert contents == {name: picture(name) for name in names}
    assert [member.size for member in index.members] == [700] * 100


def test_zip64_and_data_before_the_archive(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for name in ("a.jpg", "b.jpg"):
            with archive.open(name, "w", force_zip64=True) as file:
                file.write(picture(name))
    data = (tmp_path / "a.zip").read_bytes()
    (tmp_path / "a.zip").write_bytes(b"#!/bin/sh\nexit\n" * 100 + data)
    assert read_all(tmp_path / "a.zip")[1] == {n: picture(n) for n in ("a.jpg", "b.jpg")}


def test_what_is_not_an_image_of_the_data_set_is_left_out(tmp_path: Path) -> None:
    make_zip(tmp_path / "a.zip", "a.jpg", "__MACOSX/._a.jpg", "__MACOSX/b.jpg", "x/.h.jpg", "r.md")
    assert list(read_all(tmp_path / "a.zip")[1]) == ["a.jpg"]


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_repeated_and_climbing_names_are_only_names(tmp_path: Path) -> None:
    make_zip(tmp_path / "a.zip", "a.jpg", "a.jpg", "../../x.jpg", "/etc/y.jpg")
    index, contents = read_all(tmp_path / "a.zip")
    assert [m.key for m in index.members] == ["a.jpg", "a.jpg#2", "../../x.jpg", "/etc/y.jpg"]
    assert contents["../../x.jpg"] == picture("../../x.jpg")
    assert os.listdir(tmp_path) == ["a.zip"]


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2])
def test_damaged_bytes_are_that_members_error_only(tmp_path: Path, method: int) -> None:
    make_zip(tmp_path / "a.zip", "a.jpg", "b.jpg", "c.jpg", method=method)
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        info = archive.getinfo("b.jpg")
    data = bytearray((tmp_path / "a.zip").read_bytes())
    data[info.header_offset + 30 + len("b.jpg") + info.compress_size // 2] ^= 0x10
    (tmp_path / "a.zip").write_bytes(data)
    index, contents = read_all(tmp_path / "a.zip")
    assert index.error is None
    assert contents["a.jpg"] == picture("a.jpg")
    assert contents["c.jpg"] == picture("c.jpg")
    assert isinstance(contents["b.jpg"], str)
    assert f"member b.jpg, offset {info.header_offset}" in contents["b.jpg"]


def test_a_wrong_crc_is_seen(tmp_path: Path) -> None:
    make_zip(tmp_path / "a.zip", "a.jpg", method=zipfile.ZIP_STORED)
    data = bytearray((tmp_path / "a.zip").read_bytes())
    data[100] ^= 1
    (tmp_path / "a.zip").write_bytes(data)
    assert "bad CRC" in read_all(tmp_path / "a.zip")[1]["a.jpg"]


def test_a_member_whose_header_is_overwritten(tmp_path: Path) -> None:
    make_zip(tmp_path / "a.zip", "a.jpg", "b.jpg")
    data = bytearray((tmp_path / "a.zip").read_bytes())
    data[0:4] = b"XXXX"
    (tmp_path / "a.zip").write_bytes(data)
    contents = read_all(tmp_path / "a.zip")[1]
    assert "no member header" in contents["a.jpg"]
    assert contents["b.jpg"] == picture("b.jpg")


def test_every_truncation_is_a_shard_error(tmp_path: Path) -> None:
    make_zip(tmp_path / "a.zip", *[f"{number}.jpg" for number in range(5)])
    data = (tmp_path / "a.zip").read_bytes()
    for length in range(0, len(data) - 1, 61):
        (tmp_path / "a.zip").write_bytes(data[:length])
        index, contents = read_all(tmp_path / "a.zip")
        assert index.error is not None
        assert f"offset {length}" in index.error
        assert contents == {}


def test_a_bomb_is_stopped_at_the_announced_size_or_at_the_limit(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bomb.jpg", b"\0" * 50_000_000)
        archive.writestr("b.jpg", picture("b.jpg"))
    options = ReadOptions(max_member_bytes=1_000_000)
    shard = only_shard(tmp_path / "a.zip", options)
    contents = dict(read_members(shard, index_shard(shard, options).members, options))
    kinds = {member.key: getattr(content, "kind", None) for member, content in contents.items()}
    assert kinds == {"bomb.jpg": "too_large", "b.jpg": None}

    data = bytearray((tmp_path / "a.zip").read_bytes())
    directory = data.index(b"PK\x01\x02")
    struct.pack_into("<L", data, directory + 24, 700)  # announces less than it expands to
    (tmp_path / "a.zip").write_bytes(data)
    contents_by_key = read_all(tmp_path / "a.zip", options)[1]
    assert "700 bytes announced, 701 found" in contents_by_key["bomb.jpg"]


def test_overlapping_members_are_refused(tmp_path: Path) -> None:
    make_zip(tmp_path / "a.zip", "a.jpg", "b.jpg", method=zipfile.ZIP_STORED)
    data = bytearray((tmp_path / "a.zip").read_bytes())
    directory = data.index(b"PK\x01\x02")
    struct.pack_into("<LL", data, directory + 20, 1000, 1000)  # a.jpg would reach into b.jpg
    (tmp_path / "a.zip").write_bytes(data)
    contents = read_all(tmp_path / "a.zip")[1]
    assert "overlaps" in contents["a.jpg"]
    assert contents["b.jpg"] == picture("b.jpg")


def test_encrypted_members_and_unknown_methods_are_named(tmp_path: Path) -> None:
    if ZIP is None:
        pytest.skip("no zip program on this machine")
    write_files(tmp_path / "in", "a.jpg")
    command = [ZIP, "-q", "-P", "secret", "../a.zip", "a.jpg"]
    subprocess.run(command, check=True, cwd=tmp_path / "in")
    assert "encrypted" in read_all(tmp_path / "a.zip")[1]["a.jpg"]
    with zipfile.ZipFile(tmp_path / "b.zip", "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("a.jpg", picture("a.jpg"))
    assert "method 14" in read_all(tmp_path / "b.zip")[1]["a.jpg"]


def test_hundreds_of_thousands_of_members_cost_few_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for number in range(3000):
            archive.writestr(f"{number}.jpg", b"0123456789" * 30)
    shard = only_shard(tmp_path / "a.zip")
    reads = sizes_of_preads(monkeypatch)
    members = index_shard(shard).members
    assert len(reads) <= 4
    reads.clear()
    assert sum(1 for _ in read_members(shard, members[100:600])) == 500
    assert len(reads) == 1


def test_empty_and_foreign_files(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w"):
        pass
    assert read_all(tmp_path / "a.zip")[0].error is None
    for content in (b"", b"no zip" * 1000, io.BytesIO(b"PK\x05\x06" + b"\xff" * 18).getvalue()):
        (tmp_path / "a.zip").write_bytes(content)
        assert "zip" in (read_all(tmp_path / "a.zip")[0].error or "")
