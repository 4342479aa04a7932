"""Names that come from data, made safe to use as names of files and objects, and in URLs.

Keys and shard ids are whatever an archive or a listing says: they may hold ``..``, slashes, control
characters, 3,000 letters, or two spellings that differ in case only. The names made here

* are ASCII letters, digits, ``.``, ``_``, ``-`` and ``~``, with no dot at either end and no
  underscore at the front. These are the characters that no URL escapes (RFC 3986, section 2.3), so
  a relative path made of them is also a relative URL, for HTTP, ``file:`` and ``s3:`` alike;
* differ where the input differs: a character that is unsafe becomes ``~`` and its bytes in
  hexadecimal, ``~`` itself included; ``~~`` only ever begins a digest;
* are short enough for every file system, with room for a suffix such as ``_12.texture.webp``.

Version 0.1 escaped with ``%``, as URLs do, so that its names had to be escaped again in URLs. Its
outputs keep their names: every function takes the mark to escape with.
"""

from __future__ import annotations

import hashlib
import re
from typing import Literal
from urllib.parse import quote

Mark = Literal["~", "%"]
"""What an escaped character begins with; ``%`` in outputs of version 0.1."""

MAX_COMPONENT = 150
"""Most characters of one component; longer ones are cut and get a digest."""
MAX_SHARD_PATH = 600
"""Most characters of a shard's whole path."""
_HEAD = 100
_BEFORE_DIGEST: dict[Mark, str] = {"~": "~~", "%": "~"}

# Windows opens devices by these names, whatever the extension, also on network shares.
_DEVICE = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\.|$)", re.IGNORECASE)


def escape_key(key: str, mark: Mark) -> str:
    """``key``, slashes included, as a single component of a path.

    A key with capital letters gets a short digest, so that ``IMG_1`` and ``img_1`` stay apart on
    file systems that ignore case.
    """
    name = _escape(key, mark)
    if len(name) > MAX_COMPONENT:
        return _shorten(name, key, mark)
    if any("A" <= letter <= "Z" for letter in key):
        return f"{name}{_BEFORE_DIGEST[mark]}{_digest(key, 8)}"
    return name


def shard_path(shard_id: str, mark: Mark) -> str:
    """The relative folder for a shard id; its slashes stay folders.

    No component ends in ``.parquet``: the folder of a shard called ``a/000001.parquet`` must not
    collide with part file 1 of shard ``a``.
    """
    path = "/".join(_shard_component(part, mark) for part in shard_id.split("/"))
    return path if len(path) <= MAX_SHARD_PATH else _shorten(path.replace("/", "_"), shard_id, mark)


def _shard_component(part: str, mark: Mark) -> str:
    name = _escape(part, mark)
    if name.lower().endswith(".parquet"):
        name = f"{name[: -len('.parquet')]}{mark}2E{name[-len('parquet') :]}"
    return name if len(name) <= MAX_COMPONENT else _shorten(name, part, mark)


def _escape(text: str, mark: Mark) -> str:
    if not text:
        return mark
    # surrogatepass: names that are not UTF-8 arrive with surrogate escapes.
    name = quote(text, safe="", errors="surrogatepass").replace("~", "%7E").replace("%", mark)
    # Arrow, Spark and others skip files and folders that begin with a dot or an underscore.
    if name[0] in "._":
        name = f"{mark}{ord(name[0]):02X}{name[1:]}"
    if name.endswith("."):
        name = f"{name[:-1]}{mark}2E"
    if _DEVICE.match(name):
        name = f"{mark}{ord(name[0]):02X}{name[1:]}"
    return name


def _shorten(name: str, original: str, mark: Mark) -> str:
    return f"{name[:_HEAD]}{_BEFORE_DIGEST[mark]}{_digest(original, 32)}"


def _digest(text: str, digits: int) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:digits]
