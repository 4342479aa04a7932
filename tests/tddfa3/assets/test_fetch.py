"""Downloading, against a stand-in for the hub: resumed, verified, recorded, one line when it fails.

The real hub is never asked.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tddfa3.assets.bundle import AssetBundle, file_sha256
from tddfa3.assets.fetch import fetch
from tddfa3.errors import AssetError, UnavailableError
from tests.support.hub_server import COMMIT, HubState, serve_hub


@pytest.fixture
def hub(upstream_files: Path) -> Iterator[HubState]:
    with serve_hub(upstream_files) as state:
        yield state


def test_a_fetched_bundle_equals_the_converted_one(
    hub: HubState, tmp_path: Path, upstream_files: Path, small_bundle: AssetBundle
) -> None:
    lines: list[str] = []
    bundle = fetch(tmp_path / "bundle", endpoint=hub.endpoint, say=lines.append)
    assert bundle.digests == small_bundle.digests
    assert COMMIT in bundle.source
    assert bundle.manifest["recipe"]["inputs"] == {
        path.name: file_sha256(path) for path in upstream_files.iterdir()
    }


def test_the_licence_is_said_before_anything_is_downloaded(hub: HubState, tmp_path: Path) -> None:
    said_before: list[str] = []

    def say(line: str) -> None:
        if not hub.downloads:
            said_before.append(line)

    fetch(tmp_path / "bundle", endpoint=hub.endpoint, say=say)
    assert "non-commercial" in said_before[0]
    assert "Basel Face Model" in said_before[1]


def test_only_the_needed_files_are_downloaded(hub: HubState, tmp_path: Path) -> None:
    fetch(tmp_path / "bundle", endpoint=hub.endpoint, say=lambda line: None)
    assert {path for path, _ in hub.downloads} == {
        "assets/face_model.npy",
        "assets/net_recon_mbnet.pth",
        "assets/similarity_Lm3D_all.mat",
    }


def test_a_dropped_connection_is_taken_up_where_it_broke(
    hub: HubState, tmp_path: Path, small_bundle: AssetBundle
) -> None:
    path = "assets/net_recon_mbnet.pth"
    hub.drop_once_after[path] = 12_000_000  # of 13 MB; the client keeps whole blocks of 10 MiB
    bundle = fetch(tmp_path / "bundle", endpoint=hub.endpoint, say=lambda line: None)
    assert bundle.digests == small_bundle.digests
    first, second = (asked for name, asked in hub.downloads if name == path)
    assert first is None
    assert second is not None
    assert 0 < int(second.removeprefix("bytes=").rstrip("-")) <= 12_000_000


def test_a_stopped_download_goes_on_with_the_files_it_lacks(
    hub: HubState, tmp_path: Path, small_bundle: AssetBundle
) -> None:
    hub.refuse.add("assets/similarity_Lm3D_all.mat")
    with pytest.raises(UnavailableError, match="goes on where this one stopped"):
        fetch(tmp_path / "bundle", endpoint=hub.endpoint, say=lambda line: None)
    assert not (tmp_path / "bundle").exists()
    done = {path for path, _ in hub.downloads}
    assert done == {"assets/face_model.npy", "assets/net_recon_mbnet.pth"}
    hub.refuse.clear()
    hub.downloads.clear()
    bundle = fetch(tmp_path / "bundle", endpoint=hub.endpoint, say=lambda line: None)
    assert bundle.digests == small_bundle.digests
    assert {path for path, _ in hub.downloads} == {"assets/similarity_Lm3D_all.mat"}


def test_a_file_that_is_not_what_the_hub_lists(hub: HubState, tmp_path: Path) -> None:
    hub.stated_sha256["assets/face_model.npy"] = "f" * 64
    with pytest.raises(AssetError, match=r"face_model\.npy is not the file that the hub lists"):
        fetch(tmp_path / "bundle", endpoint=hub.endpoint, say=lambda line: None)
    assert not (tmp_path / "bundle").exists()


def test_a_repository_without_the_face_model(hub: HubState, tmp_path: Path) -> None:
    del hub.files["assets/face_model.npy"]
    with pytest.raises(AssetError, match=r"has no assets/face_model\.npy"):
        fetch(tmp_path / "bundle", endpoint=hub.endpoint, say=lambda line: None)
    assert hub.downloads == []


def test_no_network_is_one_clear_line(tmp_path: Path) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        endpoint = f"http://127.0.0.1:{unused.getsockname()[1]}"
        with pytest.raises(UnavailableError, match="check the network") as caught:
            fetch(tmp_path / "bundle", endpoint=endpoint, say=lambda line: None)
    assert "\n" not in str(caught.value)
    assert endpoint in str(caught.value)
