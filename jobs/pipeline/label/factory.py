"""What the job needs of the library: facts about the assets, and a labeler built from them.

Nothing else of the library labels anything for the job, so its own machinery is tested with
labelers that crash, hang or do nothing.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

from jobs.pipeline.record.config import LabelConfig
from jobs.pipeline.record.facts import AssetFacts
from jobs.pipeline.storage.asset_cache import local_bundle
from tddfa3.errors import UnavailableError, UserError

if TYPE_CHECKING:
    from tddfa3.face import Face
    from tddfa3.images.photo import Photo


class Labeler(Protocol):
    """What labels images in an actor; :class:`tddfa3.labeler.FaceLabeler` is one."""

    @property
    def computed_with(self) -> Mapping[str, str]:
        """Device, engine and the like: what every part file says of how it was made."""

    @property
    def needed_side(self) -> int | None:
        """Longer side, in pixels, that images may be reduced to; None: they may not be."""

    def __call__(self, images: Sequence[Photo], /) -> list[list[Face]]:
        """Per image its faces. Whatever it raises is tried again, image by image."""


class LabelerFactory(Protocol):
    """Picklable: ``facts`` is called in the driver, ``build`` in every actor."""

    def facts(self, config: LabelConfig) -> AssetFacts: ...

    def build(self, config: LabelConfig, threads: int) -> Labeler: ...


class FaceLabelerFactory:
    """Builds :class:`tddfa3.labeler.FaceLabeler` on the bundle of ``--assets``."""

    def facts(self, config: LabelConfig) -> AssetFacts:
        """Reads the bundle's description (no weights) and refuses what it cannot do."""
        from tddfa3.assets.bundle import AssetBundle

        bundle = AssetBundle.load(local_bundle(config.assets, config.s3_endpoint or None))
        chosen = {
            "detector": bundle.choose_detector(config.detector),
            "backbone": bundle.choose_backbone(config.backbone),
            "lighting": bundle.choose_lighting(config.lighting),
            "refine": bundle.choose_refine(config.refine, config.detector),
        }
        if config.decode == "reduced" and chosen["detector"] != "retinaface":
            raise UserError(
                f"--decode reduced: the detector {chosen['detector']} looks at every pixel; use "
                "--decode full, or --detector retinaface with assets that have it"
            )
        if config.ray_address == "local":
            check_device(config)
        described = bundle.describe()
        return AssetFacts(
            name=bundle.name,
            digest=bundle.digest,
            source=bundle.source,
            licence=bundle.licence,
            files={str(name): dict(value) for name, value in bundle.files.items()},
            coefficients=bundle.sizes.as_dict(),
            landmarks=described["landmarks"],
            part_names=tuple(described["parts"]),
            chosen=chosen,
        )

    def build(self, config: LabelConfig, threads: int) -> Labeler:
        from tddfa3.assets.bundle import AssetBundle
        from tddfa3.labeler import FaceLabeler
        from tddfa3.outputs import Outputs

        return FaceLabeler(
            AssetBundle.load(local_bundle(config.assets, config.s3_endpoint or None)),
            detector=config.detector,
            backbone=config.backbone,
            device=config.device,
            faces=config.faces,
            outputs=Outputs(
                landmarks=config.landmarks,
                masks=config.masks,
                meshes=mesh_sources(config.meshes),
                textures=() if config.textures == "none" else ("extracted",),
                mesh_frame=config.mesh_frame,
                points106=config.points106,
                renders=("face", "shape") if config.overlays == "sheet" else (),
            ),
            rasterizer=config.rasterizer,
            engine=config.engine,
            precision=config.precision,
            compiled=config.compiled,
            refine=config.refine,
            lighting=config.lighting,
            batch=config.batch,
            threads=threads,
        )


def mesh_sources(meshes: str) -> tuple[str, ...]:
    """``--meshes`` as the colour sources to write."""
    return {"none": (), "both": ("pca", "extracted")}.get(meshes, (meshes,))


def check_device(config: LabelConfig) -> None:
    """Refuses what this machine cannot do, before anything is started."""
    if config.device == "cuda":
        import torch

        if not torch.cuda.is_available():
            raise UnavailableError(
                "--device cuda: PyTorch sees no CUDA device here; use --device cpu or auto"
            )
    if config.rasterizer == "nvdiffrast" and importlib.util.find_spec("nvdiffrast") is None:
        raise UnavailableError(
            "--rasterizer nvdiffrast: the package nvdiffrast is not installed; "
            "use --rasterizer cpu or auto"
        )
    if config.engine == "onnx" or config.precision != "fp32" or config.compiled:
        from tddfa3.labeler import choose_device
        from tddfa3.networks.engine import Engine

        Engine(
            config.engine,
            choose_device(config.device),
            precision=config.precision,
            compiled=config.compiled,
        )
