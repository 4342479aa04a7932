"""Checks of the arguments, shared by all rasterizers."""

from __future__ import annotations

import torch

MAX_TRIANGLES = 1 << 24
"""Triangle id + 1 is written as float32, which holds integers exactly up to here."""
MAX_RESOLUTION = 1 << 15
"""Largest height or width in pixels; well inside the guard band of the CPU kernels."""


def check_mesh(pos: torch.Tensor, tri: torch.Tensor, ranges: torch.Tensor | None) -> None:
    """Checks a mesh.

    Args:
        pos: must be float32 (B, V, 4), or (N, 4) with ranges.
        tri: as for :func:`check_triangles`.
        ranges: as for :func:`check_ranges`, or None.

    Raises:
        ValueError: If a shape or dtype differs, or an index is out of bounds.
    """
    if ranges is None and (pos.ndim != 3 or pos.shape[-1] != 4):
        raise ValueError(f"pos must be (B,V,4), or (N,4) with ranges; got {tuple(pos.shape)}")
    if ranges is not None and (pos.ndim != 2 or pos.shape[-1] != 4):
        raise ValueError(f"pos must be (N,4) when ranges are given; got {tuple(pos.shape)}")
    if pos.dtype != torch.float32:
        raise ValueError(f"pos must be float32; got {pos.dtype}")
    check_triangles(tri, pos.shape[-2])
    if ranges is not None:
        check_ranges(ranges, tri.shape[0])


def check_triangles(tri: torch.Tensor, vertices: int) -> None:
    """Checks that ``tri`` is int32 (T, 3) and every index below ``vertices``.

    Raises:
        ValueError: Otherwise.
    """
    if tri.ndim != 2 or tri.shape[1] != 3 or tri.dtype != torch.int32:
        raise ValueError(f"tri must be (T,3) int32; got {tuple(tri.shape)} {tri.dtype}")
    if tri.shape[0] > MAX_TRIANGLES:
        raise ValueError(
            f"tri has {tri.shape[0]} triangles; at most {MAX_TRIANGLES} can be told apart"
        )
    if tri.numel() == 0:
        return
    low, high = (int(bound) for bound in torch.aminmax(tri))
    if low < 0 or high >= vertices:
        raise ValueError(f"tri refers to vertices {low}..{high}, but there are {vertices}")


def check_ranges(ranges: torch.Tensor, triangles: int) -> None:
    """Checks that ``ranges`` is int32 (R, 2) on the CPU, rows (first, count) within the triangles.

    Raises:
        ValueError: Otherwise.
    """
    if ranges.ndim != 2 or ranges.shape[1] != 2 or ranges.dtype != torch.int32:
        raise ValueError(f"ranges must be (R,2) int32; got {tuple(ranges.shape)} {ranges.dtype}")
    if ranges.device.type != "cpu":
        raise ValueError(f"ranges must be on the CPU; they are on {ranges.device}")
    first, count = ranges.long().unbind(1)
    bad = (first < 0) | (count < 0) | (first + count > triangles)
    if bool(bad.any()):
        row = int(bad.nonzero()[0])
        raise ValueError(
            f"ranges row {row}, {ranges[row].tolist()}, leaves the {triangles} triangles"
        )


def check_resolution(resolution: tuple[int, int]) -> tuple[int, int]:
    """Returns (height, width) as ints.

    Raises:
        ValueError: Unless both are in 1..MAX_RESOLUTION.
    """
    if len(resolution) != 2:
        raise ValueError(f"resolution must be (height, width); got {resolution}")
    height, width = int(resolution[0]), int(resolution[1])
    if not (0 < height <= MAX_RESOLUTION and 0 < width <= MAX_RESOLUTION):
        raise ValueError(f"resolution must be 1..{MAX_RESOLUTION} pixels; got {resolution}")
    return height, width


def check_attributes(attr: torch.Tensor, rast: torch.Tensor, tri: torch.Tensor) -> None:
    """Checks the arguments of an interpolation.

    Args:
        attr: must be float32 (B, V, C), (1, V, C) or (V, C).
        rast: must be float32 (B, H, W, 4), with triangle ids of ``tri``.
        tri: as for :func:`check_triangles`.

    Raises:
        ValueError: If a shape or dtype differs, or an index is out of bounds.
    """
    if rast.ndim != 4 or rast.shape[-1] != 4 or rast.dtype != torch.float32:
        raise ValueError(f"rast must be (B,H,W,4) float32; got {tuple(rast.shape)} {rast.dtype}")
    if attr.ndim not in (2, 3) or attr.dtype != torch.float32:
        raise ValueError(
            f"attr must be (B,V,C) or (V,C) float32; got {tuple(attr.shape)} {attr.dtype}"
        )
    if attr.ndim == 3 and attr.shape[0] not in (1, rast.shape[0]):
        raise ValueError(f"attr {tuple(attr.shape)} does not fit rast {tuple(rast.shape)}")
    check_triangles(tri, attr.shape[-2])
    if rast.numel() and int(rast[..., 3].max()) > tri.shape[0]:
        raise ValueError(f"rast holds ids beyond the {tri.shape[0]} triangles of tri")


def non_finite_index(pos: torch.Tensor) -> int | None:
    """The first index along the leading dimension with a NaN or infinite value, or None."""
    bad = ~torch.isfinite(pos).flatten(1).all(dim=1)  # (B,) or (N,)
    return int(bad.nonzero()[0]) if bool(bad.any()) else None


def non_finite_message(index: int, instanced: bool) -> str:
    """The error message for what :func:`non_finite_index` found."""
    what = "batch index" if instanced else "vertex"
    return f"pos has a NaN or infinite coordinate at {what} {index}"
