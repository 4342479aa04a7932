"""Random poses, seen through the crop that a detector's five points would give."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from tddfa3.conventions import CAMERA_DISTANCE, CENTRE, CROP_SIZE, FOCAL
from tddfa3.geometry.camera import (
    project,
    rotation_matrix,
    to_camera,
)
from tddfa3.geometry.crop import estimate_crop

Floats = npt.NDArray[np.floating]

POINT_ERROR = (0.5, 3.0)
"""Least and most standard deviation of MTCNN's five points in crop pixels; a few are much worse."""
POINT_OFFSET = np.array([[0, 2.0], [0, 2.0], [0, -1.8], [0, 1.8], [0, 1.8]])
"""Mean offset of MTCNN's points from the landmarks, in crop pixels, y up: eyes and mouth are high,
the nose is low."""
LEFT_EYE, RIGHT_EYE = [36, 39], [42, 45]
NOSE_TIP, LEFT_CORNER, RIGHT_CORNER = 30, 48, 54
NEAREST, FARTHEST = 6.0, 16.0
"""From the camera, in model units."""


def random_angle(random: np.random.Generator) -> Floats:
    """(3,) pitch, yaw, roll in radians: half of them frontal, half as far as a detector finds."""
    yaw = random.normal(0, 0.28) if random.random() < 0.5 else random.uniform(-0.95, 0.95)
    pitch = random.normal(0, 0.15) if random.random() < 0.6 else random.uniform(-0.45, 0.45)
    roll = random.normal(0, 0.12) if random.random() < 0.75 else random.uniform(-0.6, 0.6)
    return np.array([pitch, yaw, roll])


def translation_of_crop(
    random: np.random.Generator, landmarks: Floats, angle: Floats, standard_points: Floats
) -> Floats:
    """Where the head must be for the picture to be the crop around its detected points.

    A detector's points are drawn, then the head is moved until :func:`estimate_crop` would leave
    the picture as it is. So the pictures are cropped like photographs.

    Args:
        random: draws the points' errors.
        landmarks: (68,3) in the model frame.
        angle: (3,) radians.
        standard_points: (5,3), the crop's.

    Returns:
        (3,) translation in model units.
    """
    rotation = rotation_matrix(torch.from_numpy(angle)[None])
    points = torch.from_numpy(np.asarray(landmarks, np.float64))[None]
    worse = 1.0 if random.random() < 0.9 else 2.0
    error = random.normal(size=(5, 2)) * random.uniform(*POINT_ERROR) * worse
    error += POINT_OFFSET * random.uniform(0, 1.5)
    trans = np.zeros(3)
    for _ in range(3):
        camera = to_camera(points, rotation, torch.from_numpy(trans)[None])
        crop_y_up = project(camera)[0].numpy()
        found = five_points(crop_y_up) + error
        found[:, 1] = CROP_SIZE - 1 - found[:, 1]
        crop = estimate_crop(found, (CROP_SIZE, CROP_SIZE), standard_points)
        distance = np.clip((CAMERA_DISTANCE - trans[2]) / crop.s, NEAREST, FARTHEST)
        shift = (CENTRE - np.array([crop.tx, crop.ty])) / FOCAL * distance
        trans = np.array([*(trans[:2] + shift), CAMERA_DISTANCE - distance])
    return trans + random.normal(size=3) * (0.008, 0.008, 0.1)


def five_points(landmarks: Floats) -> Floats:
    """(68,2) to (5,2): the viewer's left eye, right eye, nose tip, left and right mouth corner."""
    return np.stack(
        [
            landmarks[LEFT_EYE].mean(axis=0),
            landmarks[RIGHT_EYE].mean(axis=0),
            landmarks[NOSE_TIP],
            landmarks[LEFT_CORNER],
            landmarks[RIGHT_CORNER],
        ]
    )
