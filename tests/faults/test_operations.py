"""What an operator sees and does: metrics, a second Ctrl-C, actors that cannot be built."""

from __future__ import annotations

import os
import re
import signal
import time
import urllib.request
from pathlib import Path

import pytest
from arena import Arena, finish, wait_until
from fakes import FREEZES, NO_FACE, FakeEngine

from tddfa3.errors import UserError

pytestmark = pytest.mark.slow


def children_of(pid: int) -> set[int]:
    found = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                stat = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(stat[1]) == pid and stat[0] != "Z":
                found.add(int(entry.name))
    return found


def test_a_second_ctrl_c_stops_at_once_and_takes_ray_along(arena: Arena) -> None:
    """The labeler lets no thread run, so that the first one waits for what it could save."""
    arena.write_shard("a", 10, {4: FREEZES})
    process = arena.start("--ray-address", "local", "--stall", "0")
    wait_until(lambda: arena.committed() > 0 or process.poll() is not None)
    rays = children_of(process.pid)
    assert rays
    process.send_signal(signal.SIGINT)
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    stopped = finish(process, 10)
    stopped.expect(4)
    assert "stopped" not in stopped.out, "it did not get as far as its summary"
    wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in rays), 30)


@pytest.mark.parametrize("error", [UserError("no weights"), RuntimeError("out of luck")])
def test_an_actor_that_cannot_be_built_is_exit_code_2_and_one_line(
    arena: Arena, error: Exception
) -> None:
    arena.write_shard("a", 3)
    done = arena.label(engine=FakeEngine(build_error=error))
    done.expect(2)
    [line] = [line for line in done.err.splitlines() if line.startswith("error: ")]
    assert "could not be built" in line
    assert str(error) in line
    assert "Traceback" not in done.err
    assert arena.committed() == 0


def metric(text: str, name: str, **tags: str) -> float:
    """Sum of a metric's values whose labels hold ``tags``."""
    lines = re.findall(rf"^\w*{name}(?:_total)?\{{([^}}]*)\}} ([0-9.e+-]+)$", text, re.MULTILINE)
    wanted = [f'{tag}="{value}"' for tag, value in tags.items()]
    return sum(float(value) for labels, value in lines if all(w in labels for w in wanted))


def test_metrics_are_exported_where_prometheus_reads_them(arena: Arena) -> None:
    import ray

    def read() -> str:
        port = ray.nodes()[0]["MetricsExportPort"]
        address = ray.nodes()[0]["NodeManagerAddress"]
        return (
            urllib.request.urlopen(f"http://{address}:{port}/metrics", timeout=10).read().decode()
        )

    arena.write_shard("a", 12, {3: NO_FACE}, {3: "no_face"})
    before = read()
    arena.label().expect(0)

    def grown(name: str, **tags: str) -> float:
        return metric(read(), name, **tags) - metric(before, name, **tags)

    wait_until(lambda: grown("tddfa3_images", status="ok") == 11, 60)
    assert grown("tddfa3_images", status="no_face") == 1
    assert grown("tddfa3_faces") == 11
    assert grown("tddfa3_stage_seconds", stage="label") > 0
    assert "tddfa3_chunks{" in read()
    assert os.getpid()
