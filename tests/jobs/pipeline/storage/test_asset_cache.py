"""Bundles from storage: fetched once, whole or not at all, and only if the digests are right."""

from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from jobs.pipeline.storage import asset_cache
from jobs.pipeline.storage.asset_cache import local_bundle
from jobs.pipeline.storage.store import ALLOW_MEMORY, Store
from tddfa3.assets.bundle import BUNDLE_JSON, AssetBundle
from tddfa3.errors import AssetError

URL = "memory:bucket/bundles/small"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(asset_cache.CACHE_VARIABLE, str(tmp_path / "cache"))
    monkeypatch.setenv(ALLOW_MEMORY, "1")
    return tmp_path / "cache" / "bundles"


@pytest.fixture
def stored(small_bundle: AssetBundle) -> Store:
    """The small bundle in a store that is no local folder."""
    store = Store.open(URL)
    for name in (BUNDLE_JSON, *small_bundle.files):
        store.publish(name, (small_bundle.path / name).read_bytes())
    return store


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of what is read from any store."""
    names: list[str] = []
    lock, read = threading.Lock(), Store.read

    def counted(self: Store, rel: str, start: int | None = None, end: int | None = None) -> bytes:
        with lock:
            names.append(rel)
        return read(self, rel, start, end)

    monkeypatch.setattr(Store, "read", counted)
    return names


def test_a_local_bundle_stays_where_it_is(small_bundle: AssetBundle, cache: Path) -> None:
    assert local_bundle(str(small_bundle.path)) == small_bundle.path.resolve()
    assert not cache.exists()


@pytest.mark.usefixtures("stored")
def test_a_stored_bundle_is_fetched_once(
    small_bundle: AssetBundle, cache: Path, reads: list[str]
) -> None:
    folder = local_bundle(URL)
    assert folder.parent == cache
    assert AssetBundle.load(folder).digest == small_bundle.digest
    assert AssetBundle.load(folder).face_model().n_vertices == small_bundle.face_model().n_vertices
    first = len(reads)
    assert local_bundle(URL) == folder
    assert reads[first:] == [BUNDLE_JSON]


@pytest.mark.usefixtures("stored")
def test_actors_that_start_together_fetch_once(small_bundle: AssetBundle, reads: list[str]) -> None:
    with ThreadPoolExecutor(6) as pool:
        folders = set(pool.map(lambda _: local_bundle(URL), range(6)))
    assert len(folders) == 1
    assert sorted(set(reads)) == sorted([BUNDLE_JSON, *small_bundle.files])
    for name in small_bundle.files:
        assert reads.count(name) == 1


@pytest.mark.usefixtures("stored")
def test_large_files_come_in_spans(
    small_bundle: AssetBundle, monkeypatch: pytest.MonkeyPatch, reads: list[str]
) -> None:
    monkeypatch.setattr(asset_cache, "_SPAN", 1 << 20)
    folder = local_bundle(URL)
    largest = max(small_bundle.files, key=lambda name: small_bundle.files[name]["bytes"])
    assert (folder / largest).read_bytes() == (small_bundle.path / largest).read_bytes()
    assert reads.count(largest) > 1


def test_a_damaged_file_leaves_nothing_behind(stored: Store, cache: Path) -> None:
    name = next(iter(json.loads(stored.read(BUNDLE_JSON))["files"]))
    data = bytearray(stored.read(name))
    data[len(data) // 2] ^= 1
    stored.publish(name, bytes(data))
    with pytest.raises(AssetError, match="copy the bundle there again") as refused:
        local_bundle(URL)
    assert name in str(refused.value)
    assert [path for path in cache.iterdir() if path.is_dir()] == []


def test_a_missing_file(stored: Store, cache: Path) -> None:
    name = next(iter(json.loads(stored.read(BUNDLE_JSON))["files"]))
    stored.delete(name)
    with pytest.raises(AssetError, match="is missing"):
        local_bundle(URL)
    assert [path for path in cache.iterdir() if path.is_dir()] == []


def test_a_new_bundle_at_the_old_address_is_another_folder(stored: Store) -> None:
    before = local_bundle(URL)
    description = json.loads(stored.read(BUNDLE_JSON))
    stored.publish(BUNDLE_JSON, json.dumps({**description, "name": "other"}).encode())
    after = local_bundle(URL)
    assert after != before
    assert AssetBundle.load(after).name == "other"


@pytest.mark.parametrize("name", ["../../evil", "/etc/evil", "a/b", "..", "", "bundle.json"])
def test_a_name_cannot_lead_out_of_the_cache(stored: Store, tmp_path: Path, name: str) -> None:
    entry = {"sha256": "0" * 64, "bytes": 1}
    stored.publish(BUNDLE_JSON, json.dumps({"files": {name: entry}}).encode())
    with pytest.raises(AssetError, match="not a file name"):
        local_bundle(URL)
    assert {path.name for path in tmp_path.rglob("*") if path.is_file()} <= {
        path.name for path in tmp_path.rglob("*.lock")
    }


@pytest.mark.parametrize("content", [b"", b"[]", b'{"files": 3}', b'{"files": {"a": {}}}', b"\xff"])
def test_a_description_that_is_none(stored: Store, content: bytes) -> None:
    stored.publish(BUNDLE_JSON, content)
    with pytest.raises(AssetError, match="not a bundle's description"):
        local_bundle(URL)


def test_no_bundle_there() -> None:
    with pytest.raises(AssetError, match=r"bundle\.json is missing"):
        local_bundle("memory:bucket/nothing")
