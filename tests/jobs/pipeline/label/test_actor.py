"""From a plan to committed part files, without Ray: planning, labelling, objects, redoing."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import pickle
import tarfile
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from jobs.pipeline.drive.planning import PendingShard, Planner
from jobs.pipeline.label.actor import Assignment, ChunkResult, LabelActor
from jobs.pipeline.record.config import LabelConfig
from jobs.pipeline.record.orders import ChunkOrder
from jobs.pipeline.record.partial import save_partial
from jobs.pipeline.record.parts import decode_part
from jobs.pipeline.record.rows import ImageRecord
from jobs.pipeline.record.run import Run, open_run
from jobs.pipeline.storage.store import Store
from tddfa3.drawing.mesh import FaceMesh
from tddfa3.errors import UserError
from tddfa3.images.photo import Photo, ReducedPhoto
from tests.support.fakes import (
    NO_FACE,
    PLAIN,
    RAISES,
    TWO_FACES,
    FakeFactory,
    FunctionLabeler,
    MeshFactory,
    fake_labeler,
    png,
    write_images,
)

CONFIG = LabelConfig(assets="x", chunk_images=4, batch=3)


class Job:
    """One start of a run in this process."""

    def __init__(self, tmp_path: Path, factory: Any = None, **options: Any) -> None:
        paths = (str(tmp_path / "in"), str(tmp_path / "out"))
        self.factory = factory or FakeFactory()
        self.config = dataclasses.replace(CONFIG, paths=paths, **options)
        self.run: Run = open_run(self.config, self.factory.facts(self.config))
        run = self.run
        self.planner = Planner.of(run)
        self.actor = LabelActor()
        self.actor.setup(Assignment.of(run, self.factory, 2))

    def plans(self) -> list[PendingShard]:
        left = self.config.limit or None
        plans = []
        for shard in self.run.shards:
            plans.append(self.planner.plan(shard, left))
            left = None if left is None else left - plans[-1].images
        return plans

    def orders(self) -> list[ChunkOrder]:
        return [order for plan in self.plans() for order in plan.pending]

    def finish(self) -> list[ChunkResult]:
        return [self.actor.label_chunk(order) for order in self.orders()]

    def rows(self) -> list[dict[str, Any]]:
        parts = sorted((Path(self.run.store.url) / "annotations").rglob("*.parquet"))
        table = pa.concat_tables([decode_part(part.read_bytes()) for part in parts])
        return sorted(
            table.to_pylist(),
            key=lambda row: (row["shard"], row["key"] or "", row["face_index"] or 0),
        )


def write_tar(path: Path, names: Sequence[str]) -> bytes:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for i, name in enumerate(names):
            data = png(PLAIN, i)
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path.read_bytes()


def test_what_passes_through_the_driver_does_not_grow_with_the_chunk(tmp_path: Path) -> None:
    sizes = []
    for images in (1, 40):
        folder = tmp_path / str(images)
        write_images(folder / "in", images, {})
        job = Job(folder, chunk_images=40)
        (result,) = job.finish()
        assert result.counts["images"] == images
        sizes.append(len(pickle.dumps(result)))
    assert max(sizes) < 2000
    assert abs(sizes[0] - sizes[1]) < 50


class LookingFactory(FakeFactory):
    """Its labeler keeps what it is given, finds nothing, and needs a longer side of 64 pixels."""

    def __init__(self) -> None:
        self.seen: list[Photo] = []

    def build(self, config: LabelConfig, threads: int) -> Any:
        return FunctionLabeler(self.look, needed_side=64)

    def look(self, photos: Sequence[Photo]) -> list[list[Any]]:
        self.seen += photos
        return [[] for _ in photos]


@pytest.mark.parametrize("decode", ["full", "reduced"])
def test_large_jpegs_are_reduced_where_that_is_asked_for(tmp_path: Path, decode: str) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    picture = Image.effect_mandelbrot((256, 128), (-2, -1, 1, 1), 50).convert("RGB")
    picture.save(folder / "large.jpg")
    picture.save(folder / "large.png")
    picture.resize((96, 48)).save(folder / "small.jpg")
    factory = LookingFactory()
    job = Job(tmp_path, factory, decode=decode)
    job.finish()
    large, png_, small = factory.seen
    assert [(row["image_width"], row["image_height"]) for row in job.rows()] == [
        (256, 128),
        (256, 128),
        (96, 48),
    ]
    assert isinstance(png_, np.ndarray)
    assert isinstance(small, np.ndarray)
    if decode == "full":
        assert isinstance(large, np.ndarray)
    else:
        assert isinstance(large, ReducedPhoto)
        assert large.pixels.shape == (32, 64, 3)
        np.testing.assert_array_equal(large.full(), np.asarray(Image.open(folder / "large.jpg")))


def test_every_image_has_its_rows_in_order(tmp_path: Path) -> None:
    names = write_images(tmp_path / "in", 10, {1: NO_FACE, 4: TWO_FACES, 6: RAISES})
    (tmp_path / "in" / "img0002.png").write_bytes(b"")
    job = Job(tmp_path)
    results = job.finish()
    assert [result.counts["images"] for result in results] == [4, 4, 2]
    rows = job.rows()
    assert [row["key"] for row in rows] == [f"{n}.png" for n in [*names[:5], names[4], *names[5:]]]
    statuses = Counter(row["status"] for row in rows)
    assert statuses == {"ok": 8, "no_face": 1, "decode_error": 1, "label_error": 1}
    assert next(r for r in rows if r["status"] == "label_error")["error"] == (
        "RuntimeError: this image cannot be labelled"
    )
    good = rows[0]
    assert (good["image_width"], good["image_height"]) == (16, 12)
    data = (tmp_path / "in" / "img0000.png").read_bytes()
    assert good["image_sha256"] == hashlib.sha256(data).hexdigest()
    assert set(results[0].seconds) >= {"read", "decode", "label", "encode", "publish"}


def test_what_is_committed_is_not_planned_again(tmp_path: Path) -> None:
    write_images(tmp_path / "in", 10)
    job = Job(tmp_path)
    job.actor.label_chunk(job.orders()[1])
    assert [order.chunk.number for order in Job(tmp_path).orders()] == [0, 2]
    Job(tmp_path).finish()
    assert Job(tmp_path).orders() == []


def test_a_chunk_that_somebody_else_committed_is_left_alone(tmp_path: Path) -> None:
    write_images(tmp_path / "in", 3)
    job = Job(tmp_path)
    [order] = job.orders()
    first = job.actor.label_chunk(order)
    again = job.actor.label_chunk(order)
    assert not first.already_done
    assert again.already_done
    assert again.counts == first.counts


def test_images_known_to_crash_are_not_touched(tmp_path: Path) -> None:
    write_images(tmp_path / "in", 4, {2: RAISES})
    job = Job(tmp_path)
    [order] = job.orders()
    job.actor.label_chunk(dataclasses.replace(order, crashed=frozenset({2}), careful=True))
    assert [row["status"] for row in job.rows()] == ["ok", "ok", "crashed", "ok"]


def test_probing_keeps_nothing(tmp_path: Path) -> None:
    write_images(tmp_path / "in", 4)
    job = Job(tmp_path)
    [order] = job.orders()
    assert job.actor.probe(order, 1) == 1
    assert not job.run.store.exists(job.run.layout.part(order.chunk))


def test_retry_failed_replaces_the_part_and_keeps_the_other_rows(tmp_path: Path) -> None:
    """The labeler failed the first time, as with a bug that has been repaired since."""
    write_images(tmp_path / "in", 6, {1: TWO_FACES, 2: NO_FACE})

    @dataclass(frozen=True)
    class Broken(FakeFactory):
        def build(self, config: LabelConfig, threads: int) -> Any:
            def labeler(images: Sequence[np.ndarray]) -> list[list[Any]]:
                if any(image[1, 1, 0] == 3 for image in images):
                    raise RuntimeError("a bug")
                return fake_labeler(images)

            return FunctionLabeler(labeler)

    Job(tmp_path, Broken()).finish()
    before = Job(tmp_path).rows()
    assert [r["status"] for r in before] == ["ok", "ok", "ok", "no_face", "label_error", "ok", "ok"]
    job = Job(tmp_path, retry_failed=True)
    assert [order.chunk.number for order in job.orders()] == [0]
    [result] = job.finish()
    assert result.counts["status"] == {"no_face": 1, "ok": 3}
    after = job.rows()
    assert after[4]["status"] == "ok"
    assert [r for r in after if r["key"] != after[4]["key"]] == [
        r for r in before if r["key"] != after[4]["key"]
    ]


def test_limit_takes_the_first_images_whatever_the_chunks(tmp_path: Path) -> None:
    write_images(tmp_path / "in" / "a", 6)
    write_images(tmp_path / "in" / "b", 6)
    job = Job(tmp_path, limit=8)
    job.finish()
    ids = [row["image_id"] for row in job.rows()]
    assert ids == [f"a/img{i:04d}.png" for i in range(6)] + ["b/img0000.png", "b/img0001.png"]


def test_new_shards_are_taken_up_and_old_ones_left(tmp_path: Path) -> None:
    write_tar(tmp_path / "in" / "a.tar", ["x.png", "y.png"])
    Job(tmp_path).finish()
    write_tar(tmp_path / "in" / "b.tar", ["z.png"])
    job = Job(tmp_path)
    assert [order.chunk.shard_id for order in job.orders()] == ["b.tar"]


def test_changed_content_is_refused_or_labelled_under_an_id_of_its_own(tmp_path: Path) -> None:
    write_tar(tmp_path / "in" / "a.tar", ["x.png", "y.png"])
    Job(tmp_path).finish()
    write_tar(tmp_path / "in" / "a.tar", ["y.png", "z.png", "w.png"])
    with pytest.raises(UserError, match=r"a\.tar changed .*--accept-changed"):
        Job(tmp_path).orders()
    Job(tmp_path, accept_changed=True).finish()
    job = Job(tmp_path)
    assert job.orders() == []
    assert Counter(row["shard"] for row in job.rows()) == {"a.tar": 2, "a.tar@2": 3}
    marks = list((tmp_path / "out" / "_run" / "superseded").rglob("*.json"))
    assert [json.loads(mark.read_text())["shard"] for mark in marks] == ["a.tar"]


def test_a_shard_cut_short_is_labelled_as_far_as_it_goes_and_again_when_it_is_whole(
    tmp_path: Path,
) -> None:
    names = [f"n{i}.png" for i in range(10)]
    whole = write_tar(tmp_path / "in" / "a.tar", names)
    (tmp_path / "in" / "a.tar").write_bytes(whole[: 1024 * 6 + 600])
    job = Job(tmp_path)
    [plan] = job.plans()
    assert plan.error is not None
    job.finish()
    rows = job.rows()
    assert [row["status"] for row in rows].count("shard_error") == 1
    read = [row for row in rows if row["status"] == "ok"]
    assert 5 <= len(read) <= 6
    error = next(row for row in rows if row["status"] == "shard_error")
    assert error["shard"] == "a.tar"
    assert "offset" in error["error"]
    assert len(Job(tmp_path).plans()[0].pending) <= 1

    (tmp_path / "in" / "a.tar").write_bytes(whole)
    Job(tmp_path).finish()
    rows = Job(tmp_path).rows()
    assert [(row["key"], row["status"]) for row in rows] == [(row["key"], "ok") for row in rows]
    assert len(rows) == 10
    assert Job(tmp_path).orders() == []


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


@dataclass(frozen=True)
class Held(MeshFactory):
    """Its labeler stops before the image of shade ``at``, until ``go`` is set."""

    at: int = 4
    calls: list[int] = field(default_factory=list)
    go: threading.Event = field(default_factory=threading.Event)
    stuck: threading.Event = field(default_factory=threading.Event)

    def build(self, config: LabelConfig, threads: int) -> Any:
        labeler = super().build(config, threads)

        def held_labeler(images: Sequence[np.ndarray]) -> list[list[Any]]:
            if any(image[1, 1, 0] == self.at for image in images):
                self.stuck.set()
                assert self.go.wait(60)
            self.calls.extend(int(image[1, 1, 0]) for image in images)
            return labeler(images)

        return FunctionLabeler(held_labeler)


def test_what_is_done_of_an_unfinished_chunk_is_kept_and_not_done_again(tmp_path: Path) -> None:
    write_images(tmp_path / "in", 8, {1: NO_FACE})
    options = {"meshes": "pca", "chunk_images": 8, "batch": 2}
    first = Held()
    job = Job(tmp_path, first, **options)
    [order] = job.orders()
    worker = threading.Thread(target=job.actor.label_chunk, args=(order,))
    worker.start()
    assert first.stuck.wait(60)
    [(chunk, steps)] = job.actor.progress().items()
    assert chunk == (order.chunk.shard_id, 0)
    assert steps > 0
    deadline = time.monotonic() + 30
    while job.actor.save_unfinished() < 4 and time.monotonic() < deadline:
        time.sleep(0.01)  # meshes are published in threads
    assert not job.run.store.exists(job.run.layout.part(order.chunk))

    second = Held(at=-1)
    again = Job(tmp_path, second, **options)
    [order] = again.orders()
    assert order.partial
    again.actor.label_chunk(order)
    assert second.calls == [4, 5, 6, 7]
    rows = again.rows()
    assert [row["status"] for row in rows] == ["ok", "no_face"] + ["ok"] * 6
    assert all(row["mesh_pca_uri"] for row in rows if row["status"] == "ok")
    assert list((tmp_path / "out" / "_run" / "partial").rglob("*.parquet")) == []
    first.go.set()
    worker.join(60)
    assert again.rows() == rows, "who goes on after all does no harm"


@pytest.mark.parametrize("damage", [b"", b"PAR1 no parquet PAR1"])
def test_kept_rows_that_cannot_be_used_are_made_again(tmp_path: Path, damage: bytes) -> None:
    write_images(tmp_path / "in", 4)
    job = Job(tmp_path)
    [order] = job.orders()
    job.run.store.publish(job.run.layout.partial(order.chunk), damage)
    [order] = job.orders()
    assert order.partial
    job.actor.label_chunk(order)
    assert Counter(row["status"] for row in job.rows()) == {"ok": 4}


def test_kept_rows_of_other_content_are_not_used(tmp_path: Path) -> None:
    write_images(tmp_path / "in", 4)
    job = Job(tmp_path)
    [order] = job.orders()
    row = ImageRecord(order.shard.id, "img0000.png").row("no_face")
    other = dataclasses.replace(order.shard, etag="other")
    rel = job.run.layout.partial(order.chunk)
    save_partial(job.run.store, rel, other, [row], job.run.schema)
    job.finish()
    assert Counter(row["status"] for row in job.rows()) == {"ok": 4}


def test_two_chunks_at_once_share_the_networks_one_at_a_time(tmp_path: Path) -> None:
    from concurrent.futures import ThreadPoolExecutor

    inside: list[int] = []

    @dataclass(frozen=True)
    class Watching(FakeFactory):
        def build(self, config: LabelConfig, threads: int) -> Any:
            def labeler(images: Sequence[np.ndarray]) -> list[list[Any]]:
                inside.append(1)
                assert sum(inside) == 1
                labelled = fake_labeler(images)
                inside.append(-1)
                return labelled

            return FunctionLabeler(labeler)

    write_images(tmp_path / "in", 40)
    job = Job(tmp_path, Watching())
    with ThreadPoolExecutor(2) as pool:
        results = list(pool.map(job.actor.label_chunk, job.orders()))
    assert sum(result.counts["status"]["ok"] for result in results) == 40
