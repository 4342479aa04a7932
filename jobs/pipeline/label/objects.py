"""Files beside the rows: meshes, textures, overlays; published before the part that names them.

Names follow from the image and the face alone, so a chunk that is done again writes the same names.
An object that already exists is kept, and the row gets its digest: another driver may have made it
on another device, with slightly different last bits.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from numpy.typing import NDArray

from jobs.pipeline.label.loading import Stopwatch
from jobs.pipeline.record.config import LabelConfig
from jobs.pipeline.record.rows import Row
from jobs.pipeline.storage.store import Store

if TYPE_CHECKING:
    from tddfa3.drawing.mesh import FaceMesh, MeshFormat
    from tddfa3.face import Face
    from tddfa3.images.photo import Photo

_QUALITY = {
    "jpg": [cv2.IMWRITE_JPEG_QUALITY, 90],
    "webp": [cv2.IMWRITE_WEBP_QUALITY, 90],
    "png": [cv2.IMWRITE_PNG_COMPRESSION, 1],
}


@dataclass(frozen=True, slots=True)
class ObjectFile:
    """A file still to be made.

    Attributes:
        column: the row's column, without the suffix ``_uri``.
        rel: the file's name in the output.
        encode: makes its content.
    """

    column: str
    rel: str
    encode: Callable[[], bytes]


def image_files(
    config: LabelConfig,
    stem: str,
    photo: Photo,
    faces: Sequence[Face],
    part_names: Sequence[str],
) -> list[tuple[Sequence[int], ObjectFile]]:
    """The files of an image, each with the indices of the faces whose rows name it.

    Args:
        config: says which files are wanted.
        stem: what their names begin with (:meth:`jobs.pipeline.record.layout.Layout.stem`).
        photo: the image.
        faces: its labelled faces.
        part_names: of the assets, for the labels of a sheet.
    """
    files: list[tuple[Sequence[int], ObjectFile]] = [
        ([row], file)
        for row, face in enumerate(faces)
        for file in _face_files(config, f"{stem}_{face.face_index}", photo, face, part_names)
    ]
    if config.overlays == "jpg":
        encode = partial(_encode_overlay, photo, faces)
        files.append((range(len(faces)), ObjectFile("overlay", f"overlays/{stem}.jpg", encode)))
    return files


def _face_files(
    config: LabelConfig,
    name: str,
    photo: Photo,
    face: Face,
    part_names: Sequence[str],
) -> Iterator[ObjectFile]:
    for source, mesh in face.meshes.items():
        kind = f"_{source}" if config.meshes == "both" else ""
        encode = partial(_encode_mesh, mesh, config.mesh_format)
        rel = f"meshes/{name}{kind}.{config.mesh_format}"
        yield ObjectFile(f"mesh_{source}", rel, encode)
    texture = face.textures.get("extracted")
    if texture is not None and config.textures != "none":
        encode = partial(encode_image, texture, config.textures)
        yield ObjectFile("texture", f"textures/{name}.{config.textures}", encode)
    if config.overlays == "sheet":
        encode = partial(_encode_sheet, photo, face, part_names)
        yield ObjectFile("overlay", f"overlays/{name}.jpg", encode)


def encode_image(image: NDArray[np.uint8], fmt: str) -> bytes:
    """An (H, W, 3) RGB image as ``jpg``, ``webp`` or ``png``.

    Raises:
        ValueError: OpenCV cannot encode it.
    """
    written, data = cv2.imencode(f".{fmt}", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), _QUALITY[fmt])
    if not written:
        raise ValueError(f"{fmt}: cannot encode {image.dtype} {image.shape}")
    return data.tobytes()


def _encode_mesh(mesh: FaceMesh, mesh_format: MeshFormat) -> bytes:
    # Imported here, as drawing is: the driver imports this module and encodes nothing.
    from tddfa3.drawing.mesh import encode_mesh

    return encode_mesh(mesh, mesh_format)


def _encode_overlay(photo: Photo, faces: Sequence[Face]) -> bytes:
    from tddfa3.drawing.draw import overlay

    return encode_image(overlay(photo, faces), "jpg")


def _encode_sheet(photo: Photo, face: Face, part_names: Sequence[str]) -> bytes:
    from tddfa3.drawing.draw import sheet

    return encode_image(sheet(photo, face, part_names=part_names), "jpg")


class ObjectWriter:
    """Encodes and publishes files in threads.

    The caller is blocked while too many files are unfinished, so that a slow store slows labelling
    down instead of filling the memory.

    Args:
        store: the output.
        threads: that encode and publish.
        most: unfinished files; None: four per thread.
    """

    def __init__(self, store: Store, threads: int, most: int | None = None) -> None:
        self._store = store
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="objects")
        self._free = threading.BoundedSemaphore(most or 4 * threads)

    def submit(self, file: ObjectFile, watch: Stopwatch) -> Future[Row]:
        """Start making a file; blocks while too many are unfinished.

        Returns:
            The row's values for the file, once it is published: its URI, size and digest.
        """
        self._free.acquire()
        future = self._pool.submit(self._write, file, watch)
        future.add_done_callback(lambda _: self._free.release())
        return future

    def close(self) -> None:
        """Drop the files that are not begun and wait for the others."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _write(self, file: ObjectFile, watch: Stopwatch) -> Row:
        with watch.timed("encode"):
            data: Any = file.encode()
        with watch.timed("publish"):
            if not self._store.publish_new(file.rel, data):
                data = self._store.read(file.rel)
        return {
            f"{file.column}_uri": file.rel,
            f"{file.column}_bytes": len(data),
            f"{file.column}_sha256": hashlib.sha256(data).hexdigest(),
        }
