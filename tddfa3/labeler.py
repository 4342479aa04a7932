"""FaceLabeler: photographs in, labelled faces out.

The steps for a face are:

detect -> five points -> crop -> coefficients (-> refined by the points) -> geometry -> one
rasterization (-> light solved) -> {visible vertices, parts, landmarks, renders} -> texture -> back
to the photograph.

This module covers the steps up to the coefficients; the rest is in
:class:`~tddfa3.face_geometry.FaceGeometry`.

There are two entry points: :meth:`FaceLabeler.__call__` takes and returns NumPy arrays, with images
of any size mixed in one call; :meth:`FaceLabeler.label_crops` takes a batch of ready crops and
returns tensors.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tddfa3.assets.bundle import AUTO, AssetBundle
from tddfa3.coefficients import join
from tddfa3.device import choose_device, crops_to_tensor
from tddfa3.drawing.texture import sample_photo
from tddfa3.errors import UserError
from tddfa3.face import Candidate, Face
from tddfa3.face_geometry import FaceGeometry
from tddfa3.geometry.batch import FaceBatch
from tddfa3.geometry.crop import CropTransform, crop_image, estimate_crop
from tddfa3.geometry.lighting import LightSolver
from tddfa3.geometry.refine import PointRefiner
from tddfa3.images.photo import Photo, all_of, factor_of, pixels_of, scale_pixels, size_of
from tddfa3.networks.backbones import build_backbone
from tddfa3.networks.detection import Detections, build_detector
from tddfa3.networks.engine import Engine
from tddfa3.outputs import Outputs

FACE_CHOICES = ("best", "largest", "all")
"""Which faces of a photograph can be asked for."""


class FaceLabeler:
    """Labels faces with the networks and the 3DMM of one bundle.

    Args:
        bundle: provides the networks and the 3DMM.
        detector: one of ``bundle.detectors``; "auto" for its first; "none" for ready 224 crops.
        backbone: one of ``bundle.backbones``; "auto" for its first.
        device: "auto", "cpu" or "cuda[:i]".
        faces: "best" score, "largest" box, or "all".
        outputs: what to compute; None for the defaults.
        rasterizer: "auto", "nvdiffrast" or "cpu".
        engine: runs the networks: "auto", "torch" or "onnx".
        precision: "fp32"; on CUDA also "bf16" or "fp16".
        compiled: run the networks with ``torch.compile`` and CUDA graphs; CUDA only.
        refine: "points" adjusts pose and leading shape coefficients so that the landmarks lie
            nearer to the detector's five points (:mod:`tddfa3.geometry.refine`), "none" does not,
            "auto" does what the bundle declares, if there are points.
        lighting: "network" predicts light and skin colour, "solve" fits them to the crop
            (:mod:`tddfa3.geometry.lighting`), "auto" does what the bundle declares.
        batch: faces per batch of the networks and the rasterizer; bounds the memory.
        threads: threads of the networks and the rasterizer on a CPU; None for PyTorch's setting.

    Raises:
        UserError: If a choice is unknown, the bundle lacks an asset, or a device is not available.
    """

    def __init__(
        self,
        bundle: AssetBundle,
        *,
        detector: str = AUTO,
        backbone: str = AUTO,
        device: str = "auto",
        faces: str = "best",
        outputs: Outputs | None = None,
        rasterizer: str = "auto",
        engine: str = "auto",
        precision: str = "fp32",
        compiled: bool = False,
        refine: str = AUTO,
        lighting: str = AUTO,
        batch: int = 8,
        threads: int | None = None,
    ) -> None:
        if faces not in FACE_CHOICES:
            raise UserError(f"faces: {faces!r} is not offered; choose of {', '.join(FACE_CHOICES)}")
        if batch < 1:
            raise UserError(f"batch: {batch} faces at a time is too few; give 1 or more")
        self.device = choose_device(device)
        # TF32 rounds a convolution's inputs to 10 bits: enough to move a truncated box by a pixel.
        torch.backends.cudnn.allow_tf32 = False
        self.outputs = outputs or Outputs()
        self.faces = faces
        self.batch = batch
        data = bundle.face_model()
        self.sizes = data.sizes
        self.part_names = data.part_names
        self.standard_points = data.standard_points
        networks = Engine(engine, self.device, threads, precision, compiled)
        self.detector = build_detector(detector, bundle, self.device, engine=networks)
        self.backbone = build_backbone(backbone, bundle, self.device, networks)
        refines = bundle.choose_refine(refine, detector) == "points"
        found_by = bundle.choose_detector(detector)
        self.refiner = PointRefiner(data, found_by).to(self.device) if refines else None
        solves_light = bundle.choose_lighting(lighting) == "solve"
        self.light_solver = LightSolver(data).to(self.device) if solves_light else None
        self.geometry = FaceGeometry(
            data, self.outputs, device=self.device, rasterizer=rasterizer, threads=threads
        )
        self.computed_with: dict[str, str] = {
            "device": str(self.device),
            "engine": networks.kind,
            "precision": precision,
            "rasterizer": self.geometry.rasterizer.name,
        }

    @property
    def needed_side(self) -> int | None:
        """Longer side of an image, in pixels, that suffices to find faces; None for no limit.

        A :class:`tddfa3.images.photo.ReducedPhoto` may be reduced down to it.
        """
        return self.detector.needed_side

    @torch.inference_mode()
    def __call__(self, images: Sequence[Photo]) -> list[list[Face]]:
        """Labels every image.

        Args:
            images: uint8 (H, W, 3) RGB, upright, any sizes; or reduced. A reduced one is decoded at
                its full size if a face needs more pixels for its crop.

        Returns:
            for each image its faces, best score first; an empty list if there are none.

        Raises:
            ValueError: If an image has another shape or dtype, or, with ``detector="none"``, is not
                224x224.
        """
        photos = list(images)
        candidates: list[Candidate] = []
        detected = self.detector.detect([pixels_of(photo) for photo in photos], self.faces)
        for i, found in enumerate(detected):
            own = self._candidates(i, photos[i], found)
            factor = factor_of(photos[i])
            if factor > 1 and any(candidate.crop.s * factor > 1 for candidate in own):
                # The crop needs more pixels than were decoded.
                photos[i] = all_of(photos[i])
                (found,) = self.detector.detect([pixels_of(photos[i])], self.faces)
                own = self._candidates(i, photos[i], found)
            candidates += own
        results: list[list[Face]] = [[] for _ in images]
        for start in range(0, len(candidates), self.batch):
            part = candidates[start : start + self.batch]
            crops = np.stack([_crop(photos[c.image], c.crop) for c in part])
            batch = self.label_crops(crops_to_tensor(crops, self.device), self._crop_points(part))
            for face, candidate in zip(self.geometry.faces(batch, part), part, strict=True):
                results[candidate.image].append(face)
        return results

    @torch.inference_mode()
    def label_crops(self, crops: Tensor, points5: Tensor | None = None) -> FaceBatch:
        """Labels a batch of ready crops.

        Args:
            crops: float32 (B, 3, 224, 224) RGB 0..1; B may be 0.
            points5: (B, 5, 2) the detector's points in crop pixels, used for refinement; None for
                no refinement.

        Returns:
            the labelled batch, as tensors on the labeler's device.

        Raises:
            ValueError: If a shape or dtype differs, or a network's output is not finite.
        """
        if crops.ndim != 4 or crops.shape[1] != 3 or crops.dtype != torch.float32:
            raise ValueError(
                f"crops must be float32 (B, 3, 224, 224), not {crops.dtype} {tuple(crops.shape)}"
            )
        crops = crops.to(self.device)
        alpha = self.backbone(crops)
        if self.refiner is not None and points5 is not None:
            alpha = self.refiner(alpha, points5.to(self.device))
        batch = self.geometry.rasterize(alpha)
        if self.light_solver is not None:
            self._solve_light(self.light_solver, batch, crops)
        return self.geometry.complete(batch, crops)

    def label_coefficients(self, alpha: Tensor, crops: Tensor | None = None) -> FaceBatch:
        """Computes all outputs from given coefficients, without refinement or fitted light.

        See :meth:`tddfa3.face_geometry.FaceGeometry.label_coefficients`.
        """
        return self.geometry.label_coefficients(alpha, crops)

    def _solve_light(self, solver: LightSolver, batch: FaceBatch, crops: Tensor) -> None:
        geometry = batch.geometry
        geometry.coefficients = solver(
            sample_photo(crops, geometry.points),
            batch.visible,
            geometry.normals,
            geometry.coefficients,
            self.geometry.model,
        )
        batch.alpha = join(geometry.coefficients)

    def _candidates(self, image: int, photo: Photo, found: Detections) -> list[Candidate]:
        """The faces of one image that have a crop, by score; only those that were asked for."""
        usable = self._usable(image, photo, found)
        if not usable and found.left_out:  # the face asked for has no crop; another one may
            (found,) = self.detector.detect([pixels_of(photo)])
            usable = self._usable(image, photo, found)
        for rank, candidate in enumerate(usable):
            candidate.face_index = rank + found.left_out_better
            candidate.n_faces = len(usable) + found.left_out
        if self.faces == "best":
            return usable[:1]
        if self.faces == "largest":
            return sorted(usable, key=lambda c: -c.area)[:1]
        return usable

    def _usable(self, image: int, photo: Photo, found: Detections) -> list[Candidate]:
        """The faces that have a crop, by score; the caller sets their ranks."""
        found = _in_photo(found, factor_of(photo))
        usable: list[Candidate] = []
        for k in range(len(found)):
            points5 = found.points5[k]
            ready_crop = bool(np.isnan(points5).all())
            try:
                crop = (
                    CropTransform.identity()
                    if ready_crop
                    else estimate_crop(points5, size_of(photo), self.standard_points)
                )
            except ValueError:
                continue  # the five points do not span a face, so there is nothing to crop
            usable.append(
                Candidate(
                    image=image,
                    face_index=0,
                    box=found.boxes[k],
                    score=float(found.scores[k]),
                    points5=None if ready_crop else points5,
                    points106=None if found.points106 is None else found.points106[k],
                    crop=crop,
                )
            )
        return usable

    def _crop_points(self, candidates: Sequence[Candidate]) -> Tensor | None:
        """The detector's points in crop pixels, float32 (B, 5, 2); None without refinement."""
        if self.refiner is None:
            return None
        points = [c.crop.to_crop(c.points5) for c in candidates if c.points5 is not None]
        return torch.from_numpy(np.stack(points)).to(torch.float32)


def _crop(photo: Photo, crop: CropTransform) -> NDArray[np.uint8]:
    """Crops the decoded pixels; ``crop`` refers to the photograph at its full size."""
    return crop_image(pixels_of(photo), crop.reduced(factor_of(photo)))


def _in_photo(found: Detections, factor: int) -> Detections:
    """Converts detections from a photo reduced by ``factor`` to pixels of the full photograph."""
    if factor == 1:
        return found
    return replace(
        found,
        boxes=scale_pixels(found.boxes, factor),
        points5=scale_pixels(found.points5, factor),
        points106=None if found.points106 is None else scale_pixels(found.points106, factor),
    )
