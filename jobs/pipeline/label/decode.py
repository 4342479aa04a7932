"""Encoded bytes to RGB pixels, or the reason why not. Never raises because of the bytes' content.

The format is recognised by content; names and extensions are ignored. EXIF orientation is applied,
so that "image pixels" are the pixels a viewer shows. Animated files give their first frame. Alpha
is dropped, not composited: the colour stored under transparent pixels is used, as
``Image.convert("RGB")`` does. Sixteen-bit grey is scaled to eight bits, not clipped.
"""

from __future__ import annotations

import io
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

# Left out on purpose: formats that run other programs or fetch other files
# (EPS by ghostscript, WMF, FITS, HDF5 stubs, …), and containers that hold no photograph.
_WANTED = (
    "JPEG", "PNG", "WEBP", "BMP", "DIB", "GIF", "TIFF", "PPM", "ICO", "TGA", "JPEG2000", "AVIF",
    "QOI", "PCX", "SGI",
)  # fmt: skip
Image.init()
FORMATS = [name for name in _WANTED if name in Image.OPEN]
"""Formats that Pillow may open, as far as this build of it can."""

_SIXTEEN_BIT = ("I;16", "I;16L", "I;16B", "I;16N")

# A file that begins like this is an image: when Pillow does not recognise it, it is damaged.
_MAGIC = (b"\xff\xd8\xff", b"\x89PNG", b"GIF8", b"II*\0", b"MM\0*")

# Pillow's own pixel limit is one per process, and warns from half of it on; `decode` checks the
# caller's limit against the header before anything is decoded.
Image.MAX_IMAGE_PIXELS = None


@dataclass(frozen=True, slots=True)
class DecodeFailure:
    """Why there are no pixels.

    Attributes:
        status: that of the row; one of :data:`jobs.pipeline.record.schema.IMAGE_FAILURES`.
        error: for a person.
    """

    status: str
    error: str


class Decoded(NamedTuple):
    """A decoded image, or why there is none.

    Attributes:
        image: (H, W, 3) uint8 RGB, or None.
        failure: None if there is an image.
        size: (width, height) of the whole photograph after EXIF rotation; also known for some
            failures.
        factor: how many times smaller than the photograph the image is.
    """

    image: NDArray[np.uint8] | None
    failure: DecodeFailure | None
    size: tuple[int, int] | None
    factor: int = 1


def decode(data: bytes, max_pixels: int = 100_000_000, needed_side: int | None = None) -> Decoded:
    """Decode one encoded image.

    Args:
        data: the encoded bytes.
        max_pixels: images with more are not decoded; they fail with ``too_large``.
        needed_side: a JPEG is decoded at 1/2, 1/4 or 1/8 of its size where that divides its sides
            and leaves the longer one so many pixels; None: always at full size.
    """
    if not data:
        return _failed("decode_error", "zero bytes")
    try:
        return _decode(data, max_pixels, needed_side)
    except UnidentifiedImageError:
        if data.startswith(_MAGIC):
            return _failed("decode_error", f"damaged header (begins {data[:8].hex()})")
        return _failed("unsupported", f"not an image of a known format (begins {data[:8].hex()})")
    except MemoryError:
        return _failed("decode_error", "not enough memory to decode")
    # Pillow's plugins raise whatever a damaged file leads them to: OSError, SyntaxError,
    # ValueError, struct.error, IndexError, KeyError, TypeError, EOFError, zlib.error.
    except Exception as error:
        return _failed("decode_error", f"{type(error).__name__}: {error}"[:300])


def decoded_bytes(data: bytes, needed_side: int | None = None) -> int:
    """Bytes that the decoded pixels will take, by the header alone; 0 where it does not say."""
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            return 3 * image.width * image.height // _factor(image, needed_side) ** 2
    except Exception:  # decode() will say what is wrong with it
        return 0


def _decode(data: bytes, max_pixels: int, needed_side: int | None) -> Decoded:
    with Image.open(io.BytesIO(data), formats=FORMATS) as image:
        width, height = image.size
        if width * height > max_pixels:
            why = f"{width} x {height} pixels; the limit is {max_pixels} (--max-pixels)"
            return _failed("too_large", why, (width, height))
        factor = _factor(image, needed_side)
        if factor > 1:
            image.draft(None, (width // factor, height // factor))
        image.load()
        upright = _upright(image)
        if upright.mode == "LAB":
            return _failed("unsupported", "colours in CIELAB", upright.size)
        pixels = to_rgb(upright)
    return Decoded(pixels, None, (pixels.shape[1] * factor, pixels.shape[0] * factor), factor)


def _factor(image: Image.Image, needed_side: int | None) -> int:
    """How many times smaller an opened image may be decoded."""
    if needed_side is None or image.format != "JPEG":
        return 1
    width, height = image.size
    fitting = (f for f in (8, 4, 2) if width % f == height % f == 0)
    return next((f for f in fitting if max(width, height) // f >= needed_side), 1)


def _upright(image: Image.Image) -> Image.Image:
    # In place: an upright image is not copied.
    with suppress(Exception):  # damaged EXIF: the pixels are still good
        ImageOps.exif_transpose(image, in_place=True)
    return image


def to_rgb(image: Image.Image) -> NDArray[np.uint8]:
    """(H, W, 3) uint8 RGB, contiguous, from an image in any of Pillow's modes."""
    grey: NDArray[Any]  # (H, W), 0..255
    if image.mode in _SIXTEEN_BIT:
        grey = (np.asarray(image).astype(np.uint32) * 255 + 32767) // 65535
    elif image.mode == "I":
        grey = _scaled_integers(np.asarray(image))
    elif image.mode == "F":
        grey = _scaled_floats(np.asarray(image))
    else:
        rgb = image if image.mode == "RGB" else image.convert("RGB")
        return np.ascontiguousarray(np.asarray(rgb))
    return np.repeat(grey.astype(np.uint8)[:, :, None], 3, axis=2)


def _scaled_integers(values: NDArray[Any]) -> NDArray[np.float64]:
    """Integer grey, (H, W) in and out, scaled to 0..255.

    Pillow opens some 16-bit grey files as 32-bit integers: they count as 0..65535 unless values are
    larger.
    """
    top = 255 if values.max(initial=0) <= 255 else max(65535, int(values.max()))
    return np.clip(values, 0, top).astype(np.float64) * (255.0 / top) + 0.5


def _scaled_floats(values: NDArray[Any]) -> NDArray[np.float64]:
    """Floating-point grey, (H, W) in and out, scaled to 0..255.

    It counts as 0..1 when nothing exceeds 1, else as 0..255; NaN is black.
    """
    values = np.nan_to_num(values.astype(np.float64), nan=0.0, posinf=255.0, neginf=0.0)
    scale = 255.0 if values.max(initial=0.0) <= 1.0 else 1.0
    return np.clip(values * scale, 0, 255) + 0.5


def _failed(status: str, error: str, size: tuple[int, int] | None = None) -> Decoded:
    return Decoded(None, DecodeFailure(status, error), size)
