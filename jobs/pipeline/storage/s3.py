"""S3 and compatible storage, through s3fs: listings are never cached, writes are atomic.

Requests are retried by botocore alone (adaptive: it backs off, and sends less while throttled);
s3fs's own retries would multiply them and are switched off. ``AWS_MAX_ATTEMPTS`` overrides the
number of attempts. Only a connection that breaks inside a body is retried here.
"""

from __future__ import annotations

import functools
import hashlib
import os
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    CredentialRetrievalError,
    NoCredentialsError,
    PartialCredentialsError,
    TokenRetrievalError,
)
from s3fs import S3FileSystem
from s3fs.core import S3_RETRYABLE_ERRORS

from jobs.pipeline.storage.errors import Kind, StoreError
from jobs.pipeline.storage.types import BytesLike, Entry

MAX_ATTEMPTS = 8
"""Attempts per request, the first one included, unless ``AWS_MAX_ATTEMPTS`` is set."""
CONNECT_TIMEOUT = 10.0
"""Seconds."""
READ_TIMEOUT = 60.0
"""Seconds."""
_BODY_ATTEMPTS = 4
_CONFLICT_ATTEMPTS = 6

_DENIED = {
    "AccessDenied",
    "AccountProblem",
    "AllAccessDisabled",
    "AuthorizationHeaderMalformed",
    "ExpiredToken",
    "ExpiredTokenException",
    "Forbidden",
    "InvalidAccessKeyId",
    "InvalidSecurity",
    "InvalidToken",
    "InvalidClientTokenId",
    "NotSignedUp",
    "RequestTimeTooSkewed",
    "SignatureDoesNotMatch",
    "401",
    "403",
}
_FULL = {"QuotaExceeded", "InsufficientStorage", "StorageFull", "XMinioStorageFull", "507"}
_NOT_FOUND = {"NoSuchKey", "NotFound", "404"}
_NO_CREDENTIALS = (
    NoCredentialsError,
    PartialCredentialsError,
    CredentialRetrievalError,
    TokenRetrievalError,
)

T = TypeVar("T")


class S3Objects:
    """Backend for the objects below ``bucket/prefix``."""

    def __init__(self, root: str, endpoint: str | None) -> None:
        self.root = root
        self.bucket, _, self.prefix = root.partition("/")
        self.endpoint = endpoint

    def read(self, rel: str, start: int | None, end: int | None) -> bytes:
        """See :class:`.types.Backend`; one ranged GET."""

        def get() -> bytes:
            # A start makes this one ranged GET; without it s3fs asks for the size first.
            data: bytes = self._fs.cat_file(self._path(rel), start=start or 0, end=end)
            return data

        try:
            return self._do(rel, _retry_body, get)
        except _OutOfRange:
            return b""

    def size_etag(self, rel: str) -> tuple[int, str]:
        """See :class:`.types.Backend`; one HEAD."""
        head = self._do(rel, self._call, "head_object", Key=self._key(rel))
        return int(head["ContentLength"]), str(head.get("ETag", "")).strip('"')

    def walk(self, prefix: str, recursive: bool) -> Iterator[Entry]:
        """See :class:`.types.Backend`."""
        below = self._key(prefix) + "/" if prefix else self._key("")
        only = {} if recursive else {"Delimiter": "/"}
        skip = len(self._key(""))
        for page in self._pages(prefix, {"Prefix": below, **only}):
            for found in page.get("Contents", ()):
                # Consoles create empty objects that end in a slash to show a folder.
                if not found["Key"].endswith("/"):
                    etag = found.get("ETag", "").strip('"')
                    yield Entry(found["Key"][skip:], found["Size"], etag)

    def publish(self, rel: str, data: BytesLike) -> None:
        """See :class:`.types.Backend`; one PUT, or several parts from 100 MiB on."""
        self._do(rel, self._fs.pipe_file, self._path(rel), bytes(data))

    def publish_new(self, rel: str, data: BytesLike) -> bool:
        """See :class:`.types.Backend`; a PUT with ``If-None-Match``.

        Raises:
            StoreError: also with kind ``unavailable``, if conditional writes keep conflicting.
        """
        data = bytes(data)
        for attempt in range(_CONFLICT_ATTEMPTS):
            try:
                self._do(rel, self._fs.pipe_file, self._path(rel), data, mode="create")
                return True
            except _AlreadyThere:
                return self._holds(rel, data)
            except _Conflict:
                # Another conditional write was under way; the next attempt shows who won.
                time.sleep(0.05 * 2**attempt)
        raise StoreError("unavailable", self._uri(rel), "conditional writes keep conflicting")

    def delete(self, rel: str) -> None:
        """See :class:`.types.Backend`."""
        self._do(rel, self._call, "delete_object", Key=self._key(rel))

    def sweep(self, prefix: str, older_than: float) -> None:
        """Do nothing: there is no object before it is published."""

    def _holds(self, rel: str, data: bytes) -> bool:
        try:
            return self.size_etag(rel)[0] == len(data) and self.read(rel, None, None) == data
        except StoreError as error:
            if error.kind == "not_found":
                return False
            raise

    def _pages(self, rel: str, arguments: dict[str, str]) -> Iterator[dict[str, Any]]:
        while True:
            page = self._do(rel, self._call, "list_objects_v2", **arguments)
            yield page
            if not page.get("IsTruncated"):
                return
            arguments = {**arguments, "ContinuationToken": page["NextContinuationToken"]}

    @property
    def _fs(self) -> S3FileSystem:
        return _file_system(self.endpoint, _environment_digest(), os.getpid())

    def _call(self, method: str, **arguments: Any) -> Any:
        return self._fs.call_s3(method, Bucket=self.bucket, **arguments)

    def _do(self, rel: str, call: Callable[..., T], *arguments: Any, **keywords: Any) -> T:
        """Call, and turn whatever the layers below raise into our own errors.

        They are raised ``from None``: the original exceptions hold requests and clients, which must
        not be pickled or shown.
        """
        try:
            return call(*arguments, **keywords)
        except Exception as error:
            raise _translate(error, self._uri(rel)) from None

    def _key(self, rel: str) -> str:
        return f"{self.prefix}/{rel}" if self.prefix else rel

    def _path(self, rel: str) -> str:
        return f"{self.bucket}/{self._key(rel)}"

    def _uri(self, rel: str) -> str:
        return f"s3://{self.root}/{rel}" if rel else f"s3://{self.root}"


class _OutOfRange(Exception):
    """A range began at or after the end of the object (HTTP 416)."""


class _AlreadyThere(Exception):
    """A create-only write found the key taken (HTTP 412)."""


class _Conflict(Exception):
    """A create-only write met another one under way (HTTP 409)."""


def _retry_body(get: Callable[[], bytes]) -> bytes:
    """Read again when the connection breaks inside the body, which botocore does not retry."""
    for attempt in range(_BODY_ATTEMPTS - 1):
        try:
            return get()
        except S3_RETRYABLE_ERRORS:
            time.sleep(0.1 * 2**attempt)
    return get()


def _translate(error: Exception, uri: str) -> Exception:
    """Our error for one of s3fs's, botocore's or aiohttp's; the message is ours alone."""
    if isinstance(error, _NO_CREDENTIALS):
        reason = "no S3 credentials; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a profile"
        return StoreError("denied", uri, reason)
    cause = error if isinstance(error, ClientError) else error.__cause__
    if isinstance(cause, ClientError):
        return _translate_reply(cause, uri)
    if isinstance(error, FileExistsError):
        return _AlreadyThere()
    name = type(error).__name__
    if isinstance(error, (BotoCoreError, OSError, *S3_RETRYABLE_ERRORS)):
        return StoreError("unavailable", uri, f"the S3 endpoint does not answer ({name})")
    return StoreError("failed", uri, f"the S3 request failed ({name})")


def _translate_reply(error: ClientError, uri: str) -> Exception:
    code = str(error.response.get("Error", {}).get("Code", ""))
    status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    shown = f"{code}, HTTP {status}"
    if code == "NoSuchBucket":
        return StoreError("unavailable", uri, "no such bucket")
    if status == 412:
        return _AlreadyThere()
    if status == 409:
        return _Conflict()
    if status == 416:
        return _OutOfRange()
    kind: Kind = "failed"
    if code == "InvalidObjectState":
        return StoreError("failed", uri, "the object is archived; restore it first")
    if code in _NOT_FOUND or status == 404:
        return StoreError("not_found", uri, "no such object")
    if code in _DENIED or status in (401, 403):
        return StoreError("denied", uri, f"the S3 credentials are not accepted here ({shown})")
    if code in _FULL or status == 507:
        return StoreError("full", uri, f"no space left, or over a quota ({shown})")
    if status == 429 or status >= 500 or code in ("SlowDown", "RequestTimeout"):
        kind = "unavailable"
    return StoreError(kind, uri, f"the S3 request failed ({shown})")


def _environment_digest() -> str:
    """Changes with the AWS settings and credentials in the environment; reveals none."""
    values = sorted((k, v) for k, v in os.environ.items() if k.startswith("AWS_"))
    return hashlib.sha256(repr(values).encode("utf-8", "surrogatepass")).hexdigest()


@functools.lru_cache(maxsize=8)
def _file_system(endpoint: str | None, environment: str, process: int) -> S3FileSystem:
    """One client for all stores of a process that use the same endpoint."""
    config: dict[str, Any] = {
        "connect_timeout": CONNECT_TIMEOUT,
        "read_timeout": READ_TIMEOUT,
        "max_pool_connections": 32,
        "retries": {"mode": "adaptive"},
    }
    if "AWS_MAX_ATTEMPTS" not in os.environ:
        config["retries"]["total_max_attempts"] = MAX_ATTEMPTS
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    file_system = S3FileSystem(
        endpoint_url=endpoint,
        client_kwargs={"region_name": region} if region else {},
        config_kwargs=config,
        use_listings_cache=False,
        skip_instance_cache=True,
    )
    file_system.retries = 1
    return file_system
