"""Query, export, compaction and card over a bucket; secrets stay out of all they say and write."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from jobs import card, compact, export, query
from jobs.pipeline.record.parts import decode_part
from jobs.pipeline.storage.store import Store
from tests.support.seaweed import SECRET_KEY, SeaweedServer

PART = Path(__file__).resolve().parent.parent / "data" / "part-format-1.parquet"


@pytest.fixture
def output(s3_store: Store) -> Store:
    """A run of one part file: a face, and a damaged image."""
    s3_store.publish("out/annotations/photos/000000.parquet", PART.read_bytes())
    return Store.open(s3_store.uri("out"), s3_endpoint=s3_store._endpoint)


@pytest.fixture
def endpoint(s3_server: SeaweedServer) -> list[str]:
    return ["--s3-endpoint", s3_server.endpoint]


def test_a_query(output: Store, endpoint: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    sql = "SELECT image_id, part_area(seg_visible, 'nose') > 0 AS nose FROM faces"
    assert query.main([output.url, sql, "--format", "json", *endpoint]) == 0
    assert json.loads(capsys.readouterr().out) == [
        {"image_id": "photos/astronaut.png", "nose": True}
    ]
    target = f"{output.url}-results/faces.parquet"
    options = ["--format", "parquet", "--out", target]
    assert query.main([output.url, sql, *options, *endpoint]) == 0
    shown = capsys.readouterr()
    assert "1 rows" in shown.err
    assert SECRET_KEY not in shown.out + shown.err


def test_settings_of_the_database_hold_no_secret(
    output: Store, endpoint: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    for sql in ("SELECT * FROM duckdb_settings()", "SELECT * FROM duckdb_secrets()"):
        assert query.main([output.url, sql, "--format", "json", *endpoint]) == 0
    shown = capsys.readouterr()
    assert SECRET_KEY not in shown.out + shown.err


def test_wrong_credentials(
    output: Store,
    endpoint: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong-" + SECRET_KEY)
    assert query.main([output.url, "SELECT 1", *endpoint]) == 4
    shown = capsys.readouterr()
    assert "credentials are not accepted" in shown.err
    assert "Traceback" not in shown.err
    assert SECRET_KEY not in shown.out + shown.err


def test_export_compaction_and_card(
    output: Store, endpoint: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = Store.open(f"{output.url}-files", s3_endpoint=endpoint[1])
    options = ["--poses", "--landmarks", "pts", "--masks", "png,coco", *endpoint]
    for said in ("1 faces, ", "0 faces, 0 files"):
        assert export.main([output.url, files.url, *options]) == 0
        assert said in capsys.readouterr().out
    assert files.exists("poses/photos/astronaut.png_0.mat")
    assert len(json.loads(files.read("masks.coco.json"))["annotations"]) == 8
    assert export.main([output.url, str(tmp_path), *options]) == 0
    for entry in files.list():
        assert (tmp_path / entry.rel).read_bytes() == files.read(entry.rel)

    compacted = Store.open(f"{output.url}-compacted", s3_endpoint=endpoint[1])
    assert compact.main([output.url, compacted.url, *endpoint]) == 0
    [part] = [e.rel for e in compacted.list("annotations")]
    (tmp_path / "part.parquet").write_bytes(compacted.read(part))
    order = [("shard", "ascending"), ("key", "ascending")]
    expected = decode_part(PART.read_bytes()).sort_by(order)
    assert pq.read_table(tmp_path / "part.parquet").equals(expected)

    assert card.main([compacted.url, *endpoint]) == 0
    for store in (files, compacted):
        for entry in store.list():
            assert SECRET_KEY.encode() not in store.read(entry.rel), entry.rel
