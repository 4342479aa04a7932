"""Every shard format in a bucket: the same keys and bytes as on disk, in few requests."""

from __future__ import annotations

import io
import json
import tarfile
import zipfile
from collections import Counter
from collections.abc import Callable

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from jobs.pipeline.record.index import load_index, save_index
from jobs.pipeline.shards import (
    ReadOptions,
    Shard,
    ShardReadError,
    index_shard,
    list_shards,
    read_members,
)
from jobs.pipeline.storage.s3 import S3Objects
from jobs.pipeline.storage.store import Store, StoreError
from tddfa3.errors import UserError
from tests.support.ray_cluster import wait_until
from tests.support.seaweed import SeaweedServer

CONTENT = {f"{number:04d}.jpg": b"picture %d " % number * 50 for number in range(40)}


@pytest.fixture
def options(s3_server: SeaweedServer) -> ReadOptions:
    return ReadOptions(s3_endpoint=s3_server.endpoint)


@pytest.fixture
def requests(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Counts ranged reads, and their bytes."""
    counts: Counter[str] = Counter()
    real = S3Objects.read

    def counted(self: S3Objects, rel: str, start: int | None, end: int | None) -> bytes:
        data = real(self, rel, start, end)
        counts["gets"] += 1
        counts["bytes"] += len(data)
        return data

    monkeypatch.setattr(S3Objects, "read", counted)
    return counts


def tar_bytes(content: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, data in content.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def zip_bytes(content: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in content.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def parquet_bytes(content: dict[str, bytes]) -> bytes:
    images = [{"bytes": data, "path": name} for name, data in content.items()]
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({"image": pa.array(images, kind)}), sink, row_group_size=7)
    data: bytes = sink.getvalue().to_pybytes()
    return data


def read_shard(shard: Shard, options: ReadOptions) -> dict[str, bytes | ShardReadError]:
    index = index_shard(shard, options)
    assert index.error is None
    return {member.key: data for member, data in read_members(shard, index.members, options)}


def test_a_prefix_with_everything(s3_store: Store, options: ReadOptions) -> None:
    for name, data in CONTENT.items():
        s3_store.publish(f"in/photos/a b+c/{name}", data)
    s3_store.publish("in/s/a.tar", tar_bytes(CONTENT))
    s3_store.publish("in/s/a.tar.zst", zstandard.ZstdCompressor().compress(tar_bytes(CONTENT)))
    s3_store.publish("in/a.zip", zip_bytes(CONTENT))
    s3_store.publish("in/a.parquet", parquet_bytes(CONTENT))
    s3_store.publish("in/out/_run/manifest.json", b"{}")
    s3_store.publish("in/out/annotations/x/000000.parquet", b"not input")
    shards = list_shards([s3_store.uri("in")], options)
    assert {shard.id: shard.kind for shard in shards} == {
        "a.parquet": "parquet",
        "a.zip": "zip",
        "photos/a b+c": "folder",
        "s/a.tar": "tar",
        "s/a.tar.zst": "tar",
    }
    by_stem = {name.removesuffix(".jpg"): data for name, data in CONTENT.items()}
    for shard in shards:
        expected = by_stem if shard.kind == "tar" else CONTENT
        assert read_shard(shard, options) == expected
    assert list_shards([s3_store.uri("in") + "/"], options) == shards


def test_single_objects_and_patterns(s3_store: Store, options: ReadOptions) -> None:
    for number in range(12):
        s3_store.publish(f"s/{number}.tar", tar_bytes(CONTENT))
    (shard,) = list_shards([s3_store.uri("s/3.tar")], options)
    assert shard.id == "3.tar"
    found = list_shards([s3_store.uri("s/?.tar")], options)
    assert [shard.id for shard in found] == [f"{number}.tar" for number in range(10)]


def test_a_list_in_a_bucket(s3_store: Store, options: ReadOptions) -> None:
    for name, data in CONTENT.items():
        s3_store.publish(f"photos/{name}", data)
    entries = [f"photos/{name}" for name in CONTENT]
    entries[0] = s3_store.uri(entries[0])
    text = "\n".join(json.dumps({"path": entry}) for entry in [*entries, "/etc/hostname.jpg"])
    s3_store.publish("list.jsonl", text.encode())
    (shard,) = list_shards([s3_store.uri("list.jsonl")], options)
    contents = list(read_shard(shard, options).values())
    assert contents[:-1] == list(CONTENT.values())
    assert "local files" in str(contents[-1])


def test_nothing_there(s3_store: Store, options: ReadOptions) -> None:
    for given in ("nothing", "nothing.tar", "nothing/*.tar"):
        with pytest.raises(UserError, match="nothing"):
            list_shards([s3_store.uri(given)], options)


def test_listing_a_tar_reads_it_once_in_large_pieces(
    s3_store: Store, options: ReadOptions, requests: Counter[str]
) -> None:
    content = {f"{number:05d}.jpg": b"x" * 20_000 for number in range(2000)}
    data = tar_bytes(content)
    s3_store.publish("a.tar", data)
    (shard,) = list_shards([s3_store.uri("a.tar")], options)
    index = index_shard(shard, options)
    assert len(index.members) == 2000
    assert requests["gets"] <= len(data) // (8 << 20) + 2
    assert requests["bytes"] <= len(data) + 512

    requests.clear()
    chunk = list(read_members(shard, index.members[500:1000], options))
    assert len(chunk) == 500
    assert requests["gets"] <= 2  # one to see whether it is compressed, one for the span
    assert requests["bytes"] <= 500 * (20_000 + 1024) + 8


def test_large_members_are_jumped_over(
    s3_store: Store, options: ReadOptions, requests: Counter[str]
) -> None:
    s3_store.publish("a.tar", tar_bytes({f"{n}.jpg": b"x" * (20 << 20) for n in range(4)}))
    (shard,) = list_shards([s3_store.uri("a.tar")], options)
    assert len(index_shard(shard, options).members) == 4
    assert requests["bytes"] < 20 << 20


def test_an_index_in_a_bucket(
    s3_store: Store, options: ReadOptions, requests: Counter[str]
) -> None:
    s3_store.publish("a.tar", tar_bytes(CONTENT))
    (shard,) = list_shards([s3_store.uri("a.tar")], options)
    index = index_shard(shard, options)
    save_index(s3_store, "a.parquet", shard, index, 10, 10**6)
    requests.clear()
    kept = load_index(s3_store, "a.parquet")
    assert kept is not None
    assert len(kept.chunks(10, 10**6)) == 4
    assert kept.members(10, 10) == index.members[10:20]
    assert requests["gets"] == 1
    s3_store.publish("a.tar", tar_bytes({**CONTENT, "new.jpg": b"x"}))
    (changed,) = list_shards([s3_store.uri("a.tar")], options)
    assert "etag" in (kept.difference(changed) or "")
    errors = [content for _, content in read_members(shard, index.members, options)]
    assert {getattr(error, "kind", None) for error in errors} == {"changed"}


def test_revoked_credentials_stop_the_run_instead_of_failing_images(
    s3_store: Store, options: ReadOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, data in CONTENT.items():
        s3_store.publish(f"photos/{name}", data)
    s3_store.publish("a.tar", tar_bytes(CONTENT))
    shards = list_shards([s3_store.url], options)
    indexes = [index_shard(shard, options) for shard in shards]
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "canary-revoked")
    for shard, index in zip(shards, indexes, strict=True):
        with pytest.raises(StoreError) as raised:
            list(read_members(shard, index.members, options))
        assert raised.value.kind == "denied"
        with pytest.raises(StoreError):
            index_shard(shard, options)


def test_a_server_that_goes_away_stops_the_run(
    own_server: Callable[[], SeaweedServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "2")
    server = own_server()
    options = ReadOptions(s3_endpoint=server.endpoint)
    store = Store.open("s3://tests/x", s3_endpoint=server.endpoint)
    store.publish("a.tar", tar_bytes(CONTENT))
    (shard,) = list_shards([store.uri("a.tar")], options)
    index = index_shard(shard, options)
    server.kill()
    for attempt in (
        lambda: list(read_members(shard, index.members, options)),
        lambda: index_shard(shard, options),
        lambda: list_shards([store.url], options),
    ):
        with pytest.raises(StoreError) as raised:
            attempt()
        assert raised.value.kind == "unavailable"
    server.start()
    # It answers before its volumes are there again.
    wait_until(lambda: can_be_read(store, "a.tar"), "the archive can be read")
    assert len(list(read_members(shard, index.members, options))) == len(CONTENT)


def can_be_read(store: Store, rel: str) -> bool:
    try:
        store.read(rel, 0, 8)
    except StoreError:
        return False
    return True
