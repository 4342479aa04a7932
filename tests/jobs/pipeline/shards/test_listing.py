"""From INPUT to shards: what is found, how it is called, and that names last."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobs.pipeline.shards import Shard, index_shard, list_shards
from jobs.pipeline.shards.patterns import compile_pattern, escape
from jobs.pipeline.storage.store import StoreError
from tddfa3.errors import UserError
from tests.support.shard_tools import read_all, write_files


def ids(*inputs: object) -> dict[str, str]:
    return {shard.id: shard.kind for shard in list_shards([str(given) for given in inputs])}


def keys(shard: Shard) -> list[str]:
    return [member.key for member in index_shard(shard).members]


def test_a_tree_of_everything(tmp_path: Path) -> None:
    write_files(
        tmp_path,
        *("a.jpg", "sub/b.PNG", "sub/deep/c.webp", "shards/0.tar", "shards/1.TAR.GZ"),
        *("shards/2.tgz", "shards/3.tar.zst", "z.zip", "data/train.parquet"),
        *("notes.txt", "list.csv", "sub/.git/x.jpg", "__MACOSX/y.jpg", ".cache/z.tar"),
    )
    assert ids(tmp_path) == {
        "root": "folder",
        "data/train.parquet": "parquet",
        "shards/0.tar": "tar",
        "shards/1.TAR.GZ": "tar",
        "shards/2.tgz": "tar",
        "shards/3.tar.zst": "tar",
        "sub": "folder",
        "sub/deep": "folder",
        "z.zip": "zip",
    }
    assert [shard.id for shard in list_shards([str(tmp_path)])] == sorted(ids(tmp_path))


def test_an_input_that_grows_keeps_the_names_of_what_was_there(tmp_path: Path) -> None:
    write_files(tmp_path, "sub/a.jpg", "x.tar")
    before = {shard.id: shard for shard in list_shards([str(tmp_path)])}
    write_files(tmp_path, "new.jpg", "sub/deep/b.jpg", "x.zip", "x.tar.gz", "0/y.tar", "x/c.jpg")
    after = {shard.id: shard for shard in list_shards([str(tmp_path)])}
    assert {shard_id: after[shard_id] for shard_id in before} == before
    assert len(after) == 8


def test_the_same_input_under_other_names_has_the_same_ids(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_files(tmp_path / "in", "a.jpg", "sub/b.jpg")
    monkeypatch.chdir(tmp_path)
    for given in ("in", "./in/", f"{tmp_path}/in", f"file://{tmp_path}/in", "sub/../in"):
        assert list_shards([given]) == list_shards(["in"])


def test_several_inputs_are_named_from_their_common_folder(tmp_path: Path) -> None:
    write_files(tmp_path, "one/a.jpg", "one/x.tar", "two/sub/b.jpg", "two/x.tar", "three/y.zip")
    found = ids(tmp_path / "one", tmp_path / "two", tmp_path / "three/y.zip")
    assert list(found) == ["one", "one/x.tar", "three/y.zip", "two/sub", "two/x.tar"]
    assert ids(tmp_path / "one", tmp_path / "one") == ids(tmp_path / "one")
    assert len(ids(tmp_path, tmp_path / "two")) == 5


def test_patterns(tmp_path: Path) -> None:
    write_files(tmp_path, "s/0.tar", "s/1.tar", "s/10.tar", "s/x.zip", "s/deep/2.tar", "o/3.tar")
    assert list(ids(tmp_path / "s/?.tar")) == ["0.tar", "1.tar"]
    assert list(ids(tmp_path / "s/*.tar")) == ["0.tar", "1.tar", "10.tar"]
    assert list(ids(tmp_path / "s/**/*.tar")) == ["0.tar", "1.tar", "10.tar", "deep/2.tar"]
    assert list(ids(tmp_path / "*/[0-3].tar")) == ["o/3.tar", "s/0.tar", "s/1.tar"]


def test_a_pattern_for_images_takes_those_images_only(tmp_path: Path) -> None:
    write_files(tmp_path, "p/a1.jpg", "p/a2.jpg", "p/b1.jpg", "q/a3.jpg")
    first, second = list_shards([f"{tmp_path}/*/a*.jpg"])
    assert (first.id, keys(first)) == ("p", ["a1.jpg", "a2.jpg"])
    assert (second.id, keys(second)) == ("q", ["a3.jpg"])
    shards = list_shards([f"{tmp_path}/p/a*.jpg", f"{tmp_path}/p/b*.jpg"])
    assert len({shard.id for shard in shards}) == 2
    assert sorted(key for shard in shards for key in keys(shard)) == [
        "a1.jpg",
        "a2.jpg",
        "b1.jpg",
    ]


def test_single_files(tmp_path: Path) -> None:
    write_files(tmp_path, "a.jpg", "b.jpg", "we[i]rd.jpg", "weird.jpg", "x.tar")
    assert ids(tmp_path / "x.tar") == {"x.tar": "tar"}
    for name in ("a.jpg", "we[i]rd.jpg"):
        (shard,) = list_shards([str(tmp_path / name)])
        assert (shard.id, shard.kind, keys(shard)) == (name, "folder", [name])
        assert index_shard(shard).error is None


def test_outputs_of_earlier_runs_are_no_input(tmp_path: Path) -> None:
    write_files(tmp_path, "a.jpg", "out/_run/manifest.json", "out/annotations/x/000000.parquet")
    write_files(tmp_path, "out/overlays/x/a.jpg", "outer/b.jpg")
    assert list(ids(tmp_path)) == ["outer", "root"]


def test_folders_that_are_called_as_our_own_names(tmp_path: Path) -> None:
    write_files(tmp_path, "a.jpg", "root/b.jpg", "root_/c.jpg", "root/root/d.jpg")
    shards = list_shards([str(tmp_path)])
    assert {shard.id: keys(shard) for shard in shards} == {
        "root": ["a.jpg"],
        "root_": ["b.jpg"],
        "root__": ["c.jpg"],
        "root/root": ["d.jpg"],
    }


def test_ids_that_differ_in_case_only_are_kept_apart(tmp_path: Path) -> None:
    write_files(tmp_path, "A/x.jpg", "a/x.jpg", "b/x.jpg")
    if not (tmp_path / "a").samefile(tmp_path / "A"):
        found = list(ids(tmp_path))
        assert len({name.casefold() for name in found}) == 3
        assert "b" in found


def test_empty_folders_and_archives_that_are_none_are_still_shards(tmp_path: Path) -> None:
    write_files(tmp_path, "x.tar", size=0)
    index, _ = read_all(tmp_path / "x.tar")
    assert index.error is not None


@pytest.mark.parametrize("given", ["nothing", "nothing/*.tar", "nothing.tar", "empty", "a.txt"])
def test_inputs_without_anything_to_label_are_explained(tmp_path: Path, given: str) -> None:
    (tmp_path / "empty/sub").mkdir(parents=True)
    (tmp_path / "a.txt").write_text("")
    if given == "a.txt":
        assert list(ids(tmp_path / given)) == ["a.txt"]
    else:
        with pytest.raises(UserError, match=given.replace("*", r"\*")):
            list_shards([str(tmp_path / given)])


def test_a_file_of_no_known_kind_is_explained(tmp_path: Path) -> None:
    write_files(tmp_path, "video.mp4")
    with pytest.raises(UserError, match=r"video\.mp4.*tar"):
        list_shards([str(tmp_path / "video.mp4")])


def test_other_schemes_are_refused() -> None:
    with pytest.raises(StoreError, match="s3://"):
        list_shards(["http://host/x.tar"])


@pytest.mark.parametrize(
    ("pattern", "matching", "other"),
    [
        ("*.jpg", ["a.jpg", ".jpg"], ["a/b.jpg", "a.png", "a.jpg.x"]),
        ("**/*.jpg", ["a.jpg", "x/a.jpg", "x/y/a.jpg"], ["a.png"]),
        ("a/**", ["a/b", "a/b/c"], ["a", "ab/c"]),
        ("?.jpg", ["a.jpg"], ["ab.jpg", "/.jpg"]),
        ("[a-c]x", ["ax", "cx"], ["dx", "x"]),
        ("[!a-c]x", ["dx"], ["ax"]),
        ("[]^]x", ["]x", "^x"], ["ax"]),
        ("a.b", ["a.b"], ["axb"]),
        ("[", ["["], ["a"]),
    ],
)
def test_shell_patterns(pattern: str, matching: list[str], other: list[str]) -> None:
    matches = compile_pattern(pattern)
    assert [text for text in matching if not matches(text)] == []
    assert [text for text in other if matches(text)] == []


@pytest.mark.parametrize("text", ["a.jpg", "[x].jpg", "a*b?", "we[i]rd", "a[", "]"])
def test_an_escaped_name_matches_itself_only(text: str) -> None:
    matches = compile_pattern(escape(text))
    assert matches(text)
    assert not matches(text.replace("[", "").replace("*", "x").replace("?", "y") + "!")
