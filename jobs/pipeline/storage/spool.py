"""Large files, written piece by piece and published whole."""

from __future__ import annotations

import mmap
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

from jobs.pipeline.storage.store import Store


@contextmanager
def spooled(store: Store, rel: str) -> Iterator[IO[bytes]]:
    """A temporary local file to write to; published as ``rel`` when the block ends without error.

    Raises:
        StoreError: it could not be published.
    """
    with tempfile.TemporaryFile(prefix="tddfa3-") as file:
        yield file
        file.flush()
        file.seek(0, 2)
        if file.tell() == 0:
            store.publish(rel, b"")
            return
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            view = memoryview(content)
            try:
                store.publish(rel, view)
            finally:
                view.release()
