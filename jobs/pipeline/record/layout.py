"""Where everything lies below OUTPUT."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from jobs.pipeline.record.names import Mark, escape_key, shard_path
from jobs.pipeline.shards.model import OUTPUT_MARK

if TYPE_CHECKING:
    from jobs.pipeline.record.chunks import Chunk

MANIFEST = OUTPUT_MARK
CARD = "_run/README.md"
COMPACTION = "_run/compaction.json"
"""Written by jobs.compact, with the list of the large files."""
LOGS = "_run/logs"
INDEX_FOLDER = "_run/index"
PARTIAL = "_run/partial"
SUPERSEDED = "_run/superseded"
ANNOTATIONS = "annotations"
OBJECT_FOLDERS = ("meshes", "textures", "overlays")
"""Folders of files that rows name."""
ERROR_PART = "shard_error.parquet"

LAYOUT_VERSION = 2
"""Version of the layout that is written now; ``format`` in the manifest."""
_MARKS: dict[int, Mark] = {1: "%", LAYOUT_VERSION: "~"}
LAYOUT_VERSIONS = tuple(_MARKS)
"""Versions that can be read and continued."""


@dataclass(frozen=True, slots=True)
class Layout:
    """Names of the files of a run, relative to OUTPUT, by shard id, key and number.

    Folders are named by :func:`~jobs.pipeline.record.names.shard_path`: ids of plain letters come
    out unchanged.

    Attributes:
        version: 1 for outputs that version 0.1 began, whose names escape with ``%``.
    """

    version: int = LAYOUT_VERSION

    @classmethod
    def of(cls, manifest: Mapping[str, Any] | None) -> Layout:
        """The layout of the run with this manifest; the current one if there is none."""
        return cls() if manifest is None else cls(manifest["format"])

    def part(self, chunk: Chunk) -> str:
        """The part file of a chunk: ``annotations/<shard>/<number>.parquet``."""
        return f"{self.annotations(chunk.shard_id)}/{chunk.number:06d}.parquet"

    def error_part(self, shard_id: str) -> str:
        """The part file whose one row stands for the unreadable rest of a shard."""
        return f"{self.annotations(shard_id)}/{ERROR_PART}"

    def annotations(self, shard_id: str) -> str:
        """The folder of a shard's part files."""
        return f"{ANNOTATIONS}/{self._shard(shard_id)}"

    def objects(self, shard_id: str) -> tuple[str, ...]:
        """The folders of a shard's meshes, textures and overlays."""
        return tuple(f"{top}/{self._shard(shard_id)}" for top in OBJECT_FOLDERS)

    def stem(self, shard_id: str, key: str) -> str:
        """The beginning of the names of an image's files, below the folder of their kind."""
        return f"{self._shard(shard_id)}/{self.component(key)}"

    def component(self, text: str) -> str:
        """``text``, slashes included, as a single component of a path."""
        return escape_key(text, self.mark)

    def index(self, shard_id: str) -> str:
        """The member table of a shard."""
        return f"{INDEX_FOLDER}/{self._shard(shard_id)}.parquet"

    def partial(self, chunk: Chunk) -> str:
        """The rows that were saved of a chunk when a stop request left it unfinished."""
        return f"{self.partials(chunk.shard_id)}/{chunk.number:06d}.parquet"

    def partials(self, shard_id: str) -> str:
        """The folder of the shard's :meth:`partial` files."""
        return f"{PARTIAL}/{self._shard(shard_id)}"

    def superseded(self, shard_id: str) -> str:
        """The mark that ``shard_id`` took the place of a shard whose content changed."""
        return f"{SUPERSEDED}/{self._shard(shard_id)}.json"

    @property
    def mark(self) -> Mark:
        """The character that begins an escape in names."""
        return _MARKS[self.version]

    def _shard(self, shard_id: str) -> str:
        return shard_path(shard_id, self.mark)
