"""FaceGeometry: everything that is computed from a face's coefficients, without networks.

coefficients -> vertices -> one rasterization -> {visible vertices, parts, landmarks, renders} ->
texture -> back to the photograph.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from tddfa3.assets.face_model_data import FaceModelData
from tddfa3.coefficients import split
from tddfa3.conventions import CROP_SIZE
from tddfa3.drawing.render import render
from tddfa3.drawing.texture import TextureMapper
from tddfa3.face import QUALITY_LANDMARKS, Candidate, Face, faces_from_batch
from tddfa3.geometry.batch import FaceBatch
from tddfa3.geometry.camera import clip_space
from tddfa3.geometry.face_model import FaceModel
from tddfa3.geometry.landmarks import LandmarkIndex, gather, to_crop_pixels
from tddfa3.geometry.segmentation import PartSegmenter, label_map, pack_parts, visible_vertices
from tddfa3.outputs import Outputs
from tddfa3.rasterize import build_rasterizer


class FaceGeometry:
    """Computes meshes, landmarks, masks, textures and renders from coefficients.

    Args:
        data: the 3DMM.
        outputs: what to compute.
        device: where to compute.
        rasterizer: "auto", "nvdiffrast" or "cpu".
        threads: of the rasterizer on a CPU; None for PyTorch's setting.

    Raises:
        UserError: If the rasterizer is unknown or not available.
    """

    def __init__(
        self,
        data: FaceModelData,
        outputs: Outputs,
        *,
        device: torch.device,
        rasterizer: str = "auto",
        threads: int | None = None,
    ) -> None:
        self.device = device
        self.outputs = outputs
        self.sizes = data.sizes
        self.part_names = data.part_names
        self.uv = data.uv
        self.model = FaceModel(data).to(device).eval()
        self.landmark_index = LandmarkIndex(data).to(device)
        self.rasterizer = build_rasterizer(rasterizer, device, threads)
        self.segmenter = PartSegmenter(data, self.rasterizer)
        self.mapper = (
            TextureMapper(self.model, data, self.rasterizer, size=outputs.texture_size)
            if outputs.needs_uv
            else None
        )

    @torch.inference_mode()
    def label_coefficients(self, alpha: Tensor, crops: Tensor | None = None) -> FaceBatch:
        """Computes all outputs from the coefficients.

        Args:
            alpha: float32 (B, total), a backbone's output.
            crops: float32 (B, 3, 224, 224) RGB 0..1; needed for extracted textures only.

        Returns:
            the labelled batch.

        Raises:
            ValueError: If the width differs, a value is not finite, or crops are missing that are
                needed.
        """
        return self.complete(self.rasterize(alpha), crops)

    def rasterize(self, alpha: Tensor) -> FaceBatch:
        """The first half of :meth:`label_coefficients`: vertices, rasterization, visibility.

        It does not depend on light and albedo, which may still be changed before :meth:`complete`.

        Args:
            alpha: float32 (B, total).

        Returns:
            a batch for :meth:`complete`.

        Raises:
            ValueError: If the width differs, or a value is not finite.
        """
        geometry = self.model(split(alpha, self.sizes))
        triangles, size = self.model.triangles, (CROP_SIZE, CROP_SIZE)
        raster = self.rasterizer.rasterize(clip_space(geometry.camera), triangles, size)
        visible = visible_vertices(raster, triangles, geometry.normals)
        return FaceBatch(alpha, geometry, raster, visible)

    def complete(self, batch: FaceBatch, crops: Tensor | None) -> FaceBatch:
        """The second half of :meth:`label_coefficients`: fills in all outputs.

        Args:
            batch: from :meth:`rasterize`; it is changed in place.
            crops: float32 (B, 3, 224, 224) RGB 0..1; needed for extracted textures only.

        Returns:
            ``batch``.

        Raises:
            ValueError: If crops are missing that are needed.
        """
        wanted, triangles = self.outputs, self.model.triangles
        geometry, raster, visible = batch.geometry, batch.raster, batch.visible
        # The quality signals need two of the sets, whether or not they are asked for.
        for name in dict.fromkeys((*wanted.landmarks, *QUALITY_LANDMARKS)):
            index = self.landmark_index.indices(name, geometry)
            batch.landmarks[name] = to_crop_pixels(gather(geometry.points, index))
            batch.landmarks_visible[name] = visible.gather(1, index)
        if "seg" in wanted.masks:
            batch.seg = pack_parts(self.segmenter.full_masks(clip_space(geometry.camera)))
        if "seg_visible" in wanted.masks or "rle" in wanted.masks:
            batch.seg_visible = label_map(self.segmenter.visible_masks(raster, visible))

        if wanted.needs_pca:
            batch.colors["pca"] = self.model.texture(geometry)
        if self.mapper is not None:
            self._texture(self.mapper, batch, crops)
        for name in wanted.renders:
            batch.renders[name] = render(name, self.rasterizer, triangles, batch)
        return batch

    def faces(self, batch: FaceBatch, candidates: Sequence[Candidate]) -> list[Face]:
        """Makes one record per face of the batch, mapping results back to the photographs.

        Args:
            batch: B labelled crops.
            candidates: where the B faces were found, in the order of the batch.

        Returns:
            the B records, in the same order.
        """
        return faces_from_batch(
            batch, candidates, self.model, self.uv, self.part_names, self.outputs
        )

    def _texture(self, mapper: TextureMapper, batch: FaceBatch, crops: Tensor | None) -> None:
        """Adds textures as uint8 maps; float maps would be the largest tensors of a batch."""
        wanted, pca = self.outputs, batch.colors["pca"]
        if "pca" in wanted.textures:
            batch.textures["pca"] = mapper.uv_map(pca, dtype=torch.uint8)
        if not wanted.needs_extracted:
            return
        if crops is None:
            raise ValueError("an extracted texture needs the crops, not the coefficients alone")
        source = crops, batch.geometry, batch.visible, pca, wanted.blend
        if "extracted" in wanted.textures:
            batch.textures["extracted"], batch.colors["extracted"] = mapper.extract(
                *source, dtype=torch.uint8
            )
        else:
            batch.colors["extracted"] = mapper.extract_colors(*source)
