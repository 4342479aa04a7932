"""Processes faces in parallel threads, each of which keeps PyTorch to one core.

PyTorch's own threads split every single operation. The operations of one face are small, so those
threads mostly wait for each other and occupy cores that decoding and writing could use.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import Barrier

import torch


class FaceThreads:
    """Runs a function for each face of a batch.

    Args:
        threads: faces at a time; with 1 everything runs in the caller's thread.
    """

    def __init__(self, threads: int) -> None:
        self._pool: ThreadPoolExecutor | None = None
        if threads > 1:
            self._pool = _started(threads)

    def run(self, work: Callable[[int], None], count: int) -> None:
        """Calls ``work(0)`` to ``work(count - 1)``; raises the error of the lowest index."""
        if self._pool is None or count < 2:
            with one_torch_thread():
                for k in range(count):
                    work(k)
            return
        mode = torch.is_inference_mode_enabled()  # thread-local: passed on to the pool

        def call(k: int) -> None:
            with torch.inference_mode(mode):
                work(k)

        for done in [self._pool.submit(call, k) for k in range(count)]:
            done.result()


@contextmanager
def one_torch_thread() -> Iterator[None]:
    """Context in which the current thread's PyTorch operations use no other thread."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _started(threads: int) -> ThreadPoolExecutor:
    """A pool whose threads have all started.

    ``torch.set_num_threads`` also sets the number for threads started later, so all are started
    before the caller's number is restored.
    """
    all_there = Barrier(threads + 1)
    with one_torch_thread():
        pool = ThreadPoolExecutor(threads, "faces", torch.set_num_threads, (1,))
        for _ in range(threads):
            pool.submit(all_there.wait)
        all_there.wait()
    return pool
