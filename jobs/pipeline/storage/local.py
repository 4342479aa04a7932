"""Local files, published whole through a temporary file in the same folder."""

from __future__ import annotations

import errno
import os
import re
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from jobs.pipeline.storage.errors import StoreError, from_os_error
from jobs.pipeline.storage.types import BytesLike, Entry

_TEMPORARY = re.compile(r"\.tddfa3-[0-9a-f]{16}\.tmp")
_NO_HARD_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}


class LocalFiles:
    """Backend for a local folder, which need not exist yet."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def read(self, rel: str, start: int | None, end: int | None) -> bytes:
        """See :class:`.types.Backend`."""
        with self._translated(rel, writing=False):
            descriptor = os.open(self.root / rel, os.O_RDONLY)
            try:
                size = os.fstat(descriptor).st_size
                first = start or 0
                last = size if end is None else min(end, size)
                return _pread_all(descriptor, first, last - first)
            finally:
                os.close(descriptor)

    def size_etag(self, rel: str) -> tuple[int, str]:
        """See :class:`.types.Backend`; the etag is the modification time."""
        with self._translated(rel, writing=False):
            stat = os.stat(self.root / rel)
            if not os.path.isfile(self.root / rel):
                raise FileNotFoundError(errno.ENOENT, "not a file")
            return stat.st_size, _etag(stat)

    def walk(self, prefix: str, recursive: bool) -> Iterator[Entry]:
        """See :class:`.types.Backend`.

        Symbolic links are followed, except to a folder that contains the link.
        """
        folder = self.root / prefix if prefix else self.root
        with self._translated(prefix, writing=False):
            yield from _walk(folder, f"{prefix}/" if prefix else "", recursive, frozenset())

    def publish(self, rel: str, data: BytesLike) -> None:
        """See :class:`.types.Backend`; file and folder are synced to disk."""
        path = self.root / rel
        with self._translated(rel, writing=True), _temporary(path, data) as temporary:
            os.replace(temporary, path)
            _sync_folder(path.parent)

    def publish_new(self, rel: str, data: BytesLike) -> bool:
        """See :class:`.types.Backend`; a hard link fails where the name is taken."""
        path = self.root / rel
        with self._translated(rel, writing=True), _temporary(path, data) as temporary:
            try:
                _link_new(temporary, path)
            except FileExistsError:
                return path.read_bytes() == bytes(data)
            _sync_folder(path.parent)
            return True

    def sweep(self, prefix: str, older_than: float) -> None:
        """See :class:`.types.Backend`; removes temporary files.

        ``older_than`` spares those of writers that are still at work, which are seconds old.
        """
        limit = time.time() - older_than
        with suppress(OSError), os.scandir(self.root / prefix) as scan:
            for entry in scan:
                if is_temporary(entry.name) and entry.stat().st_mtime < limit:
                    os.unlink(entry.path)

    def delete(self, rel: str) -> None:
        """See :class:`.types.Backend`."""
        with self._translated(rel, writing=True), suppress(FileNotFoundError):
            os.unlink(self.root / rel)

    @contextmanager
    def _translated(self, rel: str, *, writing: bool) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            uri = str(self.root / rel) if rel else str(self.root)
            raise from_os_error(error, uri, writing=writing) from error
        except UnicodeEncodeError as error:
            raise StoreError("failed", repr(rel), "the name cannot be a file name") from error


def is_temporary(name: str) -> bool:
    """Whether ``name`` is an unpublished file: being written, or left by a killed writer."""
    return _TEMPORARY.fullmatch(name) is not None


def _pread_all(descriptor: int, offset: int, count: int) -> bytes:
    """Read ``count`` bytes; one pread may return fewer (signals, Linux's limit of 2 GiB)."""
    blocks = []
    while count > 0:
        block = os.pread(descriptor, count, offset)
        if not block:
            break
        blocks.append(block)
        offset += len(block)
        count -= len(block)
    return blocks[0] if len(blocks) == 1 else b"".join(blocks)


def _etag(stat: os.stat_result) -> str:
    return f"{stat.st_mtime_ns:x}"


def _walk(
    folder: Path, prefix: str, recursive: bool, above: frozenset[tuple[int, int]]
) -> Iterator[Entry]:
    """Files below ``folder``, symbolic links followed.

    ``above`` holds the identities of the folders on the way here: a link back to one of them is not
    entered. Files that vanish during the walk, and links that lead nowhere, are left out.
    """
    try:
        stat = folder.stat()
        identity = (stat.st_dev, stat.st_ino)
        if identity in above:
            return
        scan = os.scandir(folder)
    except FileNotFoundError:
        return
    folders = []
    with scan:
        for entry in scan:
            if entry.is_dir():
                folders.append(entry.name)
            elif not is_temporary(entry.name):
                with suppress(FileNotFoundError):
                    stat = entry.stat()
                    yield Entry(prefix + entry.name, stat.st_size, _etag(stat))
    for name in folders if recursive else ():
        yield from _walk(folder / name, f"{prefix}{name}/", recursive, above | {identity})


@contextmanager
def _temporary(path: Path, data: BytesLike) -> Iterator[Path]:
    """A synced file beside ``path`` that holds ``data``; removed at the end unless renamed."""
    _make_folders(path.parent)
    temporary = path.parent / f".tddfa3-{secrets.token_hex(8)}.tmp"
    try:
        _write_new(temporary, data)
        yield temporary
    finally:
        with suppress(FileNotFoundError):
            os.unlink(temporary)


def _link_new(temporary: Path, path: Path) -> None:
    """Give ``temporary`` its final name, or raise FileExistsError if the name is taken."""
    try:
        os.link(temporary, path)
    except OSError as error:
        if error.errno not in _NO_HARD_LINKS:
            raise
        # exFAT, some FUSE and network file systems. The file is still whole or not there at all;
        # when two writers meet, the second may replace the first one's file.
        if os.path.lexists(path):
            raise FileExistsError(errno.EEXIST, "is there", str(path)) from None
        os.replace(temporary, path)


def _write_new(path: Path, data: BytesLike) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(descriptor, view) :]
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _make_folders(folder: Path) -> None:
    missing = []
    while not folder.is_dir():
        missing.append(folder)
        folder = folder.parent
    for new in reversed(missing):
        new.mkdir(exist_ok=True)
        _sync_folder(new.parent)


def _sync_folder(folder: Path) -> None:
    """Make a rename in ``folder`` survive a power failure."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        # Some network file systems cannot sync a folder and do not need it.
        if error.errno not in {errno.EINVAL, errno.ENOTSUP}:
            raise
    finally:
        os.close(descriptor)
