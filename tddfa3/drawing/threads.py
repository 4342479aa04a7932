"""Faces shared out among threads, each of which keeps PyTorch to one core.

PyTorch's own threads share every single operation, and those of one face are small: they wait for
each other most of the time, and burn the cores that decoding and writing could use meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import Barrier

import torch


class FaceThreads:
    """Runs work face by face.

    Args:
        threads: faces at a time; with 1 the caller's thread does it all.
    """

    def __init__(self, threads: int) -> None:
        self._pool: ThreadPoolExecutor | None = None
        if threads > 1:
            self._pool = _started(threads)

    def run(self, work: Callable[[int], None], count: int) -> None:
        """``work(0)`` to ``work(count - 1)``; raises what the first of them raises that does."""
        if self._pool is None or count < 2:
            with one_torch_thread():
                for k in range(count):
                    work(k)
            return
        mode = torch.is_inference_mode_enabled()  # of this thread; the others do not know it

        def call(k: int) -> None:
            with torch.inference_mode(mode):
                work(k)

        for done in [self._pool.submit(call, k) for k in range(count)]:
            done.result()


@contextmanager
def one_torch_thread() -> Iterator[None]:
    """PyTorch's operations of this thread run on this thread alone."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _started(threads: int) -> ThreadPoolExecutor:
    """A pool whose threads all run: setting their number also sets that of threads to come."""
    all_there = Barrier(threads + 1)
    with one_torch_thread():
        pool = ThreadPoolExecutor(threads, "faces", torch.set_num_threads, (1,))
        for _ in range(threads):
            pool.submit(all_there.wait)
        all_there.wait()
    return pool
