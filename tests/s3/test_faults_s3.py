"""Throttling, dropped connections and lost replies, between the store and a real server."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from jobs.pipeline.storage.store import Store, StoreError
from tests.support.fault_proxy import Fault, FaultProxy
from tests.support.seaweed import SeaweedServer

DATA = b"0123456789" * 20_000


@pytest.fixture
def proxy(s3_server: SeaweedServer) -> Iterator[FaultProxy]:
    proxy = FaultProxy(s3_server.endpoint)
    yield proxy
    proxy.close()


@pytest.fixture
def store(proxy: FaultProxy, s3_url: str) -> Store:
    return Store.open(s3_url, s3_endpoint=proxy.endpoint)


@pytest.mark.parametrize("fault", ["throttle", "drop", "lose_reply", "cut_body"])
def test_a_read_is_repeated_until_it_is_whole(
    store: Store, proxy: FaultProxy, fault: Fault
) -> None:
    store.publish("x", DATA)
    proxy.spoil(fault, "GET", 2)
    assert store.read("x") == DATA
    assert store.read("x", 5, 100_000) == DATA[5:100_000]
    assert proxy.requests["GET"] >= 4


@pytest.mark.parametrize("fault", ["throttle", "drop", "lose_reply"])
def test_a_write_is_repeated(store: Store, proxy: FaultProxy, fault: Fault) -> None:
    proxy.spoil(fault, "PUT", 2)
    store.publish("x", DATA)
    assert store.read("x") == DATA
    assert [entry.rel for entry in store.list()] == ["x"]


@pytest.mark.parametrize("fault", ["throttle", "drop", "lose_reply"])
def test_a_create_only_write_is_ours_even_if_the_reply_was_lost(
    store: Store, proxy: FaultProxy, fault: Fault
) -> None:
    proxy.spoil(fault, "PUT")
    assert store.publish_new("claim", b"mine")
    proxy.spoil(fault, "PUT")
    assert not store.publish_new("claim", b"another's")
    assert store.read("claim") == b"mine"


def test_listing_and_deleting_are_repeated(store: Store, proxy: FaultProxy) -> None:
    store.publish("x", b"x")
    proxy.spoil("throttle", "GET")
    proxy.spoil("drop", "DELETE")
    assert [entry.rel for entry in store.list()] == ["x"]
    store.delete("x")
    assert list(store.list()) == []


@pytest.mark.parametrize(("fault", "kind"), [("throttle", "unavailable"), ("full", "full")])
def test_what_does_not_pass_is_told(
    store: Store, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch, fault: Fault, kind: str
) -> None:
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "2")
    proxy.spoil(fault, "PUT", 1000)
    with pytest.raises(StoreError) as raised:
        store.publish("x", b"x")
    assert (raised.value.kind, raised.value.fatal) == (kind, True)
    assert proxy.requests["PUT"] <= 2, "the layers do not multiply each other's attempts"
    assert not store.exists("x")


def test_parts_of_a_large_object_that_fail_leave_no_object(
    store: Store, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    proxy.spoil("drop", "PUT", 1000)
    with pytest.raises(StoreError):
        store.publish("x", bytes(101 << 20))
    assert not store.exists("x")
    assert list(store.list()) == []
