"""Faults of storage, each really done to a run on a real S3 server."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from jobs.pipeline.storage.s3 import S3Objects
from tests.faults.arena import Arena, finish
from tests.faults.scenarios import MOST_STARTS, SLOW, the_same_command_finishes, truncated_tar
from tests.support.fault_proxy import Fault, FaultProxy
from tests.support.seaweed import SeaweedServer
from tests.support.shared_ray import WORKER_ENVIRONMENT

BUCKET = "faults"


class S3Arena(Arena):
    """An arena with a server of its own, which may be killed."""

    server: SeaweedServer
    proxy: FaultProxy


@contextmanager
def s3_arena(folder: Path, ray_address: str) -> Iterator[S3Arena]:
    """Input and output in one bucket; the credentials are in the environment while it lasts."""
    server = SeaweedServer(folder / "seaweed")
    before = dict(os.environ)
    os.environ.update(WORKER_ENVIRONMENT)
    server.start()
    try:
        objects = S3Objects(BUCKET, server.endpoint)
        objects._fs.call_s3("create_bucket", Bucket=BUCKET)
        arena = S3Arena(
            folder,
            ray_address,
            input=f"s3://{BUCKET}/in",
            output=f"s3://{BUCKET}/out",
            endpoint=server.endpoint,
        )
        arena.server = server
        yield arena
    finally:
        os.environ.clear()
        os.environ.update(before)
        server.kill()


@contextmanager
def spoilt(arena: S3Arena) -> Iterator[FaultProxy]:
    """The arena's job goes through a proxy; counting and checking do not."""
    proxy = FaultProxy(arena.server.endpoint)
    arena.endpoint = proxy.endpoint
    try:
        yield proxy
    finally:
        arena.endpoint = arena.server.endpoint
        proxy.close()


def on_s3(arena: S3Arena) -> None:
    """Nothing goes wrong: input and output on S3."""
    arena.write_shard("a", 12)
    the_same_command_finishes(arena)


def from_s3_to_disk(arena: S3Arena) -> None:
    """Input on S3, output on a local disk."""
    arena.write_shard("a", 12)
    arena.output = str(arena.folder / "out")
    the_same_command_finishes(arena)


def from_disk_to_s3(arena: S3Arena) -> None:
    """Input on a local disk, output on S3."""
    arena.input = str(arena.folder / "in")
    arena.write_shard("a", 12)
    the_same_command_finishes(arena)


def server_killed(arena: S3Arena) -> None:
    """The server is killed with SIGKILL in the middle of the run and started again."""
    arena.write_shard("a", 60)
    process = arena.start(**SLOW)
    arena.wait_for_parts(3, process)
    acknowledged = contents(arena)
    arena.server.kill()
    threading.Event().wait(2)
    arena.server.start()
    done = finish(process)
    for _ in range(MOST_STARTS):
        if done.code == 0:
            break
        done.expect(4)
        done = finish(arena.start())
    done.expect(0)
    now = contents(arena)
    assert {name: now[name] for name in acknowledged} == acknowledged


def contents(arena: S3Arena) -> dict[str, bytes]:
    store = arena.store(arena.output)
    return {entry.rel: store.read(entry.rel) for entry in store.list("annotations")}


def server_gone(arena: S3Arena) -> None:
    """The server stays away: exit code 4, and the same command goes on when it is back."""
    arena.write_shard("a", 60)
    # With a Ray of its own, whose actors take over that they are to try twice only.
    process = arena.start("--ray-address", "local", **SLOW, environment={"AWS_MAX_ATTEMPTS": "2"})
    arena.wait_for_parts(2, process)
    arena.server.kill()
    stopped = finish(process)
    stopped.expect(4)
    assert f"s3://{BUCKET}" in stopped.out
    arena.server.start()
    the_same_command_finishes(arena)


def flaky_network(arena: S3Arena) -> None:
    """Requests of every kind are throttled and dropped, bodies cut, replies to writes lost."""
    arena.write_shard("a", 30)
    spoilt_by: dict[str, Fault] = {"GET": "cut_body", "PUT": "lose_reply", "HEAD": "lose_reply"}
    with spoilt(arena) as proxy:
        for method, other in spoilt_by.items():
            proxy.spoil("throttle", method)
            proxy.spoil("drop", method, 3, every=2)
            proxy.spoil(other, method, 3, every=2)
        the_same_command_finishes(arena)
        assert proxy.left() == 0, "all of it happened"


def lost_replies(arena: S3Arena) -> None:
    """The server carries out twenty writes whose replies never arrive."""
    arena.write_shard("a", 30)
    with spoilt(arena) as proxy:
        proxy.spoil("lose_reply", "PUT", 20, every=2)
        the_same_command_finishes(arena)
        assert proxy.left() == 0


def credentials_revoked(arena: S3Arena) -> None:
    """The server stops accepting the credentials in the middle: exit code 4; then it does again."""
    arena.write_shard("a", 60)
    process = arena.start(**SLOW)
    arena.wait_for_parts(2, process)
    arena.server.restart(secret_key="another-secret")
    stopped = finish(process)
    stopped.expect(4)
    assert "credentials are not accepted" in stopped.out
    refused = arena.label()
    refused.expect(2)
    assert f"s3://{BUCKET}" in refused.err
    arena.server.restart()
    the_same_command_finishes(arena)


def two_drivers_on_s3(arena: S3Arena) -> None:
    """Two drivers label into one output on S3 at the same time."""
    arena.write_shard("a", 30)
    arena.write_shard("b", 30)
    drivers = [arena.start(**SLOW) for _ in range(2)]
    for driver in drivers:
        done = finish(driver)
        done.expect(0)


def bucket_full(arena: S3Arena) -> None:
    """The server has no space left for a while: exit code 4; then it has."""
    arena.write_shard("a", 30)
    with spoilt(arena) as proxy:
        process = arena.start(**SLOW)
        arena.wait_for_parts(1, process)
        proxy.spoil("full", "PUT", 1000)
        stopped = finish(process)
        stopped.expect(4)
        assert "no space left" in stopped.out
    the_same_command_finishes(arena)


S3: dict[str, Callable[[S3Arena], None]] = {
    "S3 to S3": on_s3,
    "S3 to disk": from_s3_to_disk,
    "disk to S3": from_disk_to_s3,
    "truncated tar on S3": truncated_tar,
    "S3 server killed and restarted": server_killed,
    "S3 server gone, back later": server_gone,
    "throttled, dropped, cut off": flaky_network,
    "replies to writes lost": lost_replies,
    "credentials revoked": credentials_revoked,
    "two drivers on one output on S3": two_drivers_on_s3,
    "S3 without space": bucket_full,
}
