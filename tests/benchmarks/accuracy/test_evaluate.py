"""The evaluation's figures on made-up points, and its command on a photograph."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from skimage import data as pictures

from benchmarks.accuracy import evaluate as command
from benchmarks.accuracy.evaluate import Evaluation, halved, rigid_pose, tables
from benchmarks.accuracy.measure import (
    GROUPS,
    RIGID,
    Measured,
    ReferencePhoto,
    canonical_points,
    correlation,
    measure,
    pose_of_points,
    read_photos,
    summary,
)
from tddfa3.assets.bundle import AssetBundle
from tddfa3.errors import UserError
from tddfa3.geometry.camera import image_camera
from tddfa3.geometry.crop import CropTransform
from training.pose import five_points

CROP = CropTransform(400, 300, 0.8, 210.0, 140.0)


def made_up_points(offset: float = 0.0) -> np.ndarray:
    """(68,2): a frontal face of 100 pixels between the outer eye corners."""
    points = np.random.default_rng(0).uniform(50, 250, (68, 2))
    points[[36, 45]] = [[100, 100], [200, 100]]
    points[[62, 66]] = [[150, 200], [150, 230]]
    return points + np.array([offset, 0])


def test_errors_are_in_percent_of_the_outer_eye_distance() -> None:
    photo = ReferencePhoto("made up", np.zeros((300, 400, 3), np.uint8), made_up_points())
    camera = image_camera(np.zeros(3), np.zeros(3), CROP)
    measured = measure(photo, made_up_points(offset=3.0), 0.0, 0.0, camera)
    np.testing.assert_allclose(measured.errors, 3.0)
    assert measured.mean == pytest.approx(3.0)
    assert [measured.group(name) for name in GROUPS] == pytest.approx([3.0] * len(GROUPS))
    assert measured.opening == measured.reference_opening == pytest.approx(0.3)
    assert sorted(i for group in GROUPS.values() for i in group) == list(range(68))


@pytest.mark.parametrize("angle", [(0.0, 0.0, 0.0), (0.2, -0.5, 0.1), (-0.3, 0.6, -0.2)])
def test_the_reference_pose_is_that_of_the_points(angle: tuple[float, float, float]) -> None:
    camera = image_camera(np.array(angle), np.array([0.05, -0.1, 0.4]), CROP)
    points = np.zeros((68, 2))
    points[RIGID] = camera.project(canonical_points())
    yaw, pitch = pose_of_points(points, camera.K)
    assert yaw == pytest.approx(np.degrees(angle[1]), abs=0.01)
    assert pitch == pytest.approx(np.degrees(angle[0]), abs=0.01)


def test_the_rigid_baseline_finds_the_pose_of_its_own_points() -> None:
    mean = np.random.default_rng(1).uniform(-0.7, 0.7, (68, 3))
    # An eye's point is the middle of its corners, in space as in the picture only if they coincide.
    mean[[39, 45]] = mean[[36, 42]]
    camera = image_camera(np.array([0.1, 0.4, -0.1]), np.zeros(3), CROP)
    points, yaw, pitch = rigid_pose(five_points(camera.project(mean)), mean, camera.K)
    np.testing.assert_allclose(points, camera.project(mean), atol=0.05)
    assert (yaw, pitch) == (
        pytest.approx(np.degrees(0.4), abs=0.1),
        pytest.approx(np.degrees(0.1), abs=0.1),
    )


def a_face(name: str, error: float, opening: float) -> Measured:
    return Measured(name, np.full(68, error), error, -2 * error, opening, 2 * opening)


def test_the_table_reports_both_halves() -> None:
    faces = [a_face(f"p{i}", float(i), 0.1 * i) for i in range(4)]
    evaluation = Evaluation(faces, faces, faces, ["p4"])
    assert halved(evaluation) == {
        "all": {"p0", "p1", "p2", "p3", "p4"},
        "tuning": {"p0", "p1", "p2"},
        "held out": {"p3", "p4"},
    }
    figures = summary(faces)
    assert figures["mean"] == figures["yaw"] == 1.5
    assert figures["pitch"] == 3
    assert figures["opening"] == pytest.approx(1)
    text = tables(evaluation)
    assert "4 of 5 faces detected" in text
    assert "| network, tuning | 1.00 |" in text
    assert "| network, held out | 3.00 |" in text
    assert "| p4 | not detected |" in text


def test_no_correlation_of_what_does_not_vary() -> None:
    assert np.isnan(correlation([1, 1, 1], [1, 2, 3]))
    assert correlation([1, 2, 4], [-1, -2, -4]) == pytest.approx(-1)


@pytest.mark.parametrize("content", ["1 2\n" * 67, "a b\n" * 68, "1 2 3\n" * 68, "nan 2\n" * 68])
def test_points_that_are_not_68_pairs_are_refused(tmp_path: Path, content: str) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    (tmp_path / "a.mediapipe68.txt").write_text(content)
    with pytest.raises(UserError, match=r"a\.mediapipe68\.txt"):
        read_photos(tmp_path)


def test_a_folder_without_references_is_refused(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    with pytest.raises(UserError, match="mediapipe68"):
        read_photos(tmp_path)


@pytest.fixture
def photo_folder(tmp_path: Path) -> Path:
    """One photograph with a face and made-up points on it, one without a face."""
    folder = tmp_path / "photos"
    folder.mkdir()
    Image.fromarray(pictures.astronaut()).save(folder / "astronaut.png")
    Image.new("RGB", (160, 120), (90, 120, 60)).save(folder / "meadow.png")
    for name in ("astronaut", "meadow"):
        np.savetxt(folder / f"{name}.mediapipe68.txt", made_up_points() / 2 + [150, 60])
    return folder


def test_the_command_measures_a_bundle(
    small_bundle: AssetBundle,
    photo_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    sheet = tmp_path / "sheet.png"
    arguments = ["evaluate", "--bundle", str(small_bundle.path), "--photos", str(photo_folder)]
    monkeypatch.setattr("sys.argv", [*arguments, "--sheet", str(sheet)])
    command.main()
    printed = capsys.readouterr().out
    assert "1 of 2 faces detected" in printed
    assert "| astronaut |" in printed
    assert "| meadow | not detected |" in printed
    with Image.open(sheet) as image:
        assert image.width > image.height > 400


def test_the_command_refuses_in_one_line(
    photo_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    arguments = ["--bundle", str(tmp_path / "nothing"), "--photos", str(photo_folder)]
    monkeypatch.setattr("sys.argv", ["evaluate", *arguments])
    assert command.main() == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1
