"""What a run leaves for its operators: JSON lines in the output, and metrics through Ray.

An object store can't be appended to, and a writer that is killed must not leave half a line; so the
log is published as whole files of a bounded number of records, the last one again and again.
"""

from __future__ import annotations

import json
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

from jobs.pipeline.record.layout import LOGS
from jobs.pipeline.storage.store import Store, StoreError

_RECORDS_PER_FILE = 5000
_SECONDS_BETWEEN = 5.0
_SECONDS_TO_CLOSE = 5.0


class RunLog:
    """``_run/logs/<run-id>.jsonl``, then ``<run-id>.0001.jsonl`` and so on.

    While a run goes on, files are published in a thread: a store that does not answer must hold up
    neither the scheduler nor a person's Ctrl-C.
    """

    def __init__(self, store: Store, run_id: str) -> None:
        self._store, self._run_id = store, run_id
        self._lines: list[str] = []
        self._full: deque[tuple[int, list[str]]] = deque()
        self._file = 0
        self._written = self._published = 0
        self._lock = threading.Lock()
        self._one_at_a_time = threading.Lock()
        self._thread: threading.Thread | None = None
        self._next = time.monotonic() + _SECONDS_BETWEEN

    def write(self, event: str, **fields: Any) -> None:
        """Add one record; it reaches the store within seconds."""
        now = time.time()
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now)) + f".{int(now % 1 * 1000):03}Z"
        record = {"time": stamp, "run": self._run_id, "event": event, **fields}
        line = json.dumps(record, ensure_ascii=True, default=str)
        with self._lock:
            self._lines.append(line)
            self._written += 1
            if len(self._lines) >= _RECORDS_PER_FILE:
                self._full.append((self._file, self._lines))
                self._lines = []
                self._file += 1

    def publish_if_due(self) -> None:
        """Publish in the background, unless that is under way or was done a moment ago."""
        busy = self._thread is not None and self._thread.is_alive()
        if not busy and time.monotonic() >= self._next:
            self._next = time.monotonic() + _SECONDS_BETWEEN
            self._start()

    def close(self, seconds: float = _SECONDS_TO_CLOSE) -> None:
        """Publish what is left, but wait no longer than ``seconds`` for a dead store."""
        self._start().join(seconds)

    def publish(self) -> None:
        """Publish what has been written since the last time.

        A log that can't be written is no reason to stop a run; if the storage is lost, publishing
        labels fails too.
        """
        with self._one_at_a_time:
            while self._full:
                if not self._publish(*self._full[0]):
                    return
                self._full.popleft()
            with self._lock:
                file, lines, written = self._file, list(self._lines), self._written
            if lines and written > self._published and self._publish(file, lines):
                self._published = written

    def _publish(self, file: int, lines: Sequence[str]) -> bool:
        suffix = f".{file:04d}" if file else ""
        data = "".join(f"{line}\n" for line in lines).encode()
        try:
            self._store.publish(f"{LOGS}/{self._run_id}{suffix}.jsonl", data)
        except StoreError:
            return False
        return True

    def _start(self) -> threading.Thread:
        self._thread = threading.Thread(target=self.publish, name="log", daemon=True)
        self._thread.start()
        return self._thread


class Metrics:
    """Counters and gauges for Ray's metrics agent; without an agent nothing happens."""

    def __init__(self) -> None:
        from ray.util.metrics import Counter, Gauge

        self._images = Counter("tddfa3_images", "Images labelled", tag_keys=("status",))
        self._faces = Counter("tddfa3_faces", "Faces labelled")
        self._seconds = Counter("tddfa3_stage_seconds", "Seconds by stage", tag_keys=("stage",))
        self._queue = Gauge("tddfa3_chunks", "Chunks by state", tag_keys=("state",))
        self._actors = Gauge("tddfa3_actors", "Actors that are ready")

    def chunk(self, counts: Mapping[str, Any], seconds: Mapping[str, float]) -> None:
        """Count the images, faces and seconds per stage of a chunk that is done."""
        for status, number in counts["status"].items():
            self._images.inc(number, tags={"status": status})
        if counts["faces"]:
            self._faces.inc(counts["faces"])
        for stage, value in seconds.items():
            self._seconds.inc(max(value, 1e-9), tags={"stage": stage})

    def state(self, queued: int, in_flight: int, actors: int) -> None:
        """Set the numbers of chunks queued and in flight, and of actors that are ready."""
        self._queue.set(queued, tags={"state": "queued"})
        self._queue.set(in_flight, tags={"state": "in_flight"})
        self._actors.set(actors)
