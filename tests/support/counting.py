"""What is asked of storage while a test runs: the tests count requests and bytes, not seconds."""

from __future__ import annotations

import os

import pytest

from jobs.pipeline.storage.store import Store


def sizes_of_reads(patch: pytest.MonkeyPatch) -> list[int]:
    """Grows by the number of bytes of every ``Store.read``."""
    sizes: list[int] = []
    real = Store.read

    def counted(self: Store, rel: str, start: int | None = None, end: int | None = None) -> bytes:
        data = real(self, rel, start, end)
        sizes.append(len(data))
        return data

    patch.setattr(Store, "read", counted)
    return sizes


def sizes_of_preads(patch: pytest.MonkeyPatch) -> list[int]:
    """Grows by the number of bytes that every ``os.pread`` asks for."""
    sizes: list[int] = []
    real = os.pread

    def counted(descriptor: int, count: int, offset: int) -> bytes:
        sizes.append(count)
        return real(descriptor, count, offset)

    patch.setattr(os, "pread", counted)
    return sizes
