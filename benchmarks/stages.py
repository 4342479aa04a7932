"""The stages of labelling, each timed on the results of the stages before it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from benchmarks.inputs import Encoded, decoded
from benchmarks.settings import Settings, label_config
from benchmarks.timing import Call, measure_in_turn
from jobs.pipeline.label.decode import decode
from jobs.pipeline.label.factory import FaceLabelerFactory
from jobs.pipeline.label.objects import image_files
from jobs.pipeline.record.layout import Layout
from jobs.pipeline.record.parts import encode_part
from jobs.pipeline.record.rows import ImageRecord, image_rows, to_table
from jobs.pipeline.record.schema import LabelSchema
from jobs.pipeline.storage.store import Store
from tddfa3.coefficients import split
from tddfa3.device import crops_to_tensor
from tddfa3.geometry.camera import clip_space
from tddfa3.geometry.crop import crop_image, estimate_crop
from tddfa3.geometry.landmarks import LANDMARK_SETS, gather, to_crop_pixels
from tddfa3.geometry.segmentation import label_map, pack_parts, visible_vertices
from tddfa3.labeler import FaceLabeler

RESOLUTION = (224, 224)
AFTER_THE_BACKBONE = ("geometry", "rasterize", "landmarks", "segment")
"""Stages that labels need beside detection and the networks."""


def measure_stages(settings: Settings, photos: Sequence[Encoded]) -> list[dict[str, Any]]:
    """One row per stage: wall and processor milliseconds per image."""
    config = label_config(settings, outputs="everything")
    labeler = FaceLabelerFactory().build(config, settings.threads)
    assert isinstance(labeler, FaceLabeler)
    schema = LabelSchema(FaceLabelerFactory().facts(config), "benchmark", {})
    cuda = settings.device.startswith("cuda")
    with TemporaryDirectory() as folder, torch.inference_mode():
        calls = {
            **library_stages(labeler, photos),
            **job_stages(labeler, config, schema, Store.open(folder), photos),
        }
        timings = measure_in_turn(
            calls, seconds=2 * settings.seconds, least=settings.rounds, cuda=cuda
        )
    total = sum(timing.cpu for timing in timings.values())
    return [
        {
            "stage": name,
            "wall_ms": 1000 * timing.wall / len(photos),
            "cpu_ms": 1000 * timing.cpu / len(photos),
            "share": timing.cpu / total,
            "runs": timing.runs,
        }
        for name, timing in timings.items()
    ]


def library_stages(labeler: FaceLabeler, photos: Sequence[Encoded]) -> dict[str, Call]:
    """From encoded photographs to textures; each call does all photographs."""
    images = decoded(photos)
    found = labeler.detector.detect(images, "best")
    faces = [(i, f.points5[0]) for i, f in zip(images, found, strict=True) if len(f)]
    model, raster_of = labeler.geometry.model, labeler.geometry.rasterizer

    def align() -> torch.Tensor:
        crops = []
        for image, points in faces:
            height, width = image.shape[:2]
            crop = estimate_crop(points, (width, height), labeler.standard_points)
            crops.append(crop_image(image, crop))
        return crops_to_tensor(np.stack(crops), labeler.device)

    crops = align()
    alpha = labeler.backbone(crops)

    def geometry() -> Any:
        shape = model(split(alpha, labeler.sizes))
        return shape, clip_space(shape.camera)

    shape, clip = geometry()

    def rasterize() -> Any:
        raster = raster_of.rasterize(clip, model.triangles, RESOLUTION)
        return raster, visible_vertices(raster, model.triangles, shape.normals)

    raster, visible = rasterize()

    def landmarks() -> None:
        for name in LANDMARK_SETS:
            index = labeler.geometry.landmark_index.indices(name, shape)
            to_crop_pixels(gather(shape.points, index))
            visible.gather(1, index)

    def segment() -> None:
        pack_parts(labeler.geometry.segmenter.full_masks(clip))
        label_map(labeler.geometry.segmenter.visible_masks(raster, visible))

    def texture() -> None:
        assert labeler.geometry.mapper is not None
        labeler.geometry.mapper.extract(
            crops, shape, visible, model.texture(shape), dtype=torch.uint8
        )

    return {
        "decode": lambda: [decode(photo.data) for photo in photos],
        "detect": lambda: labeler.detector.detect(images, "best"),
        "align and crop": align,
        "backbone": lambda: labeler.backbone(crops),
        "geometry": geometry,
        "rasterize": rasterize,
        "landmarks": landmarks,
        "segment": segment,
        "texture": texture,
    }


def job_stages(
    labeler: FaceLabeler,
    config: Any,
    schema: LabelSchema,
    store: Store,
    photos: Sequence[Encoded],
) -> dict[str, Call]:
    """From faces to published files; each call does all photographs."""
    images = decoded(photos)
    labelled = [
        (ImageRecord("shard", photo.name, image.shape[1], image.shape[0], ""), image, faces)
        for photo, image, faces in zip(photos, images, labeler(images), strict=True)
    ]

    def rows() -> memoryview:
        every = [row for record, _, faces in labelled for row in image_rows(record, faces)]
        return encode_part(to_table(every, schema, {}))

    def objects() -> dict[str, bytes]:
        parts = schema.facts.part_names
        files = [
            file
            for record, photo, faces in labelled
            for _, file in image_files(
                config, Layout().stem(record.shard, record.key), photo, faces, parts
            )
        ]
        return {file.rel: file.encode() for file in files}

    files: dict[str, bytes | memoryview] = {"part.parquet": rows(), **objects()}
    return {
        "encode rows": rows,
        "encode meshes, textures, sheets": objects,
        "publish": _publisher(store, files),
    }


def _publisher(store: Store, files: dict[str, bytes | memoryview]) -> Callable[[], None]:
    def publish() -> None:
        for rel, data in files.items():
            store.publish(rel, data)

    return publish


def after_the_backbone(rows: Sequence[dict[str, Any]]) -> float:
    """Processor milliseconds per face of the stages that labels need beside the networks."""
    return sum(row["cpu_ms"] for row in rows if row["stage"] in AFTER_THE_BACKBONE)
