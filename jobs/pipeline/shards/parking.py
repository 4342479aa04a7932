"""Where a process leaves a half-read shard for its next chunk."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

_PLACES = 2


class Parking(Generic[K, V]):
    """Keeps the last few values put; each can be taken once. Safe across threads."""

    def __init__(self) -> None:
        self._values: OrderedDict[K, V] = OrderedDict()
        self._lock = threading.Lock()

    def take(self, key: K) -> V | None:
        """Remove and return the value of ``key``; None if there is none (any more)."""
        with self._lock:
            return self._values.pop(key, None)

    def put(self, key: K, value: V) -> None:
        """Keep ``value`` under ``key``, and drop the oldest values beyond the limit."""
        with self._lock:
            self._values[key] = value
            while len(self._values) > _PLACES:
                self._values.popitem(last=False)
