"""A chart's tables agree with the maps it draws."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import Tensor

from tddfa3.drawing.uv_chart import UvChart
from tddfa3.rasterize import build_rasterizer

SIZE = 64


def fan(points: int = 24) -> tuple[Tensor, Tensor]:
    """A round chart, off the centre: uv (V, 2) and triangles around vertex 0."""
    angle = torch.arange(points) * (2 * torch.pi / points)
    rim = torch.stack([0.45 + 0.3 * angle.cos(), 0.55 + 0.35 * angle.sin()], dim=1)
    uv = torch.cat([torch.tensor([[0.45, 0.55]]), rim])
    first = torch.arange(points)
    triangles = torch.stack([0 * first, 1 + first, 1 + (first + 1) % points], dim=1)
    return uv, triangles.int()


@pytest.fixture
def chart() -> UvChart:
    return UvChart(*fan(), SIZE, build_rasterizer("cpu", "cpu", 1))


def test_a_reader_reads_what_the_map_holds(chart: UvChart) -> None:
    values = torch.rand(2, len(fan()[0]), 3)
    places = 28 + 10 * (torch.rand(200, 2) - 0.5)
    read = chart.reader(places).read(values)
    for one, found in zip(values, read, strict=True):
        picture = chart.draw(one).numpy()
        expected = ndimage.map_coordinates(
            picture[..., 1], [places[:, 1].numpy(), places[:, 0].numpy()], order=1
        )
        assert np.abs(found[:, 1].numpy() - expected).max() < 1e-5


def test_outside_the_chart_its_nearest_pixel_is_read(chart: UvChart) -> None:
    values = torch.rand(1, len(fan()[0]), 3)
    picture = chart.draw(values[0])
    drawn = torch.nonzero(picture.sum(-1))
    for place in ([0.0, 0.0], [63.0, 10.0], [-5.0, 70.0]):
        corner = torch.tensor(place).clamp(0, SIZE - 1)
        nearest = (drawn.flip(1) - corner).square().sum(1).min()
        colors = picture[tuple(drawn[(drawn.flip(1) - corner).square().sum(1) == nearest].T)]
        (read,) = chart.reader(torch.tensor([place])).read(values)[0]
        assert (colors - read).abs().sum(1).min() < 1e-5


def test_padding_continues_the_outline_and_nothing_else(chart: UvChart) -> None:
    values = torch.rand(len(fan()[0]), 3) + 0.1
    plain, padded = chart.draw(values), chart.draw_padded(values)
    inside, reached = plain.sum(-1) > 0, padded.sum(-1) > 0
    assert torch.equal(padded[inside], plain[inside])
    # The smallest padding is one pixel: the four neighbours of a pixel of the chart.
    cross = ndimage.generate_binary_structure(2, 1)
    assert np.array_equal(reached.numpy(), ndimage.binary_dilation(inside.numpy(), cross))
    flags = torch.where(inside, 7, 200).to(torch.uint8)
    assert torch.equal(chart.pad(flags) == 7, reached)
    assert flags.unique().tolist() == [7, 200]  # the map itself is left alone


def test_a_chart_without_pixels_is_refused() -> None:
    uv, triangles = fan()
    with pytest.raises(ValueError, match="covers no pixel of a map of side 64"):
        UvChart(uv * 0, triangles, SIZE, build_rasterizer("cpu", "cpu", 1))
