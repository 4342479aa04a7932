"""Visible parts as one COCO file.

Every batch leaves a fragment, and the file is assembled from the fragments: an export that was
stopped makes none of them twice.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from jobs.pipeline.export.files import Item
from jobs.pipeline.storage.spool import spooled
from jobs.pipeline.storage.store import Store
from tddfa3.images.rle import encode_label_map, rle_area

COCO_FILE = "masks.coco.json"
"""The assembled file."""


def part_annotations(item: Item, part_names: Sequence[str]) -> list[dict[str, Any]]:
    """COCO annotations of one face, one per part that is visible; empty if it has no mask."""
    labels = item.mask("seg_visible")
    if labels is None:
        return []
    on_image = item.crop.labels_to_image(labels)  # (H, W)
    found = []
    for label, rle in enumerate(encode_label_map(on_image, len(part_names)), start=1):
        area = rle_area(rle)
        if area:
            about = {"category_id": label, "segmentation": rle, "area": area, "iscrowd": 0}
            found.append(about | {"bbox": _bounding_box(on_image == label)})
    return found


def fragment(items: Iterable[Item], part_names: Sequence[str]) -> bytes:
    """The annotations of one batch: JSON lines, one per face."""
    lines = []
    for item in items:
        row = item.row
        about = {name: row[name] for name in ("image_id", "image_width", "image_height")}
        about |= {"face_index": row["face_index"], "parts": part_annotations(item, part_names)}
        lines.append(json.dumps(about))
    return ("\n".join(lines) + "\n").encode()


def merge(store: Store, fragments: Iterable[str], part_names: Sequence[str]) -> None:
    """Assemble ``masks.coco.json`` from fragments, numbering images and annotations from 1.

    Raises:
        StoreError: a fragment is gone, or the storage failed.
    """
    numbers: dict[str, int] = {}
    count = 0
    with spooled(store, COCO_FILE) as file:
        categories = [{"id": i, "name": name} for i, name in enumerate(part_names, start=1)]
        file.write(b'{"info": {"description": "visible face parts"},\n"categories": ')
        file.write(json.dumps(categories).encode() + b',\n"annotations": [')
        for rel in fragments:
            for line in store.read(rel).splitlines():
                count = _write_annotations(file, json.loads(line), numbers, count)
        file.write(b'\n],\n"images": [')
        for i, (text, number) in enumerate(numbers.items()):
            name, width, height = json.loads(text)
            about = {"id": number, "file_name": name, "width": width, "height": height}
            file.write((b",\n" if i else b"\n") + json.dumps(about).encode())
        file.write(b"\n]}\n")


def _write_annotations(
    file: IO[bytes], face: dict[str, Any], numbers: dict[str, int], count: int
) -> int:
    image = json.dumps([face["image_id"], face["image_width"], face["image_height"]])
    number = numbers.setdefault(image, len(numbers) + 1)
    for part in face["parts"]:
        about = {"id": count + 1, "image_id": number, "face_index": face["face_index"]} | part
        file.write((b",\n" if count else b"\n") + json.dumps(about).encode())
        count += 1
    return count


def _bounding_box(mask: NDArray[np.bool_]) -> list[int]:
    """x, y, width, height of an (H, W) mask that is not empty."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    x, y = int(columns[0]), int(rows[0])
    return [x, y, int(columns[-1]) + 1 - x, int(rows[-1]) + 1 - y]
