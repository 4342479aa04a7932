"""Names from data: safe, short, and different for different input."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import quote, unquote, urljoin, urlsplit

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow.dataset import dataset

from jobs.pipeline.record.names import Mark, escape_key, shard_path

SAFE = {"~": re.compile(r"[A-Za-z0-9._~-]+"), "%": re.compile(r"[A-Za-z0-9._%~-]+")}
MARKS = pytest.mark.parametrize("mark", SAFE)
ANY_TEXT = st.text(st.characters(codec=None), max_size=400)
NASTY = [
    "",
    ".",
    "..",
    "../../etc/passwd",
    "/etc/passwd",
    "a/../b",
    "a//b",
    "a\\b",
    "a\0b",
    "a\nb",
    " a ",
    "a.",
    ".a",
    "CON",
    "con.jpg",
    "COM1",
    "~",
    "a~12345678",
    "%2E",
    "a%2Fb",
    "a/b",
    "a_b",
    "é",
    "e\u0301",
    "日本語",
    "\udcff",
    "x" * 5000,
    "x" * 5001,
    "IMG_1",
    "img_1",
    "Img_1",
    "a#2",
    "https://host/a?b=c&d",
]


@MARKS
@given(key=ANY_TEXT)
def test_an_escaped_key_is_one_safe_component(key: str, mark: Mark) -> None:
    name = escape_key(key, mark)
    assert SAFE[mark].fullmatch(name)
    assert name[0] != "."
    assert name[-1] != "."
    assert len(name) <= 170


@MARKS
@given(one=ANY_TEXT, other=ANY_TEXT)
def test_different_keys_have_names_that_differ_beyond_case(
    one: str, other: str, mark: Mark
) -> None:
    if one != other:
        assert escape_key(one, mark).casefold() != escape_key(other, mark).casefold()


@MARKS
def test_nasty_keys_all_stay_apart_even_where_case_is_ignored(mark: Mark) -> None:
    assert len({escape_key(key, mark).casefold() for key in NASTY}) == len(NASTY)


@given(st.from_regex(r"[a-z0-9-][a-z0-9_-]{0,39}(\.[a-z0-9]{1,5})?", fullmatch=True))
def test_ordinary_keys_are_left_as_they_are(key: str) -> None:
    if not re.match(r"(con|prn|aux|nul|com\d|lpt\d)(\.|$)", key):
        assert escape_key(key, "~") == escape_key(key, "%") == key


@MARKS
@pytest.mark.parametrize("key", NASTY)
def test_files_of_these_names_can_be_made(tmp_path: Path, key: str, mark: Mark) -> None:
    path = tmp_path / f"{escape_key(key, mark)}_12.texture.webp"
    path.write_bytes(b"x")
    assert path.resolve().parent == tmp_path.resolve()


@MARKS
@given(shard_id=ANY_TEXT)
def test_a_shard_path_stays_inside(shard_id: str, mark: Mark) -> None:
    path = shard_path(shard_id, mark)
    assert len(path) <= 640
    for part in path.split("/"):
        assert SAFE[mark].fullmatch(part)
        assert part[0] != "."
        assert part[-1] != "."
        assert len(part) <= 150


@MARKS
@given(one=ANY_TEXT, other=ANY_TEXT)
def test_different_shards_have_different_paths(one: str, other: str, mark: Mark) -> None:
    if one != other:
        assert shard_path(one, mark) != shard_path(other, mark)


@given(ANY_TEXT, ANY_TEXT)
def test_a_name_is_its_own_url(shard_id: str, key: str) -> None:
    """No URL escapes it, none unescapes it, and it does not climb: what is joined is what opens."""
    rel = f"meshes/{shard_path(shard_id, '~')}/{escape_key(key, '~')}_0.glb"
    assert quote(rel) == unquote(rel) == rel
    for base in ("http://host:8000/a/", "file:///a/", "s3://bucket/a/"):
        assert urlsplit(base + rel).path == f"/a/{rel}"
    assert urljoin("http://host:8000/a/", rel) == f"http://host:8000/a/{rel}"


def test_a_shard_path_keeps_its_folders_and_plain_names() -> None:
    assert shard_path("train/part-0001.tar", "~") == "train/part-0001.tar"
    assert shard_path("a b/../c.tar", "~") == "a~20b/~2E~2E/c.tar"
    assert shard_path("exif rot~.jpg", "~") == "exif~20rot~7E.jpg"


def test_names_of_version_0_1_are_what_they_were() -> None:
    """As written down from version 0.1; runs that it began go on under these names."""
    assert shard_path("a b/../c.tar", "%") == "a%20b/%2E%2E/c.tar"
    assert shard_path("x.parquet/~", "%") == "x%2Eparquet/%7E"
    assert escape_key("exif rot.jpg", "%") == "exif%20rot.jpg"
    assert escape_key("IMG_1.JPG", "%") == "IMG_1.JPG~5ce2a9e8"
    assert escape_key("con", "%") == "%63on"
    assert escape_key("", "%") == "%"
    assert escape_key("x" * 300, "%").endswith("x~0d4e2ca9e9cbced7a7a5380eb29e1a37")


@pytest.mark.parametrize("shard_id", ["a/000000.parquet", "a/000000.PARQUET", "x.parquet/y"])
def test_no_folder_of_a_shard_can_be_mistaken_for_a_part_file(shard_id: str) -> None:
    for part in shard_path(shard_id, "~").split("/"):
        assert not part.lower().endswith(".parquet")


@pytest.mark.parametrize("shard_id", ["_hidden/a.tar", ".hidden/a.tar", "a/_b.tar", "a/.b.tar"])
def test_arrow_reads_the_parts_of_every_shard(tmp_path: Path, shard_id: str) -> None:
    part = tmp_path / "annotations" / shard_path(shard_id, "~") / "000000.parquet"
    part.parent.mkdir(parents=True)
    pq.write_table(pa.table({"n": [1]}), part)
    assert dataset(tmp_path / "annotations").count_rows() == 1
