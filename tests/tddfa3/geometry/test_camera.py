"""Pose, projection and the camera of the photograph."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tddfa3.assets.bundle import AssetBundle
from tddfa3.conventions import CAMERA_DISTANCE
from tddfa3.geometry.camera import (
    FAR,
    NEAR,
    clip_space,
    depth_from_ndc,
    euler_degrees,
    from_pose_para,
    image_camera,
    pose_para,
    project,
    rotation_matrix,
    to_camera,
    vertices_in_image_frame,
)
from tddfa3.geometry.crop import CropTransform
from tddfa3.geometry.face_model import FaceModel
from tddfa3.geometry.landmarks import to_crop_pixels
from tests.support.golden import FOUND, golden_crop, golden_geometry, golden_names

GOLDEN = golden_names([*FOUND, "crop_astronaut__none"])

anytime = settings(deadline=None)
"""The first call of a torch function can take a second on a busy machine."""

angles = st.tuples(*[st.floats(-3.0, 3.0)] * 3)
poses = st.tuples(*[st.floats(-1.4, 1.4)] * 3)
translations = st.tuples(*[st.floats(-0.5, 0.5)] * 3)


@st.composite
def transforms(draw: st.DrawFn) -> CropTransform:
    w0, h0 = draw(st.integers(40, 6000)), draw(st.integers(40, 6000))
    s = draw(st.floats(0.1, 4.0))
    tx, ty = draw(st.floats(0, 1)) * w0, draw(st.floats(0, 1)) * h0
    return CropTransform(w0, h0, s, tx, ty)


def rotate(angle: tuple[float, float, float], point: tuple[float, float, float]) -> np.ndarray:
    """One point of the model frame, rotated; x right, y up, z towards the camera."""
    rotation = rotation_matrix(torch.tensor([angle], dtype=torch.float64))[0]
    return (torch.tensor(point, dtype=torch.float64) @ rotation).numpy()


@anytime
@given(angles)
def test_rotations_are_orthonormal(angle: tuple[float, float, float]) -> None:
    rotation = rotation_matrix(torch.tensor([angle], dtype=torch.float64))[0]
    torch.testing.assert_close(rotation @ rotation.T, torch.eye(3, dtype=torch.float64))
    assert torch.linalg.det(rotation).item() == pytest.approx(1.0)


@anytime
@given(angles)
def test_rotation_is_the_transposed_product_of_three(angle: tuple[float, float, float]) -> None:
    """``(Rz Ry Rx)^T``, with each factor turning its axes counter-clockwise."""

    def about(axis: int, value: float) -> np.ndarray:
        matrix = np.eye(3)
        i, j = (axis + 1) % 3, (axis + 2) % 3
        matrix[[i, i, j, j], [i, j, i, j]] = (
            np.cos(value),
            -np.sin(value),
            np.sin(value),
            np.cos(value),
        )
        return matrix

    wanted = (about(2, angle[2]) @ about(1, angle[1]) @ about(0, angle[0])).T
    rotation = rotation_matrix(torch.tensor([angle], dtype=torch.float64))[0].numpy()
    np.testing.assert_allclose(rotation, wanted, atol=1e-12)


def test_signs_of_the_angles() -> None:
    """The table of ``euler_degrees``: what each positive angle does to the nose and the top."""
    nose, top = (0.0, 0.0, 1.0), (0.0, 1.0, 0.0)
    assert rotate((0.3, 0, 0), nose)[1] < 0, "positive pitch: the nose goes down"
    assert rotate((0, 0.3, 0), nose)[0] > 0, "positive yaw: the nose goes to the image's right"
    assert rotate((0, 0, 0.3), top)[0] < 0, "positive roll: the top goes to the image's left"
    yaw, pitch, roll = euler_degrees(torch.tensor([[0.1, 0.2, 0.3]]))
    torch.testing.assert_close(
        torch.stack([yaw, pitch, roll]), torch.rad2deg(torch.tensor([[0.2], [0.1], [0.3]]))
    )


def test_projection_of_the_origin_and_of_the_axes() -> None:
    """The origin lies in the centre; x goes right, y up, and what is nearer looks larger."""
    points = torch.tensor([[[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [1, 0, 1]]])
    camera = to_camera(points, torch.eye(3)[None], torch.zeros(1, 3))
    torch.testing.assert_close(camera[0, :, 2], torch.tensor([10.0, 10, 10, 9]))
    wanted = torch.tensor([[112, 112], [213.5, 112], [112, 213.5], [112 + 1015 / 9, 112]])
    torch.testing.assert_close(project(camera)[0], wanted)


@anytime
@given(st.floats(-1.1, 1.1), st.floats(-1.1, 1.1), st.floats(NEAR, FAR))
def test_clip_space_agrees_with_the_projection(x: float, y: float, z: float) -> None:
    """Window coordinates by OpenGL's rule are the projected points; row 0 is the crop's top."""
    camera = torch.tensor([[[x, y, z]]], dtype=torch.float64)
    clip = clip_space(camera)[0, 0]
    window = (clip[:2] / clip[3] + 1) / 2 * 224
    column, y_up = project(camera)[0, 0]
    torch.testing.assert_close(window, torch.stack([column, 224 - y_up]))
    ndc = clip[2] / clip[3]
    assert -1 - 1e-9 <= ndc.item() <= 1 + 1e-9
    assert depth_from_ndc(ndc).item() == pytest.approx(z)


@pytest.mark.parametrize(("z", "ndc"), [(NEAR, -1.0), (FAR, 1.0)])
def test_near_and_far_planes(z: float, ndc: float) -> None:
    clip = clip_space(torch.tensor([[[0.0, 0.0, z]]]))[0, 0]
    assert (clip[2] / clip[3]).item() == pytest.approx(ndc)


@anytime
@given(poses, translations, transforms())
def test_camera_projects_the_model_onto_the_photograph(
    angle: tuple[float, float, float],
    trans: tuple[float, float, float],
    transform: CropTransform,
) -> None:
    """Three ways into image pixels agree: through the crop, K (R v + t), and K on the mesh in the
    photograph's frame."""
    vertices = np.random.default_rng(0).uniform(-1, 1, (30, 3))
    rotation = rotation_matrix(torch.tensor([angle], dtype=torch.float64))
    camera_frame = to_camera(
        torch.from_numpy(vertices)[None], rotation, torch.tensor([trans], dtype=torch.float64)
    )
    by_crop = transform.to_image(to_crop_pixels(project(camera_frame))[0].numpy())
    camera = image_camera(angle, trans, transform)
    np.testing.assert_allclose(camera.project(vertices), by_crop, atol=1e-6)

    mesh = vertices_in_image_frame(camera_frame)[0].numpy() @ camera.K.T
    np.testing.assert_allclose(mesh[:, :2] / mesh[:, 2:], by_crop, atol=1e-6)
    np.testing.assert_allclose(camera.R @ camera.R.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(camera.R) == pytest.approx(1)


@pytest.mark.parametrize("name", GOLDEN)
def test_mesh_in_the_photograph_hits_the_golden_landmarks(
    name: str, golden: Callable[[str], Mapping[str, np.ndarray]], golden_bundle: AssetBundle
) -> None:
    """K on the float32 mesh in the photograph's frame gives the landmarks within 0.01 px."""
    wanted = golden(name)
    data = golden_bundle.face_model()
    geometry = golden_geometry(FaceModel(data), wanted)
    transform = golden_crop(wanted)
    angle, trans = geometry.coefficients.angle[0], geometry.coefficients.trans[0]
    camera = image_camera(angle, trans, transform)
    mesh = vertices_in_image_frame(geometry.camera)[0].numpy()
    for landmark_set in ("68", "106", "134"):
        pixels = mesh[data.landmarks[landmark_set]] @ camera.K.T
        np.testing.assert_allclose(
            pixels[:, :2] / pixels[:, 2:], wanted[f"ldm{landmark_set}_image"], atol=0.01
        )


def test_vertices_in_image_frame_keeps_the_kind() -> None:
    array = np.array([[1, 2, 9]], dtype=np.float32)
    flipped = vertices_in_image_frame(array)
    assert flipped.dtype == np.float32
    np.testing.assert_array_equal(flipped, [[1, -2, 9]])
    assert vertices_in_image_frame(torch.from_numpy(array)).tolist() == [[1, -2, 9]]
    assert vertices_in_image_frame(np.zeros((0, 5, 3))).shape == (0, 5, 3)


def pose_para_rotation(pitch: float, yaw: float, roll: float) -> np.ndarray:
    """3DDFA's ``RotationMatrix`` as published with AFLW2000 and 300W-LP, for column vectors."""
    sx, sy, sz = np.sin([pitch, yaw, roll])
    cx, cy, cz = np.cos([pitch, yaw, roll])
    rx = np.array([[1, 0, 0], [0, cx, sx], [0, -sx, cx]])
    ry = np.array([[cy, 0, -sy], [0, 1, 0], [sy, 0, cy]])
    rz = np.array([[cz, sz, 0], [-sz, cz, 0], [0, 0, 1]])
    return rx @ ry @ rz


@anytime
@given(poses, translations, transforms())
def test_pose_para_is_3ddfas_weak_perspective(
    angle: tuple[float, float, float],
    trans: tuple[float, float, float],
    transform: CropTransform,
) -> None:
    """By 3DDFA's own formula, points near the model's origin land where the camera puts them."""
    pose = pose_para(angle, trans, transform)
    vertices = np.random.default_rng(0).normal(size=(20, 3)) * 1e-4
    weak = pose[6] * vertices @ pose_para_rotation(*pose[:3]).T + pose[3:6]
    weak[:, 1] = transform.h0 - 1 - weak[:, 1]
    camera = image_camera(angle, trans, transform)
    exact = camera.project(vertices)
    # What a weak perspective with one scale can't hold: off the axis, depth shears into x and y (at
    # most 0.5 units to the side at a distance of 9.5), and the two focal lengths differ a little.
    unequal = abs(camera.K[0, 0] / camera.K[1, 1] - 1)
    allowed = pose[6] * np.linalg.norm(vertices, axis=1) * (0.06 + unequal)
    assert (np.abs(weak[:, :2] - exact) <= allowed[:, None]).all()


@anytime
@given(poses, translations, transforms())
def test_pose_para_can_be_undone(
    angle: tuple[float, float, float],
    trans: tuple[float, float, float],
    transform: CropTransform,
) -> None:
    angle_back, trans_back = from_pose_para(pose_para(angle, trans, transform), transform)
    np.testing.assert_allclose(trans_back, trans, atol=1e-9)
    np.testing.assert_allclose(angle_back, angle, atol=1e-6)


def test_pose_para_signs_are_the_other_way_round() -> None:
    crop = CropTransform.identity()
    for axis in range(3):
        angle = np.eye(3)[axis] * 0.4
        np.testing.assert_allclose(pose_para(angle, np.zeros(3), crop)[:3], -angle, atol=1e-12)


@pytest.mark.parametrize("yaw", [np.pi / 2, -np.pi / 2])
def test_pose_para_of_a_full_profile_keeps_the_rotation(yaw: float) -> None:
    """Where pitch and roll turn about one axis, the angles are not unique; the rotation is."""
    pose = pose_para([0.0, yaw, 0.3], np.zeros(3), CropTransform.identity())
    wanted = rotation_matrix(torch.tensor([[0.0, yaw, 0.3]], dtype=torch.float64))[0].numpy().T
    np.testing.assert_allclose(pose_para_rotation(*pose[:3]), wanted, atol=1e-7)


def test_empty_batches() -> None:
    rotation = rotation_matrix(torch.zeros(0, 3))
    camera = to_camera(torch.zeros(0, 7, 3), rotation, torch.zeros(0, 3))
    assert camera.shape == (0, 7, 3)
    assert project(camera).shape == (0, 7, 2)
    assert clip_space(camera).shape == (0, 7, 4)
    assert rotation.shape == (0, 3, 3)
    assert [part.shape for part in euler_degrees(torch.zeros(0, 3))] == [(0,)] * 3


def test_to_camera_leaves_its_inputs_alone() -> None:
    shape = torch.randn(2, 5, 3)
    copy = shape.clone()
    camera = to_camera(shape, rotation_matrix(torch.zeros(2, 3)), torch.zeros(2, 3))
    assert torch.equal(shape, copy)
    torch.testing.assert_close(camera[..., 2], CAMERA_DISTANCE - shape[..., 2])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: rotation_matrix(torch.zeros(3)), r"angle must have shape \(B, 3\), not \(3,\)"),
        (lambda: project(torch.zeros(4, 2)), r"camera must have shape \(\.\.\., 3\)"),
        (
            lambda: clip_space(torch.zeros(4, 3)),
            r"camera must have shape \(B, V, 3\), not \(4, 3\)",
        ),
        (
            lambda: to_camera(torch.zeros(2, 5, 3), torch.zeros(1, 3, 3), torch.zeros(2, 3)),
            r"rotation \(1, 3, 3\)",
        ),
        (lambda: euler_degrees(np.zeros((2, 4))), r"angle .* not \(2, 4\)"),
        (lambda: vertices_in_image_frame(np.zeros((2, 2))), r"camera .* not \(2, 2\)"),
        (
            lambda: image_camera(np.zeros((1, 3)), np.zeros(3), CropTransform.identity()),
            r"angle must have shape \(3,\), not \(1, 3\)",
        ),
        (
            lambda: from_pose_para(np.zeros(7), CropTransform.identity()),
            "positive scale",
        ),
    ],
)
def test_wrong_shapes_are_named(call: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
