"""The library called in a loop: decode, label, encode, publish, one batch after the other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.inputs import Encoded, decoded
from benchmarks.settings import BACKBONES, DETECTORS, Settings, label_config
from benchmarks.timing import Clock, Timing, measure_in_turn
from jobs.pipeline.label.factory import FaceLabelerFactory
from jobs.pipeline.label.objects import image_files
from jobs.pipeline.record.layout import Layout
from jobs.pipeline.record.parts import encode_part
from jobs.pipeline.record.rows import ImageRecord, Row, image_rows, to_table
from jobs.pipeline.record.schema import LabelSchema
from jobs.pipeline.storage.store import Store
from tddfa3.labeler import FaceLabeler
from tddfa3.networks.detection import Mtcnn, RetinaFace
from tddfa3.networks.detection.mtcnn import Cascade


class LibraryLoop:
    """One variant of the library, from encoded images to published files.

    Args:
        settings: of the benchmarks.
        output: folder for the files.
        options: of ``jobs.label``; ``outputs`` is one of :data:`benchmarks.settings.OUTPUTS`.
    """

    def __init__(self, settings: Settings, output: Path, **options: Any) -> None:
        self.config = label_config(settings, **options)
        factory = FaceLabelerFactory()
        labeler = factory.build(self.config, settings.threads)
        assert isinstance(labeler, FaceLabeler)
        self.labeler = labeler
        self.schema = LabelSchema(factory.facts(self.config), "benchmark", {})
        self.store = Store.open(str(output))
        self.networks = Clock(cuda=settings.device.startswith("cuda"))
        self.faces = self.bytes = self.published = 0
        time_networks(self.labeler, self.networks)

    def __call__(self, photos: Sequence[Encoded]) -> None:
        """Labels the photographs as one chunk; every call writes to a folder of its own."""
        self.published += 1
        self.faces = self.bytes = 0
        rows: list[Row] = []
        for start in range(0, len(photos), self.config.batch):
            rows += self._batch(photos[start : start + self.config.batch])
        self._publish("part.parquet", encode_part(to_table(rows, self.schema, {})))

    def _batch(self, photos: Sequence[Encoded]) -> Iterator[Row]:
        images = decoded(photos)
        for photo, image, faces in zip(photos, images, self.labeler(images), strict=True):
            self.faces += len(faces)
            height, width = image.shape[:2]
            record = ImageRecord("shard", photo.name, width, height, "")
            parts = self.schema.facts.part_names
            stem = Layout().stem(record.shard, record.key)
            for _, file in image_files(self.config, stem, image, faces, parts):
                self._publish(file.rel, file.encode())
            yield from image_rows(record, faces)

    def _publish(self, rel: str, data: bytes | memoryview) -> None:
        self.bytes += len(data)
        self.store.publish_new(f"{self.published:04d}/{rel}", data)


def time_networks(labeler: FaceLabeler, clock: Clock) -> None:
    """Makes every network of a labeler report to the clock, in place."""
    detector = labeler.detector
    if isinstance(detector, RetinaFace):
        detector.network = clock.wrap(detector.network)
        detector.landmarks.network = clock.wrap(detector.landmarks.network)
    elif isinstance(detector, Mtcnn):
        detector.networks = Cascade(*map(clock.wrap, detector.networks))
    labeler.backbone = clock.wrap(labeler.backbone)


def variants(settings: Settings) -> dict[str, dict[str, Any]]:
    """Title to options; the others are compared with the first."""
    chosen: dict[str, dict[str, Any]] = {
        f"labels, {networks_title(settings.detectors[0], settings.backbones[0])}": {},
        "everything": {"outputs": "everything"},
        "labels, PyTorch instead of onnxruntime": {"engine": "torch"},
    }
    if settings.quick:
        return chosen
    chosen["no landmarks, no masks"] = {"outputs": "none"}
    pairs = list(product(settings.detectors, settings.backbones))
    for detector, backbone in pairs[1:]:
        title = f"labels, {networks_title(detector, backbone)}"
        chosen[title] = {"detector": detector, "backbone": backbone}
    return chosen


def networks_title(detector: str, backbone: str) -> str:
    """What the tables call a pair of networks."""
    return f"{DETECTORS[detector]} + {BACKBONES[backbone]}"


def measure_library(settings: Settings, photos: Sequence[Encoded]) -> list[dict[str, Any]]:
    """One row per variant; they are measured in turn, so that ratios are of one run."""
    with TemporaryDirectory() as folder:
        loops = {
            title: LibraryLoop(settings, Path(folder) / str(number), **options)
            for number, (title, options) in enumerate(variants(settings).items())
        }
        timings = measure_in_turn(
            {title: partial(loop, photos) for title, loop in loops.items()},
            seconds=settings.seconds * len(loops),
            least=settings.rounds,
        )
    first = next(iter(timings.values()))
    return [_row(title, loops[title], timings[title], first, len(photos)) for title in loops]


def _row(title: str, loop: LibraryLoop, timing: Timing, first: Timing, images: int) -> dict:
    # The clock also ran in the round that is not counted.
    networks = loop.networks.cpu / (timing.runs + 1)
    return {
        "variant": title,
        "images_per_second": images / timing.wall,
        "wall_ms": 1000 * timing.wall / images,
        "cpu_ms": 1000 * timing.cpu / images,
        "networks_cpu_ms": 1000 * networks / images,
        "over_networks": timing.cpu / networks,
        "speed_against_first": first.wall / timing.wall,
        "faces": loop.faces,
        "bytes_per_face": loop.bytes / max(1, loop.faces),
        "runs": timing.runs,
    }
