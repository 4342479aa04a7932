"""The records that all shard formats share."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

ShardKind = Literal["folder", "tar", "zip", "parquet", "list"]

MIB = 1 << 20
OUTPUT_MARK = "_run/manifest.json"
"""File that marks a folder as an output of the label job, which is no input."""
MAX_MEMBER_BYTES = 256 * MIB
"""Most bytes of an encoded member; a larger one is reported, not read."""

IMAGE_SUFFIXES = frozenset(
    {"png", "jpg", "jpeg", "jpe", "jfif", "webp", "bmp", "dib", "tif", "tiff", "gif", "jp2", "j2k"}
    | {"avif", "heic", "heif", "ppm", "pgm", "pnm"}
)
"""Extensions of images (any case); Pillow decides by content later."""


@dataclass(frozen=True, slots=True)
class ReadOptions:
    """How shards are read; picklable, part of a run's configuration.

    Attributes:
        s3_endpoint: as for :class:`jobs.pipeline.storage.store.Store`.
        image_column: the column of Parquet shards that holds the images; None: find it.
        max_member_bytes: larger members become rows with an error and are never read.
    """

    s3_endpoint: str | None = None
    image_column: str | None = None
    max_member_bytes: int = MAX_MEMBER_BYTES


@dataclass(frozen=True, slots=True)
class Shard:
    """One archive, or one folder that directly holds images.

    Attributes:
        id: unique in the run, relative to INPUT; stays the same when other shards are added.
        uri: absolute path or ``s3://`` URI.
        kind: the format.
        size: bytes of the archive; of all images for a folder.
        etag: changes when the content does; for a folder, a digest over its images' names, sizes
            and etags.
        pattern: of a folder's images, only those whose base names match.
    """

    id: str
    uri: str
    kind: ShardKind
    size: int
    etag: str
    pattern: str = "*"


@dataclass(frozen=True, slots=True)
class Member:
    """One image of a shard.

    Attributes:
        key: unique in the shard; text fit for Parquet.
        name: what the shard calls it (file name, row number, URI); not unique, and possibly with
            surrogate escapes where the archive's names are not UTF-8.
        offset: where it begins: byte of the archive (of the decompressed stream where the archive
            is compressed as a whole), row in Parquet, line in a list, 0 in a folder.
        size: bytes of the encoded image; 0 where only reading it would tell.
        span: how many bytes, rows or lines it takes in the archive, from ``offset``.
        method: compression method; zip only.
        crc: CRC-32 of the encoded image; zip only.
        error: why it will not be read, or "".
    """

    key: str
    name: str
    offset: int
    size: int
    span: int
    method: int = 0
    crc: int = 0
    error: str = ""


@dataclass(slots=True)
class ShardIndex:
    """All images of a shard, in order.

    Attributes:
        shard_id: the shard.
        members: what can be labelled.
        error: why listing stopped before the end, naming the offset, or None. The members found
            until then are listed all the same.
        end_offset: up to where the shard was read, in the unit of :attr:`Member.offset`.
    """

    shard_id: str
    members: list[Member] = field(default_factory=list)
    error: str | None = None
    end_offset: int = 0


ReadErrorKind = Literal["too_large", "unreadable", "changed"]


class ShardReadError(Exception):
    """One member could not be read; the others can.

    Attributes:
        kind: ``too_large`` (over the byte cap), ``unreadable`` (damaged, missing, unsupported),
            ``changed`` (the shard is not the one that was indexed).
        offset: where in the shard; see :class:`Member`.
        why: the reason, for a person.
    """

    def __init__(self, kind: ReadErrorKind, shard_id: str, name: str, offset: int, why: str):
        super().__init__(kind, shard_id, name, offset, why)
        self.kind = kind
        self.offset = offset
        self.why = why
        self._where = f"shard {shard_id}, member {printable(name)}, offset {offset}"

    def __str__(self) -> str:
        return f"{self._where}: {self.why}"


def is_image_name(name: str) -> bool:
    """Whether a member or file of this name is an image.

    Hidden files are not: ``._a.jpg`` is what macOS keeps beside ``a.jpg``.
    """
    base = name.rpartition("/")[2]
    stem, dot, suffix = base.rpartition(".")
    return bool(dot and stem) and base[0] != "." and suffix.lower() in IMAGE_SUFFIXES


def printable(name: str) -> str:
    r"""``name`` as valid text: bytes that are not UTF-8 are written out as ``\udcxx``."""
    if name.isascii():
        return name
    return name.encode("utf-8", "backslashreplace").decode("utf-8")


def with_unique_keys(members: Sequence[Member]) -> list[Member]:
    """The members, their keys made unique by :func:`unique_keys`."""
    keys = unique_keys([member.key for member in members])
    return [
        member if key == member.key else replace(member, key=key)
        for member, key in zip(members, keys, strict=True)
    ]


def unique_keys(keys: Sequence[str]) -> Sequence[str]:
    """The keys, repeated ones numbered in order of appearance: ``a``, ``a#2``, ``a#3``, ..."""
    if len(set(keys)) == len(keys):
        return keys
    seen: Counter[str] = Counter()
    taken: set[str] = set()
    unique = []
    for key in keys:
        seen[key] += 1
        name = key if seen[key] == 1 else f"{key}#{seen[key]}"
        while name in taken:
            seen[key] += 1
            name = f"{key}#{seen[key]}"
        taken.add(name)
        unique.append(name)
    return unique
