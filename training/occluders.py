"""Things in front of a face, drawn flat: glasses, hands, strands of hair, patches, hats."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from training.backdrop import backdrop

Floats = npt.NDArray[np.floating]
Points = npt.NDArray[np.floating]


def occlude(
    random: np.random.Generator, picture: Floats, points: Points, skin: Floats, hair: Floats
) -> Floats:
    """The picture with random things that hide parts of the face.

    Args:
        random: decides on them.
        picture: (S,S,3) RGB.
        points: (68,2) landmarks in it, x right, y down.
        skin: (3,) lit colour.
        hair: (3,) lit colour.
    """
    if random.random() < 0.2:
        picture = _glasses(random, picture, points)
    if random.random() < 0.06:
        picture = _hat(random, picture, points)
    for _ in range(random.choice([0, 1, 2], p=[0.72, 0.2, 0.08])):
        kind = random.random()
        layer = picture.copy()
        if kind < 0.35:
            _hand(random, layer, points, skin)
        elif kind < 0.65:
            _strands(random, layer, points, hair)
        else:
            layer = _patch(random, layer, points)
        opacity = np.float32(random.uniform(0.75, 1))
        picture = layer * opacity + picture * (1 - opacity)
    return np.ascontiguousarray(picture)


def _pixel(point: Points) -> tuple[int, int]:
    return round(float(point[0])), round(float(point[1]))


def _glasses(random: np.random.Generator, picture: Floats, points: Points) -> Floats:
    frame = (random.uniform(0, 0.6, 3) * random.choice([0.15, 1])).tolist()
    thick = int(random.integers(1, 6))
    across = points[45] - points[36]
    tilt = float(np.degrees(np.arctan2(across[1], across[0])))
    stretch = random.uniform(0.8, 1.3), random.uniform(0.6, 1.15)
    height = float(np.linalg.norm(points[36:48].mean(axis=0) - points[30])) * 0.85 * stretch[1]
    rectangular = random.random() < 0.4
    boxes = []
    for eye in (points[36:42], points[42:48]):
        centre = eye.mean(axis=0) + np.array([0, random.normal(2, 2)])
        width = float(np.linalg.norm(eye[3] - eye[0])) * 1.9 * stretch[0]
        boxes.append(((float(centre[0]), float(centre[1])), (max(width, 4), max(height, 4)), tilt))

    def outline(target: Floats, box: tuple, colour: list[float], thickness: int) -> None:
        if not rectangular:
            cv2.ellipse(target, box, colour, thickness, cv2.LINE_AA)
            return
        corners = cv2.boxPoints(box).astype(np.int32)
        if thickness < 0:
            cv2.fillConvexPoly(target, corners, colour, cv2.LINE_AA)
        else:
            cv2.polylines(target, [corners], True, colour, thickness, cv2.LINE_AA)

    if random.random() < 0.3:  # dark or tinted glass
        layer, tint = picture.copy(), random.uniform(0, 0.3, 3).tolist()
        for box in boxes:
            outline(layer, box, tint, -1)
        opacity = np.float32(random.uniform(0.4, 1))
        picture = layer * opacity + picture * (1 - opacity)
    picture = np.ascontiguousarray(picture)
    for box in boxes:
        outline(picture, box, frame, thick)
    (left, right), bridge = (np.array(box[0]) for box in boxes), (points[42] - points[39]) / 3.2
    cv2.line(picture, _pixel(left + bridge), _pixel(right - bridge), frame, thick, cv2.LINE_AA)
    for centre, temple in ((left, points[0]), (right, points[16])):
        start = centre * 0.55 + temple * 0.45
        cv2.line(picture, _pixel(start), _pixel(temple), frame, thick, cv2.LINE_AA)
    return picture


def _hat(random: np.random.Generator, picture: Floats, points: Points) -> Floats:
    down = points[8] - points[27]
    length = max(float(np.linalg.norm(down)), 1.0)
    down = down / length
    side = np.array([-down[1], down[0]])
    brim = points[27] - down * length * random.uniform(0.3, 0.6)
    corners = np.stack(
        [
            brim - side * length,
            brim + side * length,
            brim + side * length * 0.8 - down * 200,
            brim - side * length * 0.8 - down * 200,
        ]
    )
    colour = random.uniform(0, 1, 3).tolist()
    cv2.fillConvexPoly(picture, corners.astype(np.int32), colour, cv2.LINE_AA)
    return picture


def _hand(random: np.random.Generator, layer: Floats, points: Points, skin: Floats) -> None:
    start = points[random.integers(68)] + random.normal(0, 16, 2)
    direction = random.normal(size=2)
    direction /= max(float(np.linalg.norm(direction)), 1e-6)
    side = np.array([-direction[1], direction[0]])
    width = int(random.uniform(8, 20))
    tone = skin * np.float32(random.uniform(0.7, 1.1))
    for finger in range(random.integers(1, 5)):
        root = start + side * finger * width * 1.05
        colour = (tone * np.float32(1 - 0.08 * finger)).tolist()
        cv2.line(layer, _pixel(root), _pixel(root + direction * 180), colour, width, cv2.LINE_AA)


def _strands(random: np.random.Generator, layer: Floats, points: Points, hair: Floats) -> None:
    for _ in range(random.integers(1, 8)):
        root = points[random.integers(17, 27)] + random.normal(0, 20, 2) - [0, 45]
        tip = root + np.array([random.normal(0, 30), random.uniform(45, 160)])
        colour = (hair * np.float32(random.uniform(0.7, 1.3))).tolist()
        thick = int(random.integers(1, 14))
        cv2.line(layer, _pixel(root), _pixel(tip), colour, thick, cv2.LINE_AA)


def _patch(random: np.random.Generator, layer: Floats, points: Points) -> Floats:
    centre = points[random.integers(68)] + random.normal(0, 16, 2)
    mask = np.zeros(layer.shape[:2], np.float32)
    axes = (float(random.uniform(20, 100)), float(random.uniform(15, 80)))
    box = (tuple(centre.tolist()), axes, float(random.uniform(0, 180)))
    cv2.ellipse(mask, box, 1.0, -1, cv2.LINE_AA)
    return layer + (backdrop(random, len(layer)) - layer) * mask[..., None]
