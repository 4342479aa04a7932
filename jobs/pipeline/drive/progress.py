"""What a person sees of a run: a live line on a terminal, elsewhere a plain line now and then."""

from __future__ import annotations

import sys
import time
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, TextIO

from rich.console import Console
from rich.live import Live
from rich.text import Text

from jobs.pipeline.record.schema import failed_images

_PLAIN_EVERY = 5.0
_LIVE_EVERY = 0.25
_RATE_WINDOW = 60.0


@dataclass
class Totals:
    """Counts of a run so far; nothing here grows with the number of images.

    Attributes:
        shards: of the input.
        shards_planned: whose images are counted in the next two.
        images_planned: of these shards, done before or not.
        images_pending: of these shards, not done before.
        images_done: by this start of the run.
        faces: found in them.
        chunks_done: by this start of the run.
        statuses: images done, by status.
        shard_errors: the first 20 shards that could not be read in full, with the reason.
        shards_in_error: how many such shards there are.
        given_up: chunks that raised again and again.
    """

    shards: int
    shards_planned: int = 0
    images_planned: int = 0
    images_pending: int = 0
    images_done: int = 0
    faces: int = 0
    chunks_done: int = 0
    statuses: Counter[str] = field(default_factory=Counter)
    shard_errors: list[str] = field(default_factory=list)
    shards_in_error: int = 0
    given_up: int = 0

    def planned(self, images: int, pending: int, error: str | None, shard_id: str) -> None:
        """Count a shard: its images, those still to be done, and why it was not listed in full."""
        self.shards_planned += 1
        self.images_planned += images
        self.images_pending += pending
        if error is not None:
            self.shards_in_error += 1
            if len(self.shard_errors) < 20:
                self.shard_errors.append(f"{shard_id}: {error}")

    def done(self, counts: Mapping[str, Any]) -> None:
        """Count a chunk that is done, by the counts of its part file."""
        self.chunks_done += 1
        self.images_done += counts["images"]
        self.faces += counts["faces"]
        self.statuses.update(counts["status"])

    @property
    def failed(self) -> int:
        """Images whose status is a failure."""
        return failed_images(self.statuses)

    @property
    def images_left(self) -> float:
        """Images still to be done; shards not listed yet count as average ones."""
        unknown = self.shards - self.shards_planned
        mean = self.images_planned / max(1, self.shards_planned)
        return self.images_pending - self.images_done + unknown * mean


class Progress:
    """Shows the totals while they change. A context manager around the run."""

    def __init__(self, totals: Totals, stream: TextIO | None = None) -> None:
        self._totals = totals
        self._console = Console(file=stream or sys.stderr, highlight=False, soft_wrap=True)
        self._live: Live | None = None
        self._start = time.monotonic()
        self._marks: deque[tuple[float, int]] = deque([(self._start, 0)])
        self._next = self._start + (0.0 if self._console.is_terminal else _PLAIN_EVERY)
        self._actors = (0, 0)

    def __enter__(self) -> Progress:
        if self._console.is_terminal:
            self._live = Live(Text(), console=self._console, auto_refresh=False, transient=True)
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def note(self, message: str) -> None:
        """Print one line that stays."""
        self._console.print(Text(message))

    def show(self, actors_ready: int, actors_wanted: int) -> None:
        """Draw or print the line, unless that was done a moment ago."""
        now = time.monotonic()
        self._actors = (actors_ready, actors_wanted)
        if now < self._next:
            return
        self._next = now + (_LIVE_EVERY if self._live is not None else _PLAIN_EVERY)
        self._marks.append((now, self._totals.images_done))
        while len(self._marks) > 2 and now - self._marks[0][0] > _RATE_WINDOW:
            self._marks.popleft()
        if self._live is not None:
            self._live.update(Text(self.line()), refresh=True)
        else:
            self.note(self.line())

    def line(self) -> str:
        """Totals, rate, time left and actors, in one line."""
        t = self._totals
        ready, wanted = self._actors
        return (
            f"{t.images_done:,} of {self._total()} images · {t.faces:,} faces · "
            f"{t.failed:,} failed · {self.rate():.1f} images/s · {self._eta()} · "
            f"{ready} of {wanted} actors ready"
        )

    def rate(self) -> float:
        """Images per second over the last minute."""
        (then, before), (now, images) = self._marks[0], self._marks[-1]
        return (images - before) / (now - then) if now > then else 0.0

    @property
    def elapsed(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self._start

    def _total(self) -> str:
        t = self._totals
        known = t.shards_planned == t.shards
        return f"{'' if known else 'about '}{round(t.images_done + t.images_left):,}"

    def _eta(self) -> str:
        rate = self.rate()
        if rate <= 0 or not self._totals.shards_planned:
            return "time left unknown"
        return f"{duration(self._totals.images_left / rate)} left"


def duration(seconds: float) -> str:
    """Seconds as a person says them, for example "3 h 07 min"."""
    whole = max(0, round(seconds))
    hours, minutes = whole // 3600, whole % 3600 // 60
    if hours >= 48:
        return f"{hours // 24} d {hours % 24} h"
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {whole % 60:02d} s" if minutes else f"{whole} s"
