"""The rest of the head: the inside of the mouth, skull, ears, neck and hair."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from training.noise import bump, fractal
from training.paint import PaintedHead
from training.surfaces import (
    ATLAS_SHAPE,
    PATCH_SIZE,
    PATCHES,
    Surface,
    ellipsoid,
    grid,
    kept_behind,
)

Floats = npt.NDArray[np.floating]

CORNERS = [48, 54]
OUTER_UPPER = [48, 49, 50, 51, 52, 53, 54]
OUTER_LOWER = [48, 59, 58, 57, 56, 55, 54]
INNER_UPPER = [60, 61, 62, 63, 64]
INNER_LOWER = [60, 67, 66, 65, 64]
TEETH_DEPTH, WALL_DEPTH = 0.05, 0.075
"""How far teeth and the mouth's wall lie behind the lips, in model units."""


def mouth_interior(
    random: np.random.Generator, landmarks: Floats, relaxed: Floats, jaw: Floats
) -> list[Surface]:
    """Wall, teeth and tongue.

    Args:
        random: draws the sizes and colours.
        landmarks: (68,3) of the face, model frame.
        relaxed: (68,3) of the same head without expression, which says where the teeth are.
        jaw: (3,) how far the jaw, with its teeth and the tongue, has moved.
    """
    shadow = random.uniform(0.5, 1.0)
    line = float(relaxed[[60, 64], 1].mean())
    # Lips that pout or are drawn back neither move the teeth nor hide them.
    upper_edge = line - random.uniform(-0.01, 0.075)
    lower_edge = line + float(jaw[1]) + random.uniform(-0.09, 0.03)
    surfaces = [_wall(landmarks, shadow * random.uniform(0.08, 0.4))]
    if random.random() < 0.93:
        light = shadow * random.uniform(0.7, 1.1)
        surfaces.append(_teeth("upper_teeth", landmarks, INNER_UPPER, upper_edge, 0.12, light))
    if random.random() < 0.7:
        light = shadow * random.uniform(0.4, 1.0)
        surfaces.append(_teeth("lower_teeth", landmarks, INNER_LOWER, lower_edge, -0.1, light))
    if random.random() < 0.75:
        centre = landmarks[INNER_LOWER].mean(axis=0)
        centre = centre + np.array([0, random.uniform(-0.05, 0.03), -0.15])
        half = float(landmarks[54, 0] - landmarks[48, 0]) / 2
        radii = (half * random.uniform(0.5, 0.75), random.uniform(0.03, 0.07), 0.11)
        light = shadow * random.uniform(0.3, 0.8)
        surfaces.append(ellipsoid("tongue", centre, radii, light, rows=9, columns=14))
    return surfaces


def _wall(landmarks: Floats, light: float) -> Surface:
    """A hollow sheet behind the lips, large enough that no gap shows beside it."""
    upper, lower = landmarks[OUTER_UPPER], landmarks[OUTER_LOWER]
    down = np.linspace(0, 1, 7)[:, None, None]
    sheet = upper * (1 - down) + lower * down
    across = np.linspace(-1, 1, len(OUTER_UPPER))
    hollow = (1 - across**2) * np.sin(np.pi * down[..., 0])
    sheet[..., 2] -= WALL_DEPTH + 0.2 * hollow
    return grid("cavity", sheet, light * (1 - 0.6 * hollow))


def _teeth(
    patch: str, landmarks: Floats, lip: list[int], edge: float, height: float, light: float
) -> Surface:
    """A strip along the lip's curve, from ``edge`` up (or down) by ``height``."""
    points = landmarks[lip]
    reach = 0.93 if height > 0 else 0.75  # the lower teeth are closer together
    across = np.linspace(-reach, reach, 13)
    at = np.linspace(-1, 1, len(lip))
    x, z = np.interp(across, at, points[:, 0]), np.interp(across, at, points[:, 2])
    edges = edge - np.copysign(0.012, height) * across**2
    rows = [edges + height, edges] if height > 0 else [edges, edges + height]
    y = np.linspace(rows[0], rows[1], 4)
    depth = TEETH_DEPTH if height > 0 else 1.2 * TEETH_DEPTH
    positions = np.stack(np.broadcast_arrays(x, y, z - depth), -1)
    return grid(patch, positions, light * (1 - 0.55 * across**4))


@dataclass(frozen=True)
class Build:
    """Where a head's other parts attach, in model units.

    Attributes:
        half_width: x of the face's widest place.
        rim_depth: z of that place, where the face's mesh ends.
        eye_y: mean y of the eyes.
        chin: (3,).
    """

    half_width: float
    rim_depth: float
    eye_y: float
    chin: Floats

    @classmethod
    def of(cls, vertices: Floats, landmarks: Floats) -> Build:
        """The build of a face with vertices (V,3) and landmarks (68,3) in the model frame."""
        widest = int(vertices[:, 0].argmax())
        return cls(
            float(vertices[widest, 0]),
            float(vertices[widest, 2]),
            float(landmarks[36:48, 1].mean()),
            landmarks[8],
        )


def surroundings(random: np.random.Generator, build: Build, painted: PaintedHead) -> list[Surface]:
    """Skull, ears, neck, shoulders, hair; sometimes a hat."""
    w, rim, eye = build.half_width, build.rim_depth, build.eye_y
    skull_light = random.uniform(0.7, 1.0)
    height = 0.75 if painted.bald else 0.6
    skull = ellipsoid("skin", (0, eye + 0.05, rim - 0.3), (w * 1.02, height, 0.75), skull_light)
    surfaces = [kept_behind(skull, rim - 0.03)]
    surfaces += _neck(random, build)
    long_hair = not painted.bald and random.random() < 0.4
    if random.random() < (0.35 if long_hair else 0.85):
        surfaces += _ears(random, build)
    if painted.bald:
        return surfaces
    volume = random.uniform(1.0, 1.3)
    shine = random.uniform(0.6, 1.1)
    cap = ellipsoid(
        "hair",
        (random.normal(0, 0.03), eye + random.uniform(0.1, 0.25), rim - 0.3),
        (w * volume * 1.04, random.uniform(0.75, 1.0) * volume, 0.85),
        shine,
    )
    surfaces.append(kept_behind(cap, rim + random.uniform(-0.02, 0.06)))
    if long_hair:
        surfaces += _long_hair(random, build, shine)
    return surfaces


def _neck(random: np.random.Generator, build: Build) -> list[Surface]:
    lean = random.normal(0, 0.12)
    width = build.half_width * random.uniform(0.5, 0.78)
    top, bottom = build.chin[1] + 0.35, build.chin[1] - 1.2
    down = np.linspace(0, 1, 8)[:, None]
    around = np.linspace(-np.pi / 2, np.pi / 2, 15)
    x = np.sin(around) * width * (1 + 0.35 * down**3) + lean * down
    z = build.rim_depth - 0.25 + np.cos(around) * 0.42 - 0.1 * down
    y = top + (bottom - top) * down + 0 * around
    # The shadow of the chin, which makes the jaw's edge visible.
    shade = 1 - random.uniform(0.1, 0.75) * np.exp(-(((down - 0.15) / 0.25) ** 2))
    neck = grid(
        "skin", np.stack(np.broadcast_arrays(x, y, z), -1), shade * random.uniform(0.6, 1.0)
    )
    shoulders = ellipsoid(
        "cavity" if random.random() < 0.5 else "hair",
        (lean, bottom + random.uniform(-0.35, 0.3), build.rim_depth - 0.3),
        (random.uniform(1.3, 2.0), random.uniform(0.45, 0.8), 0.5),
        random.uniform(0.2, 1.6),
    )
    return [neck, shoulders]


def _ears(random: np.random.Generator, build: Build) -> list[Surface]:
    high, tilt = random.uniform(0.17, 0.25), random.uniform(0.0, 0.3)
    out, light = random.uniform(0.0, 0.07), random.uniform(0.7, 1.0)
    y, z = build.eye_y - random.uniform(0.12, 0.24), build.rim_depth - 0.1
    return [
        ellipsoid(
            "skin",
            (side * (build.half_width + out), y, z),
            (random.uniform(0.05, 0.09), high, 0.12),
            light,
            rows=9,
            columns=12,
            tilt=-side * tilt,
        )
        for side in (-1, 1)
    ]


def _long_hair(random: np.random.Generator, build: Build, shine: float) -> list[Surface]:
    length = random.uniform(0.7, 1.5)
    width, depth = build.half_width * random.uniform(0.95, 1.4), build.rim_depth - 0.55
    surfaces = [ellipsoid("hair", (0, build.eye_y - 0.4, depth), (width, length, 0.3), shine * 0.6)]
    for side in (-1, 1):
        if random.random() < 0.75:
            surfaces.append(
                ellipsoid(
                    "hair",
                    (
                        side * build.half_width * random.uniform(0.9, 1.15),
                        build.eye_y - random.uniform(0.2, 0.6),
                        build.rim_depth + random.uniform(-0.2, 0.05),
                    ),
                    (random.uniform(0.12, 0.28), length * 0.8, 0.2),
                    shine,
                    tilt=side * random.uniform(-0.15, 0.15),
                )
            )
    return surfaces


def atlas(random: np.random.Generator, painted: PaintedHead) -> npt.NDArray[np.float32]:
    """The face's texture and the patches of the other surfaces, float32 of ``ATLAS_SHAPE``."""
    texture = np.zeros(ATLAS_SHAPE, np.float32)
    texture[: len(painted.texture)] = painted.texture
    red = np.array([0.45, 0.12, 0.12]) * random.uniform(0.5, 1.2)
    tongue = np.array([0.75, 0.35, 0.35]) * random.uniform(0.6, 1.1)
    flat = {"cavity": red, "tongue": tongue, "skin": painted.skin * random.uniform(0.85, 1.05)}
    strands = fractal(random, PATCH_SIZE, (4, 16, 32), 1)
    for i, name in enumerate(PATCHES):
        place = (slice(len(painted.texture), None), slice(i * PATCH_SIZE, (i + 1) * PATCH_SIZE))
        if name.endswith("teeth"):
            texture[(*place, slice(0, 3))] = _tooth_picture(random, name)
        elif name == "hair":
            texture[(*place, slice(0, 3))] = painted.hair * (1 + 0.3 * strands)
        else:
            texture[(*place, slice(0, 3))] = flat[name] * (1 + 0.05 * strands)
    return np.clip(texture, 0, 2)


def _tooth_picture(random: np.random.Generator, name: str) -> Floats:
    """(P,P,3) teeth side by side, gums towards the skull (or the jaw)."""
    white = np.array([0.88, 0.84, 0.76]) * random.uniform(0.7, 1.1)
    picture = np.tile(white, (PATCH_SIZE, PATCH_SIZE, 1))
    across = np.linspace(-1, 1, PATCH_SIZE)
    count = random.integers(8, 12)
    gaps = np.abs(np.sin(across * count * np.pi / 2))
    picture *= 1 - random.uniform(0, 0.5) * bump(gaps, 0.15)[None, :, None]
    gum = np.array([0.75, 0.4, 0.38])
    down = np.linspace(0, 1, PATCH_SIZE)
    from_edge = 1 - down if name == "upper_teeth" else down
    reach = random.uniform(0.5, 0.95)
    is_gum = np.clip((from_edge - reach) / 0.08, 0, 1)[:, None, None]
    return picture * (1 - is_gum) + gum * is_gum
