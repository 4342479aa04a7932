"""Throughput over time, in all and by actor, from the logs that the runs left in the output.

A run that was continued has several starts; they are laid end to end, without the time between.
"""

from __future__ import annotations

import json
import math
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jobs.pipeline.record.layout import LOGS
from jobs.pipeline.storage.store import Store

_MOST_BUCKETS = 120
_MOST_ACTORS_SHOWN = 32
_MOST_MARKS = 60
_SUFFIX = ".jsonl"

Record = dict[str, Any]
"""One line of a log."""


@dataclass
class Start:
    """One start of the run.

    Attributes:
        id: of the start; names its log.
        files: of its log, in order.
        begin: seconds since 1970 of its first record.
        end: seconds since 1970 of its last record.
        offset: seconds on the common axis at which it begins.
        stopped: why it ended early, or None.
        finished: whether the log has its last record.
    """

    id: str
    files: list[str]
    begin: float
    end: float
    offset: float = 0.0
    stopped: str | None = None
    finished: bool = False


@dataclass
class Actor:
    """One process, during one start.

    Attributes:
        host: its machine.
        pid: its process id.
        images: that it labelled.
        chunks: that it committed.
        last: seconds on the common axis at which its last chunk was done.
        memory: most resident bytes.
        buckets: (buckets,) images in each.
    """

    host: str
    pid: int
    images: float = 0.0
    chunks: int = 0
    last: float = 0.0
    memory: int = 0
    buckets: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))


class Timeline:
    """Adds up the records of all starts into buckets of equal length.

    Args:
        store: the output.

    Attributes:
        bad_lines: lines of logs that are no records.
        marks: (seconds on the common axis, text) of what is worth a mark.
        actors: by start, host and pid.
        stages: seconds per stage, summed over actors.
        starts: in order of time.
        seconds: length of the common axis.
        width: seconds per bucket.
        images: (buckets,) images labelled in each.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self.bad_lines = 0
        self.marks: list[tuple[float, str]] = []
        self.actors: dict[tuple[str, str, int], Actor] = {}
        self.stages: Counter[str] = Counter()
        self.starts = self._starts()
        self.seconds = max(1.0, sum(s.end - s.begin for s in self.starts))
        self.width = max(1.0, math.ceil(self.seconds / _MOST_BUCKETS))
        self.images = np.zeros(math.ceil(self.seconds / self.width))
        for start in self.starts:
            for name in start.files:
                for record in self._records(name):
                    self._add(start, record)

    def described(self) -> dict[str, Any] | None:
        """The timeline as the page's scripts want it; None if no image was labelled."""
        if not self.images.any():
            return None
        by_images = sorted(self.actors.values(), key=lambda a: (-a.images, a.host, a.pid))
        return {
            "width": self.width,
            "seconds": round(self.seconds, 3),
            "rates": self._rates(self.images),
            "starts": [
                {
                    "id": start.id,
                    "offset": round(start.offset, 3),
                    "seconds": round(start.end - start.begin, 3),
                    "begin": start.begin,
                    "stopped": start.stopped,
                    "finished": start.finished,
                }
                for start in self.starts
            ],
            "marks": [[round(t, 3), text] for t, text in self.marks[:_MOST_MARKS]],
            "marks_left_out": max(0, len(self.marks) - _MOST_MARKS),
            "stages": {name: round(value, 3) for name, value in self.stages.most_common()},
            "actors": [self._actor(actor) for actor in by_images[:_MOST_ACTORS_SHOWN]],
            "images": round(float(self.images.sum())),
            "actors_left_out": max(0, len(by_images) - _MOST_ACTORS_SHOWN),
            "bad_lines": self.bad_lines,
        }

    def _actor(self, actor: Actor) -> dict[str, Any]:
        rates = self._rates(actor.buckets)
        busy = np.flatnonzero(actor.buckets)
        active = (busy[-1] - busy[0] + 1) * self.width if len(busy) else self.width
        return {
            "host": actor.host,
            "pid": actor.pid,
            "images": round(actor.images),
            "chunks": actor.chunks,
            "rate": round(actor.images / min(active, self.seconds), 3),
            "memory": actor.memory,
            "rates": rates,
        }

    def _rates(self, images: NDArray[np.float64]) -> list[float]:
        """Images per second of each bucket; the last bucket may be shorter than the others."""
        lengths = np.full(len(images), self.width)
        lengths[-1] = self.seconds - self.width * (len(images) - 1)
        return [round(float(rate), 3) for rate in images / lengths]

    def _starts(self) -> list[Start]:
        files: dict[str, list[str]] = {}
        for entry in self._store.list(LOGS):
            name = entry.rel.rpartition("/")[2]
            if name.endswith(_SUFFIX):
                run_id, _, number = name.removesuffix(_SUFFIX).partition(".")
                files.setdefault(run_id, []).append(f"{number:>9}{entry.rel}")
        starts, offset = [], 0.0
        for run_id in sorted(files):
            names = [name[9:] for name in sorted(files[run_id])]
            first = next(self._records(names[0]), None)
            ends = deque(self._records(names[-1]), maxlen=1)
            if first is None or not ends:
                continue
            last = ends[0]
            start = Start(run_id, names, _time(first), _time(last), offset)
            start.finished = last["event"] == "end"
            start.stopped = last.get("stopped") if start.finished else None
            offset += start.end - start.begin
            starts.append(start)
        self.bad_lines = 0  # counted when everything is read
        return starts

    def _records(self, name: str) -> Iterator[Record]:
        for line in self._store.read(name).splitlines():
            try:
                record = json.loads(line)
                _time(record), record["event"]
            except (ValueError, KeyError, TypeError, AttributeError):
                self.bad_lines += 1
                continue
            yield record

    def _add(self, start: Start, record: Record) -> None:
        at = start.offset + _time(record) - start.begin
        event = record["event"]
        if event == "start" and start.offset > 0:
            self.marks.append((at, "started again"))
        elif event == "actor_died":
            what = "a node died" if record.get("node_died") else "an actor died"
            self.marks.append((at, f"{what}: {record.get('reason', '')}"))
        elif event == "chunk_given_up":
            self.marks.append((at, f"chunk given up: {record.get('reason', '')}"))
        elif event == "waiting":
            self.marks.append((at, f"waiting: {record.get('reason', '')}"))
        elif event == "chunk" and not record.get("already_done"):
            self._add_chunk(start, record, at)

    def _add_chunk(self, start: Start, record: Record, at: float) -> None:
        host, pid = str(record.get("host", "")), int(record.get("pid", 0))
        seconds: dict[str, float] = record.get("seconds", {})
        self.stages.update(seconds)
        key = start.id, host, pid
        if key not in self.actors:
            buckets = np.zeros(len(self.images))
            self.actors[key] = Actor(host, pid, last=start.offset, buckets=buckets)
        actor = self.actors[key]
        # A chunk's images are spread over the time that its actor spent on it: from the end of the
        # chunk before, but no longer than its stages took together.
        begin = max(actor.last, at - max(sum(seconds.values()), 1e-3))
        share = self._spread(begin, at, record.get("images", 0))
        self.images += share
        actor.buckets += share
        actor.images += record.get("images", 0)
        actor.chunks += 1
        actor.last = at
        actor.memory = max(actor.memory, record.get("memory") or 0)

    def _spread(self, begin: float, end: float, images: float) -> NDArray[np.float64]:
        """(buckets,) ``images``, spread evenly over the time from ``begin`` to ``end``."""
        edges = np.arange(len(self.images) + 1) * self.width  # (buckets + 1,)
        edges[-1] = max(edges[-1], end)
        length = max(end - begin, 1e-6)
        # (buckets,) seconds of the interval in each.
        inside = np.clip(np.minimum(edges[1:], end) - np.maximum(edges[:-1], begin), 0, None)
        total = inside.sum()
        if total <= 0:
            inside[min(int(begin / self.width), len(inside) - 1)] = total = length
        return inside / total * images


def _time(record: Record) -> float:
    return datetime.fromisoformat(record["time"].replace("Z", "+00:00")).timestamp()
