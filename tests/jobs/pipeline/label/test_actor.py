"""From a plan to committed part files, without Ray: every image has its rows, in order."""

from __future__ import annotations

import dataclasses
import hashlib
import pickle
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from jobs.pipeline.record.config import LabelConfig
from tddfa3.images.photo import Photo, ReducedPhoto
from tests.support.fakes import (
    NO_FACE,
    RAISES,
    TWO_FACES,
    FakeFactory,
    FunctionLabeler,
    fake_labeler,
    write_images,
)
from tests.support.one_start import Job


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
