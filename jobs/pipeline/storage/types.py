"""What the storage backends have in common."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

BytesLike = bytes | bytearray | memoryview


@dataclass(frozen=True, slots=True)
class Entry:
    """One listed file or object.

    Attributes:
        rel: its name relative to the store's root, ``/`` between folders.
        size: bytes.
        etag: changes when the content does: the store's ETag, locally the modification time.
    """

    rel: str
    size: int
    etag: str


class Backend(Protocol):
    """The operations that a kind of storage must offer to :class:`.store.Store`."""

    def read(self, rel: str, start: int | None, end: int | None) -> bytes: ...

    def size_etag(self, rel: str) -> tuple[int, str]: ...

    def walk(self, prefix: str, recursive: bool) -> Iterator[Entry]: ...

    def publish(self, rel: str, data: BytesLike) -> None: ...

    def publish_new(self, rel: str, data: BytesLike) -> bool: ...

    def delete(self, rel: str) -> None: ...

    def sweep(self, prefix: str, older_than: float) -> None: ...
