"""What a run leaves for its operators: JSON lines in the output, and metrics through Ray.

An object store can't be appended to, and a writer that is killed must not leave half a line; so the
log is published as whole files of a bounded number of records, the last one again and again.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import Any

from jobs.pipeline.store import Store, StoreError

LOGS = "_run/logs"
_RECORDS_PER_FILE = 5000
_SECONDS_BETWEEN = 5.0


class RunLog:
    """``_run/logs/<run-id>.jsonl``, then ``<run-id>.0001.jsonl`` and so on."""

    def __init__(self, store: Store, run_id: str) -> None:
        self._store, self._run_id = store, run_id
        self._lines: list[str] = []
        self._file = 0
        self._unpublished = False
        self._next = time.monotonic() + _SECONDS_BETWEEN

    def write(self, event: str, **fields: Any) -> None:
        """Adds one record; it reaches the store within seconds."""
        now = time.time()
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now)) + f".{int(now % 1 * 1000):03}Z"
        record = {"time": stamp, "run": self._run_id, "event": event, **fields}
        self._lines.append(json.dumps(record, ensure_ascii=True, default=str))
        self._unpublished = True
        if len(self._lines) >= _RECORDS_PER_FILE:
            self.publish()
            if not self._unpublished:
                self._lines.clear()
                self._file += 1

    def publish_if_due(self) -> None:
        if time.monotonic() >= self._next:
            self.publish()

    def publish(self) -> None:
        """A log that can't be written is no reason to stop a run; labels will say so themselves."""
        self._next = time.monotonic() + _SECONDS_BETWEEN
        if not self._unpublished or not self._lines:
            return
        suffix = f".{self._file:04d}" if self._file else ""
        try:
            name = f"{LOGS}/{self._run_id}{suffix}.jsonl"
            self._store.publish(name, "".join(f"{line}\n" for line in self._lines).encode())
            self._unpublished = False
        except StoreError:
            return


class Metrics:
    """Counters and gauges of Ray's metrics agent; without one, they go nowhere."""

    def __init__(self) -> None:
        from ray.util.metrics import Counter, Gauge

        self._images = Counter("tddfa3_images", "Images labelled", tag_keys=("status",))
        self._faces = Counter("tddfa3_faces", "Faces labelled")
        self._seconds = Counter("tddfa3_stage_seconds", "Seconds by stage", tag_keys=("stage",))
        self._queue = Gauge("tddfa3_chunks", "Chunks by state", tag_keys=("state",))
        self._actors = Gauge("tddfa3_actors", "Actors that are ready")

    def chunk(self, counts: Mapping[str, Any], seconds: Mapping[str, float]) -> None:
        for status, number in counts["status"].items():
            self._images.inc(number, tags={"status": status})
        if counts["faces"]:
            self._faces.inc(counts["faces"])
        for stage, value in seconds.items():
            self._seconds.inc(max(value, 1e-9), tags={"stage": stage})

    def state(self, queued: int, in_flight: int, actors: int) -> None:
        self._queue.set(queued, tags={"state": "queued"})
        self._queue.set(in_flight, tags={"state": "in_flight"})
        self._actors.set(actors)
