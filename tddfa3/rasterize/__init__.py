"""Rasterizers: one interface, modelled on nvdiffrast's, with implementations for CPU and CUDA.

Code that uses a rasterizer is the same for both.
"""

from __future__ import annotations

import warnings
from typing import Protocol

import torch

from tddfa3.errors import UnavailableError, UserError
from tddfa3.rasterize.cpu import CpuRasterizer

CHOICES = ("auto", "nvdiffrast", "cpu")
"""What :func:`build_rasterizer` takes."""


class Rasterizer(Protocol):
    """Draws triangle meshes by OpenGL's rules (see :mod:`.cpu`); row 0 is y_clip = -1, the bottom.

    Tensors may be on any device; results are on the device of ``pos`` (of ``rast`` for
    ``interpolate``). Nothing is differentiable.
    """

    @property
    def name(self) -> str:
        """The implementation, "cpu" or "nvdiffrast"."""

    @property
    def device(self) -> torch.device:
        """The device that it draws on."""

    def rasterize(
        self,
        pos: torch.Tensor,
        tri: torch.Tensor,
        resolution: tuple[int, int],
        ranges: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Draws meshes.

        Without ``ranges`` (instanced mode) all triangles are drawn into each of B images; with them
        (range mode) each row selects the triangles of one of R images.

        Args:
            pos: clip-space positions, float32 (B, V, 4); (N, 4) in range mode.
            tri: int32 (T, 3), T at most 2**24.
            resolution: (H, W) in pixels.
            ranges: int32 (R, 2) on the CPU, rows (first triangle, count).

        Returns:
            float32 (B or R, H, W, 4): u, v, z/w, triangle id + 1; all 0 where nothing is drawn. u
            and v are the perspective-correct barycentrics of the triangle's vertices 0 and 1.

        Raises:
            ValueError: If a shape or dtype differs, an index is out of bounds, or a position is
                not finite.
        """

    def coverage(
        self,
        pos: torch.Tensor,
        tri: torch.Tensor,
        ranges: torch.Tensor,
        resolution: tuple[int, int],
    ) -> torch.Tensor:
        """Finds the pixels that each group of triangles covers when drawn alone.

        Args:
            pos: clip-space positions, float32 (B, V, 4).
            tri: int32 (T, 3).
            ranges: int32 (P, 2) on the CPU, rows (first triangle, count), one per group.
            resolution: (H, W) in pixels.

        Returns:
            bool (B, P, H, W): where :meth:`rasterize` would draw the group.

        Raises:
            ValueError: As :meth:`rasterize`.
        """

    def interpolate(
        self, attr: torch.Tensor, rast: torch.Tensor, tri: torch.Tensor
    ) -> torch.Tensor:
        """Interpolates vertex attributes at the pixels that :meth:`rasterize` drew.

        Args:
            attr: float32 (B, V, C), or (1, V, C) to use the same for all images, or (N, C) in range
                mode.
            rast: float32 (B, H, W, 4), from :meth:`rasterize`.
            tri: int32 (T, 3), as given to :meth:`rasterize`.

        Returns:
            float32 (B, H, W, C), 0 where nothing is drawn.

        Raises:
            ValueError: If a shape or dtype differs, or an index is out of bounds.
        """


def build_rasterizer(
    choice: str, device: torch.device | str, threads: int | None = None
) -> Rasterizer:
    """Chooses the rasterizer for tensors on ``device``.

    Args:
        choice: "cpu" draws on the CPU, copying from and to a CUDA device; "nvdiffrast" draws on the
            CUDA device; "auto" takes nvdiffrast if it works on the device, else the CPU, with a
            warning if the device is a CUDA one.
        device: where the tensors are.
        threads: of the CPU rasterizer; None for PyTorch's setting.

    Returns:
        the rasterizer.

    Raises:
        UserError: If ``choice`` is unknown.
        UnavailableError: If nvdiffrast was asked for and does not work.
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
