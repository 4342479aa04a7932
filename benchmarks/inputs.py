"""The photographs that are labelled, and shards made of them."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Sequence
from itertools import cycle, islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from jobs.pipeline.label.decode import decode

ROOT = Path(__file__).resolve().parent.parent
PHOTOGRAPHS = ROOT.parent / "shared" / "photos"
"""Real photographs beside the repository, if there are any."""
_SUFFIXES = (".jpg", ".jpeg", ".png")
_WIDTHS = (320, 400, 512, 640, 800, 1024)


class Encoded(NamedTuple):
    """An image file.

    Attributes:
        name: of the file.
        data: its content.
    """

    name: str
    data: bytes


def photographs(folder: Path | None = None) -> list[Encoded]:
    """The photographs of a folder, by default :data:`PHOTOGRAPHS`, or generated ones."""
    folder = folder or PHOTOGRAPHS
    files = sorted(p for p in folder.glob("*") if p.suffix.lower() in _SUFFIXES)
    if not files:
        return made_photographs()
    return [Encoded(path.name, path.read_bytes()) for path in files]


def made_photographs() -> list[Encoded]:
    """One portrait (Eileen Collins, NASA, public domain) in several sizes, as JPEG."""
    return [Encoded(f"portrait-{n}.jpg", portrait((n, n), quality=92)) for n in _WIDTHS]


def portrait(size: tuple[int, int], quality: int) -> bytes:
    """The portrait of :func:`made_photographs` as a JPEG of (width, height) pixels."""
    from skimage import data

    file = io.BytesIO()
    Image.fromarray(data.astronaut()).resize(size).save(file, "JPEG", quality=quality)
    return file.getvalue()


def decoded(photos: Sequence[Encoded]) -> list[NDArray[np.uint8]]:
    """The photographs, uint8 (H, W, 3) RGB.

    Raises:
        ValueError: a file is not an image; the message names it.
    """
    images = []
    for photo in photos:
        image = decode(photo.data).image
        if image is None:
            raise ValueError(f"{photo.name} is not an image that can be decoded")
        images.append(image)
    return images


def write_tar(path: Path, photos: Sequence[Encoded], count: int) -> None:
    """Writes a tar shard of ``count`` images, in which the photographs repeat."""
    with tarfile.open(path, "w") as tar:
        for i, photo in enumerate(islice(cycle(photos), count)):
            member = tarfile.TarInfo(f"{i:07d}{Path(photo.name).suffix}")
            member.size = len(photo.data)
            tar.addfile(member, io.BytesIO(photo.data))
