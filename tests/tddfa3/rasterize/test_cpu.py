"""The CPU rasterizer against the slow reference and against what must hold for any mesh."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tddfa3.rasterize import arguments
from tddfa3.rasterize.cpu import CpuRasterizer
from tests.support import reference_rasterizer as reference

ONE = CpuRasterizer(threads=1)
SIZE = (20, 24)
seeds = st.integers(0, 2**32 - 1)
few = settings(max_examples=25, deadline=None)


def draw(pos: np.ndarray, tri: np.ndarray, resolution: tuple[int, int] = SIZE) -> np.ndarray:
    """One image (H,W,4) of pos (V,4), tri (T,3)."""
    return ONE.rasterize(tensor(pos)[None], triangles(tri), resolution)[0].numpy()


def tensor(array: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.asarray(array, np.float32))


def triangles(array: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.asarray(array, np.int32).reshape(-1, 3))


def times_hit(pos: np.ndarray, tri: np.ndarray, resolution: tuple[int, int] = SIZE) -> np.ndarray:
    """(H,W): how many of the triangles, each drawn alone, cover a pixel."""
    alone = torch.tensor([[t, 1] for t in range(len(tri))], dtype=torch.int32)
    images = ONE.rasterize(tensor(pos), triangles(tri), resolution, alone)
    return (images[..., 3] > 0).sum(dim=0).numpy()


def pixel_ndc(resolution: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    height, width = resolution
    x = (np.arange(width) + 0.5) / width * 2 - 1
    y = (np.arange(height) + 0.5) / height * 2 - 1
    xs, ys = np.meshgrid(x, y)
    return xs, ys


def random_mesh(
    seed: int, w: tuple[float, float], z: float, count: int = 10
) -> tuple[np.ndarray, np.ndarray]:
    """12 vertices around the view, z/w in -z..z (of |w|), and ``count`` triangles."""
    rng = np.random.default_rng(seed)
    ws = rng.uniform(*w, (12, 1))
    xy = rng.uniform(-1.5, 1.5, (12, 2)) * abs(ws)
    zs = rng.uniform(-z, z, (12, 1)) * abs(ws)
    tri = np.stack([rng.choice(12, 3, replace=False) for _ in range(count)])
    return np.hstack([xy, zs, ws]).astype(np.float32), tri


@few
@given(seed=seeds)
def test_matches_reference_in_the_view_volume(seed: int) -> None:
    pos, tri = random_mesh(seed, w=(0.5, 3), z=1)
    size = (11, 13)
    got, expected = draw(pos, tri, size), reference.rasterize(pos, tri, size)
    np.testing.assert_array_equal(got[..., 3] > 0, expected[..., 3] > 0)
    same = got[..., 3] == expected[..., 3]
    np.testing.assert_allclose(got[same], expected[same], atol=2e-6)
    # Two triangles that cross at a sample may be told apart differently by the last bit of depth.
    np.testing.assert_allclose(got[~same][:, 2], expected[~same][:, 2], atol=1e-6)


@few
@given(seed=seeds)
def test_matches_reference_across_near_far_and_eye_planes(seed: int) -> None:
    """Where the picture does not change within 1/1000 pixel it is the reference's."""
    pos, tri = random_mesh(seed, w=(-1, 2), z=1.6)
    got = draw(pos, tri)
    d = 1e-3
    nearby = [
        reference.rasterize(pos, tri, SIZE, offset, exact=False)
        for offset in [(0, 0), (d, d), (-d, d), (d, -d), (-d, -d)]
    ]
    # What changes between samples so close is down to snapping: edges, crossings, steep depths.
    change = np.max([abs(n - nearby[0]) for n in nearby], axis=0)
    certain = change[..., 3] == 0
    assert certain.mean() > 0.9
    same = got[..., 3] == nearby[0][..., 3]
    error = abs(got - nearby[0])
    np.testing.assert_array_less(error[same & certain], change[same & certain] + 1e-5)
    # The same triangle twice, say, with its corners in another order.
    tie = error[..., 2] <= change[..., 2] + 1e-5
    assert (same | tie)[certain].all()


@few
@given(seed=seeds, reach=st.sampled_from([1.5, 3.0, 300.0, 1e5, 1e9]), cut=st.booleans())
def test_triangles_around_a_point_hit_every_pixel_once(seed: int, reach: float, cut: bool) -> None:
    """No hole and no pixel twice along shared edges, also where planes or the guard band cut them.

    Vertices lie on a grid of half pixels, so that many samples lie exactly on edges and corners.
    """
    rng = np.random.default_rng(seed)
    height, width = SIZE
    centre = np.array([[rng.integers(0, 2 * width + 1), rng.integers(0, 2 * height + 1)]]) / 2
    turns = np.sort(rng.uniform(0, 2 * np.pi, 9)) * 0.05 + np.arange(9) * 2 * np.pi / 9
    ring = centre + np.round(2 * reach * width * np.stack([np.cos(turns), np.sin(turns)], 1)) / 2
    ndc = np.vstack([centre, ring]) / [width, height] * 2 - 1
    w = rng.choice([0.5, 1.0, 2.0, 4.0], 10)
    # z = 1.5 w beyond the far plane at every third vertex of the ring: those corners are cut off,
    # and what is left must still meet without holes.
    z = np.where(np.arange(10) % 3 == 1, 1.5, 0.0) * w * cut
    pos = np.column_stack([ndc * w[:, None], z, w])
    tri = np.array([[0, k, k % 9 + 1] for k in range(1, 10)])
    hits = times_hit(pos, tri)
    if cut:
        assert hits.max() <= 1
        inside = reference.rasterize(pos.astype(np.float32), tri, SIZE, (0.003, 0.002), exact=False)
        assert (hits != (inside[..., 3] > 0)).mean() < 0.06
    else:
        np.testing.assert_array_equal(hits, 1)


@pytest.mark.parametrize("diagonal", [[[0, 1, 3], [0, 3, 2]], [[0, 1, 2], [1, 3, 2]]])
@pytest.mark.parametrize("flip", [False, True])
def test_a_grid_with_its_corners_on_pixel_centres_hits_every_pixel_once(
    diagonal: list[list[int]], flip: bool
) -> None:
    """All edges, level, upright and slanted, run through samples."""
    height, width = SIZE
    x, y = np.meshgrid(np.arange(-1, width + 1) + 0.5, np.arange(-1, height + 1) + 0.5)
    ndc = np.stack([x.ravel() / width, y.ravel() / height], axis=1) * 2 - 1
    pos = np.column_stack([ndc, np.zeros(len(ndc)), np.ones(len(ndc))])
    across = width + 2
    first = np.add.outer(np.arange(height + 1) * across, np.arange(width + 1)).reshape(-1, 1, 1)
    square = np.array([0, 1, across, across + 1])
    tri = (first + square[np.array(diagonal)]).reshape(-1, 3)
    np.testing.assert_array_equal(times_hit(pos, tri[:, ::-1] if flip else tri), 1)


@few
@given(seed=seeds)
def test_two_triangles_of_a_quad_share_no_pixel(seed: int) -> None:
    rng = np.random.default_rng(seed)
    a, b = rng.integers(-8, 56, (2, 2)) / 2
    along, across = b - a, np.array([a[1] - b[1], b[0] - a[0]])
    left = a + along * rng.uniform(-0.5, 1.5) + across * rng.uniform(0.1, 2)
    right = a + along * rng.uniform(-0.5, 1.5) - across * rng.uniform(0.1, 2)
    pixels = np.array([a, b, left, right])
    ndc = pixels / [SIZE[1], SIZE[0]] * 2 - 1
    pos = np.column_stack([ndc, np.zeros(4), np.ones(4)])
    assert times_hit(pos, np.array([[0, 1, 2], [0, 1, 3]])).max() <= 1


@few
@given(seed=seeds, w=st.sampled_from([(0.2, 5.0), (-1.0, 2.0)]))
def test_barycentrics_are_perspective_correct(seed: int, w: tuple[float, float]) -> None:
    """Interpolated clip coordinates, divided by w, are the pixel's own place and depth."""
    pos, tri = random_mesh(seed, w=w, z=0.9)
    rast = draw(pos, tri)
    clip = ONE.interpolate(tensor(pos)[None], tensor(rast)[None], triangles(tri))[0].numpy()
    # float32 barycentrics can't resolve a triangle far larger than the picture or seen edge-on.
    flat = [tri_area(pos[t]) < 0.3 for t in tri]
    shown = (rast[..., 3] > 0) & ~np.array([False, *flat])[rast[..., 3].astype(int)]
    at = clip[shown] / clip[shown][:, 3:]
    x, y = pixel_ndc(SIZE)
    np.testing.assert_allclose(at[:, 0], x[shown], atol=1e-3)
    np.testing.assert_allclose(at[:, 1], y[shown], atol=1e-3)
    np.testing.assert_allclose(at[:, 2], rast[shown][:, 2], atol=1e-3)


def tri_area(corners: np.ndarray) -> float:
    """Volume between the eye and the triangle, in clip space: small when it is seen edge-on."""
    return abs(float(np.linalg.det(corners[:, [0, 1, 3]].astype(np.float64))))


def test_interpolates_a_plane() -> None:
    """Over one flat triangle any linear function of the pixel comes out as that function."""
    pos = np.array([[-1, -1, 0, 1], [1, -1, 0, 1], [-1, 1, 0, 1]], np.float32)
    attr = (pos[:, :2] @ [[3.0], [-2.0]] + 5).astype(np.float32)
    tri = np.array([[0, 1, 2]])
    rast = draw(pos, tri, (64, 64))
    got = ONE.interpolate(tensor(attr)[None], tensor(rast)[None], triangles(tri))[0, ..., 0].numpy()
    x, y = pixel_ndc((64, 64))
    shown = rast[..., 3] > 0
    np.testing.assert_allclose(got[shown], (3 * x - 2 * y + 5)[shown], atol=1e-5)
    assert (got[~shown] == 0).all()
    # The samples on the slanted edge are not its own: it has the inside to its left.
    np.testing.assert_array_equal(shown, np.add.outer(np.arange(64), np.arange(64)) < 63)


def test_floor_below_the_camera_is_cut_at_the_near_plane() -> None:
    """A floor from behind the eye to the horizon fills all rows from the near plane's up."""
    near, far = 1.0, 100.0
    a, b = (far + near) / (far - near), -2 * far * near / (far - near)
    points = np.array([[-50, -1, -10], [50, -1, -10], [50, -1, 90], [-50, -1, 90]], np.float64)
    z = points[:, 2]
    pos = np.column_stack([points[:, 0], points[:, 1], a * z + b, z])
    rast = draw(pos, np.array([[0, 1, 2], [0, 2, 3]]), (40, 40))
    _, y = pixel_ndc((40, 40))
    depth = -1 / np.where(y < 0, y, -1e-9)
    expected = (depth >= near) & (depth <= 90)
    np.testing.assert_array_equal(rast[..., 3] > 0, expected)
    np.testing.assert_allclose(rast[..., 2][expected], (a + b / depth)[expected], atol=1e-5)


def test_what_is_wholly_behind_near_or_beyond_far_is_not_drawn() -> None:
    base = np.array([[-1, -1], [1, -1], [0, 1]], np.float64)
    for z, w in [(1.01, 1), (-1.01, 1), (0, -1), (0, 0), (0.5, -0.1)]:
        pos = np.column_stack([base, np.full(3, z), np.full(3, w)])
        assert not draw(pos, np.array([[0, 1, 2]])).any(), (z, w)
    for z in (1.0, -1.0):
        pos = np.column_stack([base, np.full(3, z), np.ones(3)])
        assert draw(pos, np.array([[0, 1, 2]])).any(), z


@pytest.mark.parametrize(
    "corners",
    [
        [[0, 0], [0, 0], [0, 0]],
        [[-1, -1], [1, 1], [1, 1]],
        [[-1, -1], [0, 0], [1, 1]],
        [[-1, 0], [1, 0], [0, 1e-5]],
    ],
    ids=["point", "edge twice", "collinear", "thinner than the grid"],
)
def test_degenerate_triangles_draw_nothing(corners: list[list[float]]) -> None:
    pos = np.column_stack([np.array(corners), np.zeros(3), np.ones(3)])
    assert not draw(pos, np.array([[0, 1, 2], [2, 1, 0]])).any()


def test_a_vertex_at_the_origin_of_clip_space_draws_nothing() -> None:
    pos = np.array([[-1, -1, 0, 1], [1, -1, 0, 1], [0, 0, 0, 0]], np.float32)
    assert not draw(pos, np.array([[0, 1, 2]])).any()


def test_both_windings_are_drawn_alike() -> None:
    pos, tri = random_mesh(3, w=(0.5, 2), z=1)
    front, back = draw(pos, tri), draw(pos, tri[:, [1, 0, 2]])
    np.testing.assert_array_equal(front[..., 3], back[..., 3])
    np.testing.assert_allclose(front[..., :2], back[..., [1, 0]], atol=1e-6)


@pytest.mark.parametrize("reach", [3.0, 1e4, 1e8, 1e18, 1e30])
def test_triangles_far_larger_than_the_picture_fill_it(reach: float) -> None:
    corners = np.array([[-reach, -reach], [3 * reach, -reach], [-reach, 3 * reach]])
    pos = np.column_stack([corners, np.full(3, 0.25), np.ones(3)])
    rast = draw(pos, np.array([[0, 1, 2]]))
    assert (rast[..., 3] == 1).all()
    np.testing.assert_allclose(rast[..., 2], 0.25, atol=1e-6)
    np.testing.assert_allclose(rast[..., :2].sum(-1) <= 1 + 1e-6, True)


@pytest.mark.parametrize("away", [1.5, 1e6, 1e12, 1e30])
def test_triangles_beside_the_picture_draw_nothing(away: float) -> None:
    for direction in [(1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (-1, 1)]:
        corners = np.array([[0, 0], [0.3, 0], [0, 0.3]]) + away * np.array(direction)
        pos = np.column_stack([corners, np.zeros(3), np.ones(3)])
        assert not draw(pos, np.array([[0, 1, 2]])).any()


def test_row_zero_is_the_bottom_and_u_v_belong_to_vertices_0_and_1() -> None:
    pos = np.array([[-1, -1, 0, 1], [1, -1, 0, 1], [-1, 1, 0, 1]], np.float32)
    rast = draw(pos, np.array([[0, 1, 2]]), (100, 100))
    assert rast[0, :99, 3].all()
    assert not rast[99, 1:, 3].any()
    assert rast[0, 0, 0] > 0.98
    assert rast[0, 98, 1] > 0.98
    assert rast[98, 0, :2].max() < 0.02


def test_nearer_wins_in_any_order_and_the_first_of_equals() -> None:
    base = np.array([[-1, -1], [3, -1], [-1, 3]], np.float64)
    layers = [np.column_stack([base, np.full(3, z), np.ones(3)]) for z in (0.5, -0.5, -0.5)]
    pos = np.vstack(layers)
    tri = np.arange(9).reshape(3, 3)
    assert (draw(pos, tri)[..., 3] == 2).all()
    assert (draw(pos, tri[::-1])[..., 3] == 1).all()
    assert (draw(pos, tri[[1, 2, 0]])[..., 3] == 1).all()


def test_batch_equals_single_images_whatever_the_threads() -> None:
    meshes = [random_mesh(seed, w=(-0.5, 2), z=1.2)[0] for seed in range(7)]
    tri = triangles(random_mesh(0, w=(1, 2), z=1)[1])
    pos = tensor(np.stack(meshes))
    single = torch.cat([ONE.rasterize(p[None], tri, SIZE) for p in pos])
    attr = torch.rand(7, 12, 5)
    for threads in (1, 2, 3, 16):
        rasterizer = CpuRasterizer(threads)
        batch = rasterizer.rasterize(pos, tri, SIZE)
        assert torch.equal(batch, single)
        colours = rasterizer.interpolate(attr, batch, tri)
        one = [ONE.interpolate(a[None], r[None], tri) for a, r in zip(attr, batch, strict=True)]
        assert torch.equal(colours, torch.cat(one))


def test_range_mode_equals_instanced_mode() -> None:
    pos, tri = random_mesh(5, w=(0.5, 2), z=1, count=9)
    ranges = torch.tensor([[0, 9], [0, 3], [3, 4], [9, 0], [8, 1]], dtype=torch.int32)
    for threads in (1, 3):
        images = CpuRasterizer(threads).rasterize(tensor(pos), triangles(tri), SIZE, ranges).numpy()
        for image, (first, count) in zip(images, ranges.tolist(), strict=True):
            expected = draw(pos, tri[first : first + count])
            # Ids count from the start of tri, not of the range.
            expected[..., 3] += np.where(expected[..., 3] > 0, first, 0)
            np.testing.assert_array_equal(image, expected)


@few
@given(seed=seeds)
def test_coverage_is_what_each_group_draws_alone(seed: int) -> None:
    pos = tensor(np.stack([random_mesh(seed + i, w=(-0.5, 2), z=1.3)[0] for i in range(3)]))
    tri = triangles(random_mesh(seed, w=(1, 2), z=1, count=12)[1])
    ranges = torch.tensor([[0, 5], [5, 7], [12, 0], [2, 6]], dtype=torch.int32)
    got = CpuRasterizer(2).coverage(pos, tri, ranges, SIZE)
    for i, (first, count) in enumerate(ranges.tolist()):
        alone = ONE.rasterize(pos, tri[first : first + count], SIZE)
        assert torch.equal(got[:, i], alone[..., 3] > 0)


def test_interpolate_broadcasts_one_set_of_attributes() -> None:
    meshes = [random_mesh(seed, w=(0.5, 2), z=1)[0] for seed in range(3)]
    tri = triangles(random_mesh(0, w=(1, 2), z=1)[1])
    rast = ONE.rasterize(tensor(np.stack(meshes)), tri, SIZE)
    attr = torch.rand(12, 4)
    expected = ONE.interpolate(attr.expand(3, 12, 4), rast, tri)
    assert torch.equal(ONE.interpolate(attr[None], rast, tri), expected)
    assert torch.equal(ONE.interpolate(attr, rast, tri), expected)
    for image, picture in zip(expected.numpy(), rast.numpy(), strict=True):
        reference_image = reference.interpolate(attr.numpy(), picture, tri.numpy())
        np.testing.assert_allclose(image, reference_image, atol=1e-6)


def test_empty_inputs() -> None:
    tri = torch.tensor([[0, 1, 2]], dtype=torch.int32)
    none = torch.zeros((0, 3), dtype=torch.int32)
    assert ONE.rasterize(torch.zeros(0, 3, 4), tri, SIZE).shape == (0, *SIZE, 4)
    assert not ONE.rasterize(torch.ones(2, 3, 4), none, SIZE).any()
    assert not ONE.rasterize(torch.ones(2, 0, 4), none, SIZE).any()
    no_ranges = torch.zeros((0, 2), dtype=torch.int32)
    assert ONE.rasterize(torch.ones(3, 4), tri, SIZE, no_ranges).shape == (0, *SIZE, 4)
    assert ONE.interpolate(torch.zeros(0, 3, 2), torch.zeros(0, *SIZE, 4), tri).shape[0] == 0
    assert ONE.coverage(torch.zeros(0, 3, 4), tri, no_ranges, SIZE).shape == (0, 0, *SIZE)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("threads", [1, 2])
def test_coordinates_that_are_not_finite_are_refused_by_index(value: float, threads: int) -> None:
    pos, tri = torch.ones(4, 3, 4), torch.tensor([[0, 1, 2]], dtype=torch.int32)
    for coordinate in range(4):
        broken = pos.clone()
        broken[2:, 1, coordinate] = value
        rasterizer = CpuRasterizer(threads)
        with pytest.raises(ValueError, match="batch index 2"):
            rasterizer.rasterize(broken, tri, SIZE)
        whole = torch.tensor([[0, 1]], dtype=torch.int32)
        with pytest.raises(ValueError, match="batch index 2"):
            rasterizer.coverage(broken, tri, whole, SIZE)
        with pytest.raises(ValueError, match="vertex 1"):
            rasterizer.rasterize(broken[2], tri, SIZE, whole)


def test_triangle_ids_are_exact_up_to_the_limit_and_refused_beyond() -> None:
    count = 100_003
    tri = torch.zeros((count, 3), dtype=torch.int32)
    tri[-1] = torch.tensor([0, 1, 2])
    pos = torch.tensor([[[-1.0, -1, 0, 1], [3, -1, 0, 1], [-1, 3, 0, 1]]])
    assert (ONE.rasterize(pos, tri, SIZE)[..., 3] == count).all()
    assert int(np.float32(arguments.MAX_TRIANGLES)) == arguments.MAX_TRIANGLES
    too_many = torch.zeros((1, 3), dtype=torch.int32).expand(arguments.MAX_TRIANGLES + 1, 3)
    with pytest.raises(ValueError, match="told apart"):
        ONE.rasterize(pos, too_many, SIZE)


def test_wrong_arguments_are_refused() -> None:
    pos, tri = torch.ones(1, 3, 4), torch.tensor([[0, 1, 2]], dtype=torch.int32)
    ranges = torch.tensor([[0, 1]], dtype=torch.int32)
    rast = ONE.rasterize(pos, tri, SIZE)
    refused = [
        (r"pos must be \(B,V,4\)", lambda: ONE.rasterize(pos[0], tri, SIZE)),
        (r"pos must be \(N,4\)", lambda: ONE.rasterize(pos, tri, SIZE, ranges)),
        ("float32", lambda: ONE.rasterize(pos.double(), tri, SIZE)),
        ("int32", lambda: ONE.rasterize(pos, tri.long(), SIZE)),
        ("vertices 0..3", lambda: ONE.rasterize(pos, tri + torch.eye(3)[2:].int(), SIZE)),
        ("vertices -1..1", lambda: ONE.rasterize(pos, tri - 1, SIZE)),
        ("row 0", lambda: ONE.rasterize(pos[0], tri, SIZE, ranges + 1)),
        ("ranges must be", lambda: ONE.rasterize(pos[0], tri, SIZE, ranges.long())),
        ("resolution", lambda: ONE.rasterize(pos, tri, (0, 5))),
        ("resolution", lambda: ONE.rasterize(pos, tri, (5, 1 << 20))),
        ("does not fit", lambda: ONE.interpolate(torch.ones(2, 3, 1), rast, tri)),
        ("attr must be", lambda: ONE.interpolate(torch.ones(3), rast, tri)),
        ("beyond", lambda: ONE.interpolate(torch.ones(1, 3, 1), rast + 2, tri)),
        ("threads", lambda: CpuRasterizer(0)),
    ]
    for message, call in refused:
        with pytest.raises(ValueError, match=message):
            call()
