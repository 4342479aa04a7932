"""Names that come from data, made safe to use as names of files and objects.

Keys and shard ids are whatever an archive or a listing says: they may hold ``..``, slashes, control
characters, 3,000 letters, or two spellings that differ in case only. What comes out of here

* is ASCII letters, digits, ``.``, ``_``, ``-``, ``%`` and ``~``, with no dot at either end and no
  underscore at the front;
* is different for different input (``%`` and ``~`` from the input are themselves escaped; ``~``
  only ever begins a digest);
* is short enough for every file system, with room for a suffix such as ``_12.texture.webp``.
"""

from __future__ import annotations

import hashlib
import re
from urllib.parse import quote

MAX_COMPONENT = 150
MAX_SHARD_PATH = 600
_HEAD = 100

# Windows opens a device for these, whatever the extension; network shares may be served by it.
_DEVICE = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\.|$)", re.IGNORECASE)


def escape_key(key: str) -> str:
    """One path component that stands for ``key``, slashes included.

    A key with capital letters gets a short digest, so that ``IMG_1`` and ``img_1`` stay apart on
    file systems that ignore case.
    """
    name = _escape(key)
    if len(name) > MAX_COMPONENT:
        return _shorten(name, key)
    if any("A" <= letter <= "Z" for letter in key):
        return f"{name}~{_digest(key, 8)}"
    return name


def shard_path(shard_id: str) -> str:
    """The relative folder that stands for a shard id; its slashes stay folders.

    No component ends in ``.parquet``: a shard called ``a/000001.parquet`` must not need a folder
    where part file 1 of shard ``a`` lies.
    """
    path = "/".join(_shard_component(part) for part in shard_id.split("/"))
    return path if len(path) <= MAX_SHARD_PATH else _shorten(path.replace("/", "_"), shard_id)


def _shard_component(part: str) -> str:
    name = _escape(part)
    if name.lower().endswith(".parquet"):
        name = name[: -len(".parquet")] + "%2E" + name[-len("parquet") :]
    return name if len(name) <= MAX_COMPONENT else _shorten(name, part)


def _escape(text: str) -> str:
    if not text:
        return "%"
    # surrogatepass: names that are not UTF-8 arrive with surrogate escapes.
    name = quote(text, safe="", errors="surrogatepass").replace("~", "%7E")
    # Arrow, Spark and their kin pass over files and folders that begin with a dot or an underscore.
    if name[0] in "._":
        name = f"%{ord(name[0]):02X}{name[1:]}"
    if name.endswith("."):
        name = name[:-1] + "%2E"
    if _DEVICE.match(name):
        name = f"%{ord(name[0]):02X}{name[1:]}"
    return name


def _shorten(name: str, original: str) -> str:
    return f"{name[:_HEAD]}~{_digest(original, 32)}"


def _digest(text: str, digits: int) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:digits]
