"""Faults, each really done to a run, each ending with a count of the rows.

A scenario makes its input in an :class:`Arena`, does damage, starts the same command again until it
is through, and asserts what has to be seen on the way: exit codes, messages. The tests run each
once; ``reliability.py`` runs each several times and writes the table of docs/reliability.md.
"""

from __future__ import annotations

import contextlib
import gzip
import io
import os
import random
import shutil
import signal
import subprocess
import tarfile
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.faults.arena import Arena, Finished, finish
from tests.faults.faults import StrikesWhileLabelling
from tests.support.fakes import FREEZES, HANGS, KILLS, NO_FACE, RAISES, png

MOST_STARTS = 12
SLOW: dict[str, Any] = {"factory": "SlowMeshes", "arguments": {"seconds": 0.05}}


def the_same_command_finishes(arena: Arena, *options: str) -> Finished:
    done = arena.label(*options)
    done.expect(0)
    return done


# Images


def image_that_segfaults(arena: Arena) -> None:
    """An image kills its process with SIGSEGV each time it is labelled."""
    arena.write_shard("a", 12, {3: KILLS, 7: NO_FACE}, {3: "crashed", 7: "no_face"})
    done = the_same_command_finishes(arena)
    assert "  crashed: 1\n" in done.out


def image_that_raises(arena: Arena) -> None:
    """Images are empty, cut short, no images at all, or make the labeler raise."""
    arena.write_shard("a", 12, {3: RAISES}, {3: "label_error"})
    whole = png(shade=9, size=(64, 64))
    for name, data, status in (
        ("cut", whole[:-30], "decode_error"),
        ("empty", b"", "decode_error"),
        ("text", b"not an image" * 99, "unsupported"),
    ):
        arena.store(arena.input).publish(f"a/{name}.png", data)
        arena.expected[f"a/{name}.png"] = status
    the_same_command_finishes(arena)


def image_that_hangs(arena: Arena) -> None:
    """The labeler never returns for an image; for another it does not even let threads run."""
    wishes = {2: HANGS, 3: FREEZES}
    arena.write_shard("a", 6, wishes, dict.fromkeys(wishes, "crashed"))
    done = the_same_command_finishes(arena, "--stall", "3", "--chunk-images", "2")
    assert "no progress in 3 s" in done.err


# Processes


def actor_killed(arena: Arena) -> None:
    """An actor is killed with SIGKILL between two batches."""
    arena.write_shard("a", 15)
    done = arena.label(factory=StrikesWhileLabelling(flag=str(arena.folder / "flag")))
    assert (done.code, "an actor died" in done.err) == (0, True), done.out + done.err


def driver_killed_at(step: str, spare_actor: bool = False) -> Callable[[Arena], None]:
    def scenario(arena: Arena) -> None:
        arena.write_shard("a", 15)
        flag = arena.folder / "flag"
        arguments = {
            "step": step,
            "flag": str(flag),
            "spare_actor": spare_actor,
        }
        process = arena.start(factory="StrikesAtCommit", arguments=arguments)
        finish(process).expect(-signal.SIGKILL)
        assert flag.exists(), "it was not killed by itself"
        the_same_command_finishes(arena)

    scenario.__doc__ = f"The driver is killed with SIGKILL {step} of a chunk."
    return scenario


def driver_kills_itself(step: str) -> Callable[[Arena], None]:
    def scenario(arena: Arena) -> None:
        arena.write_shard("a", 10)
        process = arena.start(environment={"STRIKE_DRIVER": step})
        finish(process).expect(-signal.SIGKILL)
        the_same_command_finishes(arena)

    scenario.__doc__ = f"The driver is killed with SIGKILL {step}."
    return scenario


def driver_killed_anywhere(arena: Arena) -> None:
    """The driver, with a Ray of its own, is killed with SIGKILL at a random moment, three times."""
    for shard in ("a", "b"):
        arena.write_shard(shard, 30)
    dice = random.Random(arena.seed)
    for _ in range(3):
        process = arena.start("--ray-address", "local", **SLOW)
        arena.wait_for_parts(arena.committed() + 1, process)
        time.sleep(dice.uniform(0, 0.5))
        process.kill()
        finish(process)
    the_same_command_finishes(arena)


def stopped_by(number: signal.Signals) -> Callable[[Arena], None]:
    def scenario(arena: Arena) -> None:
        arena.write_shard("a", 60)
        process = arena.start(**SLOW)
        arena.wait_for_parts(2, process)
        # As a terminal does it: to the whole group of processes.
        os.killpg(process.pid, number)
        began = time.monotonic()
        stopped = finish(process)
        stopped.expect(4)
        assert "the same command continues" in stopped.out
        assert "Traceback" not in stopped.err
        assert time.monotonic() - began < 30
        before = arena.committed()
        assert 2 <= before < 12
        the_same_command_finishes(arena)

    scenario.__doc__ = f"The run is stopped with {number.name}."
    return scenario


def stopped_at_once(arena: Arena) -> None:
    """SIGINT again and again, while an image holds up the orderly end of the first one."""
    arena.write_shard("a", 30, {22: FREEZES}, {22: "crashed"})
    process = arena.start("--ray-address", "local")
    arena.wait_for_parts(3, process)
    time.sleep(2)  # now the actor has come to that image
    while process.poll() is None:
        os.killpg(process.pid, signal.SIGINT)
        time.sleep(0.5)
    stopped = finish(process).expect(4)
    assert "stopped:" not in stopped.out, "the orderly end sums up; this was to be quicker"
    the_same_command_finishes(arena, "--stall", "3")


def two_drivers(arena: Arena) -> None:
    """Two drivers label into one output at the same time."""
    arena.write_shard("a", 30)
    arena.write_shard("b", 30)
    drivers = [arena.start(**SLOW) for _ in range(2)]
    for driver in drivers:
        done = finish(driver)
        done.expect(0)


def retrying_driver_killed(arena: Arena) -> None:
    """A run with --retry-failed is killed while it replaces a part file."""
    arena.write_shard("a", 15, {2: RAISES, 8: RAISES}, {2: "label_error", 8: "label_error"})
    the_same_command_finishes(arena)
    arguments = {"step": "before the objects", "flag": str(arena.folder / "flag")}
    arena.store(arena.input).publish("b/new.png", png())
    arena.expected["b/new.png"] = "ok"
    process = arena.start("--retry-failed", factory="StrikesAtCommit", arguments=arguments)
    finish(process).expect(-signal.SIGKILL)
    the_same_command_finishes(arena, "--retry-failed")


# Disks


@contextmanager
def small_disk(folder: Path, kib: int) -> Iterator[Path]:
    """A file system of ``kib`` KiB (needs root)."""
    folder.mkdir(parents=True)
    options = f"size={kib}k"
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def disk_full(arena: Arena) -> None:
    """The output's disk is full in the middle of the run; later there is room again."""
    arena.write_shard("a", 30)
    with small_disk(arena.folder / "disk", 1024) as disk:
        arena.output = str(disk / "out")
        process = arena.start(**SLOW)
        arena.wait_for_parts(2, process)
        filler = disk / "filler"
        with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
            while file.write(bytes(1024)):
                pass
        stopped = finish(process).expect(4)
        assert "no space left" in stopped.out
        assert 2 <= arena.committed() < 6
        filler.unlink()
        the_same_command_finishes(arena)
        arena.output = str(arena.folder / "out")
        shutil.copytree(disk / "out", arena.output)


# Shards


def truncated_tar(arena: Arena) -> None:
    """A tar ends in the middle of a member; later it is whole."""
    data = write_tar(arena, "a.tar", 12)
    damaged_then_whole(arena, "a.tar", data[: len(data) // 2], data)


def corrupt_gzip(arena: Arena) -> None:
    """A byte in the middle of a .tar.gz is wrong; later it is right."""
    data = gzip.compress(write_tar(arena, "a.tar.gz", 12, noise=True))
    middle = len(data) // 2
    damaged = data[:middle] + bytes([data[middle] ^ 0xFF]) + data[middle + 1 :]
    damaged_then_whole(arena, "a.tar.gz", damaged, data)


def damaged_then_whole(arena: Arena, name: str, damaged: bytes, whole: bytes) -> None:
    arena.write_shard("b", 5)
    store = arena.store(arena.input)
    store.publish(name, damaged)
    done = arena.label()
    done.expect(3)
    assert f"shard error: {name}: " in done.out
    assert "offset" in done.out
    arena.label().expect(3)
    store.publish(name, whole)
    the_same_command_finishes(arena)


def bad_crc_in_zip(arena: Arena) -> None:
    """A member of a zip does not match its CRC: its row says so, the other members are labelled."""
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w") as archive:
        for i in range(12):
            archive.writestr(f"n{i:02d}.png", png(shade=i))
            arena.expected[f"a.zip/n{i:02d}.png"] = "ok"
    data = bytearray(sink.getvalue())
    at = data.index(png(shade=4))
    data[at + 40] ^= 0xFF
    arena.expected["a.zip/n04.png"] = "decode_error"
    arena.store(arena.input).publish("a.zip", bytes(data))
    done = the_same_command_finishes(arena)
    assert "  decode_error: 1\n" in done.out


def zip_without_its_end(arena: Arena) -> None:
    """A zip lacks its directory and cannot be opened: one row shard_error, exit code 3."""
    arena.write_shard("b", 5)
    arena.store(arena.input).publish("a.zip", b"PK\x03\x04" + random.Random(0).randbytes(5000))
    done = arena.label()
    done.expect(3)
    assert "shard error: a.zip: " in done.out
    arena.expected["a.zip/"] = "shard_error"


def write_tar(arena: Arena, name: str, count: int, noise: bool = False) -> bytes:
    sink, noises = io.BytesIO(), random.Random(0)
    with tarfile.open(fileobj=sink, mode="w") as archive:
        for i in range(count):
            data = png(shade=i)
            for member, content in (
                (f"n{i:02d}.png", data),
                *([(f"n{i:02d}.bin", noises.randbytes(3000))] if noise else []),
            ):
                info = tarfile.TarInfo(member)
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
            arena.expected[f"{name}/n{i:02d}"] = "ok"
    return sink.getvalue()


LOCAL: dict[str, Callable[[Arena], None]] = {
    "image that segfaults": image_that_segfaults,
    "images that cannot be decoded or labelled": image_that_raises,
    "image that hangs": image_that_hangs,
    "actor killed": actor_killed,
    **{f"driver killed {step}": driver_killed_at(step) for step in (
        "before the objects", "between two objects", "between objects and part file",
        "while the part file is published", "after the part file",
    )},
    "driver killed, actor goes on": driver_killed_at("between objects and part file", True),
    **{f"driver killed {step}": driver_kills_itself(step) for step in (
        "before the manifest", "after the manifest", "after the index", "when told of a commit",
    )},
    "driver killed anywhere": driver_killed_anywhere,
    "SIGINT": stopped_by(signal.SIGINT),
    "SIGTERM": stopped_by(signal.SIGTERM),
    "SIGINT twice": stopped_at_once,
    "two drivers on one output": two_drivers,
    "driver killed while it retries": retrying_driver_killed,
    "disk full": disk_full,
    "truncated tar": truncated_tar,
    "corrupt gzip": corrupt_gzip,
    "bad CRC in a zip": bad_crc_in_zip,
    "zip without its end": zip_without_its_end,
}  # fmt: skip
