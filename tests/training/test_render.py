"""Renders of the open face: seeded, complete, and true to the coefficients that come with them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from tddfa3.assets.face_model_data import FaceModelData
from tddfa3.coefficients import split
from tddfa3.errors import UserError
from tddfa3.geometry.crop import estimate_crop
from tddfa3.geometry.face_model import FaceModel
from training.anatomy import mouth_interior
from training.people import JAW, LIDS, People
from training.pose import five_points
from training.render import (
    Renders,
    face_model_data,
    load_shards,
    render_shard,
    save_shard,
    shard_path,
)
from training.scene import Studio

PICTURES = 36


@pytest.fixture(scope="module")
def data() -> FaceModelData:
    return face_model_data()


@pytest.fixture(scope="module")
def studio(data: FaceModelData) -> Studio:
    return Studio(data)


@pytest.fixture(scope="module")
def shard(studio: Studio) -> Renders:
    return render_shard(studio, seed=0, number=0, count=PICTURES)


def test_a_shard_depends_on_seed_and_number_alone(studio: Studio, shard: Renders) -> None:
    again = render_shard(studio, seed=0, number=0, count=5)
    np.testing.assert_array_equal(again.pictures, shard.pictures[:5])
    np.testing.assert_array_equal(again.coefficients, shard.coefficients[:5])
    other = render_shard(studio, seed=0, number=1, count=1)
    assert (other.pictures[0] != shard.pictures[0]).mean() > 0.5


def test_pictures_show_something(studio: Studio, shard: Renders) -> None:
    assert shard.pictures.shape == (PICTURES, 112, 112, 3)
    assert shard.pictures.dtype == np.uint8
    assert shard.coefficients.shape == (PICTURES, studio.people.sizes.total)
    assert np.isfinite(shard.coefficients).all()
    middle = shard.pictures[:, 30:90, 30:80].reshape(PICTURES, -1)
    assert (middle.std(axis=1) > 4).mean() > 0.9


def test_the_crop_around_its_points_is_the_picture(data: FaceModelData, shard: Renders) -> None:
    """What a detector's points make of a photograph, up to that detector's errors."""
    geometry = FaceModel(data)(split(torch.from_numpy(shard.coefficients), data.sizes))
    landmarks = geometry.points[:, torch.from_numpy(data.landmarks["68"]).long()].numpy()
    crops = []
    for points in landmarks:
        five = five_points(points)
        five[:, 1] = 223 - five[:, 1]
        crops.append(estimate_crop(five, (224, 224), data.standard_points))
    scales = np.array([crop.s for crop in crops])
    places = np.array([[crop.tx, crop.ty] for crop in crops])
    assert 0.9 < np.median(scales) < 1.1
    assert np.abs(np.median(places, axis=0) - 112).max() < 4
    assert np.abs(places - 112).max() < 25


def test_a_mouth_opens_and_its_inside_lies_behind_the_lips(
    studio: Studio, data: FaceModelData
) -> None:
    """An open jaw moves the lower lip, not nose and eyes; what shows lies behind the lips."""
    random = np.random.default_rng(3)
    person = studio.person(random)
    exp = torch.zeros(2, data.sizes.exp)
    exp[1, JAW] = 3.0
    identity = torch.from_numpy(person.identity).expand(2, -1)
    shapes = studio.model.shape(identity, exp)
    moved = (shapes[1] - shapes[0]).norm(dim=1)[torch.from_numpy(data.landmarks["68"]).long()]
    assert moved[66] > 0.2  # the lower lip
    assert moved[27:48].max() < 0.02  # nose and eyes
    surfaces = mouth_interior(
        random,
        shapes[1].numpy()[data.landmarks["68"]],
        shapes[0].numpy()[data.landmarks["68"]],
        studio.jaw * 3.0,
    )
    lips = shapes[1].numpy()[data.landmarks["68"][48:60]]
    for surface in surfaces:
        assert surface.positions[:, 2].max() < lips[:, 2].max()  # behind the lips
        inside = np.abs(surface.positions[:, 0]) <= np.abs(lips[:, 0]).max()
        assert inside.all()


def test_mouths_and_eyes_come_in_every_opening(data: FaceModelData) -> None:
    people, random = People(data), np.random.default_rng(0)
    identity = np.zeros(data.sizes.id, np.float32)
    drawn = np.stack([people.expression(random, identity) for _ in range(600)])
    mouth = people.mouth[0] + drawn @ people.mouth[2]
    assert (mouth < people.mouth[0] + 0.02).mean() > 0.15
    counts, _ = np.histogram(mouth, bins=[0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4])
    assert counts.min() > 10
    right, left = (people.lids[0] + drawn @ people.lids[2].T).T
    usual = people.lids[0].mean()
    assert ((right < 0.3 * usual) & (left < 0.3 * usual)).mean() > 0.05
    assert (np.abs(right - left) > 0.4 * usual).mean() > 0.03
    assert (drawn[:, LIDS] > 1.5).any()


def test_shards_are_kept_whole(shard: Renders, tmp_path: Path) -> None:
    save_shard(shard_path(tmp_path, 1), Renders(shard.pictures[3:], shard.coefficients[3:]))
    save_shard(shard_path(tmp_path, 0), Renders(shard.pictures[:3], shard.coefficients[:3]))
    loaded = load_shards(tmp_path)
    np.testing.assert_array_equal(loaded.pictures, shard.pictures)
    np.testing.assert_array_equal(loaded.coefficients, shard.coefficients)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["shard-0000.npz", "shard-0001.npz"]


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"training\.render"):
        load_shards(tmp_path)
