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
    """The operations that a kind of storage must offer to :class:`.store.Store`.

    Names (``rel``) are relative to the backend's root, with ``/`` between folders; the Store has
    checked them. All methods raise :class:`.errors.StoreError` when the storage fails.
    """

    def read(self, rel: str, start: int | None, end: int | None) -> bytes:
        """The bytes from ``start`` to ``end`` (exclusive); fewer, or none, where the file ends.

        Args:
            rel: a file.
            start: None: from the beginning.
            end: None: to the end of the file.

        Raises:
            StoreError: kind ``not_found`` if there is no such file.
        """

    def size_etag(self, rel: str) -> tuple[int, str]:
        """Size in bytes, and a text that changes when the content does.

        Raises:
            StoreError: kind ``not_found`` if there is no such file; a folder counts as none.
        """

    def walk(self, prefix: str, recursive: bool) -> Iterator[Entry]:
        """Published files below a folder, in no particular order; none if it does not exist.

        Args:
            prefix: the folder, without a slash at the end; empty: the root.
            recursive: False: only the files that lie directly in it.
        """

    def publish(self, rel: str, data: BytesLike) -> None:
        """Put ``data`` under ``rel`` durably and in one step, replacing what was there."""

    def publish_new(self, rel: str, data: BytesLike) -> bool:
        """Like :meth:`publish`, but never replaces.

        Returns:
            Whether ``rel`` holds ``data`` now, also if another process wrote it; False: it holds
            something else, and was not changed.
        """

    def delete(self, rel: str) -> None:
        """Remove ``rel``; no error if it is not there."""

    def sweep(self, prefix: str, older_than: float) -> None:
        """Remove what killed writers left unpublished, directly in a folder.

        Args:
            prefix: the folder.
            older_than: seconds; younger leftovers may belong to a writer at work, and stay.
        """
