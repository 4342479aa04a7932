"""The store on local folders: atomic publishing, listing, refusals, killed writers."""

from __future__ import annotations

import errno
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from jobs.pipeline.storage import local as store_local
from jobs.pipeline.storage.store import Entry, Store, StoreError, locate, parse_url


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(str(tmp_path / "root"))


@pytest.fixture
def memory(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Store:
    monkeypatch.setenv("TDDFA3_ALLOW_MEMORY", "1")
    return Store.open(f"memory://{request.node.name}")


@pytest.fixture(params=["store", "memory"])
def any_store(request: pytest.FixtureRequest) -> Store:
    found: Store = request.getfixturevalue(request.param)
    return found


def names(store: Store, prefix: str = "") -> list[str]:
    return [entry.rel for entry in store.list(prefix)]


def test_what_is_published_is_read_back_whole_and_by_range(any_store: Store) -> None:
    data = bytes(range(256)) * 10
    any_store.publish("a/b/c.bin", data)
    assert any_store.read("a/b/c.bin") == data
    assert any_store.read("a/b/c.bin", 5, 9) == data[5:9]
    assert any_store.read("a/b/c.bin", 2550) == data[2550:]
    assert any_store.read("a/b/c.bin", 2550, 9999) == data[2550:]
    assert any_store.read("a/b/c.bin", 9999, 10_000) == b""
    assert any_store.read("a/b/c.bin", 5, 5) == b""
    any_store.publish("a/b/c.bin", b"other")
    assert any_store.read("a/b/c.bin") == b"other"


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_any_bytes_can_be_published(any_store: Store, kind: type) -> None:
    any_store.publish("x", kind(b"data"))
    assert any_store.publish_new("y", kind(b"data"))
    assert any_store.read("x") == any_store.read("y") == b"data"


def test_missing_files_are_not_found(any_store: Store) -> None:
    assert any_store.read_or_none("nothing") is None
    assert not any_store.exists("nothing")
    assert names(any_store, "nothing") == []
    any_store.delete("nothing")
    for attempt in (lambda: any_store.read("nothing"), lambda: any_store.size_etag("nothing")):
        with pytest.raises(StoreError, match="nothing") as raised:
            attempt()
        assert (raised.value.kind, raised.value.fatal) == ("not_found", False)


def test_a_folder_is_no_file(store: Store) -> None:
    store.publish("folder/file", b"x")
    assert not store.exists("folder")
    with pytest.raises(StoreError):
        store.read("folder")


def test_listing_is_recursive_sorted_by_whole_name_and_limited_to_the_folder(
    any_store: Store,
) -> None:
    for name in ("b", "a/x", "a-b", "a.b", "ab/c", "a/sub/deep"):
        any_store.publish(name, name.encode())
    assert names(any_store) == ["a-b", "a.b", "a/sub/deep", "a/x", "ab/c", "b"]
    assert names(any_store, "a") == ["a/sub/deep", "a/x"]
    assert [e.rel for e in any_store.list("a", recursive=False)] == ["a/x"]
    assert [e.size for e in any_store.list("ab")] == [4]
    any_store.delete("b")
    assert "b" not in names(any_store)


def test_the_etag_follows_the_content(any_store: Store) -> None:
    any_store.publish("x", b"one")
    before = any_store.size_etag("x")
    assert list(any_store.list()) == [Entry("x", *before)]
    time.sleep(0.02)
    any_store.publish("x", b"two")
    assert any_store.size_etag("x") != before


def test_create_only_keeps_what_was_first(any_store: Store) -> None:
    assert any_store.publish_new("x/claim", b"first")
    assert not any_store.publish_new("x/claim", b"second")
    assert any_store.publish_new("x/claim", b"first"), "the same content counts as ours"
    assert any_store.read("x/claim") == b"first"
    assert names(any_store) == ["x/claim"]


def test_of_many_create_only_writers_one_wins(store: Store) -> None:
    for attempt in range(20):
        start = threading.Barrier(8)

        def write(number: int, name: str = f"{attempt}", start: threading.Barrier = start) -> bool:
            start.wait()
            return store.publish_new(name, b"writer %d" % number)

        with ThreadPoolExecutor(8) as pool:
            won = list(pool.map(write, range(8)))
        assert sum(won) == 1
        assert store.read(str(attempt)) == b"writer %d" % won.index(True)


def test_create_only_works_without_hard_links(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(source: object, target: object) -> None:
        raise OSError(errno.EPERM, "no hard links here")

    monkeypatch.setattr(os, "link", refuse)
    assert store.publish_new("x", b"first")
    assert not store.publish_new("x", b"second")
    assert (store.read("x"), names(store)) == (b"first", ["x"])


def test_without_hard_links_too_a_name_is_whole_or_not_there(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever is written is written under another name; killed there, nothing is to be seen."""

    def refuse(source: object, target: object) -> None:
        raise OSError(errno.EPERM, "no hard links here")

    def killed(source: object, target: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "link", refuse)
    monkeypatch.setattr(os, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        store.publish_new("x", bytes(100_000))
    assert not store.exists("x")


def test_what_killed_writers_left_is_swept_and_what_is_being_written_is_not(
    tmp_path: Path,
) -> None:
    store = Store.open(str(tmp_path))
    store.publish("d/x", b"x")
    old, young = (tmp_path / "d" / f".tddfa3-{digit * 16}.tmp" for digit in "ab")
    other = tmp_path / "d" / ".hidden"
    for path in (old, young, other):
        path.write_bytes(b"half")
    for path in (old, other):
        os.utime(path, (1, 1))
    store.sweep("d")
    store.sweep("nothing")
    assert sorted(path.name for path in (tmp_path / "d").iterdir()) == [".hidden", young.name, "x"]


def test_readers_see_the_old_content_or_the_new_never_a_mixture(store: Store) -> None:
    versions = [bytes([number]) * 200_000 for number in range(30)]
    store.publish("x", versions[0])
    done = threading.Event()
    seen: set[bytes] = set()

    def read() -> None:
        while not done.is_set():
            seen.add(store.read("x"))

    reader = threading.Thread(target=read)
    reader.start()
    for version in versions:
        store.publish("x", version)
    done.set()
    reader.join()
    assert seen <= set(versions)


def test_a_killed_writer_leaves_nothing_that_is_listed_and_the_old_content(store: Store) -> None:
    """SIGKILL between the synced temporary file and the rename."""
    store.publish("x", b"old")
    program = (
        "import os, signal, sys\n"
        "from jobs.pipeline.storage.store import Store\n"
        "os.replace = lambda *names: os.kill(os.getpid(), signal.SIGKILL)\n"
        "Store.open(sys.argv[1]).publish('x', b'new')\n"
    )
    killed = subprocess.run([sys.executable, "-c", program, store.url], timeout=60)
    assert killed.returncode == -signal.SIGKILL
    left = [name for name in os.listdir(store.url) if name != "x"]
    assert len(left) == 1
    assert store_local.is_temporary(left[0])
    assert names(store) == ["x"]
    assert store.read("x") == b"old"
    store.publish("x", b"newer")
    assert store.read("x") == b"newer"


def test_a_failed_write_leaves_nothing(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    store.publish("x", b"old")

    def fail(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(StoreError, match="no space") as raised:
        store.publish("x", b"new")
    assert (raised.value.kind, raised.value.fatal) == ("full", True)
    assert os.listdir(store.url) == ["x"]
    assert store.read("x") == b"old"


def test_a_file_size_limit_is_full(store: Store) -> None:
    """A real limit of the operating system: RLIMIT_FSIZE, in a process of its own."""
    program = (
        "import resource, sys\n"
        "from jobs.pipeline.storage.store import Store, StoreError\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))\n"
        "store = Store.open(sys.argv[1])\n"
        "store.publish('small', b'x' * 9_000)\n"
        "try:\n"
        "    store.publish('big', b'x' * 20_000)\n"
        "except StoreError as error:\n"
        "    print(error.kind)\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", program, store.url], capture_output=True, text=True, timeout=60
    )
    assert (run.stdout.strip(), run.stderr) == ("full", "")
    assert os.listdir(store.url) == ["small"]


@pytest.mark.parametrize(
    ("number", "kind", "fatal"),
    [
        (errno.EACCES, "denied", True),
        (errno.EROFS, "denied", True),
        (errno.EDQUOT, "full", True),
        (errno.EIO, "unavailable", True),
        (errno.ESTALE, "unavailable", True),
        (errno.ENAMETOOLONG, "failed", False),
    ],
)
def test_errors_of_the_system_say_what_to_do(
    store: Store, monkeypatch: pytest.MonkeyPatch, number: int, kind: str, fatal: bool
) -> None:
    store.publish("warm", b"x")

    def fail(source: object, target: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(StoreError, match="some/file") as raised:
        store.publish("some/file", b"x")
    assert (raised.value.kind, raised.value.fatal) == (kind, fatal)


def test_a_bad_sector_is_one_files_problem(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    store.publish("x", b"x")

    def fail(descriptor: int, count: int, offset: int) -> bytes:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "pread", fail)
    with pytest.raises(StoreError) as raised:
        store.read("x")
    assert not raised.value.fatal


def test_a_file_in_the_way_of_a_folder(store: Store) -> None:
    store.publish("a", b"x")
    with pytest.raises(StoreError, match="a/b") as raised:
        store.publish("a/b", b"x")
    assert raised.value.kind == "failed"


@pytest.mark.parametrize("rel", ["", "/etc/passwd", "..", "../x", "a/../../x", "a/..", "a\0b", "/"])
def test_names_that_lead_out_are_refused(any_store: Store, rel: str) -> None:
    for attempt in (
        lambda: any_store.read(rel),
        lambda: any_store.publish(rel, b"x"),
        lambda: any_store.publish_new(rel, b"x"),
        lambda: any_store.delete(rel),
        lambda: any_store.size_etag(rel),
    ):
        with pytest.raises(StoreError) as raised:
            attempt()
        assert raised.value.kind == "refused"


@pytest.mark.parametrize(
    "url",
    [
        "",
        "http://host/x",
        "https://host/x",
        "ftp://host/x",
        "memory://x",
        "simplecache::s3://bucket/x",
        "simplecache::http://host/x",
        "zip://a.zip::/x",
        "file://otherhost/x",
        "file:relative",
        "s3://",
        "s3:///key",
        "s3://user:canary@bucket/x",
        "s3://bucket/../x",
        "gs://bucket/x",
        "data:text/plain,x",
        "x\0y",
    ],
)
def test_urls_of_other_kinds_are_refused(url: str) -> None:
    with pytest.raises(StoreError) as raised:
        Store.open(url)
    assert raised.value.kind == "refused"
    assert "canary" not in str(raised.value)


@pytest.mark.parametrize(
    "endpoint",
    ["host:9000", "ftp://host", "http://user:canary@host", "http://", "file:///etc"],
)
def test_endpoints_are_plain_http_and_carry_no_credentials(endpoint: str) -> None:
    with pytest.raises(StoreError) as raised:
        Store.open("s3://bucket/x", s3_endpoint=endpoint)
    assert raised.value.kind == "refused"
    assert "canary" not in str(raised.value)


def test_local_urls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert parse_url("a/b") == ("local", f"{tmp_path}/a/b")
    assert parse_url("./a:b::c") == ("local", f"{tmp_path}/a:b::c")
    assert parse_url("/a/./b/") == ("local", "/a/b")
    assert parse_url("file:///a/b%20c") == ("local", "/a/b c")
    assert parse_url("s3://bucket/a/b/") == ("s3", "bucket/a/b")
    assert parse_url("S3://bucket") == ("s3", "bucket")


def test_locate_takes_a_uri_apart(store: Store) -> None:
    store.publish("a/b.tar", b"x")
    folder, name = locate(store.uri("a/b.tar"))
    assert (folder.read(name), name) == (b"x", "b.tar")
    folder, name = locate("s3://bucket/key.tar")
    assert (folder.url, name) == ("s3://bucket", "key.tar")
    with pytest.raises(StoreError):
        locate("s3://bucket")


def test_a_store_travels_and_its_errors_too(store: Store) -> None:
    store.publish("x", b"x")
    assert pickle.loads(pickle.dumps(store)).read("x") == b"x"
    error = StoreError("full", "/a/b", "no space")
    again = pickle.loads(pickle.dumps(error))
    assert (again.kind, again.uri, str(again)) == ("full", "/a/b", str(error))


def test_symbolic_links_are_followed_but_never_in_a_circle(store: Store) -> None:
    store.publish("real/x", b"1")
    root = Path(store.url)
    (root / "link").symlink_to(root / "real")
    (root / "real" / "loop").symlink_to(root)
    (root / "broken").symlink_to(root / "nowhere")
    assert names(store) == ["link/x", "real/x"]


def test_the_check_passes_and_leaves_nothing(any_store: Store) -> None:
    any_store.check()
    assert names(any_store) == []


def test_the_check_tells_of_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    with pytest.raises(StoreError, match="file"):
        Store.open(str(tmp_path / "file")).check()
