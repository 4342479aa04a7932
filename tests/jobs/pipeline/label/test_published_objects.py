"""Files beside the rows: they come before the rows that name them, with their own digests."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from jobs.pipeline.storage.store import Store
from tddfa3.drawing.mesh import FaceMesh
from tests.support.fakes import (
    TWO_FACES,
    MeshFactory,
    write_images,
)
from tests.support.one_start import Job


def test_objects_are_published_and_named_with_their_digests(tmp_path: Path) -> None:
    write_images(tmp_path / "in" / "s", 3, {1: TWO_FACES})
    job = Job(tmp_path, MeshFactory(), meshes="both", mesh_format="ply", textures="png")
    job.finish()
    rows = job.rows()
    assert len(rows) == 4
    for row in rows:
        for column in ("mesh_pca", "mesh_extracted", "texture"):
            data = (tmp_path / "out" / row[f"{column}_uri"]).read_bytes()
            assert row[f"{column}_bytes"] == len(data)
            assert row[f"{column}_sha256"] == hashlib.sha256(data).hexdigest()
        assert row["overlay_uri"] is None
    uris = [row["mesh_pca_uri"] for row in rows]
    assert len(set(uris)) == 4
    assert uris[0] == "meshes/s/img0000.png_0_pca.ply"
    assert rows[0]["texture_uri"] == "textures/s/img0000.png_0.png"


def test_objects_of_another_driver_are_kept_with_their_own_digest(tmp_path: Path) -> None:
    write_images(tmp_path / "in" / "s", 1)
    job = Job(tmp_path, MeshFactory(), meshes="pca", mesh_format="obj")
    job.run.store.publish("meshes/s/img0000.png_0.obj", b"theirs")
    job.finish()
    [row] = job.rows()
    assert row["mesh_pca_sha256"] == hashlib.sha256(b"theirs").hexdigest()
    assert row["mesh_pca_bytes"] == 6


def test_objects_come_before_the_part_that_names_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    published: list[str] = []
    real = Store.publish_new

    def recording(store: Store, rel: str, data: bytes) -> bool:
        done = real(store, rel, data)
        published.append(rel.partition("/")[0])
        return done

    write_images(tmp_path / "in" / "s", 3)
    job = Job(tmp_path, MeshFactory(), meshes="pca")
    monkeypatch.setattr(Store, "publish_new", recording)
    job.finish()
    assert published == ["meshes"] * 3 + ["annotations"]


def test_a_failed_object_fails_the_chunk_and_commits_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(mesh: FaceMesh, fmt: str) -> bytes:
        raise ValueError("no such format")

    write_images(tmp_path / "in", 2)
    job = Job(tmp_path, MeshFactory(), meshes="pca")
    monkeypatch.setattr("tddfa3.drawing.mesh.encode_mesh", failing)
    [order] = job.orders()
    with pytest.raises(ValueError, match="no such format"):
        job.actor.label_chunk(order)
    assert not job.run.store.exists(job.run.layout.part(order.chunk))
