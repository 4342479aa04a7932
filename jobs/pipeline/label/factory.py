"""What the job needs of the library: facts about the assets, and a labeler built from them.

The job labels through nothing else of the library, so its own machinery is tested with labelers
that crash, hang or do nothing.
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
    """Labels the images of an actor; :class:`tddfa3.labeler.FaceLabeler` is one."""

    @property
    def computed_with(self) -> Mapping[str, str]:
        """Device, engine and the like; every part file records it."""

    @property
    def needed_side(self) -> int | None:
        """Longer side, in pixels, that images may be reduced to; None: they may not be."""

    def __call__(self, images: Sequence[Photo], /) -> list[list[Face]]:
        """Each image's faces. If it raises, the images are tried again one by one."""


class LabelerFactory(Protocol):
    """Makes the labelers of a run. Picklable: it is sent to every actor."""

    def facts(self, config: LabelConfig) -> AssetFacts:
        """What the driver must know of the assets that the config names.

        Raises:
            UserError: they cannot be used with this config.
        """

    def build(self, config: LabelConfig, threads: int) -> Labeler:
        """A labeler, built in the actor that uses it.

        Args:
            config: with what was left to the assets filled in.
            threads: CPU threads that it may use.

        Raises:
            UserError: it cannot be built on this machine.
        """


class FaceLabelerFactory:
    """Builds :class:`tddfa3.labeler.FaceLabeler` on the bundle of ``--assets``."""

    def facts(self, config: LabelConfig) -> AssetFacts:
        """Read the bundle's description (no weights).

        Raises:
            UserError: the bundle or this machine cannot do what the config asks for.
        """
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
        """See :class:`LabelerFactory`; reads the weights."""
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
    """The colour sources that ``--meshes`` asks for."""
    return {"none": (), "both": ("pca", "extracted")}.get(meshes, (meshes,))


def check_device(config: LabelConfig) -> None:
    """Refuse what this machine cannot do, before anything is started.

    Raises:
        UnavailableError: a device or package that the config asks for is missing.
    """
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
        from tddfa3.device import choose_device
        from tddfa3.networks.engine import Engine

        Engine(
            config.engine,
            choose_device(config.device),
            precision=config.precision,
            compiled=config.compiled,
        )
