"""Textures: maps lie the right way up, extraction keeps what is seen and continues what is not."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import Tensor

from tddfa3.assets.bundle import AssetBundle
from tddfa3.drawing.texture import TextureMapper, sample_photo
from tddfa3.geometry.face_model import FaceModel
from tddfa3.rasterize import build_rasterizer
from tests.support.golden import FOUND, golden_geometry, golden_names

SIDE = 60  # vertices along the chart
GOLDEN = golden_names([*FOUND, "crop_astronaut__none"])


def read_map(picture: Tensor, uv: Tensor) -> Tensor:
    """A map (S, S, 3) read bilinearly at upstream's places: u (S - 1) and (1 - v) (S - 1)."""
    u, v = uv.double().numpy().T
    places = np.stack([1 - v, u]) * (len(picture) - 1)
    channels = [ndimage.map_coordinates(c.numpy(), places, order=1) for c in picture.unbind(-1)]
    return torch.from_numpy(np.stack(channels, axis=1))


class Sheet:
    """A square sheet of SIDE x SIDE vertices whose chart fills the map but for a margin.

    Its projection fills the crop: vertex (row, column) of the sheet lies at 2 + 219 u, 2 + 219 v
    in the crop frame.
    """

    def __init__(self, size: int = 1024, device: str = "cpu") -> None:
        lines = torch.linspace(0.08, 0.92, SIDE)
        v, u = torch.meshgrid(lines, lines, indexing="ij")
        self.uv = torch.stack([u, v], dim=-1).reshape(-1, 2)
        a = (torch.arange(SIDE - 1)[:, None] * SIDE + torch.arange(SIDE - 1)).flatten()
        quads = torch.stack([a, a + 1, a + SIDE, a + SIDE + 1], dim=1)
        triangles = torch.cat([quads[:, [0, 1, 2]], quads[:, [1, 3, 2]]]).int()
        model: Any = SimpleNamespace(triangles=triangles.to(device), n_vertices=SIDE**2)
        data: Any = SimpleNamespace(uv=self.uv.numpy())
        self.mapper = TextureMapper(model, data, build_rasterizer("cpu", device, 1), size)

    def geometry(self, count: int = 1) -> Any:
        return SimpleNamespace(points=(2 + 219 * self.uv).expand(count, -1, -1))

    def crop(self, colors: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        """A crop whose pixel at the projection of (u, v) is ``colors(u, v)``, (1, 3, 224, 224)."""
        pixels = torch.arange(224.0)
        u, v = (pixels - 2) / 219, (223 - pixels - 2) / 219
        v, u = torch.meshgrid(v, u, indexing="ij")
        return colors(u, v).permute(2, 0, 1)[None]


@pytest.fixture(scope="module")
def sheet() -> Sheet:
    return Sheet()


def ramp(u: Tensor, v: Tensor) -> Tensor:
    return torch.stack([u, v, 0.5 + 0 * u], dim=-1).clamp(0, 1)


def waves(u: Tensor, v: Tensor) -> Tensor:
    return 0.5 + 0.4 * torch.stack([(9 * u).sin(), (7 * v).cos(), (5 * (u + v)).sin()], dim=-1)


def patchy(count: int) -> Tensor:
    """Vertices of the sheet hidden in patches, others in each of the faces: (count, V) bool."""
    noise = np.random.default_rng(0).normal(size=(count, SIDE, SIDE))
    smooth = ndimage.gaussian_filter(noise, (0, 3, 3))
    return torch.from_numpy(smooth > -0.03).flatten(1)


class TestMaps:
    @pytest.mark.parametrize("size", [64, 1024])
    def test_row_0_is_v_1_and_column_0_is_u_0(self, size: int) -> None:
        sheet = Sheet(size)
        picture = sheet.mapper.uv_map(ramp(*sheet.uv.unbind(1))[None])[0].numpy()
        centres = (np.arange(size) + 0.5) / size
        inside = slice(int(0.1 * size), int(0.9 * size))
        assert np.abs(picture[inside, inside, 0] - centres[None, inside]).max() < 1e-3
        assert np.abs(picture[inside, inside, 1] - (1 - centres)[inside, None]).max() < 1e-3

    def test_the_chart_is_continued_a_little(self) -> None:
        size = 256
        sheet = Sheet(size)
        (picture,) = sheet.mapper.uv_map(ramp(*sheet.uv.unbind(1))[None])
        row = picture[size // 2].numpy()
        drawn = np.flatnonzero(row[:, 2])
        first = drawn[0]
        edge = int(np.ceil(0.08 * size - 0.5))  # the first pixel centre inside the chart
        assert first == edge - 2  # 8/1024 of the side
        assert np.array_equal(row[first : edge + 1, 0], np.repeat(row[edge, 0], 3))
        assert not row[:first].any()

    def test_bytes_are_the_truncated_floats(self, sheet: Sheet) -> None:
        colors = 1.2 * waves(*sheet.uv.unbind(1))[None]
        floats = sheet.mapper.uv_map(colors.clamp(0, 1))
        bytes_ = sheet.mapper.uv_map(colors, dtype=torch.uint8)
        assert bytes_.dtype == torch.uint8
        # 255 times a colour is rounded at the vertices or at the pixels, which shows where the
        # product is whole: all over the places that are clamped to 1.
        differences = bytes_.int() - (floats * 255).int()
        assert int(differences.abs().max()) <= 1
        assert float((differences != 0).float().mean()) < 0.03

    def test_a_batch_is_its_faces(self, sheet: Sheet) -> None:
        colors = torch.rand(3, SIDE**2, 3)
        together = sheet.mapper.uv_map(colors)
        assert together.shape == (3, 1024, 1024, 3)
        assert torch.equal(together[2], sheet.mapper.uv_map(colors[2:])[0])
        assert sheet.mapper.uv_map(colors[:0]).shape == (0, 1024, 1024, 3)


class TestSampling:
    def test_whole_pixels_and_halves(self) -> None:
        crop = torch.rand(1, 3, 224, 224)
        points = torch.tensor([[[10.0, 0.0], [223, 223], [4.5, 100], [7, 50.5]]])
        (colors,) = sample_photo(crop, points)
        expected = torch.stack(
            [
                crop[0, :, 223, 10],
                crop[0, :, 0, 223],
                crop[0, :, 123, 4:6].mean(1),
                crop[0, :, 172:174, 7].mean(1),
            ]
        )
        assert torch.allclose(colors, expected, atol=1e-5)

    def test_beyond_the_crop_the_edge_goes_on(self) -> None:
        crop = torch.rand(1, 3, 224, 224)
        points = torch.tensor([[[-30.0, 100], [500, 100], [60, -9], [60, 223.7], [-1, 999]]])
        (colors,) = sample_photo(crop, points)
        pixels = [(123, 0), (123, 223), (223, 60), (0, 60), (0, 0)]
        expected = torch.stack([crop[0, :, row, column] for row, column in pixels])
        assert torch.allclose(colors, expected, atol=1e-5)

    def test_shapes_must_fit(self) -> None:
        crops, points = torch.rand(2, 3, 224, 224), torch.rand(2, 9, 2)
        with pytest.raises(ValueError, match=r"not \(2, 224, 224\) and"):
            sample_photo(crops[:, 0], points)
        with pytest.raises(ValueError, match="2 crops do not belong to the points of 1 faces"):
            sample_photo(crops, points[:1])


class TestExtraction:
    def extract(self, sheet: Sheet, crop: Tensor, visible: Tensor, pca: Tensor, **options: Any):  # type: ignore[no-untyped-def]
        return sheet.mapper.extract_colors(
            crop, sheet.geometry(len(crop)), visible.expand(len(crop), -1), pca, **options
        )

    def test_all_visible_is_the_photo(self, sheet: Sheet) -> None:
        photo = waves(*sheet.uv.unbind(1))
        (colors,) = self.extract(
            sheet,
            sheet.crop(waves),
            torch.ones(SIDE**2, dtype=torch.bool),
            torch.zeros(1, SIDE**2, 3),
        )
        assert (colors - photo).abs().max() < 2 / 255

    def test_none_visible_is_the_model(self, sheet: Sheet) -> None:
        pca = torch.rand(1, SIDE**2, 3)
        hidden = torch.zeros(SIDE**2, dtype=torch.bool)
        colors = self.extract(sheet, sheet.crop(waves), hidden, pca)
        # As read from a map that was drawn of them.
        (picture,) = sheet.mapper.uv_map(pca)
        assert (colors - read_map(picture, sheet.uv)).abs().max() < 1e-3

    def test_a_hidden_part_takes_on_the_photos_tone(self, sheet: Sheet) -> None:
        """The model is the photo in other colours; little of that may be left in the hole."""
        u, v = sheet.uv.unbind(1)
        photo = waves(u, v)
        hole = ((u - 0.55) ** 2 + (v - 0.4) ** 2).sqrt() < 0.15
        model = photo * torch.tensor([0.8, 1.0, 1.1]) - torch.tensor([0.1, -0.1, 0.2])
        (colors,) = self.extract(sheet, sheet.crop(waves), ~hole, model[None])
        error = (colors - photo).abs() * 255
        assert (model - photo)[hole].abs().mean() * 255 > 30
        assert error[hole].mean() < 3
        assert error[~hole].mean() < 0.5
        assert error.max() < 12

    def test_there_is_no_step_at_the_seam(self, sheet: Sheet) -> None:
        """Photo and model differ in tone alone: neighbours differ no more than in the photo."""
        u, v = sheet.uv.unbind(1)
        photo = waves(u, v)
        hidden = (u > 0.3) & (v > 0.5)
        model = photo - torch.tensor([0.1, 0.05, -0.08])
        (colors,) = self.extract(sheet, sheet.crop(waves), ~hidden, model[None])
        steps = [(c.view(SIDE, SIDE, 3).diff(dim=0)).abs().max() for c in (colors, photo)]
        assert steps[0] < steps[1] + 3 / 255

    def test_the_other_side_fills_in(self, sheet: Sheet) -> None:
        """The photo is symmetric where it shows the face; the hidden left half shows a hand."""

        def symmetric(u: Tensor, v: Tensor) -> Tensor:
            return waves((u - 0.5).abs(), v)

        def with_hand(u: Tensor, v: Tensor) -> Tensor:
            return torch.where((u < 0.4)[..., None], torch.zeros(3), symmetric(u, v))

        u, v = sheet.uv.unbind(1)
        visible = u > 0.45
        (colors,) = self.extract(
            sheet, sheet.crop(with_hand), visible, torch.rand(1, SIDE**2, 3), blend="flip"
        )
        well_inside = (v > 0.15) & (v < 0.85) & (u > 0.15)
        assert (colors - symmetric(u, v))[well_inside].abs().max() < 12 / 255
        assert (colors - symmetric(u, v))[well_inside].abs().mean() < 2 / 255

    def test_nothing_turns_black(self, sheet: Sheet) -> None:
        """Vertices that project beyond the crop, and those at the chart's edge."""
        geometry: Any = SimpleNamespace(points=sheet.geometry().points * 1.3 - 30)
        crop, pca = torch.full((1, 3, 224, 224), 0.6), torch.full((1, SIDE**2, 3), 0.5)
        visible = patchy(1)
        for blend in ("pca", "flip"):
            maps, colors = sheet.mapper.extract(crop, geometry, visible, pca, blend=blend)
            assert colors.min() > 0.45
            assert maps[0, 100:900, 100:900].min() > 0.45

    def test_maps_and_colors_belong_together(self, sheet: Sheet) -> None:
        visible = patchy(1)
        arguments = (sheet.crop(waves), sheet.geometry(), visible, torch.rand(1, SIDE**2, 3))
        maps, colors = sheet.mapper.extract(*arguments)
        assert torch.equal(colors, sheet.mapper.extract_colors(*arguments))
        assert (colors - read_map(maps[0], sheet.uv)).abs().max() < 1e-4

    def test_a_small_map_has_the_same_vertex_colors(self, sheet: Sheet) -> None:
        small = Sheet(128)
        visible = patchy(1)
        arguments = (sheet.crop(waves), sheet.geometry(), visible, torch.rand(1, SIDE**2, 3))
        maps, colors = small.mapper.extract(*arguments)
        assert maps.shape == (1, 128, 128, 3)
        assert torch.equal(colors, sheet.mapper.extract_colors(*arguments))

    def test_a_batch_is_its_faces(self, sheet: Sheet) -> None:
        crops = torch.rand(3, 3, 224, 224)
        visible = patchy(3)
        pca = torch.rand(3, SIDE**2, 3)
        maps, colors = sheet.mapper.extract(crops, sheet.geometry(3), visible, pca)
        alone = sheet.mapper.extract(crops[1:2], sheet.geometry(), visible[1:2], pca[1:2])
        assert torch.allclose(maps[1], alone[0][0], atol=1e-6)
        assert torch.allclose(colors[1], alone[1][0], atol=1e-6)
        none = sheet.mapper.extract(crops[:0], sheet.geometry(0), visible[:0], pca[:0])
        assert [tuple(t.shape) for t in none] == [(0, 1024, 1024, 3), (0, SIDE**2, 3)]

    def test_arguments_are_left_alone(self, sheet: Sheet) -> None:
        visible = patchy(1)
        arguments = (sheet.crop(waves), sheet.geometry(), visible, torch.rand(1, SIDE**2, 3))
        before = [arguments[0].clone(), visible.clone(), arguments[3].clone()]
        sheet.mapper.extract_colors(*arguments)
        for now, then in zip((arguments[0], visible, arguments[3]), before, strict=True):
            assert torch.equal(now, then)

    def test_bad_arrays_are_named(self, sheet: Sheet) -> None:
        crop, visible = sheet.crop(waves), torch.ones(1, SIDE**2, dtype=torch.bool)
        pca = torch.zeros(1, SIDE**2, 3)
        with pytest.raises(ValueError, match=r"pca must be \(B, 3600, 3\), not \(1, 9, 3\)"):
            self.extract(sheet, crop, visible, pca[:, :9])
        with pytest.raises(ValueError, match=r"visible must be \(1, 3600\), not \(1, 9\)"):
            self.extract(sheet, crop, visible[:, :9], pca)
        with pytest.raises(ValueError, match="unknown blend 'mean': pca or flip"):
            self.extract(sheet, crop, visible, pca, blend="mean")
        with pytest.raises(ValueError, match=r"colors must be \(B, 3600, 3\)"):
            sheet.mapper.uv_map(pca[0])
        with pytest.raises(ValueError, match="float32 or uint8"):
            sheet.mapper.uv_map(pca, dtype=torch.float16)
        model: Any = SimpleNamespace(triangles=sheet.mapper.triangles, n_vertices=7)
        data: Any = SimpleNamespace(uv=sheet.uv.numpy())
        with pytest.raises(ValueError, match=r"uv must be \(7, 2\), not \(3600, 2\)"):
            TextureMapper(model, data, sheet.mapper.rasterizer)

    @pytest.mark.gpu
    def test_on_cuda_it_is_the_same(self, sheet: Sheet) -> None:
        if not torch.cuda.is_available():
            pytest.skip("no CUDA device")
        on_cuda = Sheet(device="cuda")
        visible = patchy(2)
        crops, pca = torch.rand(2, 3, 224, 224), torch.rand(2, SIDE**2, 3)
        here = sheet.mapper.extract(crops, sheet.geometry(2), visible, pca)
        geometry: Any = SimpleNamespace(points=sheet.geometry(2).points.cuda())
        there = on_cuda.mapper.extract(crops.cuda(), geometry, visible.cuda(), pca.cuda())
        for a, b in zip(here, there, strict=True):
            assert (a - b.cpu()).abs().max() < 1 / 255


@pytest.mark.parametrize("name", GOLDEN)
def test_extracted_colors_are_upstreams(
    name: str, golden_bundle: AssetBundle, golden: Callable[[str], Mapping[str, np.ndarray]]
) -> None:
    """Within 2/255 of upstream where a vertex is visible.

    Exceptions: at the chart's edge and beyond the photo upstream mixes in black; around the seam
    the blend is coarser than a pixel.
    """
    data = golden_bundle.face_model()
    model = FaceModel(data).eval()
    mapper = TextureMapper(model, data, build_rasterizer("cpu", "cpu", 1))
    wanted = golden(name)
    geometry = golden_geometry(model, wanted)
    visible = np.unpackbits(wanted["visible_bits"])[: model.n_vertices].astype(bool)
    crop = torch.from_numpy(wanted["crop"]).permute(2, 0, 1)[None].float() / 255
    colors = mapper.extract_colors(
        crop, geometry, torch.from_numpy(visible)[None], model.texture(geometry)
    )[0].numpy()

    index = wanted["vertex_idx"]
    error = np.abs(colors[index] - wanted["extractTex"]).max(axis=1)
    seen = visible[index]
    within = ((geometry.points[0] > 1) & (geometry.points[0] < 222)).all(dim=1).numpy()
    inside = (within & well_inside(visible, data.triangles, rings=4))[index]
    assert np.median(error[seen]) < 1 / 255
    assert (error[seen] < 2 / 255).mean() > 0.95
    assert (error[inside] < 2 / 255).mean() > 0.98
    assert error[inside].max() < 6 / 255


def well_inside(visible: np.ndarray, triangles: np.ndarray, rings: int) -> np.ndarray:
    """Visible vertices that many edges away from any hidden one and from the mesh's boundary."""
    edges = np.sort(triangles[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2), axis=1)
    unique, uses = np.unique(edges, axis=0, return_counts=True)
    inside = visible.copy()
    inside[unique[uses == 1].ravel()] = False
    for _ in range(rings):
        reached = (~inside)[triangles].any(axis=1)
        inside[triangles[reached].ravel()] = False
    return inside
