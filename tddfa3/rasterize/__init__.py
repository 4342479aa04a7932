"""Rasterizers: one protocol, nvdiffrast's, with two implementations.

Everything above a rasterizer is the same on CPU and GPU; only what draws differs.
"""

from __future__ import annotations

import warnings
from typing import Protocol

import torch

from tddfa3.errors import UnavailableError, UserError
from tddfa3.rasterize.cpu import CpuRasterizer

CHOICES = ("auto", "nvdiffrast", "cpu")


class Rasterizer(Protocol):
    """Draws triangle meshes by OpenGL's rules (see ``cpu.py``), row 0 at the bottom, y_clip = -1.

    Tensors may be on any device; results are on the device of ``pos`` (of ``rast`` for
    ``interpolate``). Nothing is differentiable.
    """

    @property
    def name(self) -> str:
        """ "cpu" or "nvdiffrast"."""

    @property
    def device(self) -> torch.device:
        """Where it draws."""

    def rasterize(
        self,
        pos: torch.Tensor,
        tri: torch.Tensor,
        resolution: tuple[int, int],
        ranges: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Draw meshes.

        Instanced mode: pos (B,V,4) float32 clip space, all triangles into each of B images. Range
        mode: pos (N,4) and ranges (R,2) int32 on the CPU, rows (first triangle, count), one of R
        images per row. tri (T,3) int32, T <= 2**24; resolution (H,W).

        Returns (B or R,H,W,4) float32: (u, v, z/w, triangle id + 1), all 0 where nothing is drawn.
        u and v are the perspective-correct barycentrics of the triangle's vertices 0 and 1.
        ValueError for wrong shapes or dtypes, indices out of bounds, NaN or infinite positions.
        """

    def coverage(
        self,
        pos: torch.Tensor,
        tri: torch.Tensor,
        ranges: torch.Tensor,
        resolution: tuple[int, int],
    ) -> torch.Tensor:
        """Which pixels each group of triangles covers when it is drawn alone.

        pos (B,V,4) float32, tri (T,3) int32, ranges (P,2) int32 on the CPU, rows (first triangle,
        count). Returns (B,P,H,W) bool: what ``rasterize`` would draw of each group.
        """

    def interpolate(
        self, attr: torch.Tensor, rast: torch.Tensor, tri: torch.Tensor
    ) -> torch.Tensor:
        """Vertex attributes at the pixels of a picture that ``rasterize`` drew.

        attr float32 (B,V,C), or (1,V,C) for all images alike, or (N,C) for range mode; rast
        (B,H,W,4); tri (T,3) int32. Returns (B,H,W,C) float32, 0 where nothing is drawn.
        """


def build_rasterizer(
    choice: str, device: torch.device | str, threads: int | None = None
) -> Rasterizer:
    """The rasterizer for tensors on ``device``.

    "cpu" draws on the CPU (copying there and back for a CUDA device) with ``threads`` threads;
    "nvdiffrast" draws on the CUDA device, UnavailableError where it can't; "auto" takes nvdiffrast
    where it works on the device, else the CPU, with a warning if the device is a CUDA one.
    """
    device = torch.device(device)
    if choice not in CHOICES:
        raise UserError(f"rasterizer {choice!r} is not known; choose one of {', '.join(CHOICES)}")
    if choice == "cpu" or (choice == "auto" and device.type != "cuda"):
        return CpuRasterizer(threads)
    # Imported only when asked for: nvdiffrast is optional and its licence non-commercial.
    from tddfa3.rasterize.nvdiffrast import open_nvdiffrast

    try:
        return open_nvdiffrast(device)
    except UnavailableError as error:
        if choice == "nvdiffrast":
            raise
        warnings.warn(f"faces are drawn on the CPU: {error}", RuntimeWarning, stacklevel=2)
        return CpuRasterizer(threads)
