"""A store in this process's memory, for tests that need no disk."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator

from jobs.pipeline.storage.errors import StoreError
from jobs.pipeline.storage.types import BytesLike, Entry

_OBJECTS: dict[str, bytes] = {}
_LOCK = threading.Lock()


class MemoryObjects:
    """Backend in memory; all stores of a process share the objects."""

    def __init__(self, root: str) -> None:
        self.root = root

    def read(self, rel: str, start: int | None, end: int | None) -> bytes:
        """See :class:`.types.Backend`."""
        return self._get(rel)[start or 0 : end]

    def size_etag(self, rel: str) -> tuple[int, str]:
        """See :class:`.types.Backend`; the etag is a digest of the content."""
        return _size_etag(self._get(rel))

    def walk(self, prefix: str, recursive: bool) -> Iterator[Entry]:
        """See :class:`.types.Backend`."""
        inside = self._name(prefix) + "/" if prefix else self._name("")
        with _LOCK:
            found = [(n, data) for n, data in _OBJECTS.items() if n.startswith(inside)]
        for name, data in found:
            if recursive or "/" not in name[len(inside) :]:
                yield Entry(name[len(self._name("")) :], *_size_etag(data))

    def publish(self, rel: str, data: BytesLike) -> None:
        """See :class:`.types.Backend`."""
        with _LOCK:
            _OBJECTS[self._name(rel)] = bytes(data)

    def publish_new(self, rel: str, data: BytesLike) -> bool:
        """See :class:`.types.Backend`."""
        with _LOCK:
            return _OBJECTS.setdefault(self._name(rel), bytes(data)) == data

    def delete(self, rel: str) -> None:
        """See :class:`.types.Backend`."""
        with _LOCK:
            _OBJECTS.pop(self._name(rel), None)

    def sweep(self, prefix: str, older_than: float) -> None:
        """Do nothing: there is no object before it is published."""

    def _name(self, rel: str) -> str:
        return f"{self.root}/{rel}"

    def _get(self, rel: str) -> bytes:
        with _LOCK:
            data = _OBJECTS.get(self._name(rel))
        if data is None:
            raise StoreError("not_found", f"memory:{self._name(rel)}", "no such object")
        return data


def _size_etag(data: bytes) -> tuple[int, str]:
    return len(data), hashlib.sha256(data).hexdigest()[:32]
