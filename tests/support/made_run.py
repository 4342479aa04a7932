"""A small output of the label job, made in this process: the same planner and actor, no Ray.

Two shards, a folder and a tar: a photograph, its mirror image, a picture without a face, a damaged
file. Two images a chunk.
"""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import numpy as np
import skimage.data
from PIL import Image

from jobs.pipeline.drive.planning import Planner
from jobs.pipeline.label import actor as actors
from jobs.pipeline.label.actor import Assignment, LabelActor
from jobs.pipeline.label.factory import FaceLabelerFactory
from jobs.pipeline.record.config import MASKS, LabelConfig
from jobs.pipeline.record.run import open_run
from tddfa3.assets.bundle import AssetBundle
from tddfa3.conventions import LANDMARK_SETS

FACES = 4
IMAGES = 7
COUNTS = {"ok": 4, "no_face": 2, "decode_error": 1}


def make_run(bundle: AssetBundle, folder: Path) -> Path:
    """``folder/out``, labels of ``folder/in``; made once, so that test modules share it."""
    output = folder / "out"
    if not output.exists():
        write_input(folder / "in")
        label(bundle, folder / "in", output)
    return output


def write_input(folder: Path) -> None:
    photo = skimage.data.astronaut()
    pictures = {
        "astronaut.png": _encoded(photo, "PNG"),
        "broken.jpg": b"\xff\xd8\xff not a JPEG",
        "grey.png": _encoded(np.full((48, 64, 3), 90, np.uint8), "PNG"),
        "mirrored.jpg": _encoded(photo[:, ::-1], "JPEG"),
    }
    (folder / "photos").mkdir(parents=True)
    for name, data in pictures.items():
        (folder / "photos" / name).write_bytes(data)
    with tarfile.open(folder / "more.tar", "w") as tar:
        # Not in the order of their names; the second is the first one's name with another suffix.
        for name, pixels in (("b/astronaut.jpg", photo[20:, 30:]), ("a/astronaut.png", photo)):
            _add(tar, name, _encoded(pixels, "PNG"))
        _add(tar, "c.png", pictures["grey.png"])


def label(bundle: AssetBundle, source: Path, output: Path) -> None:
    config = LabelConfig(
        paths=(str(source), str(output)),
        assets=str(bundle.path),
        detector="mtcnn",
        backbone="mbnetv3",
        faces="all",
        landmarks=LANDMARK_SETS,
        masks=MASKS,
        meshes="both",
        textures="jpg",
        device="cpu",
        chunk_images=2,
    )
    factory = FaceLabelerFactory()
    run = open_run(config, factory.facts(config))
    planner = Planner.of(run)
    actor = LabelActor()
    before, actors._node_id = actors._node_id, lambda: "here"
    try:
        actor.setup(Assignment.of(run, factory, 2))
    finally:
        actors._node_id = before
    for shard in run.shards:
        for order in planner.plan(shard).pending:
            actor.label_chunk(order)


def _encoded(pixels: np.ndarray, form: str) -> bytes:
    sink = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(sink, form)
    return sink.getvalue()


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(data)
    tar.addfile(member, io.BytesIO(data))
