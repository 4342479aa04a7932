"""The blend solves its equation exactly where the grid is as fine as the picture, nearly elsewhere.

The twin of the solver is a plain sparse matrix; OpenCV's ``seamlessClone`` is asked too, where it
does not move the content.
"""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import scipy.sparse
import scipy.sparse.linalg
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from tddfa3.drawing.blend import EROSION, SeamlessBlender, erode


def blend(source: Tensor, target: Tensor, mask: Tensor, cells: int) -> Tensor:
    """u = target + m d + g with m and g read bilinearly from the coarse grid; (S, S, C)."""
    size = len(mask)
    difference = (source - target).flatten(0, 1)
    weight, correction = SeamlessBlender(size, cells).solve(mask, lambda p: difference[p])
    coarse = torch.cat([weight[None], correction])[None]
    fine = F.interpolate(coarse, size=(size, size), mode="bilinear")[0].permute(1, 2, 0)
    return target + fine[..., :1] * (source - target) + fine[..., 1:]


def solve_plainly(
    source: NDArray[np.float64], target: NDArray[np.float64], mask: NDArray[np.uint8]
) -> NDArray[np.float64]:
    """The same equation pixel by pixel: lap (u - target) = div(m grad d), u = target outside."""
    size = len(mask)
    m = np.pad(mask[1:-1, 1:-1] / 255.0, 1)[..., None]
    d = source - target
    flow_x = np.zeros((size, size + 1, d.shape[2]))
    flow_y = np.zeros((size + 1, size, d.shape[2]))
    flow_x[:, 1:-1] = m[:, :-1] * (d[:, 1:] - d[:, :-1])
    flow_y[1:-1] = m[:-1] * (d[1:] - d[:-1])
    divergence = flow_x[:, 1:] - flow_x[:, :-1] + flow_y[1:] - flow_y[:-1]
    line = scipy.sparse.diags_array([1.0, -2.0, 1.0], offsets=[-1, 0, 1], shape=(size, size))
    line = line.tolil()
    line[0, 0] = line[-1, -1] = -3.0  # the border, half a pixel away, is 0
    eye = scipy.sparse.eye_array(size)
    laplacian = scipy.sparse.kron(line, eye) + scipy.sparse.kron(eye, line)
    w = scipy.sparse.linalg.spsolve(laplacian.tocsc(), divergence.reshape(size * size, -1))
    return target + w.reshape(d.shape)


def smooth_picture(size: int, seed: int, detail: int = 6) -> Tensor:
    rng = np.random.default_rng(seed)
    coarse = rng.random((detail, detail, 3)).astype(np.float32)
    picture = cv2.resize(coarse, (size, size), interpolation=cv2.INTER_CUBIC)
    return torch.from_numpy(np.clip(picture, 0, 1))


def disc(size: int, x: float, y: float, radius: float) -> Tensor:
    rows, columns = np.mgrid[:size, :size] + 0.5
    inside = np.hypot(columns - x * size, rows - y * size) < radius * size
    return torch.from_numpy(inside.astype(np.uint8) * 255)


@pytest.mark.parametrize("case", ["disc", "off_centre", "touching_the_border", "grey", "specks"])
def test_equation_is_solved_exactly_on_a_full_grid(case: str) -> None:
    size = 40
    rng = np.random.default_rng(5)
    grey = rng.integers(0, 256, (size, size)).astype(np.uint8)
    mask = {
        "disc": disc(size, 0.5, 0.5, 0.3),
        "off_centre": disc(size, 0.2, 0.7, 0.15),
        "touching_the_border": disc(size, 0.1, 0.4, 0.4),
        "grey": torch.from_numpy(grey),
        "specks": torch.from_numpy((grey > 200).astype(np.uint8) * 255),
    }[case]
    source = torch.from_numpy(rng.random((size, size, 3), np.float32))
    target = torch.from_numpy(rng.random((size, size, 3), np.float32))
    expected = solve_plainly(source.double().numpy(), target.double().numpy(), mask.numpy())
    assert np.abs(blend(source, target, mask, cells=size).numpy() - expected).max() < 1e-4


@pytest.mark.parametrize("cells", [64, 32])
def test_a_coarse_grid_is_nearly_as_good(cells: int) -> None:
    size = 128
    source, target = smooth_picture(size, 1), smooth_picture(size, 2)
    mask = disc(size, 0.45, 0.6, 0.3)
    fine = blend(source, target, mask, cells=size)
    error = (blend(source, target, mask, cells) - fine).abs()
    distance = 4 * size // cells
    away = erode(mask, distance) + erode(255 - mask, distance) == 255
    assert (fine - torch.where(mask[..., None] > 0, source, target)).abs().max() > 0.2
    assert error[away].max() < 3 / 255
    assert error.max() < 12 / 255


def test_it_is_opencvs_normal_clone() -> None:
    """Where the mask's rectangle is the picture, OpenCV moves nothing.

    The pictures agree along the border, which OpenCV places a pixel and a half further inside.
    """
    size = 128
    target = smooth_picture(size, 4)
    window = torch.hann_window(size, periodic=False)
    source = target.lerp(smooth_picture(size, 3), (window[:, None] * window)[..., None])
    mask = 255 - disc(size, 0.5, 0.45, 0.25)
    # OpenCV takes the mask's border off, then shrinks the mask by three pixels.
    shrunk = erode(mask)
    pictures = [(p * 255).round().byte().numpy() for p in (source, target)]
    clone = cv2.seamlessClone(
        pictures[0], pictures[1], mask.numpy().copy(), (size // 2, size // 2), cv2.NORMAL_CLONE
    )
    ours = blend(source, target, shrunk, cells=size).clamp(0, 1).numpy() * 255
    difference = np.abs(ours - clone)[4:-4, 4:-4]
    assert np.median(difference) < 1
    assert difference.max() < 4


@pytest.mark.parametrize("cells", [64, 16])
def test_a_constant_difference_leaves_no_trace(cells: int) -> None:
    target = smooth_picture(64, 1)
    blended = blend(target + 0.3, target, disc(64, 0.4, 0.5, 0.3), cells)
    assert (blended - target).abs().max() < 1e-5


def test_empty_mask_gives_the_target_and_full_mask_the_source() -> None:
    source, target = smooth_picture(64, 1), smooth_picture(64, 2)
    nothing = torch.zeros(64, 64, dtype=torch.uint8)
    assert torch.equal(blend(source, target, nothing, 16), target)
    # Both pictures agree along the border, so that all of the source can be had.
    source[:2] = source[-2:] = target[:2] = target[-2:] = 0.5
    source[:, :2] = source[:, -2:] = target[:, :2] = target[:, -2:] = 0.5
    assert (blend(source, target, nothing + 255, 64) - source).abs().max() < 1e-4


def test_the_mask_is_not_altered() -> None:
    mask = disc(64, 0.3, 0.5, 0.2)
    before = mask.clone()
    blend(smooth_picture(64, 1), smooth_picture(64, 2), mask, 16)
    erode(mask)
    assert torch.equal(mask, before)


def test_bad_arrays_are_named() -> None:
    with pytest.raises(ValueError, match="size 100 must be a multiple of cells 16"):
        SeamlessBlender(100, 16)
    blender = SeamlessBlender(64, 16)
    mask = torch.zeros(64, 64, dtype=torch.uint8)

    def difference_at(pixels: Tensor) -> Tensor:
        return torch.zeros(len(pixels), 3)

    with pytest.raises(ValueError, match=r"mask must be uint8 .* \(64, 64\), not torch.float32"):
        blender.solve(mask.float(), difference_at)
    with pytest.raises(ValueError, match=r"mask .* not torch.uint8 \(32, 64\)"):
        blender.solve(mask[:32], difference_at)


@pytest.mark.parametrize("shape", [(37, 53), (3, 9), (1, 8), (2, 2)])
@pytest.mark.parametrize("radius", [0, 1, EROSION])
def test_erosion_is_opencvs(shape: tuple[int, int], radius: int) -> None:
    mask = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    kernel = np.ones((2 * radius + 1, 2 * radius + 1), np.uint8)
    assert np.array_equal(erode(torch.from_numpy(mask), radius).numpy(), cv2.erode(mask, kernel))
