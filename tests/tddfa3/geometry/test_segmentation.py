"""Part masks on small hand-made meshes, on another topology, and against upstream's outputs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest
import torch

from tddfa3.assets.bundle import AssetBundle, FaceModelData
from tddfa3.coefficients import split
from tddfa3.conventions import PART_NAMES
from tddfa3.geometry.camera import clip_space
from tddfa3.geometry.face_model import FaceModel, Geometry
from tddfa3.geometry.segmentation import (
    PartSegmenter,
    label_map,
    pack_parts,
    unpack_parts,
    visible_vertices,
)
from tddfa3.rasterize import build_rasterizer
from tests.support.golden import golden_geometry

CPU = build_rasterizer("cpu", "cpu", threads=1)
SIZE = (224, 224)
GOLDEN = [
    "crop_ex1__none__resnet50__nvdr",
    "crop_astronaut__none__mbnetv3__nvdr",
    "astronaut__retinaface__resnet50__nvdr",
]


def two_squares() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """A near square over the left half of the view, a far one over all of it: pos, tri, normals."""
    near = [[-1, -1, 0, 1], [0, -1, 0, 1], [0, 1, 0, 1], [-1, 1, 0, 1]]
    far = [[-1, -1, 0.5, 1], [1, -1, 0.5, 1], [1, 1, 0.5, 1], [-1, 1, 0.5, 1]]
    tri = torch.tensor([[0, 1, 2], [0, 2, 3], [4, 5, 6], [4, 6, 7]], dtype=torch.int32)
    return torch.tensor([near + far]).float(), tri, torch.tensor([[[0.0, 0, 1]] * 8])


def squares_segmenter(parts: dict[str, list[int]]) -> PartSegmenter:
    """A segmenter of the two squares whose parts are the vertices given."""
    tri = two_squares()[1].numpy()
    data = SimpleNamespace(
        n_vertices=8,
        triangles=tri,
        part_names=tuple(parts),
        part_vertices=tuple(np.array(v, np.int32) for v in parts.values()),
        part_triangles=tuple(tri[np.isin(tri, v).all(axis=1)] for v in parts.values()),
    )
    return PartSegmenter(cast(FaceModelData, data), CPU)


def test_hidden_and_averted_vertices_are_not_visible() -> None:
    pos, tri, normals = two_squares()
    # Cover all of the far square but for a corner that only its second triangle reaches.
    pos[0, 1:3, 0] = 1
    pos[0, 3, 1] = 0.8
    rast = CPU.rasterize(pos, tri, (40, 40))
    seen = visible_vertices(rast, tri, normals)
    assert seen[0].tolist() == [True] * 4 + [True, False, True, True]
    normals[0, [0, 6], 2] = torch.tensor([-0.1, 0.0])
    assert visible_vertices(rast, tri, normals)[0].tolist() == [
        False, True, True, True, True, False, True, True,
    ]  # fmt: skip


def test_visible_vertices_of_a_batch_are_those_of_each_image() -> None:
    pos, tri, normals = two_squares()
    away = pos + torch.tensor([5.0, 0, 0, 0])
    rast = CPU.rasterize(torch.cat([pos, away]), tri, (20, 20))
    seen = visible_vertices(rast, tri, normals.repeat(2, 1, 1))
    assert seen.tolist() == [[True] * 8, [False] * 8]
    assert visible_vertices(rast[:0], tri, normals[:0]).shape == (0, 8)
    with pytest.raises(ValueError, match=r"normals must be \(B,V,3\)"):
        visible_vertices(rast, tri, normals)


def test_full_masks_ignore_what_hides_a_part_and_visible_masks_do_not() -> None:
    pos, tri, normals = two_squares()
    segmenter = squares_segmenter({"near": [0, 1, 2, 3], "far": [4, 5, 6, 7]})
    full = segmenter.full_masks(pos, (10, 10))
    assert full.shape == (1, 2, 10, 10)
    assert full[0, 0, :, :5].all()
    assert not full[0, 0, :, 5:].any()
    assert full[0, 1].all()
    rast = CPU.rasterize(pos, tri, (10, 10))
    visible = segmenter.visible_masks(rast, visible_vertices(rast, tri, normals))
    assert torch.equal(visible[0, 0], full[0, 0])
    assert torch.equal(visible[0, 1], ~full[0, 0])
    assert label_map(visible)[0, 0].tolist() == [1] * 5 + [2] * 5
    assert label_map(full)[0, 0].tolist() == [2] * 10
    assert pack_parts(full)[0, 0].tolist() == [3] * 5 + [2] * 5


def test_a_visible_mask_ends_half_way_to_the_next_vertex() -> None:
    """The left edge of the far square is the part: its share falls from 1 to 0 over the view."""
    pos, tri, _ = two_squares()
    segmenter = squares_segmenter({"left": [4, 7], "none": []})
    rast = CPU.rasterize(pos[:, 4:], tri[2:] - 4, (10, 10))
    rast[..., 3] += 2
    mask = segmenter.visible_masks(rast, torch.ones(1, 8, dtype=torch.bool))
    assert (mask[0, 0] == (torch.arange(10) < 5)).all()
    assert not mask[0, 1].any()
    hidden = torch.ones(1, 8, dtype=torch.bool)
    hidden[0, 7] = False
    # With one of two vertices hidden only the corner at the other one is left.
    less = segmenter.visible_masks(rast, hidden)[0, 0]
    assert less[0, 0]
    assert not less[9, 0]
    with pytest.raises(ValueError, match="visible must be"):
        segmenter.visible_masks(rast, hidden[:, :5])


def test_any_topology_and_batch(small_bundle: AssetBundle) -> None:
    """Masks of three poses at once are those of each alone, whatever the mesh's size."""
    data = small_bundle.face_model()
    geometry = pose(data, torch.tensor([[0.0, 0, 0], [0.1, 0.5, 0], [0, -0.6, 0.2]]))
    clip = clip_space(geometry.camera)
    tri = torch.from_numpy(data.triangles)
    segmenter = PartSegmenter(data, CPU)
    rast = CPU.rasterize(clip, tri, SIZE)
    seen = visible_vertices(rast, tri, geometry.normals)
    full, visible = segmenter.full_masks(clip), segmenter.visible_masks(rast, seen)
    assert full.shape == visible.shape == (3, len(data.part_names), *SIZE)
    for i in range(3):
        assert torch.equal(segmenter.full_masks(clip[i : i + 1])[0], full[i])
        assert torch.equal(segmenter.visible_masks(rast[i : i + 1], seen[i : i + 1])[0], visible[i])
    drawn = rast[..., 3] > 0
    assert not (visible & ~drawn[:, None]).any()
    assert not (full & ~drawn[:, None]).any()
    # Turned away, the far eye is hidden more than the near one.
    eyes = [data.part_names.index(name) for name in ("right_eye", "left_eye")]
    areas = visible[:, eyes].sum(dim=(2, 3)).float()
    assert (areas[1, 0] - areas[1, 1]) * (areas[2, 0] - areas[2, 1]) < 0
    assert segmenter.full_masks(clip[:0]).shape == (0, len(data.part_names), *SIZE)


def pose(data: FaceModelData, angle: torch.Tensor) -> Geometry:
    """The mean face under each of the angles (B,3)."""
    alpha = torch.zeros(len(angle), data.sizes.total)
    alpha[:, data.sizes.slices()["angle"]] = angle
    return FaceModel(data)(split(alpha, data.sizes))


def test_label_map_later_part_wins() -> None:
    masks = torch.zeros(1, 3, 1, 4, dtype=torch.bool)
    masks[0, 0, 0, :2] = True
    masks[0, 2, 0, 1:3] = True
    assert label_map(masks)[0, 0].tolist() == [1, 3, 3, 0]


def test_packing_keeps_overlapping_parts() -> None:
    masks = torch.rand(2, 8, 5, 7, generator=torch.Generator().manual_seed(0)) < 0.5
    packed = pack_parts(masks)
    assert packed.dtype == torch.uint8
    assert torch.equal(unpack_parts(packed, 8), masks)
    assert torch.equal(unpack_parts(pack_parts(masks[:, :3]), 3), masks[:, :3])
    one = torch.zeros(1, 8, 1, 1, dtype=torch.bool)
    one[0, 7] = True
    assert pack_parts(one).item() == 128


def test_more_parts_than_bits_are_refused() -> None:
    with pytest.raises(ValueError, match="9 parts"):
        pack_parts(torch.zeros(1, 9, 2, 2, dtype=torch.bool))
    with pytest.raises(ValueError, match=r"1\.\.8"):
        unpack_parts(torch.zeros(1, 2, 2, dtype=torch.uint8), 9)
    with pytest.raises(ValueError, match="bool"):
        label_map(torch.zeros(1, 3, 2, 2))
    with pytest.raises(ValueError, match="uint8"):
        unpack_parts(torch.zeros(1, 2, 2), 3)
    assert label_map(torch.ones(1, 9, 2, 2, dtype=torch.bool)).max() == 9


@pytest.mark.parametrize("name", GOLDEN)
def test_equals_upstream(
    golden_bundle: AssetBundle, golden: Callable[[str], Mapping[str, np.ndarray]], name: str
) -> None:
    expected = golden(name)
    data = golden_bundle.face_model()
    assert data.part_names == PART_NAMES
    geometry = golden_geometry(FaceModel(data), expected)
    clip = clip_space(geometry.camera)
    tri = torch.from_numpy(data.triangles)
    rast = CPU.rasterize(clip, tri, SIZE)
    assert iou(rast[0, ..., 3].numpy() > 0, unpack(expected["render_mask_bits"], SIZE)) > 0.999

    seen = visible_vertices(rast, tri, geometry.normals)
    their_seen = unpack(expected["visible_bits"], (data.n_vertices,))
    assert (seen[0].numpy() == their_seen).mean() > 0.999

    segmenter = PartSegmenter(data, CPU)
    for key, masks in {
        "seg_bits": segmenter.full_masks(clip),
        "seg_visible_bits": segmenter.visible_masks(rast, seen),
    }.items():
        theirs = unpack(expected[key], (*SIZE, 8))
        for part, part_name in enumerate(PART_NAMES):
            least = 0.995 if part_name in ("skin", "nose") else 0.97
            assert iou(masks[0, part].numpy(), theirs[..., part]) > least, (key, part_name)


def unpack(bits: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    return np.unpackbits(bits)[: np.prod(shape)].reshape(shape).astype(bool)


def iou(a: np.ndarray, b: np.ndarray) -> float:
    return float((a & b).sum() / (a | b).sum())
