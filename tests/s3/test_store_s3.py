"""The store against a real S3 server: publishing, races, refusals, and a server that goes away."""

from __future__ import annotations

import pickle
import random
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from jobs.pipeline.storage.store import Store, StoreError
from tests.support.seaweed import ACCESS_KEY, SECRET_KEY, SeaweedServer


def test_what_is_published_is_read_back_whole_and_by_range(s3_store: Store) -> None:
    data = random.Random(0).randbytes(300_000)
    s3_store.publish("a/b.bin", data)
    assert s3_store.read("a/b.bin") == data
    assert s3_store.read("a/b.bin", 1000, 1010) == data[1000:1010]
    assert s3_store.read("a/b.bin", 299_990) == data[-10:]
    assert s3_store.read("a/b.bin", 299_990, 400_000) == data[-10:]
    assert s3_store.read("a/b.bin", 300_000, 300_100) == b""
    assert s3_store.exists("a/b.bin")
    assert not s3_store.exists("a")


def test_an_empty_object_is_read_as_empty(s3_store: Store) -> None:
    s3_store.publish("empty", b"")
    assert s3_store.read("empty") == b""
    assert s3_store.size_etag("empty")[0] == 0


def test_a_missing_object_is_not_found(s3_store: Store) -> None:
    assert s3_store.read_or_none("nothing") is None
    with pytest.raises(StoreError, match="nothing") as raised:
        s3_store.read("nothing")
    assert raised.value.kind == "not_found"
    assert not raised.value.fatal
    s3_store.delete("nothing")


def test_the_etag_follows_the_content(s3_store: Store) -> None:
    s3_store.publish("x", b"one")
    first = s3_store.size_etag("x")
    assert s3_store.size_etag("x") == first
    s3_store.publish("x", b"two")
    assert s3_store.size_etag("x") != first
    assert [(e.size, e.etag) for e in s3_store.list()] == [s3_store.size_etag("x")]


def test_objects_above_the_multipart_threshold_appear_in_one_step(s3_store: Store) -> None:
    data = b"start" + bytes(101 << 20)
    assert s3_store.publish_new("big", data)
    assert s3_store.read("big", len(data) - 5) == data[-5:]
    assert s3_store.size_etag("big")[0] == len(data)
    assert not s3_store.publish_new("big", data[::-1])
    assert s3_store.read("big", 0, 5) == data[:5]
    assert s3_store.publish_new("big", data)


def test_listing_sees_other_writers_at_once_and_is_sorted(s3_store: Store) -> None:
    other = pickle.loads(pickle.dumps(s3_store))
    assert list(s3_store.list("d")) == []
    for name in ("d/b", "d/a/x", "d/a-b", "d/a.b", "e/z", "da"):
        other.publish(name, name.encode())
        assert name in [entry.rel for entry in s3_store.list()]
    assert [entry.rel for entry in s3_store.list("d")] == ["d/a-b", "d/a.b", "d/a/x", "d/b"]
    assert [entry.rel for entry in s3_store.list("d", recursive=False)] == ["d/a-b", "d/a.b", "d/b"]
    other.delete("d/b")
    assert "d/b" not in [entry.rel for entry in s3_store.list()]


def test_a_listing_of_several_pages_is_complete(s3_store: Store) -> None:
    names = [f"many/{number:05d}" for number in range(1203)]
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda name: s3_store.publish(name, b"x"), names))
    assert [entry.rel for entry in s3_store.list("many")] == names


def test_of_several_create_only_writers_one_wins(s3_server: SeaweedServer, s3_url: str) -> None:
    writers = 8
    stores = [Store.open(s3_url, s3_endpoint=s3_server.endpoint) for _ in range(writers)]
    for attempt in range(2):
        start = threading.Barrier(writers)

        def write(
            number: int, name: str = f"claim-{attempt}", start: threading.Barrier = start
        ) -> bool:
            start.wait()
            return stores[number].publish_new(name, b"writer %d" % number)

        with ThreadPoolExecutor(writers) as pool:
            won = list(pool.map(write, range(writers)))
        assert sum(won) == 1
        assert stores[0].read(f"claim-{attempt}") == b"writer %d" % won.index(True)


def test_a_lost_reply_to_a_create_only_write_is_recognised(s3_store: Store) -> None:
    s3_store.publish("manifest", b"mine")  # the attempt whose reply was lost
    assert s3_store.publish_new("manifest", b"mine")
    assert not s3_store.publish_new("manifest", b"not mine")
    assert s3_store.read("manifest") == b"mine"


def test_the_round_trip_check_passes_and_leaves_nothing(s3_store: Store) -> None:
    s3_store.check()
    assert list(s3_store.list()) == []


@pytest.mark.parametrize(
    ("key", "secret"), [(ACCESS_KEY, "canary-wrong-secret"), ("nobody", SECRET_KEY)]
)
def test_wrong_credentials_are_denied_without_showing_them(
    s3_store: Store, monkeypatch: pytest.MonkeyPatch, key: str, secret: str
) -> None:
    s3_store.publish("there", b"x")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", secret)
    for attempt in (
        lambda: s3_store.read("there"),
        lambda: s3_store.publish("new", b"x"),
        lambda: s3_store.publish_new("new", b"x"),
        lambda: list(s3_store.list()),
        lambda: s3_store.size_etag("there"),
        s3_store.check,
    ):
        with pytest.raises(StoreError) as raised:
            attempt()
        assert raised.value.kind == "denied"
        assert raised.value.__cause__ is None
        for text in (str(raised.value), repr(raised.value)):
            assert s3_store.url in text
            assert "canary" not in text


def test_no_credentials_at_all_are_denied(
    s3_store: Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    with pytest.raises(StoreError, match="AWS_ACCESS_KEY_ID") as raised:
        s3_store.publish("x", b"x")
    assert raised.value.kind == "denied"


def test_secrets_are_in_no_pickle_and_no_repr(s3_store: Store) -> None:
    s3_store.publish("x", b"x")  # the client exists by now
    data = pickle.dumps(s3_store)
    for secret in (SECRET_KEY, ACCESS_KEY):
        assert secret.encode() not in data
        assert secret not in repr(s3_store) + str(vars(s3_store))
    assert pickle.loads(data).read("x") == b"x"


def test_another_process_opens_a_pickled_store_from_its_own_environment(s3_store: Store) -> None:
    program = (
        "import pickle, sys; store = pickle.load(sys.stdin.buffer); store.publish('from', b'there')"
    )
    subprocess.run([sys.executable, "-c", program], input=pickle.dumps(s3_store), check=True)
    assert s3_store.read("from") == b"there"


def test_a_missing_bucket_stops_the_run(s3_server: SeaweedServer) -> None:
    store = Store.open("s3://no-such-bucket/x", s3_endpoint=s3_server.endpoint)
    for attempt in (
        lambda: store.read("x"),
        lambda: store.publish("x", b"x"),
        lambda: store.publish_new("x", b"x"),
        lambda: list(store.list()),
    ):
        with pytest.raises(StoreError, match="no-such-bucket") as raised:
            attempt()
        assert raised.value.fatal


def test_a_killed_server_is_unavailable_and_what_it_acknowledged_survives(
    own_server: Callable[[], SeaweedServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "2")
    server = own_server()
    store = Store.open("s3://tests/x", s3_endpoint=server.endpoint)
    for number in range(20):
        store.publish(f"{number:02d}", b"acknowledged %d" % number)
    server.kill()
    for attempt in (
        lambda: store.read("00"),
        lambda: store.publish("new", b"x"),
        lambda: store.publish_new("new", b"x"),
        lambda: list(store.list()),
    ):
        with pytest.raises(StoreError) as raised:
            attempt()
        assert raised.value.kind == "unavailable"
    server.start()
    # It answers with errors until it knows its volumes again: as many attempts as a run has.
    monkeypatch.delenv("AWS_MAX_ATTEMPTS")
    store = Store.open("s3://tests/x", s3_endpoint=server.endpoint)
    assert [entry.rel for entry in store.list()] == [f"{number:02d}" for number in range(20)]
    assert store.read("19") == b"acknowledged 19"


def test_a_restart_of_the_server_is_ridden_out(own_server: Callable[[], SeaweedServer]) -> None:
    server = own_server()
    store = Store.open("s3://tests/x", s3_endpoint=server.endpoint)
    store.publish("before", b"x")
    server.kill()
    restart = threading.Timer(1.0, server.start)
    restart.start()
    try:
        store.publish("during", b"x")
    finally:
        restart.join()
    assert store.read("during") == b"x"
