"""Reading and decoding ahead of the networks, in threads, within a bound on memory."""

from __future__ import annotations

import hashlib
import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from jobs.pipeline.label.decode import DecodeFailure, decode, decoded_bytes
from jobs.pipeline.record.rows import ImageRecord
from jobs.pipeline.shards.model import Member, ShardReadError
from tddfa3.images.photo import Photo, ReducedPhoto

MOST_BYTES = 256 * 2**20
"""Decoded pixels of one chunk that may wait for the networks."""


@dataclass(slots=True)
class LoadedImage:
    """One image of a chunk: pixels, or why there are none.

    Attributes:
        record: what is known about it.
        image: the pixels, possibly at a reduced size; None if there is a ``failure``.
        failure: None if there is an ``image``.
    """

    record: ImageRecord
    image: Photo | None
    failure: DecodeFailure | None


class Stopwatch:
    """Seconds per stage of a chunk, summed over threads.

    Attributes:
        seconds: by the stage's name.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._lock = threading.Lock()

    def add(self, stage: str, seconds: float) -> None:
        """Add seconds to a stage. Safe across threads."""
        with self._lock:
            self.seconds[stage] = self.seconds.get(stage, 0.0) + seconds

    def timed(self, stage: str) -> AbstractContextManager[None]:
        """A context manager that adds the time it takes to a stage."""
        return _Timed(self, stage)


class _Timed(AbstractContextManager[None]):
    def __init__(self, watch: Stopwatch, stage: str) -> None:
        self._watch, self._stage = watch, stage

    def __enter__(self) -> None:
        self._start = time.perf_counter()

    def __exit__(self, *error: object) -> None:
        self._watch.add(self._stage, time.perf_counter() - self._start)


Read = Iterable[tuple[Member, bytes | ShardReadError]]


class ImageLoader:
    """Iterates over the images of a chunk, read and decoded in the background.

    Reading begins at once, in a thread of its own, and pauses while ``most_images`` images or
    ``MOST_BYTES`` of pixels wait to be taken. Use it as a context manager: leaving it stops the
    reading. What ``read`` raises is raised by the iteration.

    Args:
        read: called in the reading thread; returns members with their bytes.
        shard_id: the chunk's shard.
        max_pixels: as for :func:`jobs.pipeline.label.decode.decode`.
        decoders: where decoding runs.
        watch: takes the seconds of "read" and "decode".
        most_images: that may wait to be taken, including those being read and decoded.
        needed_side: as for :func:`jobs.pipeline.label.decode.decode`.
    """

    def __init__(
        self,
        read: Callable[[], Read],
        shard_id: str,
        max_pixels: int,
        decoders: Executor,
        watch: Stopwatch,
        most_images: int,
        needed_side: int | None = None,
    ) -> None:
        self._read = read
        self._shard_id, self._max_pixels = shard_id, max_pixels
        self._decoders, self._watch = decoders, watch
        self._most_images, self._needed_side = most_images, needed_side
        self._ready: queue.SimpleQueue[tuple[Future[LoadedImage], int] | BaseException | None]
        self._ready = queue.SimpleQueue()
        self._room = threading.Condition()
        self._waiting_images = self._waiting_bytes = 0
        self._stopped = False
        self._thread = threading.Thread(target=self._read_all, name="reading", daemon=True)

    def __enter__(self) -> ImageLoader:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        with self._room:
            self._stopped = True
            self._room.notify_all()
        self._thread.join()

    def __iter__(self) -> Iterator[LoadedImage]:
        while (item := self._ready.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            future, reserved = item
            loaded = future.result()
            with self._room:
                self._waiting_images -= 1
                self._waiting_bytes -= reserved
                self._room.notify_all()
            yield loaded

    def _read_all(self) -> None:
        try:
            members = iter(self._read())
            while self._wait_for_room():
                with self._watch.timed("read"):
                    item = next(members, None)
                if item is None:
                    break
                if isinstance(item[1], ShardReadError) and item[1].kind == "changed":
                    raise item[1]  # not this image's fault: the chunk must not be committed
                reserved = self._reserve(item[1])
                self._ready.put((self._decoders.submit(self._load, *item), reserved))
            self._ready.put(None)
        except BaseException as error:
            self._ready.put(error)

    def _wait_for_room(self) -> bool:
        with self._room:
            self._room.wait_for(
                lambda: (
                    self._stopped
                    or (
                        self._waiting_images < self._most_images
                        and self._waiting_bytes < MOST_BYTES
                    )
                )
            )
            self._waiting_images += 1
            return not self._stopped

    def _reserve(self, data: bytes | ShardReadError) -> int:
        """Count pixels before they exist, so that those being decoded are bounded too."""
        expected = 0 if isinstance(data, ShardReadError) else decoded_bytes(data, self._needed_side)
        if expected > 3 * self._max_pixels:
            expected = 0  # will not be decoded
        with self._room:
            self._waiting_bytes += expected
        return expected

    def _load(self, member: Member, data: bytes | ShardReadError) -> LoadedImage:
        if isinstance(data, ShardReadError):
            status = "too_large" if data.kind == "too_large" else "decode_error"
            record = ImageRecord(self._shard_id, member.key)
            return LoadedImage(record, None, DecodeFailure(status, str(data)))
        with self._watch.timed("decode"):
            decoded = decode(data, self._max_pixels, self._needed_side)
            width, height = decoded.size or (None, None)
            digest = hashlib.sha256(data).hexdigest()
        record = ImageRecord(self._shard_id, member.key, width, height, digest)
        photo: Photo | None = decoded.image
        if decoded.image is not None and decoded.factor > 1:
            photo = ReducedPhoto(
                decoded.image, decoded.factor, partial(_all_pixels, data, self._max_pixels)
            )
        return LoadedImage(record, photo, decoded.failure)


def _all_pixels(data: bytes, max_pixels: int) -> NDArray[np.uint8]:
    """The image at full size, (H, W, 3).

    Raises:
        ValueError: it cannot be decoded, though it could be at a smaller size.
    """
    image, failure, *_ = decode(data, max_pixels)
    if image is None:
        raise ValueError(f"not decoded at full size: {failure.error if failure else 'no pixels'}")
    return image
