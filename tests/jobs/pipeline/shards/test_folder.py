"""Folder and list shards."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from jobs.pipeline.shards import ReadOptions, ShardReadError, index_shard, list_shards, read_members
from tddfa3.errors import UserError
from tests.support.shard_tools import only_shard, picture, read_all, write_files


def test_images_of_a_folder_in_the_order_of_their_names(tmp_path: Path) -> None:
    write_files(tmp_path, "b.JPG", "a.jpeg", "a.png", "c.txt", ".hidden.jpg", "d.jpg.part")
    index, contents = read_all(tmp_path)
    assert [member.key for member in index.members] == ["a.jpeg", "a.png", "b.JPG"]
    assert contents == {name: picture(name) for name in ("a.jpeg", "a.png", "b.JPG")}
    assert [member.size for member in index.members] == [700] * 3


def test_files_that_vanish_or_cannot_be_read_are_their_own_errors(tmp_path: Path) -> None:
    write_files(tmp_path, "a.jpg", "b.jpg", "c.jpg")
    shard = only_shard(tmp_path)
    members = index_shard(shard).members
    (tmp_path / "b.jpg").unlink()
    contents = [content for _, content in read_members(shard, members)]
    assert [type(content) for content in contents] == [bytes, ShardReadError, bytes]
    assert "b.jpg" in str(contents[1])
    assert "no such file" in str(contents[1])


def test_a_private_file_does_not_stop_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_files(tmp_path, "a.jpg", "b.jpg")
    shard = only_shard(tmp_path)
    members = index_shard(shard).members
    real = os.open

    def refuse(path: object, *arguments: int) -> int:
        if str(path).endswith("a.jpg"):
            raise PermissionError(13, "Permission denied")
        return real(path, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "open", refuse)
    first, second = [content for _, content in read_members(shard, members)]
    assert "denied" in str(first)
    assert second == picture("b.jpg")


def test_files_over_the_limit_and_files_that_grew_over_it(tmp_path: Path) -> None:
    write_files(tmp_path, "a.jpg", "b.jpg")
    options = ReadOptions(max_member_bytes=800)
    shard = only_shard(tmp_path, options)
    members = index_shard(shard, options).members
    write_files(tmp_path, "b.jpg", size=900)
    first, second = [content for _, content in read_members(shard, members, options)]
    assert first == picture("a.jpg")
    assert isinstance(second, ShardReadError)
    assert second.kind == "too_large"
    again = index_shard(only_shard(tmp_path, options), options).members
    assert [bool(member.error) for member in again] == [False, True]


def test_a_folder_that_changes_has_another_etag_and_a_late_change_is_noticed(
    tmp_path: Path,
) -> None:
    write_files(tmp_path, "a.jpg", "b.jpg")
    before = only_shard(tmp_path)
    write_files(tmp_path, "notes.txt")
    assert only_shard(tmp_path) == before
    write_files(tmp_path, "c.jpg")
    assert only_shard(tmp_path).etag != before.etag
    assert "changed" in str(index_shard(before).error)


@pytest.mark.skipif(os.name != "posix", reason="names are bytes on POSIX only")
def test_names_that_are_not_utf8_can_be_read(tmp_path: Path) -> None:
    name = b"caf\xe9.jpg"
    try:
        Path(os.fsdecode(bytes(tmp_path) + b"/" + name)).write_bytes(b"x")
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    assert read_all(tmp_path)[1] == {"caf\\udce9.jpg": b"x"}


def write_list(tmp_path: Path, name: str, text: str) -> Path:
    path = tmp_path / "lists" / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


LISTS = {
    "a.txt": "# three images\n\n../in/a.jpg\n{root}/in/b.jpg\nfile://{root}/in/sub/c.jpg\n",
    "a.csv": 'id,path,label\n1,"../in/a.jpg",x\n\n2,{root}/in/b.jpg,y\n3,../in/sub/c.jpg,z\n',
    "b.csv": "../in/a.jpg\n{root}/in/b.jpg\n../in/sub/c.jpg\n",
    "a.tsv": "label\tURI\nx\t../in/a.jpg\ny\t{root}/in/b.jpg\nz\t../in/sub/c.jpg\n",
    "a.jsonl": '{{"file_name": "../in/a.jpg"}}\n"{root}/in/b.jpg"\n\n{{"uri":"../in/sub/c.jpg"}}\n',
}


@pytest.mark.parametrize("name", list(LISTS))
def test_lists_of_images(tmp_path: Path, name: str) -> None:
    write_files(tmp_path / "in", "a.jpg", "b.jpg", "sub/c.jpg")
    path = write_list(tmp_path, name, LISTS[name].format(root=tmp_path))
    index, contents = read_all(path)
    assert index.error is None
    assert list(contents.values()) == [picture(n) for n in ("a.jpg", "b.jpg", "sub/c.jpg")]
    assert next(iter(contents)) == "../in/a.jpg"


def test_entries_that_cannot_be_opened_are_their_own_errors(tmp_path: Path) -> None:
    write_files(tmp_path / "lists", "a.jpg")
    text = "a.jpg\ngone.jpg\nhttp://host/x.jpg\nsimplecache::http://host/y.jpg\na.jpg\n"
    contents = read_all(write_list(tmp_path, "a.txt", text))[1]
    assert contents["a.jpg"] == contents["a.jpg#2"] == picture("a.jpg")
    assert "no such file" in contents["gone.jpg"]
    assert "only local paths" in contents["http://host/x.jpg"]
    assert "chained" in contents["simplecache::http://host/y.jpg"]


@pytest.mark.parametrize(
    ("name", "text", "why"),
    [
        ("a.jsonl", '"a.jpg"\n{not json\n', "line 2 is not JSON"),
        ("a.jsonl", '"a.jpg"\n{"label": 1}\n', "line 2 has none of the fields"),
        ("a.csv", "path,label\na.jpg,1\n,2\n", "line 3 has no column 1"),
    ],
)
def test_a_list_that_is_none_names_the_line(tmp_path: Path, name: str, text: str, why: str) -> None:
    index, _ = read_all(write_list(tmp_path, name, text))
    assert why in str(index.error)


def test_a_list_that_is_none_from_the_start_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"a\.csv: the header has none of the columns uri, "):
        list_shards([str(write_list(tmp_path, "a.csv", "id,label\n1,2\n"))])


@pytest.mark.parametrize("other", ["x.jpg", "a.txt"])
def test_a_list_of_archives_names_nothing_else_least_of_all_itself(
    tmp_path: Path, other: str
) -> None:
    write_files(tmp_path / "lists", "x.tar", "x.jpg")
    with pytest.raises(UserError, match="images or archives"):
        list_shards([str(write_list(tmp_path, "a.txt", f"x.tar\n{other}\n"))])


def test_a_list_of_archives_is_those_archives(tmp_path: Path) -> None:
    write_files(tmp_path, "x/a.tar", "y/b.tar", size=1024)
    path = write_list(tmp_path, "a.jsonl", "\n".join(map(json.dumps, ["../x/a.tar", "../y/b.tar"])))
    assert [shard.id for shard in list_shards([str(path)])] == ["x/a.tar", "y/b.tar"]
