"""Degrades a picture as a camera and a file format do, and reduces it to the network's input."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from tddfa3.networks.backbones.efficientlite import INPUT_SIZE

Floats = npt.NDArray[np.floating]


def photograph(random: np.random.Generator, picture: Floats) -> npt.NDArray[np.uint8]:
    """(224,224,3) RGB 0..1 to (112,112,3) uint8, the means of 2x2 pixels.

    The picture is first reduced to the resolution of a face in a photograph, which is often lower
    than the crop's, gets a photograph's blur, noise, tones and JPEG blocks, and is then enlarged.
    """
    size = len(picture)
    if random.random() < 0.35:
        picture = cv2.GaussianBlur(picture, (0, 0), random.uniform(0.3, 2.5))
    if random.random() < 0.1:
        picture = _motion_blur(random, picture)
    taken = size if random.random() < 0.4 else int(random.uniform(0.28, 1.0) * size)
    if taken < size:
        picture = cv2.resize(picture, (taken, taken), interpolation=cv2.INTER_AREA)
    picture = _tones(random, picture)
    if random.random() < 0.5:
        picture = _noise(random, picture)
    levels = (np.clip(picture, 0, 1) * 255).astype(np.uint8)
    if random.random() < 0.6:
        quality = [cv2.IMWRITE_JPEG_QUALITY, int(random.integers(25, 96))]
        _, encoded = cv2.imencode(".jpg", levels, quality)
        levels = cv2.imdecode(encoded, cv2.IMREAD_UNCHANGED)
    if taken < size:
        levels = cv2.resize(levels, (size, size), interpolation=cv2.INTER_CUBIC)
    return cv2.resize(levels, (INPUT_SIZE, INPUT_SIZE), interpolation=cv2.INTER_AREA)


def _motion_blur(random: np.random.Generator, picture: Floats) -> Floats:
    length = int(random.integers(3, 13))
    kernel = np.zeros((length, length), np.float32)
    kernel[length // 2] = 1
    middle = (length - 1) / 2
    turn = cv2.getRotationMatrix2D((middle, middle), random.uniform(0, 180), 1)
    kernel = cv2.warpAffine(kernel, turn, (length, length))
    return cv2.filter2D(picture, -1, kernel / max(float(kernel.sum()), 1e-3))


def _tones(random: np.random.Generator, picture: Floats) -> Floats:
    """Gamma, contrast, brightness, colour cast, a soft shadow, sometimes black and white."""
    picture = np.clip(picture, 0, 1) ** np.float32(random.uniform(0.65, 1.35))
    mean = picture.mean()
    picture = (picture - mean) * np.float32(random.uniform(0.7, 1.4))
    picture += mean * np.float32(random.uniform(0.8, 1.25)) + np.float32(random.normal(0, 0.05))
    picture *= (1 + random.normal(0, 0.08, 3)).astype(np.float32)
    if random.random() < 0.1:
        picture = picture.mean(axis=2, keepdims=True).repeat(3, 2)
    if random.random() < 0.5:
        size = picture.shape[1], picture.shape[0]
        shadow = cv2.resize(
            random.normal(size=(3, 3)).astype(np.float32), size, interpolation=cv2.INTER_CUBIC
        )
        picture = picture * (1 + shadow[..., None] * np.float32(random.uniform(0, 0.25)))
    return picture


def _noise(random: np.random.Generator, picture: Floats) -> Floats:
    grain = random.standard_normal(picture.shape, dtype=np.float32)
    if random.random() < 0.5:
        grain = cv2.GaussianBlur(grain, (0, 0), 1.0) * 3
    return picture + grain * np.float32(random.uniform(0, 0.05))
