"""Storage errors, sorted into the kinds that the scheduler acts on."""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import Literal

from tddfa3.errors import UserError

Kind = Literal["not_found", "denied", "full", "unavailable", "refused", "failed"]

FATAL_KINDS = frozenset({"denied", "full", "unavailable"})
"""Nothing that follows can succeed either: the run stops early and keeps what is committed."""


class StoreError(UserError):
    """Reading or writing a store failed.

    Attributes:
        kind: ``not_found`` (no such file or object), ``denied`` (permissions, credentials),
            ``full`` (disk, quota or file-size limit), ``unavailable`` (throttled, unreachable or
            failing after all retries; the bucket is gone), ``refused`` (the URL or name is not one
            this project opens), ``failed`` (anything else).
        uri: what was being read or written; never holds credentials.
        reason: what went wrong, for a person.
    """

    def __init__(self, kind: Kind, uri: str, reason: str) -> None:
        super().__init__(kind, uri, reason)
        self.kind = kind
        self.uri = uri
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.uri}: {self.reason}"

    @property
    def fatal(self) -> bool:
        """Whether the run should stop; see :data:`FATAL_KINDS`."""
        return self.kind in FATAL_KINDS


_LOCAL_KINDS: dict[int, Kind] = {
    errno.ENOENT: "not_found",
    errno.ENOTDIR: "not_found",
    errno.EACCES: "denied",
    errno.EPERM: "denied",
    errno.EROFS: "denied",
    errno.ENOSPC: "full",
    errno.EDQUOT: "full",
    errno.EFBIG: "full",
    errno.ESTALE: "unavailable",
    errno.ETIMEDOUT: "unavailable",
    errno.ENOTCONN: "unavailable",
    errno.EHOSTDOWN: "unavailable",
}

_REASONS: dict[Kind, Callable[[str], str]] = {
    "not_found": lambda text: "no such file or folder",
    "denied": lambda text: f"access denied ({text})",
    "full": lambda text: f"no space left, or over a quota or file-size limit ({text})",
    "unavailable": lambda text: f"the file system does not answer ({text})",
}


def from_os_error(error: OSError, uri: str, *, writing: bool) -> StoreError:
    """The StoreError for a local ``OSError``.

    Args:
        error: what the operating system raised.
        uri: what was being read or written.
        writing: the same error can mean less on a read: EIO is one bad file then, not a lost disk.
    """
    kind: Kind = _LOCAL_KINDS.get(error.errno or 0, "failed")
    # A disk that can no longer be written to is lost; a sector that can't be read is one bad file.
    if writing and error.errno == errno.EIO:
        kind = "unavailable"
    text = error.strerror or type(error).__name__
    if writing and error.errno == errno.ENOTDIR:
        return StoreError("failed", uri, f"a file is in the way of a folder ({text})")
    return StoreError(kind, uri, _REASONS.get(kind, lambda text: text)(text))
