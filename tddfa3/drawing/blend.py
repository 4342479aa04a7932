"""Seamless blending of two pictures along a mask (Perez et al. 2003, "Poisson Image Editing").

Wanted is a picture u with the gradients of ``source`` where the mask m is 1 and those of ``target``
where it is 0, equal to ``target`` at the picture's border:

    lap u = div(m grad source + (1 - m) grad target)

the equation that OpenCV's ``seamlessClone`` solves over the mask's bounding rectangle, and so
upstream's extracted texture. Written with the difference d = source - target,

    u = target + m d + g,    lap g = -div(d grad m),    g = 0 at the border,

the right-hand side is zero except along the seam, and the correction g is smooth except there. So
the seam is taken at full resolution, pixel by pixel, d is looked up there only, and g is solved for
on a coarse grid: about 30 ms for a 1024 map on one core, where ``seamlessClone`` takes 600. Away
from the seam the two agree to 2/255, of which 1 is OpenCV's truncation to whole grey levels. Unlike
``seamlessClone`` this neither alters the mask nor moves the content when the mask is empty or off
the centre.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

EROSION = 3
"""Pixels by which OpenCV shrinks a mask before it blends."""


class SeamlessBlender:
    """Finds the correction g for square masks of one size.

    size: side of the mask in pixels; a multiple of ``cells``.
    cells: side of the coarse grid on which g is found.
    ValueError where ``cells`` does not divide ``size``.
    """

    def __init__(self, size: int, cells: int, device: torch.device | str = "cpu") -> None:
        if cells < 1 or size % cells:
            raise ValueError(f"size {size} must be a multiple of cells {cells}")
        self.size, self.cells = size, cells
        self._basis, self._eigenvalues = _sine_basis(cells, device)

    def solve(
        self, mask: Tensor, difference_at: Callable[[Tensor], Tensor]
    ) -> tuple[Tensor, Tensor]:
        """The mask and the correction on the coarse grid, m and g of the formula.

        mask: (size, size) uint8, 255 where the source is taken. The outermost pixels count as 0:
            there the target stays, whatever is asked for.
        difference_at: flat indices of pixels, int64 (N,) -> source - target there, float32 (N, C).
            Asked for the seam's pixels alone.

        Returns m (cells, cells) and g (C, cells, cells), float32, both to be read bilinearly. At
        the seam g falls by d where m rises from 0 to 1; one is as blurred as the other, so that
        there is no step in m d + g.
        ValueError for other shapes.
        """
        if mask.shape != (self.size, self.size) or mask.dtype != torch.uint8:
            raise ValueError(
                f"mask must be uint8 of shape ({self.size}, {self.size}), "
                f"not {mask.dtype} {tuple(mask.shape)}"
            )
        mask = F.pad(mask[1:-1, 1:-1], (1, 1, 1, 1))
        weight = F.avg_pool2d(mask[None].float() / 255, self.size // self.cells)[0]
        return weight, self._solve(self._seam_source(mask, difference_at))

    def _seam_source(self, mask: Tensor, difference_at: Callable[[Tensor], Tensor]) -> Tensor:
        """-div(d grad m) gathered into cells: (C, cells, cells).

        Between a pixel and the next, -d dm flows; what flows into a cell less what flows out is
        its source.
        """
        x = _Seam.between(mask, 0, 1)
        flow_x = self._faces(x.column + 1, x.row, -x.step * difference_at(x.next_pixel))
        y = _Seam.between(mask, 1, 0)
        flow_y = self._faces(y.row + 1, y.column, -y.step * difference_at(y.next_pixel))
        along_x = (flow_x[1:] - flow_x[:-1]).transpose(0, 1)
        return (along_x + flow_y[1:] - flow_y[:-1]).permute(2, 0, 1)

    def _faces(self, line: Tensor, lane: Tensor, flux: Tensor) -> Tensor:
        """Flux through the faces between cells, (cells + 1, cells, C), counted along the flux.

        line: int64 (N,), the line between pixels that is crossed, counted from the border.
        lane: int64 (N,), the row or column of pixels in which that happens.
        flux: (N, C).

        Averaging m over cells spreads its step at a line over the cell's two faces, each by the
        nearer it is. Spreading the flux likewise makes g the exact opposite of the averaged m for
        a difference of 1.
        """
        n, pixels = self.cells, self.size // self.cells
        # In float32, which is exact enough here and much faster than dividing integers.
        place = line.float() / pixels
        face = place.long()
        share = (place - face)[:, None]
        index = face * n + (lane.float() / pixels).long()
        faces = flux.new_zeros((n + 1) * n, flux.shape[1])
        faces.index_add_(0, index, flux * (1 - share) / pixels)
        faces.index_add_(0, index + n, flux * share / pixels)
        faces = faces.view(n + 1, n, -1)
        faces[[0, -1]] *= 2  # from the border to a cell's centre it is half a cell
        return faces

    def _solve(self, source: Tensor) -> Tensor:
        """lap g = source with the five-point Laplacian and g = 0 at the outer edge of the cells."""
        spectrum = self._basis @ source @ self._basis.T
        spectrum /= -(self._eigenvalues[:, None] + self._eigenvalues[None, :])
        return self._basis.T @ spectrum @ self._basis


class _Seam(NamedTuple):
    """Pairs of neighbouring pixels between which the mask changes, along one axis."""

    row: Tensor  # (N,) int64, of the first pixel
    column: Tensor
    next_pixel: Tensor  # (N,) int64, flat index of the second
    step: Tensor  # (N, 1) float32, change of the mask from the first to the second, of 1

    @classmethod
    def between(cls, mask: Tensor, down: int, right: int) -> _Seam:
        """Along rows (right = 1) or columns (down = 1); the mask's border must be 0."""
        width = mask.shape[1]
        flat = mask.flatten()
        # Counted through, the last pixel of a row and the first of the next are neighbours too,
        # but both lie on the border and never differ.
        offset = down * width + right
        first = _true_indices(flat[:-offset] != flat[offset:])
        second = first + offset
        step = (flat[second].float() - flat[first].float()) / 255
        row = (first.double() / width).long()  # much faster than dividing integers
        return cls(row, first - row * width, second, step[:, None])


def _true_indices(flags: Tensor) -> Tensor:
    """Where flags (N,) bool are set, int64."""
    if flags.device.type == "cpu":  # NumPy is ten times as fast here
        return torch.from_numpy(np.flatnonzero(flags.numpy()))
    return torch.nonzero(flags)[:, 0]


def erode(mask: Tensor, radius: int = EROSION) -> Tensor:
    """Minimum over the square of side 2 radius + 1 around each pixel; beyond the border nothing.

    mask: (..., H, W) uint8. The same as OpenCV's ``erode``, on any device.
    """
    for axis in (-1, -2):
        shrunk = mask.clone()
        length = mask.shape[axis]
        for shift in range(1, min(radius, length - 1) + 1):
            here, there = (shrunk.narrow(axis, s, length - shift) for s in (0, shift))
            low, high = (mask.narrow(axis, s, length - shift) for s in (0, shift))
            torch.minimum(here, high, out=here)
            torch.minimum(there, low, out=there)
        mask = shrunk
    return mask


def _sine_basis(n: int, device: torch.device | str) -> tuple[Tensor, Tensor]:
    """Orthonormal eigenvectors (n, n), one a row, and eigenvalues (n,) of the 1D -Laplacian.

    Cells are centred between the grid's lines and the value is 0 at the two outer lines: the
    discrete sine transform of type II.
    """
    k = torch.arange(1, n + 1, dtype=torch.float64)[:, None]
    centre = torch.arange(n, dtype=torch.float64)[None, :] + 0.5
    basis = torch.sin(math.pi * k * centre / n) * math.sqrt(2 / n)
    basis[-1] /= math.sqrt(2)
    eigenvalues = 4 * torch.sin(math.pi * k[:, 0] / (2 * n)) ** 2
    return basis.float().to(device), eigenvalues.float().to(device)
