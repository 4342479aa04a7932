"""Procedural pictures with cartoon heads.

They only pass through the random networks, to measure the statistics that their layers need.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tddfa3.assets.generators.synthetic.seeded import FloatArray, NamedRandom

Head = tuple[float, float, float]
"""Centre x, centre y and radius, in pixels."""


def picture(
    random: NamedRandom, name: str, size: int, heads: Sequence[Head] | None = None
) -> FloatArray:
    """(3,size,size) RGB 0..255: smooth background, sharp-edged clutter, heads, noise.

    Without ``heads``, one big head near the middle.
    """
    generator = random("picture" + name)
    image = _background(generator, size)
    for _ in range(int(generator.integers(0, 14))):
        _draw_box(generator, image, size)
    if heads is None:
        heads = [
            (
                size * generator.uniform(0.44, 0.56),
                size * generator.uniform(0.44, 0.56),
                size * generator.uniform(0.33, 0.45),
            )
        ]
    for head in heads:
        image = _draw_head(generator, image, head)
    image += generator.uniform(0, 8) * generator.normal(size=image.shape)
    middle = image.mean()
    contrast = generator.uniform(0.6, 1.6)
    return np.clip((image - middle) * contrast + middle + generator.normal() * 20, 0, 255)


def _background(generator: np.random.Generator, size: int) -> FloatArray:
    """Four noise fields with a 1/f spectrum: a common one, and one for each channel."""
    frequencies = np.meshgrid(np.fft.fftfreq(size), np.fft.fftfreq(size))
    frequency = np.hypot(*frequencies) + 1.0 / size
    fields, slope = [], generator.uniform(1.0, 1.7)
    for _ in range(4):
        white = generator.normal(size=(size, size))
        noise = np.fft.ifft2(np.fft.fft2(white) / frequency**slope).real
        fields.append((noise - noise.mean()) / noise.std())
    base = generator.uniform(40, 210) + generator.uniform(15, 60) * fields[0]
    return np.stack(
        [
            base + generator.uniform(4, 25) * fields[channel] + generator.normal() * 25
            for channel in (1, 2, 3)
        ]
    )


def _draw_box(generator: np.random.Generator, image: FloatArray, size: int) -> None:
    x, y = (generator.uniform(-0.2, 1, 2) * size).astype(int)
    width, height = (generator.uniform(0.03, 0.6, 2) * size).astype(int)
    rows, columns = slice(max(y, 0), max(y + height, 0)), slice(max(x, 0), max(x + width, 0))
    box = (slice(None), rows, columns)
    image[box] = image[box] * 0.3 + 0.7 * generator.uniform(0, 255, (3, 1, 1))


def _soft_step(distance: FloatArray, width: float) -> FloatArray:
    """1 inside (distance < 0), 0 outside, with a soft border."""
    return 1 / (1 + np.exp(np.clip(distance / width, -40, 40)))


def _blend(image: FloatArray, mask: FloatArray, rgb: FloatArray | Sequence[float]) -> FloatArray:
    return image * (1 - mask) + np.asarray(rgb, float)[:, None, None] * mask


def _draw_head(generator: np.random.Generator, image: FloatArray, head: Head) -> FloatArray:
    centre_x, centre_y, radius = head
    size = image.shape[1]
    rows, columns = np.mgrid[0:size, 0:size].astype(float)
    tone = generator.uniform(0.55, 1.1)
    tilt = generator.normal() * 0.2
    dx, dy = columns - centre_x, rows - centre_y
    u = (dx * np.cos(tilt) + dy * np.sin(tilt)) / radius
    v = (-dx * np.sin(tilt) + dy * np.cos(tilt)) / radius
    hair = np.array([60, 45, 38]) * generator.uniform(0.4, 2)
    image = _blend(image, _soft_step(np.hypot(u / 0.95, (v + 0.15) / 1.15) - 1, 0.03), hair)
    light = 1 + 0.25 * generator.normal() * u + 0.15 * generator.normal() * v
    face = _soft_step(np.hypot(u / 0.75, v) - 1, 0.02)
    image = image * (1 - face) + np.array([205, 160, 138])[:, None, None] * tone * light * face
    for side in (-1, 1):
        image = _draw_eye(generator, image, u - side * 0.3, v, tone)
    image = image * (1 - 0.35 * _soft_step(np.hypot(u / 0.12, (v - 0.17) / 0.04) - 1, 0.3))
    mouth = np.hypot(u / 0.24, (v - 0.48) / (0.05 + 0.06 * generator.random())) - 1
    return _blend(image, _soft_step(mouth, 0.1), np.array([175, 85, 85]) * tone)


def _draw_eye(
    generator: np.random.Generator, image: FloatArray, u: FloatArray, v: FloatArray, tone: float
) -> FloatArray:
    opening = 0.06 * generator.uniform(0.4, 1.2)
    white = _soft_step(np.hypot(u / 0.13, (v + 0.18) / opening) - 1, 0.1)
    image = _blend(image, white, np.array([225, 220, 215]) * tone)
    image = _blend(image, _soft_step(np.hypot(u, v + 0.18) / 0.05 - 1, 0.1), (50, 38, 30))
    brow_height = v + 0.36 + 0.05 * generator.normal()
    brow = _soft_step(np.hypot(u / 0.17, brow_height / 0.035) - 1, 0.2)
    return _blend(image, brow, np.array([80, 60, 48]))
