"""A stand-in for ``nvdiffrast.torch`` on machines without CUDA.

It refuses what nvdiffrast's documentation and argument checks refuse, and computes with the slow
reference. ``Placed`` tensors are CPU tensors that say, and remember, that they are elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch.utils._pytree import tree_flatten, tree_map

from tests.support import reference_rasterizer as reference

CPU = torch.device("cpu")
GPU = torch.device("cuda", 0)


class Placed(torch.Tensor):
    """A tensor whose ``device`` is what ``to`` made it; results are where their first input is."""

    place: torch.device = CPU

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        return self.place

    @classmethod
    def __torch_function__(
        cls,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        inputs = [a for a in tree_flatten((args, kwargs or {}))[0] if isinstance(a, Placed)]
        place = inputs[0].place if inputs else CPU
        if func is torch.Tensor.to and isinstance(args[1], torch.device):
            return placed(args[0], args[1])
        if func is torch.Tensor.cpu:
            return placed(args[0], CPU)
        result = super().__torch_function__(func, types, args, kwargs or {})
        return tree_map(lambda r: _mark(r, place), result)


def placed(tensor: torch.Tensor, place: torch.device) -> Placed:
    """The same values, said to be at ``place``."""
    with torch._C.DisableTorchFunctionSubclass():
        result = tensor.as_subclass(Placed)
    result.place = place
    return result


def _mark(value: Any, place: torch.device) -> Any:
    if isinstance(value, Placed):
        value.place = place
    return value


def values(tensor: torch.Tensor) -> np.ndarray:
    with torch._C.DisableTorchFunctionSubclass():
        return tensor.as_subclass(torch.Tensor).numpy()


class RasterizeCudaContext:
    created = 0

    def __init__(self, device: torch.device | None = None) -> None:
        type(self).created += 1
        self.device = device


def rasterize(
    glctx: RasterizeCudaContext,
    pos: torch.Tensor,
    tri: torch.Tensor,
    resolution: Sequence[int],
    ranges: torch.Tensor | None = None,
    grad_db: bool = True,
) -> tuple[torch.Tensor, torch.Tensor]:
    assert isinstance(glctx, RasterizeCudaContext)
    assert grad_db is True or grad_db is False
    height, width = resolution
    assert type(height) is int
    assert type(width) is int
    assert height > 0
    assert width > 0
    _require(pos, torch.float32, glctx.device)
    _require(tri, torch.int32, glctx.device)
    assert pos.data_ptr() % 16 == 0, "pos input tensor not aligned to float4"
    assert tri.ndim == 2
    assert tri.shape[0] > 0
    assert tri.shape[1] == 3
    assert pos.shape[-1] == 4
    assert 0 not in pos.shape
    if pos.ndim == 3:
        images = [reference.rasterize(p, values(tri), (height, width)) for p in values(pos)]
    else:
        assert pos.ndim == 2
        assert ranges is not None
        _require(ranges, torch.int32, CPU)
        assert ranges.ndim == 2
        assert ranges.shape[0] > 0
        assert ranges.shape[1] == 2
        images = [_draw_range(values(pos), values(tri), row, (height, width)) for row in ranges]
    out = placed(torch.from_numpy(np.stack(images).astype(np.float32)), pos.device)
    return out, placed(torch.zeros(out.shape), pos.device)


def interpolate(
    attr: torch.Tensor,
    rast: torch.Tensor,
    tri: torch.Tensor,
    rast_db: torch.Tensor | None = None,
    diff_attrs: Any = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    place = rast.device
    assert place.type == "cuda"
    _require(attr, torch.float32, place)
    _require(rast, torch.float32, place)
    _require(tri, torch.int32, place)
    assert attr.ndim in (2, 3)
    assert 0 not in (*attr.shape, *rast.shape, *tri.shape)
    assert attr.ndim == 2 or attr.shape[0] in (1, rast.shape[0])
    pictures = values(rast)
    per_image = np.broadcast_to(values(attr), (len(pictures), *attr.shape[-2:]))
    images = [
        reference.interpolate(a, r, values(tri)) for a, r in zip(per_image, pictures, strict=True)
    ]
    out = placed(torch.from_numpy(np.stack(images).astype(np.float32)), place)
    return out, placed(torch.zeros((*out.shape[:3], 0)), place)


def _require(tensor: torch.Tensor, dtype: torch.dtype, place: torch.device | None) -> None:
    assert isinstance(tensor, torch.Tensor)
    assert tensor.dtype == dtype
    assert tensor.device == place
    assert tensor.is_contiguous()


def _draw_range(
    pos: np.ndarray, tri: np.ndarray, row: torch.Tensor, resolution: tuple[int, int]
) -> np.ndarray:
    first, count = (int(n) for n in row)
    image = reference.rasterize(pos, tri[first : first + count], resolution)
    image[..., 3] += np.where(image[..., 3] > 0, first, 0)
    return image
