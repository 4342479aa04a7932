"""Where things lie below OUTPUT, in the layout that is written and in that of version 0.1."""

from __future__ import annotations

import pytest

from jobs.pipeline.record.chunks import Chunk
from jobs.pipeline.record.layout import Layout

CHUNK = Chunk("a b/c.tar", 12, 0, 1, 0, 0)


@pytest.mark.parametrize(
    ("layout", "shard"), [(Layout(), "a~20b/c.tar"), (Layout(1), "a%20b/c.tar")]
)
def test_names(layout: Layout, shard: str) -> None:
    assert layout.part(CHUNK) == f"annotations/{shard}/000012.parquet"
    assert layout.error_part(CHUNK.shard_id) == f"annotations/{shard}/shard_error.parquet"
    assert layout.partial(CHUNK) == f"_run/partial/{shard}/000012.parquet"
    assert layout.index(CHUNK.shard_id) == f"_run/index/{shard}.parquet"
    assert layout.superseded(CHUNK.shard_id) == f"_run/superseded/{shard}.json"
    assert layout.objects(CHUNK.shard_id) == (
        f"meshes/{shard}",
        f"textures/{shard}",
        f"overlays/{shard}",
    )
    assert layout.stem(CHUNK.shard_id, "d.jpg") == f"{shard}/d.jpg"


def test_a_run_keeps_the_layout_that_it_began_with() -> None:
    assert Layout.of(None) == Layout.of({"format": 2}) == Layout()
    assert Layout.of({"format": 1}).stem("s", "a b.jpg") == "s/a%20b.jpg"
