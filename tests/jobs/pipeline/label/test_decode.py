"""Every kind of image file comes out as upright RGB, or as a reason why not."""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from collections.abc import Callable

import numpy as np
import PIL
import pytest
from PIL import Image

from jobs.pipeline.label.decode import decode, decoded_bytes


def encoded(image: Image.Image, fmt: str = "PNG", **options: object) -> bytes:
    sink = io.BytesIO()
    image.save(sink, fmt, **options)
    return sink.getvalue()


def gradient(width: int = 20, height: int = 10) -> np.ndarray:
    y, x = np.mgrid[:height, :width]
    return np.stack([x * 255 // width, y * 255 // height, (x + y) * 4], axis=2).astype(np.uint8)


RGB = gradient()


@pytest.mark.parametrize("fmt", ["PNG", "BMP", "TIFF", "PPM", "TGA", "GIF", "WEBP", "JPEG"])
def test_common_formats_by_content_alone(fmt: str) -> None:
    options = {"lossless": True} if fmt == "WEBP" else {"quality": 95} if fmt == "JPEG" else {}
    image, failure, size, _ = decode(encoded(Image.fromarray(RGB), fmt, **options))
    assert failure is None
    assert size == (20, 10)
    assert image is not None
    assert (image.shape, image.dtype) == ((10, 20, 3), np.uint8)
    assert image.flags.c_contiguous
    lossy = {"JPEG": 12.0, "GIF": 25.0}.get(fmt, 0.0)
    assert np.abs(image.astype(int) - RGB).mean() <= lossy


@pytest.mark.parametrize("mode", ["L", "1", "P", "LA", "RGBA", "CMYK", "YCbCr"])
def test_modes_equal_what_pillow_converts_to(mode: str) -> None:
    if mode == "YCbCr" and int(PIL.__version__.split(".")[0]) < 13:
        pytest.skip("Pillow before 13 takes uncompressed YCbCr TIFFs for truncated ones")
    fmt = {"CMYK": "TIFF", "YCbCr": "TIFF"}.get(mode, "PNG")
    source = Image.fromarray(RGB).convert(mode)
    image, failure, *_ = decode(encoded(source, fmt))
    assert failure is None
    expected = np.asarray(source.convert("RGB")).astype(int)
    assert image is not None
    assert np.abs(image.astype(int) - expected).max() <= 2


def test_alpha_is_dropped_not_composited() -> None:
    rgba = np.dstack([RGB, np.zeros(RGB.shape[:2], np.uint8)])
    image, _, *_ = decode(encoded(Image.fromarray(rgba)))
    np.testing.assert_array_equal(image, RGB)


def test_cmyk_jpeg_keeps_its_colours() -> None:
    source = Image.new("RGB", (32, 32), (200, 40, 40)).convert("CMYK")
    image, failure, *_ = decode(encoded(source, "JPEG", quality=95))
    assert failure is None
    assert image is not None
    np.testing.assert_allclose(image[16, 16], (200, 40, 40), atol=8)


@pytest.mark.parametrize("fmt", ["PNG", "TIFF"])
def test_sixteen_bit_grey_is_scaled_not_clipped(fmt: str) -> None:
    grey = np.linspace(0, 65535, 200).astype(np.uint16).reshape(10, 20)
    image, failure, *_ = decode(encoded(Image.fromarray(grey), fmt))
    assert failure is None
    assert image is not None
    np.testing.assert_allclose(image[:, :, 0], np.round(grey / 257.0), atol=0.51)
    assert (image[..., 0] == image[..., 2]).all()


def test_sixteen_bit_colour_png() -> None:
    """Pillow writes none, so the file is put together by hand."""
    values = (RGB.astype(np.uint16) * 257).astype(">u2")
    rows = b"".join(b"\0" + row.tobytes() for row in values)
    data = b"\x89PNG\r\n\x1a\n" + _png_chunk(
        b"IHDR", struct.pack(">IIBBBBB", 20, 10, 16, 2, 0, 0, 0)
    )
    data += _png_chunk(b"IDAT", zlib.compress(rows)) + _png_chunk(b"IEND", b"")
    image, failure, *_ = decode(data)
    assert failure is None
    np.testing.assert_array_equal(image, RGB)


def test_floating_point_tiff() -> None:
    values = np.linspace(0, 1, 200, dtype=np.float32).reshape(10, 20)
    values[0, 0] = np.nan
    image, failure, *_ = decode(encoded(Image.fromarray(values), "TIFF"))
    assert failure is None
    assert image is not None
    assert image[0, 0, 0] == 0
    assert image[-1, -1, 0] == 255


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(orientation: int) -> None:
    pixels = np.zeros((40, 80, 3), np.uint8)
    pixels[:20, :40] = (250, 10, 10)
    undo: dict[int, Callable[[np.ndarray], np.ndarray]] = {
        1: lambda a: a, 2: np.fliplr, 3: lambda a: np.rot90(a, 2), 4: np.flipud,
        5: lambda a: a.transpose(1, 0, 2), 6: np.rot90,
        7: lambda a: np.rot90(a, 2).transpose(1, 0, 2), 8: lambda a: np.rot90(a, 3),
    }  # fmt: skip
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = Image.fromarray(np.ascontiguousarray(undo[orientation](pixels)))
    image, failure, size, _ = decode(encoded(stored, "JPEG", quality=95, exif=exif))
    assert failure is None
    assert size == (80, 40)
    assert image is not None
    assert image[5, 5, 0] > 200
    assert image[35, 75, 0] < 50
    assert image[35, 5, 0] < 50


@pytest.mark.filterwarnings("ignore")
def test_damaged_exif_does_not_cost_the_pixels() -> None:
    exif = b"Exif\0\0II*\0\xff\xff\xff\x7f" + b"\xff" * 40
    image, failure, size, _ = decode(encoded(Image.fromarray(RGB), "JPEG", exif=exif))
    assert failure is None
    assert size == (20, 10)
    assert image is not None


@pytest.mark.parametrize("fmt", ["GIF", "WEBP", "PNG", "TIFF"])
def test_animations_give_their_first_frame(fmt: str) -> None:
    frames = [Image.new("RGB", (16, 8), colour) for colour in ("red", "blue", "lime")]
    options = {"lossless": True} if fmt == "WEBP" else {}
    data = encoded(frames[0], fmt, save_all=True, append_images=frames[1:], **options)
    image, failure, size, _ = decode(data)
    assert failure is None
    assert size == (16, 8)
    assert image is not None
    assert tuple(image[4, 8]) == (255, 0, 0)


@pytest.mark.filterwarnings("ignore")
def test_palette_with_transparency() -> None:
    image, failure, *_ = decode(
        encoded(Image.fromarray(RGB).convert("P"), "PNG", transparency=b"\0" * 256)
    )
    assert failure is None
    assert image is not None


def test_zero_bytes() -> None:
    failure = decode(b"").failure
    assert failure is not None
    assert failure.status == "decode_error"


@pytest.mark.parametrize("fmt", ["JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP"])
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.9])
def test_a_file_cut_short_is_a_decode_error(fmt: str, share: float) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    data = encoded(Image.fromarray(noise), fmt)
    image, failure, *_ = decode(data[: max(12, int(len(data) * share))])
    assert image is None
    assert failure is not None
    assert failure.status in ("decode_error", "unsupported")
    if fmt in ("JPEG", "PNG"):
        assert failure.status == "decode_error"


@pytest.mark.filterwarnings("ignore")
def test_random_damage_never_raises() -> None:
    rng = np.random.default_rng(1)
    for fmt in ("JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP", "JPEG2000"):
        whole = np.frombuffer(encoded(Image.fromarray(RGB), fmt), np.uint8)
        for _ in range(60):
            broken = whole.copy()
            places = rng.integers(0, len(broken), rng.integers(1, 20))
            broken[places] = rng.integers(0, 256, len(places))
            result = decode(broken.tobytes(), max_pixels=1_000_000)
            assert (result.image is None) != (result.failure is None)


@pytest.mark.parametrize("data", [b"hello, this is no image", b"<svg/>", b"%PDF-1.4", b"\0" * 64])
def test_other_files_are_unsupported(data: bytes) -> None:
    failure = decode(data).failure
    assert failure is not None
    assert failure.status == "unsupported"


def test_formats_that_start_other_programs_are_not_opened() -> None:
    failure = decode(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n").failure
    assert failure is not None
    assert failure.status == "unsupported"


def test_decompression_bomb_is_not_decoded() -> None:
    header = struct.pack(">IIBBBBB", 200_000, 200_000, 8, 2, 0, 0, 0)
    bomb = b"\x89PNG\r\n\x1a\n" + _png_chunk(b"IHDR", header)
    bomb += _png_chunk(b"IDAT", zlib.compress(b"\0" * 1000)) + _png_chunk(b"IEND", b"")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        image, failure, size, _ = decode(bomb)
    assert image is None
    assert failure is not None
    assert failure.status == "too_large"
    assert size == (200_000, 200_000)


def test_the_pixel_limit_is_the_callers() -> None:
    data = encoded(Image.fromarray(RGB))
    assert decode(data, max_pixels=200).failure is None
    failure = decode(data, max_pixels=199).failure
    assert failure is not None
    assert failure.status == "too_large"
    assert "199" in failure.error


def _png_chunk(kind: bytes, data: bytes) -> bytes:
    checksum = struct.pack(">I", zlib.crc32(kind + data))
    return struct.pack(">I", len(data)) + kind + data + checksum


def jpeg(width: int, height: int, **options: object) -> bytes:
    return encoded(Image.fromarray(gradient(width, height)), "JPEG", quality=95, **options)


@pytest.mark.parametrize(
    ("size", "needed_side", "factor"),
    [
        ((4000, 3000), 512, 4),  # an eighth would leave 500
        ((4096, 3072), 512, 8),
        ((3072, 4096), 512, 8),
        ((1920, 1080), 512, 2),
        ((1023, 1024), 512, 1),  # no factor divides both sides
        ((1022, 1024), 512, 2),
        ((1000, 1000), 512, 1),
        ((8192, 16), 512, 8),
        ((4000, 3000), None, 1),
    ],
)
def test_a_jpeg_is_decoded_as_small_as_is_asked_for(
    size: tuple[int, int], needed_side: int | None, factor: int
) -> None:
    data = jpeg(*size)
    decoded = decode(data, needed_side=needed_side)
    assert (decoded.size, decoded.factor) == (size, factor)
    assert decoded.image is not None
    assert decoded.image.shape == (size[1] // factor, size[0] // factor, 3)
    assert decoded_bytes(data, needed_side) == decoded.image.size


def test_a_reduced_jpeg_holds_the_averages_of_its_pixels() -> None:
    data = jpeg(1024, 512)
    full, _, _, _ = decode(data)
    reduced, _, _, factor = decode(data, needed_side=256)
    assert full is not None
    assert reduced is not None
    assert factor == 4
    averages = full.reshape(128, 4, 256, 4, 3).mean(axis=(1, 3))
    assert np.abs(reduced - averages).mean() < 1
    assert np.abs(reduced - averages).max() < 12


def test_a_reduced_jpeg_is_upright_and_bounded_by_its_whole_size() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    data = jpeg(1024, 512, exif=exif)
    decoded = decode(data, needed_side=256)
    assert decoded.size == (512, 1024)
    assert decoded.image is not None
    assert decoded.image.shape == (256, 128, 3)
    refused = decode(data, max_pixels=1000, needed_side=256)
    assert refused.failure is not None
    assert refused.failure.status == "too_large"


@pytest.mark.parametrize("fmt", ["PNG", "WEBP", "TIFF"])
def test_other_formats_are_decoded_whole(fmt: str) -> None:
    decoded = decode(encoded(Image.fromarray(gradient(1024, 512)), fmt), needed_side=256)
    assert decoded.image is not None
    assert (decoded.image.shape, decoded.factor) == ((512, 1024, 3), 1)
