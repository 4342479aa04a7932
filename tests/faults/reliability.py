"""Tries every fault several times and writes the table of docs/reliability.md.

    python -m tests.faults.reliability --times 5

Needs what the tests need, and root for the fault of the full disk; takes minutes for each time.
"""

from __future__ import annotations

import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import tyro

from tests.faults.arena import Arena, Tally
from tests.faults.node_scenarios import NODES, node_arena
from tests.faults.s3_scenarios import S3, s3_arena
from tests.faults.scenarios import LOCAL
from tests.support.shared_ray import shared_ray

PAGE = Path(__file__).resolve().parents[2] / "docs" / "reliability.md"
BEGIN, END = "<!-- table: tests/faults/reliability.py -->", "<!-- end of table -->"
MakeArena = Callable[[Path, str], AbstractContextManager[Any]]


@dataclass
class Line:
    """One fault: how often it was done, and what it cost in all."""

    fault: str
    what: str
    times: int = 0
    images: int = 0
    lost: int = 0
    doubled: int = 0
    wrong: int = 0
    unexpected: int = 0
    """Times that an exit code or a message was not the one that the fault should have."""

    def add(self, tally: Tally) -> None:
        self.times += 1
        self.images += tally.images
        self.lost += tally.lost
        self.doubled += tally.doubled
        self.wrong += tally.wrong + len(tally.problems)

    def __str__(self) -> str:
        numbers = [self.times, self.images, self.lost, self.doubled, self.wrong, self.unexpected]
        return f"| {self.fault} | {self.what} | " + " | ".join(f"{n:,}" for n in numbers) + " |"


def local_arena(folder: Path, ray_address: str) -> AbstractContextManager[Arena]:
    return nullcontext(Arena(folder, ray_address))


def scenarios(chosen: str) -> Iterator[tuple[Line, Callable[[Any], None], MakeArena]]:
    kinds: list[tuple[dict[str, Callable[[Any], None]], MakeArena]] = [
        (LOCAL, local_arena),
        (S3, s3_arena),
        (NODES, node_arena),
    ]
    for faults, make in kinds:
        for name, scenario in faults.items():
            if chosen in name:
                what = " ".join((scenario.__doc__ or "").split()).rstrip(".")
                yield Line(name, what), scenario, make


def measure(times: int, chosen: str) -> Iterator[list[Line]]:
    """All faults once, and once more; the lines so far after each round."""
    todo = list(scenarios(chosen))
    with shared_ray() as address, tempfile.TemporaryDirectory(prefix="tddfa3-faults-") as folder:
        for number in range(1, times + 1):
            for i, (line, scenario, make) in enumerate(todo):
                began = time.monotonic()
                with make(Path(folder, f"{number}-{i}"), address) as arena:
                    try:
                        scenario(arena)
                    except AssertionError as error:
                        line.unexpected += 1
                        print(f"{line.fault}: {error}", file=sys.stderr)
                    line.add(arena.tally())
                seconds = time.monotonic() - began
                print(f"round {number}: {line.fault}: {seconds:.1f} s", file=sys.stderr, flush=True)
            yield [line for line, _, _ in todo]


def table(lines: Sequence[Line]) -> str:
    done = sum(line.times for line in lines)
    images = sum(line.images for line in lines)
    head = (
        f"{done:,} runs with a fault in each, {images:,} images, on "
        f"{time.strftime('%Y-%m-%d', time.gmtime())}: {os.cpu_count()} cores, "
        f"Python {platform.python_version()}, Ray {version('ray')}.\n\n"
        "| fault | what was done | times | images | lost | doubled | wrong | unexpected |\n"
        "|---|---|---:|---:|---:|---:|---:|---:|\n"
    )
    return head + "\n".join(map(str, lines))


@dataclass(frozen=True)
class ReliabilityConfig:
    """Do every fault again and again, and count what is lost, doubled or wrong."""

    times: int = 3
    """How often each fault is done."""
    only: str = ""
    """Faults whose name holds this; writes nothing."""


def main() -> int:
    options = tyro.cli(ReliabilityConfig, prog="python -m tests.faults.reliability")
    lines: list[Line] = []
    for lines in measure(options.times, options.only):
        text = table(lines)
        if not options.only:
            before, _, rest = PAGE.read_text().partition(BEGIN)
            PAGE.write_text(f"{before}{BEGIN}\n{text}\n{END}{rest.partition(END)[2]}")
    print(table(lines))
    return int(any(line.lost or line.doubled or line.wrong or line.unexpected for line in lines))


if __name__ == "__main__":
    sys.exit(main())
