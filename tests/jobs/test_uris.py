"""A ``…_uri`` of a row opens: joined to OUTPUT's URL by HTTP, as ``file:`` URL, and as a path."""

from __future__ import annotations

import functools
import hashlib
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urljoin
from urllib.request import urlopen

import fsspec
import pyarrow.dataset as ds
import pytest

from tests.support.fakes import png
from tests.support.labelled import label

NAMES = [
    "exif rot.png", "100%.png", "%20.png", "a#b?c=d&e.png", "ü.png", "~x~41.png", "IMG_1.PNG",
    "_x.png", "sub dir/con.png", "sub dir/.x/..y.png", "+.png", "it's (1) [2]; @3:4.png",
]  # fmt: skip
COLUMNS = ("mesh_pca", "mesh_extracted", "texture")


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("uris")
    for number, name in enumerate(NAMES):
        path = folder / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(shade=number))
    return label(folder, meshes="both", mesh_format="glb", textures="png")


@pytest.fixture(scope="module")
def named(output: Path) -> list[tuple[str, str]]:
    """Every URI of every row, and the digest beside it."""
    rows: list[dict[str, Any]] = ds.dataset(output / "annotations").to_table().to_pylist()
    found = [(r[f"{c}_uri"], r[f"{c}_sha256"]) for r in rows for c in COLUMNS if r[f"{c}_uri"]]
    visible = [name for name in NAMES if "/." not in name]
    assert len(found) == len(visible) * len(COLUMNS)
    return found


@pytest.fixture
def server(output: Path) -> Iterator[str]:
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: Any) -> None: ...

    handler = functools.partial(Quiet, directory=str(output))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}/"
        running.shutdown()


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def test_by_http(server: str, named: list[tuple[str, str]]) -> None:
    for uri, expected in named:
        with urlopen(urljoin(server, uri)) as reply:
            assert digest(reply.read()) == expected, uri


def test_as_file_urls(output: Path, named: list[tuple[str, str]]) -> None:
    for uri, expected in named:
        with urlopen(f"{output.as_uri()}/{uri}") as reply:
            assert digest(reply.read()) == expected, uri
        with fsspec.open(f"file://{output}/{uri}") as file:
            assert digest(file.read()) == expected, uri


def test_as_paths(output: Path, named: list[tuple[str, str]]) -> None:
    for uri, expected in named:
        assert digest((output / uri).read_bytes()) == expected, uri
