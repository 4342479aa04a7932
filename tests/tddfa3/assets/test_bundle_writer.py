"""Bundles appear whole or not at all, whoever else is writing."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest

from tddfa3.assets.bundle import AssetBundle
from tddfa3.assets.bundle_writer import BundleContents, Origin, write_bundle

WRITERS = 6


@pytest.fixture
def contents(face_bundle: AssetBundle) -> BundleContents:
    return BundleContents(
        name="test",
        origin=Origin("a test", "none"),
        notice="",
        recipe={"kind": "test", "version": 1},
        face_model=face_bundle.face_model(),
        networks={},
    )


@pytest.mark.parametrize("before", ["nothing", "an empty folder", "a damaged bundle"])
def test_writers_at_the_same_moment_leave_one_whole_bundle(
    tmp_path: Path, contents: BundleContents, before: str
) -> None:
    dest = tmp_path / "out" / "bundle"
    if before != "nothing":
        dest.mkdir(parents=True)
    if before == "a damaged bundle":
        (write_bundle(dest, contents).path / "face_model.safetensors").write_bytes(b"")
    barrier = Barrier(WRITERS)

    def write(_: int) -> str:
        barrier.wait()
        return write_bundle(dest, contents).digest

    with ThreadPoolExecutor(WRITERS) as pool:
        digests = set(pool.map(write, range(WRITERS)))
    assert digests == {AssetBundle.load(dest).digest}
    AssetBundle.load(dest).face_model()
    assert os.listdir(dest.parent) == ["bundle"]


def test_two_processes_at_once(tmp_path: Path) -> None:
    """Both end well and name the same digest."""
    command = [sys.executable, "-m", "tddfa3.assets", "synthesize", str(tmp_path / "bundle")]
    command += ["--vertices", "1000", "--backbones", "--detectors"]
    processes = [
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        for _ in range(2)
    ]
    outputs = [process.communicate(timeout=120)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs
    assert outputs[0] == outputs[1]
    assert os.listdir(tmp_path) == ["bundle"]


def test_others_may_read_the_files(tmp_path: Path, contents: BundleContents) -> None:
    previous = os.umask(0o022)
    try:
        path = write_bundle(tmp_path / "new", contents).path
    finally:
        os.umask(previous)
    assert path.stat().st_mode & 0o777 == 0o755
    assert {file.stat().st_mode & 0o777 for file in path.iterdir()} == {0o644}


def test_scratch_of_a_writer_killed_days_ago_is_removed_and_a_fresh_one_kept(
    tmp_path: Path, contents: BundleContents
) -> None:
    stale, fresh = tmp_path / ".new.new-aaaa", tmp_path / ".new.new-bbbb"
    for folder in (stale, fresh):
        folder.mkdir()
        (folder / "half").write_text("x")
    two_days_ago = time.time() - 2 * 24 * 3600
    os.utime(stale, (two_days_ago, two_days_ago))
    write_bundle(tmp_path / "new", contents)
    assert not stale.exists()
    assert fresh.exists()
