"""Labelers that do nothing, or crash, and small images to give them.

What an image asks for is written in its top left pixel, so that a test says in its input what is to
happen: red 1 no face, 2 two faces, 3 the labeler raises, 4 the process dies, 5 slow, 6 it hangs,
7 it hangs and lets no other thread run.
"""

from __future__ import annotations

import ctypes
import io
import os
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from jobs.pipeline.drive.planning import Planner
from jobs.pipeline.label.factory import mesh_sources
from jobs.pipeline.record.config import LabelConfig
from jobs.pipeline.record.facts import AssetFacts
from jobs.pipeline.shards import Shard, ShardIndex
from jobs.pipeline.storage.store import Store
from tddfa3.conventions import PART_NAMES
from tddfa3.drawing.mesh import FaceMesh
from tddfa3.geometry.crop import CropTransform

PLAIN, NO_FACE, TWO_FACES, RAISES, KILLS, SLOW, HANGS, FREEZES = range(8)


def png(wish: int = PLAIN, shade: int = 0, size: tuple[int, int] = (16, 12)) -> bytes:
    """An encoded image of (width, height) with a wish in its first pixel."""
    pixels = np.full((size[1], size[0], 3), shade, dtype=np.uint8)
    pixels[0, 0] = (wish, 0, 0)
    sink = io.BytesIO()
    Image.fromarray(pixels).save(sink, "PNG")
    return sink.getvalue()


def write_images(folder: Path, count: int, wishes: dict[int, int] | None = None) -> list[str]:
    """``count`` numbered images; ``wishes`` by number. Their names without extension."""
    folder.mkdir(parents=True, exist_ok=True)
    names = [f"img{i:04d}" for i in range(count)]
    for i, name in enumerate(names):
        data = png((wishes or {}).get(i, PLAIN), shade=i % 250)
        (folder / f"{name}.png").write_bytes(data)
    return names


def fake_face(image: NDArray[np.uint8], index: int, n_faces: int) -> Any:
    """All that rows need of a ``tddfa3.face.Face``, as a function of the image's mean."""
    value = np.float32(image.mean() + index)
    full = lambda *shape: np.full(shape, value, dtype=np.float32)  # noqa: E731
    return SimpleNamespace(
        face_index=index,
        n_faces=n_faces,
        box=full(4),
        score=float(1 / (1 + index)),
        points5=full(5, 2),
        points106=None,
        crop=CropTransform.identity(),
        coefficients={"id": full(80), "exp": full(64), "alb": full(80), "angle": full(3),
                      "sh": full(27), "trans": full(3)},
        camera=SimpleNamespace(K=np.eye(3), R=np.eye(3), t=np.zeros(3)),
        yaw=1.0,
        pitch=2.0,
        roll=3.0,
        landmarks={"68": full(68, 2)},
        landmarks_visible={"68": np.ones(68, dtype=bool)},
        seg=np.zeros((224, 224), dtype=np.uint8),
        seg_visible=np.zeros((224, 224), dtype=np.uint8),
        masks_rle=None,
        quality_points=None,
        quality_points106=None,
        quality_visible=0.5,
        quality_coverage=0.25,
        meshes={},
        textures={},
    )  # fmt: skip


def fake_labeler(images: Sequence[NDArray[np.uint8]]) -> list[list[Any]]:
    wishes = [int(image[0, 0, 0]) for image in images]
    if KILLS in wishes:
        os.kill(os.getpid(), signal.SIGSEGV)
        time.sleep(60)
    while HANGS in wishes:
        time.sleep(1)
    while FREEZES in wishes:
        ctypes.PyDLL(None).sleep(1000)  # holds the interpreter's lock
    if RAISES in wishes:
        raise RuntimeError("this image cannot be labelled")
    time.sleep(0.05 * wishes.count(SLOW))
    numbers = [{NO_FACE: 0, TWO_FACES: 2}.get(wish, 1) for wish in wishes]
    return [
        [fake_face(image, k, n) for k in range(n)] for image, n in zip(images, numbers, strict=True)
    ]


@dataclass(frozen=True)
class FunctionLabeler:
    """A function as a labeler of the job."""

    label: Callable[[Sequence[Any]], list[list[Any]]]
    computed_with: Mapping[str, str] = field(default_factory=dict)
    needed_side: int | None = None

    def __call__(self, images: Sequence[Any], /) -> list[list[Any]]:
        return self.label(images)


@dataclass(frozen=True)
class FakeFactory:
    """Builds :func:`fake_labeler`; ``build_error`` is raised instead."""

    build_error: Exception | None = None
    digest: str = "d1"

    def facts(self, config: LabelConfig) -> AssetFacts:
        best = {"detector": "retinaface", "backbone": "resnet50", "lighting": "network",
                "refine": "none"}  # fmt: skip
        given = {name: getattr(config, name) for name in best}
        return AssetFacts(
            name="fake",
            digest=self.digest,
            licence="none",
            part_names=PART_NAMES,
            chosen={n: best[n] if value == "auto" else value for n, value in given.items()},
        )

    def build(self, config: LabelConfig, threads: int) -> Any:
        if self.build_error is not None:
            raise self.build_error
        return FunctionLabeler(fake_labeler)


@dataclass(frozen=True)
class FailingPublisher:
    """Publishing chunk 1 of any shard raises ``error`` in the actor."""

    error: Exception

    def facts(self, config: LabelConfig) -> AssetFacts:
        return FakeFactory().facts(config)

    def build(self, config: LabelConfig, threads: int) -> Any:
        real = Store.publish_new

        def publish_new(store: Store, rel: str, data: bytes) -> bool:
            if rel.endswith("000001.parquet"):
                raise self.error
            return real(store, rel, data)

        Store.publish_new = publish_new  # type: ignore[method-assign, assignment]
        return FunctionLabeler(fake_labeler)


@dataclass(frozen=True)
class DyingAtStart(FakeFactory):
    """Its actors are killed before they are ready."""

    def build(self, config: LabelConfig, threads: int) -> Any:
        os.kill(os.getpid(), signal.SIGKILL)


@dataclass(frozen=True)
class DyingPlanner(Planner):
    """Listing the shard ``deadly`` kills the process."""

    deadly: str = "b"

    def _index(self, shard: Shard, unlistable: str | None) -> ShardIndex:
        if shard.id == self.deadly and unlistable is None:
            os.kill(os.getpid(), signal.SIGKILL)
            time.sleep(60)
        return super()._index(shard, unlistable)


@dataclass(frozen=True)
class MeshFactory(FakeFactory):
    """Gives every face a mesh, a texture and an overlay's worth of pixels."""

    def build(self, config: LabelConfig, threads: int) -> Any:
        def labeler(images: Sequence[np.ndarray]) -> list[list[Any]]:
            labelled = fake_labeler(images)
            for faces in labelled:
                for face in faces:
                    corners = np.eye(3, dtype=np.float32)
                    mesh = FaceMesh(corners, np.array([[0, 1, 2]], np.int32), colors=corners)
                    face.meshes = dict.fromkeys(mesh_sources(config.meshes), mesh)
                    face.textures = {"extracted": np.zeros((8, 8, 3), np.uint8)}
            return labelled

        return FunctionLabeler(labeler)
