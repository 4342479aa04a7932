"""The open face has real proportions, and its movements do what their names say without folds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tddfa3.assets.bundle import AssetBundle
from tddfa3.assets.bundle_writer import BundleContents, Origin, write_bundle
from tddfa3.assets.generators.open_face import (
    ALBEDO_NAMES,
    EXPRESSION_NAMES,
    EXPRESSION_RANGES,
    IDENTITY_NAMES,
    face_plane,
    from_pupil,
    open_face_model,
)
from tddfa3.assets.generators.open_face.chart import open_lattice
from tddfa3.assets.generators.open_face.fill import biharmonic_fill
from tddfa3.assets.generators.open_face.proportions import MIRRORED_68, landmark_places
from tddfa3.assets.generators.open_face.spline import thin_plate
from tddfa3.assets.generators.synthetic.bases import _designed_movements
from tddfa3.assets.generators.synthetic.face import similarity_landmarks, synthetic_face_model
from tddfa3.assets.generators.synthetic.seeded import NamedRandom
from tddfa3.assets.upstream import face_model_from_upstream
from tddfa3.conventions import PART_NAMES
from tddfa3.errors import AssetError
from tddfa3.geometry.face_model import FaceModel

Face = dict[str, Any]
MOUTH_CORNER, MOUTH_LINE = 0.24, -0.385


@pytest.fixture(scope="module")
def face() -> Face:
    return open_face_model()


@pytest.fixture(scope="module")
def adjacent(face: Face) -> np.ndarray:
    """(E,2) pairs of triangles that share an edge."""
    triangles = face["tri"]
    edges = np.sort(triangles[:, [[0, 1], [1, 2], [2, 0]]].reshape(-1, 2), 1)
    owners = np.repeat(np.arange(len(triangles)), 3)
    order = np.lexsort((edges[:, 1], edges[:, 0]))
    same = (edges[order][1:] == edges[order][:-1]).all(1)
    return np.stack([owners[order][:-1][same], owners[order][1:][same]], 1)


def moved(face: Face, key: str = "exp", /, **coefficients: float) -> np.ndarray:
    """(V,3) the mean face with named coefficients of one basis."""
    names = EXPRESSION_NAMES if key == "exp" else IDENTITY_NAMES
    weights = np.zeros(face[key].shape[1])
    for name, value in coefficients.items():
        weights[names.index(name)] = value
    return (face["u"][:, 0] + face[key] @ weights).reshape(-1, 3).astype(np.float64)


def landmarks(face: Face, **coefficients: float) -> np.ndarray:
    return moved(face, **coefficients)[face["ldm68"]]


def normals(face: Face, shape: np.ndarray) -> np.ndarray:
    a, b, c = (shape[face["tri"][:, corner]] for corner in range(3))
    cross = np.cross(b - a, c - a)
    return cross / np.linalg.norm(cross, axis=1, keepdims=True)


def bends(pairs: np.ndarray, unit: np.ndarray) -> np.ndarray:
    """(E,) degrees between the normals of adjacent triangles."""
    cosines = (unit[pairs[:, 0]] * unit[pairs[:, 1]]).sum(1)
    return np.degrees(np.arccos(np.clip(cosines, -1, 1)))


def lip_gap(points: np.ndarray) -> float:
    return float((points[61:64, 1] - points[[67, 66, 65], 1]).mean())


def eye_openings(points: np.ndarray) -> tuple[float, float]:
    right = points[[37, 38], 1].mean() - points[[41, 40], 1].mean()
    left = points[[43, 44], 1].mean() - points[[47, 46], 1].mean()
    return float(right), float(left)


def test_it_has_the_synthetic_faces_keys_and_stated_sizes(face: Face) -> None:
    assert list(face) == list(synthetic_face_model(NamedRandom(0), 1000))
    assert [face[key].shape[1] for key in ("id", "exp", "alb")] == [40, 40, 20]
    data = face_model_from_upstream(face, similarity_landmarks(face))
    assert data.part_names == PART_NAMES
    assert all(len(triangles) > 30 for triangles in data.part_triangles)


def test_same_arguments_give_the_same_arrays_and_a_seed_changes_random_columns_only() -> None:
    first, second, other = (open_face_model(2000, seed=seed) for seed in (0, 0, 1))
    for key in ("u", "id", "exp", "u_alb", "alb", "tri", "uv_coords", "ldm106"):
        np.testing.assert_array_equal(first[key], second[key])
    for key, names in (("id", IDENTITY_NAMES), ("exp", EXPRESSION_NAMES), ("alb", ALBEDO_NAMES)):
        designed = slice(len(names))
        np.testing.assert_array_equal(first[key][:, designed], other[key][:, designed])
        assert not np.allclose(first[key], other[key])
    np.testing.assert_array_equal(first["u"], other["u"])


def test_too_few_vertices_are_refused() -> None:
    with pytest.raises(AssetError, match="vertices=500 is too few"):
        open_face_model(500)


@pytest.mark.parametrize("column", range(14))
def test_first_movements_mean_what_the_synthetic_ones_mean(column: int) -> None:
    model, lattice = open_face_model(2000), open_lattice(2000)
    expected = _designed_movements(lattice)[column]
    found = model["exp"][:, column].astype(np.float64)
    cosine = found @ expected / np.linalg.norm(found) / np.linalg.norm(expected)
    assert cosine > 0.55


def test_landmarks_lie_at_the_measured_places(face: Face) -> None:
    np.testing.assert_allclose(landmarks(face), landmark_places(), atol=0.005)


def test_both_halves_are_mirror_images(face: Face) -> None:
    points = landmarks(face)
    np.testing.assert_allclose(points[MIRRORED_68] * [-1, 1, 1], points, atol=1e-5)
    np.testing.assert_array_equal(MIRRORED_68[MIRRORED_68], np.arange(68))
    shape = moved(face)
    mirrored = np.lexsort(np.round(shape * [-1, 1, 1], 4).T)
    np.testing.assert_allclose(
        (shape * [-1, 1, 1])[mirrored], shape[np.lexsort(np.round(shape, 4).T)], atol=2e-3
    )


def test_proportions_are_a_faces(face: Face) -> None:
    points = landmarks(face)
    eyes = points[45, 0] - points[36, 0]
    ratios = {
        "face width": (points[16, 0] - points[0, 0]) / eyes,
        "brows' ends": (points[26, 0] - points[17, 0]) / eyes,
        "mouth width": (points[54, 0] - points[48, 0]) / eyes,
        "eyes to chin": (points[[36, 45], 1].mean() - points[8, 1]) / eyes,
        "nose forward": (points[30, 2] - points[[36, 45], 2].mean()) / eyes,
        "ears back": (points[[36, 45], 2].mean() - points[[1, 15], 2].mean()) / eyes,
    }
    bounds = {
        "face width": (1.45, 1.65),
        "brows' ends": (1.25, 1.45),
        "mouth width": (0.50, 0.60),
        "eyes to chin": (1.15, 1.35),
        "nose forward": (0.42, 0.58),
        "ears back": (0.5, 0.7),
    }
    for name, (low, high) in bounds.items():
        assert low < ratios[name] < high, name


@pytest.mark.parametrize(
    ("part", "numbers"),
    [
        ("right_eye", range(36, 42)),
        ("left_eye", range(42, 48)),
        ("right_eyebrow", range(17, 22)),
        ("left_eyebrow", range(22, 27)),
        ("nose", range(27, 36)),
        ("up_lip", [*range(48, 55), 61, 62, 63]),
        ("down_lip", [*range(55, 60), 65, 66, 67]),
        ("skin", range(17)),
    ],
)
def test_landmarks_lie_on_or_beside_their_part(face: Face, part: str, numbers: Any) -> None:
    shape = moved(face)
    of_part = shape[face["annotation"][PART_NAMES.index(part)]]
    for number in numbers:
        place = shape[face["ldm68"][number]]
        assert np.linalg.norm(of_part - place, axis=1).min() < 0.025, number


def test_every_vertex_belongs_to_one_part(face: Face) -> None:
    together = np.sort(np.concatenate(face["annotation"]))
    np.testing.assert_array_equal(together, np.arange(len(face["u"]) // 3))


def test_contour_points_lie_on_the_rows_that_landmark_marching_searches(face: Face) -> None:
    assert len(face["parallel"]) == 33
    for vertex, row in zip(face["ldm106"][:33], face["parallel"], strict=True):
        assert vertex in row


def test_the_mean_face_faces_the_camera_everywhere(face: Face, adjacent: np.ndarray) -> None:
    unit = normals(face, moved(face))
    assert unit[:, 2].min() > 0
    assert bends(adjacent, unit).max() < 45


@pytest.mark.parametrize("name", EXPRESSION_NAMES)
def test_a_movement_folds_and_creases_nothing_in_its_range(
    face: Face, adjacent: np.ndarray, name: str
) -> None:
    """Exempt: the mouth's corners, which wide open mouths stretch, and the lids that meet."""
    neutral = normals(face, moved(face))
    plane = face_plane(face["uv_coords"])[face["tri"]].mean(1)
    around = np.abs(plane[:, 0])
    corner = np.hypot(around - MOUTH_CORNER, plane[:, 1] - MOUTH_LINE) < 0.06
    lids = (np.abs(around - 0.31) < 0.14) & (np.abs(plane[:, 1] - 0.29) < 0.06)
    slit = (around < MOUTH_CORNER) & (np.abs(plane[:, 1] - MOUTH_LINE) < 0.022)
    checked = ~corner & ~lids & ~slit
    pairs = adjacent[checked[adjacent].all(1)]
    for value in EXPRESSION_RANGES[name]:
        unit = normals(face, moved(face, **{name: value}))
        turned = (unit * neutral).sum(1)
        assert turned[~corner].min() > 0.1, f"{name}={value} folds"
        assert turned[checked].min() > 0.5, f"{name}={value} turns a triangle by more than 60"
        jump = bends(pairs, unit) - bends(pairs, neutral)
        assert jump.max() < 25, f"{name}={value} makes a crease"


def test_moderate_expressions_of_other_faces_fold_next_to_nothing(face: Face) -> None:
    rng = np.random.default_rng(0)
    ranges = np.array([EXPRESSION_RANGES[name] for name in EXPRESSION_NAMES])
    for _ in range(20):
        exp = rng.normal(0, 0.5, 40)
        exp[: len(ranges)] = np.clip(exp[: len(ranges)], *(0.7 * ranges.T))
        shape = face["u"][:, 0] + face["id"] @ rng.normal(size=40) + face["exp"] @ exp
        folded = normals(face, shape.reshape(-1, 3).astype(np.float64))[:, 2] < -0.1
        assert folded.mean() < 0.004


def test_jaw_opens_the_mouth_further_and_further_and_keeps_the_lips_thick(face: Face) -> None:
    opened = [landmarks(face, jaw_open=value) for value in np.linspace(0, 4, 9)]
    gaps = np.array([lip_gap(points) for points in opened])
    assert abs(gaps[0]) < 0.012
    assert (np.diff(gaps) > 0.03).all()
    assert gaps[-1] > 0.33
    thickness = [points[66, 1] - points[57, 1] for points in opened]
    assert min(thickness) > 0.9 * max(thickness)
    chin, upper_lip = opened[-1][8] - opened[0][8], opened[-1][51] - opened[0][51]
    assert chin[1] < -0.3
    assert np.abs(upper_lip).max() < 0.01


def test_each_eye_closes_alone_and_both_together(face: Face) -> None:
    neutral = np.array(eye_openings(landmarks(face)))
    closed = np.array(eye_openings(landmarks(face, eyes_close=2.0)))
    assert (closed < 0.15 * neutral).all()
    winks = {"eyes_close": 1.0, "left_eye_closes_right_opens": 1.0}
    right, left = eye_openings(landmarks(face, **winks)) / neutral
    assert right > 0.9
    assert left < 0.15
    wide = np.array(eye_openings(landmarks(face, eyes_close=-1.0)))
    assert (wide > 1.3 * neutral).all()


def test_mouth_corners_and_brows_go_where_the_names_say(face: Face) -> None:
    neutral = landmarks(face)
    smile, pucker = landmarks(face, smile=2.0) - neutral, landmarks(face, pucker=2.0) - neutral
    assert smile[54, 0] > 0.06 < -smile[48, 0]
    assert smile[[48, 54], 1].min() > 0.03
    assert pucker[54, 0] < -0.05 > -pucker[48, 0]
    assert (landmarks(face, brows_raise=2.0) - neutral)[17:27, 1].min() > 0.02
    knit = (landmarks(face, brows_knit=2.0) - neutral)[21:23]
    assert knit[0, 0] > 0.015 > -0.015 > knit[1, 0]
    assert (landmarks(face, corners_up=-2.0) - neutral)[[48, 54], 1].max() < -0.03


@pytest.mark.parametrize("name", IDENTITY_NAMES)
def test_no_proportion_parts_the_lips(face: Face, name: str) -> None:
    upper, lower = face["ldm68"][[61, 62, 63]], face["ldm68"][[67, 66, 65]]
    for value in (-2.0, 2.0):
        shape = moved(face, "id", **{name: value})
        neutral = moved(face)
        change = (shape[upper] - shape[lower]) - (neutral[upper] - neutral[lower])
        assert np.abs(change).max() < 0.008, (name, value)


def test_identity_columns_are_orthogonal_and_of_a_populations_size(face: Face) -> None:
    basis = face["id"].astype(np.float64)
    gram = basis.T @ basis
    lengths = np.sqrt(np.diag(gram))
    np.testing.assert_allclose(gram / np.outer(lengths, lengths), np.eye(40), atol=1e-3)
    points = (basis.reshape(-1, 3, 40)[face["ldm68"]] ** 2).sum((1, 2)) ** 0.5
    eyes = landmarks(face)[45, 0] - landmarks(face)[36, 0]
    # Anthropometry: landmarks of different people differ by some percent of the face.
    assert 0.04 < points.mean() / eyes < 0.15


def test_skin_goes_from_dark_to_light_and_from_cold_to_warm(face: Face) -> None:
    skin = face["annotation"][PART_NAMES.index("skin")]

    def color(**coefficients: float) -> np.ndarray:
        weights = np.zeros(20)
        for name, value in coefficients.items():
            weights[ALBEDO_NAMES.index(name)] = value
        albedo = face["u_alb"][:, 0] + face["alb"] @ weights
        return np.median(albedo.reshape(-1, 3)[skin], 0)

    dark, middle, light = (color(lightness=value) for value in (-2.5, 0.0, 2.0))
    assert (dark < [100, 60, 50]).all()
    assert (dark > 15).all()
    assert (light > [225, 190, 165]).all()
    assert (np.diff([dark, middle, light], axis=0) > 0).all()
    cold, warm = color(warmth=-2.0), color(warmth=2.0)
    assert (warm - cold)[0] > 8 > -8 > (warm - cold)[2]


def test_eyes_brows_and_lips_are_painted_on_their_landmarks(face: Face) -> None:
    albedo, shape = face["u_alb"].reshape(-1, 3), moved(face)
    eye = np.zeros(len(shape), bool)
    eye[np.concatenate(face["annotation"][:2])] = True
    pupil, white = from_pupil(shape) < 0.015, eye & (from_pupil(shape) > 0.08)
    assert albedo[eye & pupil].max() < 60
    assert np.median(albedo[white], 0).min() > 150
    skin = np.median(albedo[face["annotation"][7]], 0)
    for part in (2, 3):
        assert np.median(albedo[face["annotation"][part]].mean(1)) < skin.mean() - 20
    for part in (5, 6):
        red, green, _ = np.median(albedo[face["annotation"][part]], 0)
        assert red - green > skin[0] - skin[1] + 10


def test_face_plane_undoes_the_chart(face: Face) -> None:
    lattice = open_lattice(len(face["uv_coords"]))
    np.testing.assert_allclose(face_plane(face["uv_coords"]), lattice.plane, atol=1e-5)


def test_a_compact_bundle_holds_it_in_half_the_space(face: Face, tmp_path: Path) -> None:
    data = face_model_from_upstream(face, similarity_landmarks(face))

    def bundle(name: str, compact: bool) -> AssetBundle:
        contents = BundleContents(
            name=name,
            origin=Origin("a test", "none"),
            notice="",
            recipe={"kind": name},
            face_model=data,
            networks={},
            compact=compact,
        )
        return write_bundle(tmp_path / name, contents)

    small, full = bundle("small", True), bundle("full", False)
    sizes = [b.files["face_model.safetensors"]["bytes"] for b in (small, full)]
    assert sizes[0] < 5.5e6
    assert sizes[0] < 0.55 * sizes[1]
    read = small.face_model()
    for name, array in data.to_arrays().items():
        found = read.to_arrays()[name]
        assert found.dtype == array.dtype
        tolerance = 6e-4 if name.endswith("_basis") else 0
        np.testing.assert_allclose(found, array, rtol=tolerance, atol=tolerance * 1e-3)
    assert FaceModel(read).sizes.total == 40 + 40 + 20 + 33


def test_a_thin_plate_passes_through_its_points_and_keeps_a_flat_plate_flat() -> None:
    rng = np.random.default_rng(0)
    points, at = rng.uniform(-1, 1, (20, 2)), rng.uniform(-1, 1, (30, 2))
    values = rng.normal(size=(20, 3))
    exact = np.zeros(20)
    np.testing.assert_allclose(thin_plate(points, values, exact, points), values, atol=1e-8)
    flat = points @ [[1.0, 2.0], [3.0, -1.0]] + 0.5
    expected = at @ [[1.0, 2.0], [3.0, -1.0]] + 0.5
    np.testing.assert_allclose(thin_plate(points, flat, exact, at), expected, atol=1e-8)


def test_a_filled_field_keeps_what_is_known_and_is_smooth_between() -> None:
    lattice = open_lattice(1500)
    known = np.where(lattice.up > 0.6, 0.0, np.where(lattice.up < -0.6, 1.0, np.nan))
    field = biharmonic_fill(lattice, known)
    given = np.isfinite(known)
    np.testing.assert_allclose(field[given], known[given], atol=0.02)
    middle = np.abs(lattice.up) < 0.1
    assert 0.3 < field[middle].min() < field[middle].max() < 0.7
    steps = np.abs(np.diff(field[lattice.triangles], axis=1)).max()
    assert steps < 0.12
