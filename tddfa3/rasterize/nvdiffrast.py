"""Rasterizer for CUDA: NVIDIA's nvdiffrast behind the same interface as the CPU one.

nvdiffrast is optional. It is not on PyPI, is compiled at installation, and its licence (Nvidia
Source Code License) allows non-commercial use only; it is imported only when asked for.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

import torch

from tddfa3.errors import UnavailableError
from tddfa3.rasterize import arguments

_WAY_OUT = "choose the rasterizer 'cpu', which gives the same results"
_INSTALL = (
    "install it with a CUDA compiler present: "
    "pip install --no-build-isolation git+https://github.com/NVlabs/nvdiffrast.git "
    "(optional; its licence allows non-commercial use only)"
)


def open_nvdiffrast(device: torch.device) -> NvdiffrastRasterizer:
    """Opens the CUDA rasterizer.

    Args:
        device: a CUDA device; without an index, the current one.

    Returns:
        the rasterizer.

    Raises:
        UnavailableError: If something is missing; the message says what, and the way out.
    """
    if device.type != "cuda":
        raise UnavailableError(
            f"nvdiffrast draws on CUDA devices only, not on {device}; {_WAY_OUT}"
        )
    if not torch.cuda.is_available():
        raise UnavailableError(f"nvdiffrast needs a CUDA device and torch sees none; {_WAY_OUT}")
    if device.index is None:
        device = torch.device("cuda", torch.cuda.current_device())
    return NvdiffrastRasterizer(import_nvdiffrast(), device)


def import_nvdiffrast() -> ModuleType:
    """Imports and returns the module ``nvdiffrast.torch``.

    Raises:
        UnavailableError: If it cannot be imported.
    """
    try:
        import nvdiffrast.torch as library
    except ImportError as error:
        raise UnavailableError(
            f"nvdiffrast can't be imported ({error}); {_INSTALL}, or {_WAY_OUT}"
        ) from error
    return library


class NvdiffrastRasterizer:
    """Draws with nvdiffrast on one CUDA device; not thread-safe, as it has a single context.

    Args:
        library: the module ``nvdiffrast.torch``.
        device: the CUDA device.

    Raises:
        UnavailableError: If nvdiffrast cannot use the device.
    """

    name = "nvdiffrast"

    def __init__(self, library: Any, device: torch.device) -> None:
        self.device = device
        self._library = library
        try:
            self._context = library.RasterizeCudaContext(device=device)
        except RuntimeError as error:
            raise UnavailableError(
                f"nvdiffrast can't use {device} ({error}); {_WAY_OUT}"
            ) from error

    @torch.no_grad()
    def rasterize(
        self,
        pos: torch.Tensor,
        tri: torch.Tensor,
        resolution: tuple[int, int],
        ranges: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """See ``Rasterizer.rasterize``."""
        arguments.check_mesh(pos, tri, ranges)
        height, width = arguments.check_resolution(resolution)
        _check_finite(pos, instanced=ranges is None)
        count = pos.shape[0] if ranges is None else ranges.shape[0]
        # nvdiffrast refuses empty tensors.
        if count == 0 or tri.shape[0] == 0 or pos.shape[-2] == 0:
            return pos.new_zeros((count, height, width, 4))
        if ranges is not None:
            ranges = ranges.contiguous()
        rast, _ = self._library.rasterize(
            self._context, self._own(pos), self._own(tri), (height, width), ranges=ranges
        )
        return rast.to(pos.device)

    def coverage(
        self,
        pos: torch.Tensor,
        tri: torch.Tensor,
        ranges: torch.Tensor,
        resolution: tuple[int, int],
    ) -> torch.Tensor:
        """See ``Rasterizer.coverage``.

        It makes one instanced call per group. A single call in range mode would need the triangles
        once per image, and float32 pictures of all groups at the same time.
        """
        arguments.check_mesh(pos, tri, None)
        arguments.check_ranges(ranges, tri.shape[0])
        height, width = arguments.check_resolution(resolution)
        out = pos.new_zeros((pos.shape[0], ranges.shape[0], height, width), dtype=torch.bool)
        for group, (first, count) in enumerate(ranges.tolist()):
            rast = self.rasterize(pos, tri[first : first + count], (height, width))  # (B, H, W, 4)
            out[:, group] = rast[..., 3] > 0
        return out

    @torch.no_grad()
    def interpolate(
        self, attr: torch.Tensor, rast: torch.Tensor, tri: torch.Tensor
    ) -> torch.Tensor:
        """See ``Rasterizer.interpolate``."""
        arguments.check_attributes(attr, rast, tri)
        if 0 in (rast.numel(), tri.numel(), attr.numel()):
            return rast.new_zeros((*rast.shape[:3], attr.shape[-1]))
        out, _ = self._library.interpolate(self._own(attr), self._own(rast), self._own(tri))
        return out.to(rast.device)

    def _own(self, tensor: torch.Tensor) -> torch.Tensor:
        """The tensor on this device, contiguous and aligned to 16 bytes, as CUDA loads need."""
        tensor = tensor.detach().to(self.device).contiguous()
        return tensor.clone() if tensor.data_ptr() % 16 else tensor


def _check_finite(pos: torch.Tensor, instanced: bool) -> None:
    bad = arguments.non_finite_index(pos) if pos.numel() else None
    if bad is not None:
        raise ValueError(arguments.non_finite_message(bad, instanced))
