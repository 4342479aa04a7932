"""All access to storage: local folders and S3, under one set of rules.

Nothing is ever streamed into a final name: a file or object appears whole, in one step, or not at
all. URLs other than a local path, ``file:`` and ``s3:`` are refused, so that no listing and no
option can make a run fetch from elsewhere. Credentials, region and endpoint come from the
environment (as botocore reads them) and are never kept in a Store.
"""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

from jobs.pipeline.storage.errors import FATAL_KINDS, StoreError
from jobs.pipeline.storage.local import LocalFiles
from jobs.pipeline.storage.memory import MemoryObjects
from jobs.pipeline.storage.s3 import S3Objects
from jobs.pipeline.storage.types import Backend, BytesLike, Entry

__all__ = ["FATAL_KINDS", "Entry", "Store", "StoreError", "locate", "parse_url"]

ALLOW_MEMORY = "TDDFA3_ALLOW_MEMORY"
"""Environment variable that also allows ``memory:`` URLs, for tests."""
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):")


class Store:
    """A folder, local or in a bucket, under which files are read, listed and published by name.

    Names (``rel``) are relative to the root, with ``/`` between folders. Absolute names, ``..`` and
    NUL are refused. All methods raise :class:`StoreError`, whose ``kind`` says what to do about it.
    A Store can be pickled and used from several threads; it carries its URL and endpoint, never
    credentials.
    """

    def __init__(self, url: str, s3_endpoint: str | None = None) -> None:
        self.kind, self._root = parse_url(url)
        self._endpoint = _check_endpoint(s3_endpoint)
        self.url = _format_url(self.kind, self._root)
        self._backend = _open_backend(self.kind, self._root, self._endpoint)

    @classmethod
    def open(cls, url: str, *, s3_endpoint: str | None = None) -> Store:
        """The store rooted at ``url``: a local path, ``file:…`` or ``s3://bucket/prefix``.

        Nothing is read or written yet, and a local folder need not exist.

        Args:
            url: where the store is.
            s3_endpoint: ``http(s)://host:port`` of an S3 server; None: what the environment says.
        """
        return cls(url, s3_endpoint)

    def __repr__(self) -> str:
        return f"Store({self.url!r})"

    def __reduce__(self) -> tuple[type[Store], tuple[str, str | None]]:
        return Store, (self.url, self._endpoint)

    def uri(self, rel: str) -> str:
        """The absolute URI (local: path) of ``rel``; :func:`locate` takes it apart again."""
        return f"{self.url.rstrip('/')}/{rel}" if rel else self.url

    def read(self, rel: str, start: int | None = None, end: int | None = None) -> bytes:
        """The bytes ``start`` to ``end`` (exclusive; default all); fewer where the file ends."""
        if start is not None and (start < 0 or (end is not None and end < start)):
            raise ValueError(f"not a range: start={start}, end={end}")
        if start is not None and start == end:
            return b""
        return self._backend.read(self._checked(rel), start, end)

    def read_or_none(self, rel: str) -> bytes | None:
        """The whole content, or None if there is no such file."""
        try:
            return self.read(rel)
        except StoreError as error:
            if error.kind != "not_found":
                raise
            return None

    def exists(self, rel: str) -> bool:
        """Whether ``rel`` is a file or object (folders do not count)."""
        try:
            self.size_etag(rel)
        except StoreError as error:
            if error.kind != "not_found":
                raise
            return False
        return True

    def size_etag(self, rel: str) -> tuple[int, str]:
        """Size in bytes, and a text that changes when the content does."""
        return self._backend.size_etag(self._checked(rel))

    def list(self, prefix: str = "", *, recursive: bool = True) -> Iterator[Entry]:
        """All files below the folder ``prefix``, sorted by name; nothing if it is absent.

        Never cached: what another writer has published is seen at once. Files that are not yet
        published, or never will be because their writer was killed, are not listed.

        Args:
            prefix: relative to the root; empty: the root itself.
            recursive: False lists only what lies directly in the folder.
        """
        found = self.walk(prefix, recursive=recursive)
        return iter(sorted(found, key=lambda entry: entry.rel))

    def walk(self, prefix: str = "", *, recursive: bool = True) -> Iterator[Entry]:
        """Like :meth:`list`, but in no particular order and without holding it all in memory."""
        return self._backend.walk(self._checked(prefix) if prefix else "", recursive)

    def publish(self, rel: str, data: BytesLike) -> None:
        """Put ``data`` under ``rel`` in one step, replacing what was there.

        When this returns, the data are durable; when it raises, ``rel`` is as before or complete.
        """
        self._backend.publish(self._checked(rel), data)

    def publish_new(self, rel: str, data: BytesLike) -> bool:
        """Like :meth:`publish`, but never replaces: of several writers one wins.

        Returns:
            True if ``rel`` now holds ``data``: published by this call, or found there with exactly
            this content (the reply to an earlier attempt was lost, or another writer published the
            same). False if other content was there first; it is left alone.
        """
        return self._backend.publish_new(self._checked(rel), data)

    def delete(self, rel: str) -> None:
        """Remove ``rel``; not an error if it is not there."""
        self._backend.delete(self._checked(rel))

    def sweep(self, prefix: str, older_than: float = 3600.0) -> None:
        """Remove what killed writers left unpublished in the folder ``prefix``.

        Args:
            prefix: relative to the root; folders below it are not searched.
            older_than: seconds; younger leftovers stay, because their writer may still be at work.
        """
        self._backend.sweep(self._checked(prefix), older_than)

    def check(self) -> None:
        """Prove by a quick round trip that this store can be written, listed, read and deleted.

        Raises:
            StoreError: with the kind of what is wrong; ``failed`` if the store ignores create-only
                writes, on which two runs that share an output rely.
        """
        rel = f"_run/check-{secrets.token_hex(8)}"
        try:
            created = self.publish_new(rel, b"first")
            refused = not self.publish_new(rel, b"second")
            same = self.read(rel, 1, 4) == b"irs" and self.size_etag(rel)[0] == 5
            listed = any(entry.rel == rel for entry in self.walk("_run", recursive=False))
        finally:
            self.delete(rel)
        if not (created and refused and same):
            reason = "this storage does not honour create-only writes (If-None-Match)"
            raise StoreError("failed", self.url, reason)
        if not listed:
            raise StoreError("failed", self.url, "what was just written is not listed")

    def _checked(self, rel: str) -> str:
        if not rel or rel.startswith("/") or "\0" in rel or ".." in rel.split("/"):
            raise StoreError("refused", self.url, f"{rel!r} is not a name inside this store")
        return rel


def locate(uri: str, *, s3_endpoint: str | None = None) -> tuple[Store, str]:
    """The store of the folder that holds ``uri``, and the name in it.

    Raises:
        StoreError: kind ``refused``, if ``uri`` is a whole store or not a URL that is opened.
    """
    kind, root = parse_url(uri)
    folder, _, name = root.rstrip("/").rpartition("/")
    if not name:
        raise StoreError("refused", uri, "names a whole store, not a file in it")
    return Store(_format_url(kind, folder or "/"), s3_endpoint), name


def parse_url(url: str) -> tuple[str, str]:
    """``(kind, root)`` of a URL: ``("local", absolute path)`` or ``("s3", bucket[/prefix])``.

    Raises:
        StoreError: kind ``refused``, for every other scheme and for chained (``::``) URLs.
    """
    shown = _without_userinfo(url)
    if not url or "\0" in url:
        raise StoreError("refused", repr(shown), "not a path or URL")
    if url.startswith(("/", "./", "../")):
        return "local", os.path.abspath(url)
    if "::" in url:
        raise StoreError("refused", shown, "chained URLs (::) are not opened")
    scheme = _SCHEME.match(url)
    if scheme is None:
        return "local", os.path.abspath(url)
    kind = scheme[1].lower()
    if kind == "file":
        parts = urlsplit(url)
        if parts.netloc not in ("", "localhost") or not parts.path.startswith("/"):
            raise StoreError("refused", shown, "write file:///absolute/path")
        return "local", os.path.abspath(unquote(parts.path))
    if kind == "s3":
        return "s3", _parse_bucket(url, shown)
    if kind == "memory" and os.environ.get(ALLOW_MEMORY) == "1":
        return "memory", url.partition(":")[2].strip("/")
    raise StoreError("refused", shown, "only local paths, file: and s3:// URLs are opened")


def _parse_bucket(url: str, shown: str) -> str:
    bucket, _, prefix = url[len("s3:") :].removeprefix("//").partition("/")
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{1,62}", bucket):
        raise StoreError("refused", shown, "write s3://bucket/prefix, without credentials in it")
    if ".." in PurePosixPath(prefix).parts:
        raise StoreError("refused", shown, "'..' has no meaning in a bucket")
    return f"{bucket}/{prefix}".rstrip("/")


def _without_userinfo(url: str) -> str:
    """``url`` for a message: what precedes ``@`` in the authority may be a password."""
    return re.sub(r"//[^/]*@", "//***@", url)


def _check_endpoint(endpoint: str | None) -> str | None:
    if endpoint is None:
        return None
    parts = urlsplit(endpoint)
    if parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc:
        shown = _without_userinfo(endpoint)
        raise StoreError("refused", shown, "an S3 endpoint is http(s)://host:port, nothing more")
    return endpoint


def _format_url(kind: str, root: str) -> str:
    return root if kind == "local" else f"{kind}://{root}"


def _open_backend(kind: str, root: str, endpoint: str | None) -> Backend:
    if kind == "local":
        return LocalFiles(Path(root))
    if kind == "s3":
        return S3Objects(root, endpoint)
    return MemoryObjects(root)
