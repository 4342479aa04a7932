"""Rasterizer for the CPU: a z-buffer with OpenGL's rules, compiled by numba.

The rules are those of OpenGL, which nvdiffrast follows as well:

- positions are in clip space with the view volume -w <= x, y, z <= w; triangles that cross the near
  or far plane, or extend behind the eye (w <= 0), are clipped rather than dropped; both windings
  are drawn;
- vertices snap to 1/4096 pixel (OpenGL requires 1/16 or finer, nvdiffrast uses 1/16), samples are
  taken at pixel centres, and a point on an edge belongs to exactly one of the triangles that share
  it;
- (u, v) are perspective-correct barycentrics of a triangle's vertices 0 and 1;
- at equal depth (as float32) the triangle that comes first in ``tri`` stays (GL_LESS).

Barycentrics are evaluated at the snapped vertices, as in OpenGL; nvdiffrast evaluates them at the
original vertices. (u, v) therefore differ by the effect of up to 1/8192 pixel.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait

import numpy as np
import torch

from tddfa3.rasterize import arguments, kernels
from tddfa3.rasterize.interpolation import interpolate_kernel


class CpuRasterizer:
    """Draws on the CPU and returns results on the device of the arguments.

    The images of a batch are shared out among threads; a single image is drawn by one thread. The
    threads belong to this object rather than to numba, so that two rasterizers can draw at the same
    time and forking is safe.

    Args:
        threads: most threads at a time; None for PyTorch's setting.

    Attributes:
        threads: most threads at a time.

    Raises:
        ValueError: If ``threads`` is below 1.
    """

    name = "cpu"
    device = torch.device("cpu")

    def __init__(self, threads: int | None = None) -> None:
        self.threads = torch.get_num_threads() if threads is None else int(threads)
        if self.threads < 1:
            raise ValueError(f"threads must be at least 1; got {threads}")
        self._pool = ThreadPoolExecutor(self.threads, "rasterize") if self.threads > 1 else None

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
        vertices, triangles = _numpy(pos), _numpy(tri)
        if ranges is None:
            whole = np.array([[0, len(triangles)]], np.int32)  # (1, 2)
            out = np.empty((len(vertices), 1, height, width, 4), np.float32)  # (B, 1, H, W, 4)
            self._share(
                len(vertices),
                lambda part: _finite(
                    kernels.render(vertices[part], triangles, whole, out[part]), part
                ),
            )
            return torch.from_numpy(out[:, 0]).to(pos.device)
        spans = _numpy(ranges)
        out = np.empty((1, len(spans), height, width, 4), np.float32)  # (1, R, H, W, 4)
        bad = arguments.non_finite_index(pos)
        if bad is not None:
            raise ValueError(arguments.non_finite_message(bad, instanced=False))
        self._share(
            len(spans),
            lambda part: kernels.render(vertices[None], triangles, spans[part], out[:, part]),
        )
        return torch.from_numpy(out[0]).to(pos.device)

    def coverage(
        self,
        pos: torch.Tensor,
        tri: torch.Tensor,
        ranges: torch.Tensor,
        resolution: tuple[int, int],
    ) -> torch.Tensor:
        """See ``Rasterizer.coverage``."""
        arguments.check_mesh(pos, tri, None)
        arguments.check_ranges(ranges, tri.shape[0])
        height, width = arguments.check_resolution(resolution)
        vertices, triangles, spans = _numpy(pos), _numpy(tri), _numpy(ranges)
        out = np.empty((len(vertices), len(spans), height, width), np.bool_)  # (B, P, H, W)
        self._share(
            len(vertices),
            lambda part: _finite(
                kernels.render_coverage(vertices[part], triangles, spans, out[part]), part
            ),
        )
        return torch.from_numpy(out).to(pos.device)

    def interpolate(
        self, attr: torch.Tensor, rast: torch.Tensor, tri: torch.Tensor
    ) -> torch.Tensor:
        """See ``Rasterizer.interpolate``."""
        arguments.check_attributes(attr, rast, tri)
        values, picture, triangles = _numpy(attr), _numpy(rast), _numpy(tri)
        if values.ndim == 2:
            values = values[None]  # (1, N, C)
        out = np.empty((*picture.shape[:3], values.shape[2]), np.float32)  # (B, H, W, C)

        def fill(part: slice) -> None:
            own = values if len(values) == 1 else values[part]
            interpolate_kernel(own, picture[part], triangles, out[part])

        self._share(len(picture), fill)
        return torch.from_numpy(out).to(rast.device)

    def _share(self, count: int, work: Callable[[slice], object]) -> None:
        """Calls ``work`` with slices that partition range(count), on this object's threads."""
        parts = min(self.threads, count)
        if self._pool is None or parts < 2:
            work(slice(0, count))
            return
        cuts = [slice(count * i // parts, count * (i + 1) // parts) for i in range(parts)]
        running = [self._pool.submit(work, part) for part in cuts]
        wait(running)
        # In batch order, so that the error of the lowest index is raised.
        for done in running:
            done.result()


def _numpy(tensor: torch.Tensor) -> np.ndarray:
    return np.ascontiguousarray(tensor.detach().cpu().numpy())


def _finite(bad: int, part: slice) -> None:
    """Raises ``ValueError`` if a kernel found a bad batch index, ``bad`` >= 0 within ``part``."""
    if bad >= 0:
        raise ValueError(arguments.non_finite_message(part.start + bad, instanced=True))
