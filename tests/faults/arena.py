"""Where a fault is tried: an input, an output, the job on them, and the count of rows after it."""

from __future__ import annotations

import contextlib
import io
import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jobs.label import main
from jobs.pipeline.record.parts import read_part
from jobs.pipeline.storage.store import Store, StoreError
from jobs.verify import verify
from tests.faults.faults import SlowMeshes
from tests.support.fakes import png
from tests.support.shared_ray import program_environment

PROGRAM = "tests.faults.label_with_faults"
OPTIONS = (
    *("--assets", "x", "--chunk-images", "5", "--batch", "2", "--meshes", "pca"),
    *("--actors", "1", "--cpus-per-actor", "1"),
)
ROW = ("image_id", "face_index", "status")
_SECONDS = 240.0


@dataclass
class Finished:
    code: int
    out: str
    err: str

    def expect(self, code: int) -> Finished:
        assert self.code == code, f"exit code {self.code}, not {code}: {self.out}\n{self.err}"
        return self


@dataclass
class Tally:
    """What a fault cost: of ``images`` expected rows, how many are not there, or more than once."""

    images: int
    lost: int
    doubled: int
    wrong: int
    problems: list[str]

    def assert_exact(self) -> None:
        exact = self.images > 0 and not (self.lost or self.doubled or self.wrong or self.problems)
        assert exact, str(self)


@dataclass
class Arena:
    """One input and one output, local unless ``input`` and ``output`` say otherwise."""

    folder: Path
    ray_address: str
    input: str = ""
    output: str = ""
    endpoint: str = ""
    expected: dict[str, str] = field(default_factory=dict)
    seed: int = field(default_factory=time.time_ns)
    """Of what is done at a random moment."""

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.input = self.input or str(self.folder / "in")
        self.output = self.output or str(self.folder / "out")

    def store(self, url: str) -> Store:
        return Store.open(url, s3_endpoint=self.endpoint or None)

    def write_shard(
        self,
        shard: str,
        count: int,
        wishes: Mapping[int, int] | None = None,
        statuses: Mapping[int, str] | None = None,
    ) -> None:
        """A folder of numbered images; ``statuses`` is what is expected where not ``ok``."""
        store = self.store(self.input)
        for i in range(count):
            key = f"img{i:04d}.png"
            store.publish(f"{shard}/{key}", png((wishes or {}).get(i, 0), shade=i % 250))
            self.expected[f"{shard}/{key}"] = (statuses or {}).get(i, "ok")

    def line(self, *options: str) -> list[str]:
        door = ["--s3-endpoint", self.endpoint] if self.endpoint else []
        return [self.input, self.output, *OPTIONS, *door, *options]

    def label(self, *options: str, factory: Any = None) -> Finished:
        """The job in this process, on its Ray."""
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = main(self.line(*options), factory or SlowMeshes(seconds=0))
        return Finished(code, out.getvalue(), err.getvalue())

    def start(
        self,
        *options: str,
        factory: str = "SlowMeshes",
        arguments: Mapping[str, Any] | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> subprocess.Popen[str]:
        """The job as a program of its own, which joins this process's Ray."""
        values = json.dumps(dict(arguments or {}))
        address = ("--ray-address", self.ray_address) if "--ray-address" not in options else ()
        return subprocess.Popen(
            [sys.executable, "-m", PROGRAM, factory, values, *self.line(*address, *options)],
            env={**program_environment(), **(environment or {})},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def committed(self) -> int:
        """Part files that are there; a store that is down has none to show."""
        try:
            return sum(1 for _ in self.store(self.output).walk("annotations"))
        except StoreError:
            return 0

    def wait_for_parts(self, count: int, process: subprocess.Popen[str]) -> None:
        wait_until(lambda: self.committed() >= count or process.poll() is not None)

    def tally(self) -> Tally:
        """Counts rows in the output, and lets ``jobs.verify`` say what it finds."""
        store = self.store(self.output)
        seen: Counter[tuple[str, int | None]] = Counter()
        statuses: dict[str, str] = {}
        for entry in store.list("annotations"):
            for row in read_part(store, entry.rel, ROW).to_pylist():
                seen[row["image_id"], row["face_index"]] += 1
                statuses[row["image_id"]] = row["status"]
        proof, unlisted = verify(self.output, self.endpoint or None)
        problems = proof.problems + proof.missing + ["not listed"] * unlisted
        return Tally(
            images=len(self.expected),
            lost=len(self.expected.keys() - statuses.keys()),
            doubled=sum(n - 1 for n in seen.values()) + len(statuses.keys() - self.expected.keys()),
            wrong=sum(statuses.get(i, status) != status for i, status in self.expected.items()),
            problems=problems,
        )


def finish(process: subprocess.Popen[str], seconds: float = _SECONDS) -> Finished:
    try:
        out, err = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        out, err = process.communicate()
        raise AssertionError(f"still running after {seconds:g} s: {out}\n{err}") from None
    return Finished(process.returncode, out, err)


def wait_until(ready: Callable[[], bool], seconds: float = 120.0) -> None:
    deadline = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < deadline, f"not after {seconds:g} s"
        time.sleep(0.05)
