"""For each photograph the files that 3DDFA-V3's demo writes, under the names it gives them."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import numpy as np

from jobs.pipeline.export.files import File, Item
from jobs.pipeline.label.objects import encode_image
from tddfa3.conventions import LANDMARK_SETS
from tddfa3.drawing.draw import sheet
from tddfa3.drawing.mesh import encode_mesh

_MESHES = {"pca": "pcaTex", "extracted": "extractTex"}


def upstream_files(item: Item, part_names: tuple[str, ...]) -> Iterator[File]:
    """``name/name.png``, ``name.npy``, ``name_pcaTex.obj`` and ``name_extractTex.obj``.

    Raises:
        ValueError: the item lacks its face or its photograph.
    """
    if item.face is None or item.photo is None:
        raise ValueError(f"{item.name}: the face and its photograph are needed")
    stem = f"{item.name}/{item.name}"
    picture = sheet(item.photo.image, item.face, part_names=part_names)
    yield f"{stem}.png", encode_image(picture, "png")
    yield f"{stem}.npy", npy(item)
    for source, name in _MESHES.items():
        yield f"{stem}_{name}.obj", encode_mesh(item.face.meshes[source], "obj")


def npy(item: Item) -> bytes:
    """A dictionary, as ``numpy.load(file, allow_pickle=True).item()`` gives it back.

    - ``ldm68``, ``ldm106``, ``ldm106_2d``, ``ldm134``: float32 (N, 2) image pixels
    - ``seg_visible``: float64 (H, W, 1), 0 or the number of the part, a later part wins
    - ``seg``: float64 (H, W, 8), 255 where the part lies, occlusion ignored

    Raises:
        ValueError: the item lacks its face or one of its masks.
    """
    face = item.face
    if face is None or face.seg is None or face.seg_visible is None:
        raise ValueError(f"{item.name}: the face with both masks is needed")
    content: dict[str, Any] = {f"ldm{name}": face.landmarks[name] for name in LANDMARK_SETS}
    content["seg_visible"] = item.crop.labels_to_image(face.seg_visible)[..., None].astype(float)
    # (224, 224, 8), 0 or 255.
    bits = np.unpackbits(face.seg[..., None], axis=-1, bitorder="little") * np.uint8(255)
    content["seg"] = item.crop.labels_to_image(bits).astype(float)
    sink = io.BytesIO()
    # A dictionary can only be pickled. That is done because 3DDFA-V3's users read such files;
    # this project never reads one.
    np.save(sink, np.array(content, dtype=object))
    return sink.getvalue()
