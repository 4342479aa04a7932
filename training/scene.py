"""Makes training pictures, each of a random person, expression, pose, light and camera."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt
import torch

from tddfa3.assets.face_model_data import FaceModelData
from tddfa3.coefficients import Coefficients, join
from tddfa3.conventions import CROP_SIZE
from tddfa3.geometry.camera import clip_space, project, rotation_matrix, to_camera
from tddfa3.geometry.face_model import FaceModel, Geometry, sh_shading
from tddfa3.rasterize.cpu import CpuRasterizer
from training.anatomy import Build, atlas, mouth_interior, surroundings
from training.backdrop import backdrop
from training.chart import FaceChart
from training.faults import photograph
from training.light import Light, random_light
from training.occluders import occlude
from training.paint import PaintedHead, Painter
from training.people import JAW, People
from training.pose import random_angle, translation_of_crop
from training.shade import (
    ATTRIBUTES,
    GLOSS,
    LIGHT,
    PLACE,
    TEXTURE,
    random_eyes,
    shade,
)
from training.surfaces import Surface, joined

Floats = npt.NDArray[np.floating]

PICTURES_PER_PERSON = 5
DRAWN_LOWER = 0.5
"""How much lower pictures are drawn, in pixels. The labeler's landmarks lie one pixel above where
the rasterizer draws their vertices (it keeps upstream's flip, 223 - y). With this, a network that
has learnt the pictures is off by half a pixel both in landmarks and in masks."""
EXPOSURE = (0.22, 0.72)
"""Range of the mean brightness of faces in photographs, before the camera's tones."""


@dataclass(frozen=True)
class Person:
    """What stays the same from picture to picture.

    Attributes:
        identity: (n_id,) coefficients.
        albedo: (n_alb,) coefficients.
        painted: the textures.
    """

    identity: Floats
    albedo: Floats
    painted: PaintedHead


class Studio:
    """Renders random people of one face model. The caller's generator draws all random numbers."""

    def __init__(self, data: FaceModelData) -> None:
        self.model = FaceModel(data)
        self.people = People(data)
        self.chart = FaceChart.of(data)
        self.painter = Painter(self.chart)
        self.rasterizer = CpuRasterizer(1)
        self.standard_points = data.standard_points
        self.landmarks = torch.from_numpy(data.landmarks["68"]).long()
        self.jaw = data.exp_basis[data.landmarks["68"][66], :, JAW]

    def person(self, random: np.random.Generator) -> Person:
        """A random person."""
        albedo = self.people.albedo(random)
        painted = self.painter.paint(random, albedo)
        return Person(self.people.identity(random), albedo, painted)

    @torch.inference_mode()
    def pictures(
        self, random: np.random.Generator, person: Person, count: int = PICTURES_PER_PERSON
    ) -> list[tuple[npt.NDArray[np.uint8], Floats]]:
        """``count`` pictures (112,112,3) of a person, each with its coefficients (total,)."""
        expressions = [self.people.expression(random, person.identity) for _ in range(count)]
        exp = torch.from_numpy(np.stack(expressions))
        identity = torch.from_numpy(person.identity).expand(count, -1)
        shapes = self.model.shape(identity, exp)
        relaxed = self.model.shape(identity[:1], torch.zeros_like(exp[:1]))[0, self.landmarks]
        return [
            self._picture(random, person, expression, shapes[i : i + 1], relaxed.numpy())
            for i, expression in enumerate(expressions)
        ]

    def _picture(
        self,
        random: np.random.Generator,
        person: Person,
        expression: Floats,
        shape: torch.Tensor,
        relaxed: Floats,
    ) -> tuple[npt.NDArray[np.uint8], Floats]:
        landmarks = shape[0, self.landmarks].numpy()
        angle = random_angle(random)
        trans = translation_of_crop(random, landmarks, angle, self.standard_points)
        geometry = self._posed(person, expression, shape, angle, trans)
        light = random_light(random)
        drawn = self._draw(random, person, expression, geometry, light, landmarks, relaxed)
        exposure = _exposure(random, drawn)
        light = light.scaled(exposure)
        picture = self._composed(random, person, geometry, drawn * np.float32(exposure), light)
        sh = torch.from_numpy(light.sh)[None]
        albedo = torch.from_numpy(person.albedo)[None]
        coefficients = geometry.coefficients._replace(sh=sh, alb=albedo)
        return photograph(random, picture), join(coefficients)[0].numpy()

    def _posed(
        self,
        person: Person,
        expression: Floats,
        shape: torch.Tensor,
        angle: npt.NDArray[np.floating],
        trans: npt.NDArray[np.floating],
    ) -> Geometry:
        """The geometry of a shape that has been computed already."""
        empty = torch.zeros(1, 0)
        coefficients = Coefficients(
            id=torch.from_numpy(person.identity)[None],
            exp=torch.from_numpy(expression)[None],
            alb=empty,
            angle=torch.from_numpy(angle.astype(np.float32))[None],
            sh=empty,
            trans=torch.from_numpy(trans.astype(np.float32))[None],
        )
        rotation = rotation_matrix(coefficients.angle)
        camera = to_camera(shape, rotation, coefficients.trans)
        normals = self.model.normals(shape) @ rotation
        return Geometry(coefficients, shape, rotation, normals, camera, project(camera))

    def _draw(
        self,
        random: np.random.Generator,
        person: Person,
        expression: Floats,
        geometry: Geometry,
        light: Light,
        landmarks: Floats,
        relaxed: Floats,
    ) -> Floats:
        """(224,224,4) RGB of the head, and 1 in the pixels it covers."""
        jaw = self.jaw * expression[JAW]
        build = Build.of(geometry.shape[0].numpy(), landmarks)
        rest = joined(
            mouth_interior(random, landmarks, relaxed, jaw)
            + surroundings(random, build, person.painted)
        )
        normals = torch.cat(
            [geometry.normals, torch.from_numpy(rest.normals) @ geometry.rotation], 1
        )
        placed = to_camera(
            torch.from_numpy(rest.positions)[None], geometry.rotation, geometry.coefficients.trans
        )
        clip = clip_space(torch.cat([geometry.camera, placed], 1))
        clip[..., 1] += clip[..., 3] * (2 * DRAWN_LOWER / CROP_SIZE)
        triangles = torch.cat(
            [self.model.triangles, torch.from_numpy(rest.triangles) + self.model.n_vertices]
        )
        raster = self.rasterizer.rasterize(clip, triangles, (CROP_SIZE, CROP_SIZE))
        attributes = self._attributes(geometry, rest, normals, light)
        pixels = self.rasterizer.interpolate(attributes, raster, triangles)[0].numpy()
        texture = atlas(random, person.painted)
        return shade(pixels, raster[0].numpy(), texture, random_eyes(random, landmarks))

    def _attributes(
        self, geometry: Geometry, rest: Surface, normals: torch.Tensor, light: Light
    ) -> torch.Tensor:
        """(1,n,8) for :func:`training.shade.shade`."""
        face = self.model.n_vertices
        attributes = torch.empty(1, normals.shape[1], ATTRIBUTES)
        attributes[0, :face, TEXTURE] = torch.from_numpy(self.chart.texture_xy)
        attributes[0, face:, TEXTURE] = torch.from_numpy(rest.texture_xy)
        lit = sh_shading(normals, torch.from_numpy(light.sh)[None]).clamp_(min=0)
        lit[0, face:] *= torch.from_numpy(rest.light)[:, None]
        attributes[..., LIGHT] = lit
        towards = torch.from_numpy(light.highlight.astype(np.float32))
        gloss = (normals @ towards).clamp_(min=0) ** 20 * light.gloss
        gloss[0, face:] *= 0.3
        attributes[..., GLOSS] = gloss
        attributes[0, :face, PLACE] = geometry.shape[0, :, :2]
        attributes[0, face:, PLACE] = 0
        return attributes

    def _composed(
        self,
        random: np.random.Generator,
        person: Person,
        geometry: Geometry,
        drawn: Floats,
        light: Light,
    ) -> Floats:
        """(224,224,3) RGB 0..1: the head with a background behind it and things in front of it."""
        inside = drawn[..., 3] > 0
        scene = backdrop(random, CROP_SIZE)
        scene[inside] = drawn[inside, :3]
        points = geometry.points[0, self.landmarks].numpy()
        points = np.stack([points[:, 0], CROP_SIZE - points[:, 1]], 1)
        brightness = light.tint * random.uniform(0.5, 1.0)
        skin = (person.painted.skin * brightness).astype(np.float32)
        hair = (person.painted.hair * brightness).astype(np.float32)
        picture = occlude(random, scene, points, skin, hair)
        return cv2.GaussianBlur(picture, (0, 0), 0.6)


def _exposure(random: np.random.Generator, drawn: Floats) -> float:
    """The factor by which an automatic exposure, not always a good one, changes the light."""
    inside = drawn[..., 3] > 0
    brightness = float(drawn[inside, :3].mean()) if inside.any() else 0.5
    return float((random.uniform(*EXPOSURE) / max(brightness, 0.05)) ** random.uniform(0.5, 1))
