"""AssetBundle: a folder of safetensors files and ``bundle.json``, which describes them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray
from safetensors import SafetensorError

from tddfa3.assets.default import OPEN, bundle_folder, default_folder
from tddfa3.assets.face_model_data import FaceModelData
from tddfa3.coefficients import CoefficientSizes
from tddfa3.conventions import CAMERA_DISTANCE, CENTRE, CROP_SIZE, FOCAL
from tddfa3.errors import AssetError, UserError

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "BUNDLE_FORMAT",
    "BUNDLE_JSON",
    "OPEN",
    "AssetBundle",
    "Backbone",
    "FaceModelData",
    "file_sha256",
]

BUNDLE_FORMAT = 1
"""Version of the layout of ``bundle.json``."""
BUNDLE_JSON = "bundle.json"
FACE_MODEL_FILE = "face_model.safetensors"
CORRESPONDENCES_FILE = "correspondences.safetensors"

BACKBONES = {"resnet50": "ResNet-50", "mbnetv3": "MobileNetV3-Large"}
"""3DDFA-V3's backbones and their architectures, best first."""
DETECTOR_FILES = {
    "retinaface": ("retinaface.safetensors", "landmarks106.safetensors"),
    "mtcnn": ("mtcnn.safetensors",),
}
"""The weights files of each detector in a bundle."""
AUTO = "auto"
"""The bundle's preference: the backbone and the detector that it lists first, and the lighting and
the refinement that it declares."""
LIGHTINGS = ("network", "solve")
REFINEMENTS = ("none", "points")
CROP = {
    "size": CROP_SIZE,
    "focal": FOCAL,
    "centre": CENTRE,
    "camera_distance": CAMERA_DISTANCE,
}
"""The crop and its camera, with which a bundle's networks were trained."""

_UPSTREAM_MARKERS = ("face_model.npy", "net_recon.pth", "similarity_Lm3D_all.mat")
_REQUIRED_KEYS = (
    "name",
    "source",
    "licence",
    "notice",
    "files",
    "topology",
    "coefficients",
    "landmarks",
    "parts",
    "backbones",
    "detectors",
    "crop",
)


def backbone_file(name: str) -> str:
    """Name of a backbone's weights file in a bundle."""
    return f"backbone_{name}.safetensors"


def load_numpy_file(path: Path) -> dict[str, NDArray[Any]]:
    """Maps the arrays of a safetensors file, so that processes with the same file share memory.

    It uses safetensors' PyTorch loader, which maps the file; the NumPy loader would read it.

    Args:
        path: of the file.

    Returns:
        the arrays by name.
    """
    return {name: tensor.numpy() for name, tensor in _load_tensors(path).items()}


def _load_tensors(path: Path) -> dict[str, Tensor]:
    # Imported late: a job's driver opens bundles and reads no weights, and PyTorch is 500 MB.
    from safetensors.torch import load_file

    return load_file(path)


def file_sha256(path: Path) -> str:
    """Hexadecimal SHA-256 of a file's content."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


@dataclass(frozen=True)
class Backbone:
    """A network from crop to coefficients, as a bundle declares it.

    Attributes:
        file: its weights file.
        architecture: a key of :data:`tddfa3.networks.backbones.ARCHITECTURES`.
        input_size: side of the crop that it takes, in pixels.
    """

    file: str
    architecture: str
    input_size: int


@dataclass(frozen=True)
class AssetBundle:
    """The 3DMM and the networks, with their sources and licences.

    Opening a bundle reads only ``bundle.json``. A file's digest is checked when the file is first
    read, unless the bundle was opened with ``verify=False``.

    Attributes:
        path: the bundle's folder.
        manifest: the content of ``bundle.json``.
        verify: whether digests are checked.
    """

    path: Path
    manifest: Mapping[str, Any]
    verify: bool = True
    _verified: set[str] = field(default_factory=set, repr=False, compare=False)

    @classmethod
    def load(cls, path: str | Path = OPEN, *, verify: bool = True) -> AssetBundle:
        """Opens a bundle.

        Args:
            path: its folder, or ``"open"`` for the bundle that comes with tddfa3.
            verify: whether to check the digests of files when they are read.

        Returns:
            the bundle.

        Raises:
            AssetError: If there is no bundle, its format is unknown, or a file that it lists is
                missing or has another size.
        """
        folder = bundle_folder(path)
        manifest = _read_manifest(folder)
        for name, entry in manifest["files"].items():
            _check_file(folder, name, entry)
        return cls(folder, manifest, verify)

    @property
    def name(self) -> str:
        """The bundle's name, e.g. "open"."""
        return self.manifest["name"]

    @property
    def source(self) -> str:
        """Where the bundle came from, for people to read."""
        return self.manifest["source"]

    @property
    def licence(self) -> str:
        """The licence of the bundle; single files may have another, see :attr:`files`."""
        return self.manifest["licence"]

    @property
    def notice(self) -> str:
        """What users of the bundle should know, e.g. restrictions of its licence."""
        return self.manifest["notice"]

    @property
    def files(self) -> Mapping[str, Mapping[str, Any]]:
        """File name to a mapping with the keys sha256, bytes, licence and source."""
        return MappingProxyType(self.manifest["files"])

    @property
    def digests(self) -> dict[str, str]:
        """File name to the SHA-256 that ``bundle.json`` states."""
        return {name: entry["sha256"] for name, entry in sorted(self.files.items())}

    @property
    def digest(self) -> str:
        """One SHA-256 over all files' names and digests, which identifies the bundle."""
        lines = "".join(f"{name} {digest}\n" for name, digest in self.digests.items())
        return hashlib.sha256(lines.encode()).hexdigest()

    @property
    def backbones(self) -> tuple[str, ...]:
        """Names of the networks from crop to coefficients, best first."""
        return tuple(self.manifest["backbones"])

    @property
    def detectors(self) -> tuple[str, ...]:
        """Names of the detectors, best first."""
        return tuple(self.manifest["detectors"])

    @property
    def lighting(self) -> str:
        """The preferred lighting: "network", or "solve" to fit the light to the crop."""
        return self.manifest.get("lighting", LIGHTINGS[0])

    @property
    def refine(self) -> str:
        """The preferred refinement: "none", or "points" to use the detector's points."""
        return self.manifest.get("refine", REFINEMENTS[0])

    def backbone(self, name: str) -> Backbone:
        """The declaration of one of the bundle's :attr:`backbones`.

        Raises:
            KeyError: If the bundle has no such backbone.
        """
        entry = self.manifest["backbones"][name]
        return Backbone(entry["file"], entry["architecture"], entry["input_size"])

    def choose_backbone(self, name: str = AUTO) -> str:
        """Returns ``name``, or the first backbone of the bundle for "auto".

        Raises:
            UserError: If the bundle has no such backbone.
        """
        return self._chosen("backbone", name, self.backbones)

    def choose_detector(self, name: str = AUTO) -> str:
        """Returns ``name``, or the first detector of the bundle for "auto".

        "none", for ready crops, is always possible.

        Raises:
            UserError: If the bundle has no such detector.
        """
        return self._chosen("detector", name, (*self.detectors, "none"))

    def choose_lighting(self, name: str = AUTO) -> str:
        """Returns ``name``, "network" or "solve", or what the bundle declares for "auto".

        Raises:
            UserError: If ``name`` is unknown.
        """
        _check_known("lighting", name, LIGHTINGS)
        return self.lighting if name == AUTO else name

    def choose_refine(self, name: str = AUTO, detector: str = AUTO) -> str:
        """Returns ``name``, "none" or "points", or what the bundle declares for "auto".

        Args:
            name: the refinement asked for.
            detector: the detector that is used; with "none" there are no points to refine by.

        Returns:
            "none" or "points".

        Raises:
            UserError: If ``name`` is unknown, or is "points" while the detector is "none".
        """
        _check_known("refine", name, REFINEMENTS)
        pointless = self.choose_detector(detector) == "none"
        if name == "points" and pointless:
            raise UserError(
                "refine: 'points' needs a detector's points, and ready crops (detector 'none') "
                "have none; choose a detector, or refine 'none'"
            )
        if name == AUTO:
            return REFINEMENTS[0] if pointless else self.refine
        return name

    def _chosen(self, kind: str, name: str, offered: tuple[str, ...]) -> str:
        if name == AUTO and offered:
            return offered[0]
        if name not in offered:
            raise UserError(
                f"{kind}: the assets in {self.path} have no {name!r} (they have: "
                f"{', '.join(offered) or 'none'}); choose one of those or assets that have it"
            )
        return name

    @property
    def sizes(self) -> CoefficientSizes:
        """How many coefficients of each kind the face model has."""
        return CoefficientSizes(**self.manifest["coefficients"])

    def face_model(self) -> FaceModelData:
        """Loads the 3DMM.

        Returns:
            its arrays, memory-mapped unless the bundle stores them in a compact form.

        Raises:
            AssetError: If the file is damaged or does not agree with ``bundle.json``.
        """
        path = self._checked(FACE_MODEL_FILE)
        try:
            arrays = load_numpy_file(path)
            data = FaceModelData.from_arrays(arrays, tuple(self.manifest["parts"]))
        except KeyError as error:
            raise AssetError(f"{path} lacks the array {error}; {_REMAKE}") from error
        except (ValueError, SafetensorError) as error:
            raise AssetError(f"{path} is not a usable face model: {error}; {_REMAKE}") from error
        self._check_sizes(data)
        return data

    def tensors(self, file: str) -> dict[str, Tensor]:
        """Loads all tensors of one file, on the CPU.

        Args:
            file: its name, with or without ``.safetensors``.

        Returns:
            the tensors by name.

        Raises:
            AssetError: If the bundle has no such file, or its digest differs.
        """
        path = self._checked(file if file.endswith(".safetensors") else f"{file}.safetensors")
        try:
            return _load_tensors(path)
        except SafetensorError as error:
            raise AssetError(f"{path} can't be read: {error}; {_REMAKE}") from error

    def describe(self) -> dict[str, Any]:
        """A description for people and for the manifests of runs, as JSON-compatible data."""
        return {
            "path": str(self.path),
            "digest": self.digest,
            **{key: value for key, value in self.manifest.items() if key != "crop"},
        }

    def _checked(self, name: str) -> Path:
        if name not in self.files:
            raise AssetError(
                f"bundle {self.path} has no {name} (it has: {', '.join(sorted(self.files))}); "
                "choose another network, or convert assets that include it"
            )
        path = self.path / name
        if self.verify and name not in self._verified:
            _check_file(self.path, name, self.files[name])
            digest = file_sha256(path)
            if digest != self.files[name]["sha256"]:
                stated = self.files[name]["sha256"]
                raise AssetError(
                    f"{path} was changed or damaged: its sha256 is {digest[:12]}…, but "
                    f"{BUNDLE_JSON} says {stated[:12]}…; {_REMAKE}"
                )
            self._verified.add(name)
        return path

    def _check_sizes(self, data: FaceModelData) -> None:
        found = {
            "vertices": data.n_vertices,
            "triangles": data.n_triangles,
            "id": data.id_basis.shape[2],
            "exp": data.exp_basis.shape[2],
            "alb": data.albedo_basis.shape[2],
        }
        stated = {**self.manifest["topology"], **self.manifest["coefficients"]}
        for name, size in found.items():
            if stated.get(name) != size:
                raise AssetError(
                    f"{self.path / FACE_MODEL_FILE} has {name}={size}, but {BUNDLE_JSON} says "
                    f"{stated.get(name)}; {_REMAKE}"
                )


_REMAKE = "make the bundle again (python -m tddfa3.assets synthesize, fetch or convert)"


def _check_known(kind: str, name: str, known: tuple[str, ...]) -> None:
    if name not in (AUTO, *known):
        raise UserError(f"{kind}: {name!r} is unknown; choose of auto, {', '.join(known)}")


def _read_manifest(folder: Path) -> dict[str, Any]:
    path = folder / BUNDLE_JSON
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise AssetError(_no_bundle(folder)) from None
    except (OSError, ValueError) as error:
        raise AssetError(f"{path} can't be read: {error}; {_REMAKE}") from error
    if not isinstance(manifest, dict) or "format" not in manifest:
        raise AssetError(f"{path} is not a bundle's description; {_REMAKE}")
    if manifest["format"] != BUNDLE_FORMAT:
        raise AssetError(
            f"{path} is of format {manifest['format']!r}, this version of tddfa3 reads format "
            f"{BUNDLE_FORMAT}; {_REMAKE}, or use the version of tddfa3 that made it"
        )
    missing = [key for key in _REQUIRED_KEYS if key not in manifest]
    if missing:
        raise AssetError(f"{path} lacks {', '.join(missing)}; {_REMAKE}")
    if FACE_MODEL_FILE not in manifest["files"]:
        raise AssetError(f"{path} lists no {FACE_MODEL_FILE}; {_REMAKE}")
    if manifest["crop"] != CROP:
        raise AssetError(
            f"{path} is for the crop {manifest['crop']}, and this version of tddfa3 cuts {CROP}; "
            f"{_REMAKE}, or use the version of tddfa3 that made it"
        )
    _check_networks(path, manifest)
    return manifest


def _check_networks(path: Path, manifest: Mapping[str, Any]) -> None:
    """Raises ``AssetError`` if the declaration of a network is malformed or its file missing."""
    try:
        CoefficientSizes(**manifest["coefficients"])
        declared = {
            f"backbone {name}": [entry["file"]]
            for name, entry in manifest["backbones"].items()
            if entry["architecture"] and entry["input_size"]
        } | {f"detector {name}": entry["files"] for name, entry in manifest["detectors"].items()}
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise AssetError(f"{path} describes its networks wrongly ({error}); {_REMAKE}") from None
    for network, files in declared.items():
        for file in files:
            if file not in manifest["files"]:
                raise AssetError(f"{path} declares {network} but lists no {file}; {_REMAKE}")
    for kind, known in (("lighting", LIGHTINGS), ("refine", REFINEMENTS)):
        if manifest.get(kind, known[0]) not in known:
            raise AssetError(f"{path} declares an unknown {kind} {manifest[kind]!r}; {_REMAKE}")


def _no_bundle(folder: Path) -> str:
    if folder == default_folder():
        return (
            f"the bundle {OPEN!r}, which comes with tddfa3, is not at {folder}; install tddfa3 "
            "again or name another bundle"
        )
    if not folder.is_dir():
        return (
            f"no asset bundle at {folder}; make one with `python -m tddfa3.assets synthesize "
            f"{folder}` (synthetic) or `python -m tddfa3.assets fetch {folder}` (trained, "
            "non-commercial)"
        )
    if any((folder / name).exists() for name in _UPSTREAM_MARKERS):
        return (
            f"{folder} holds 3DDFA-V3's own files, not a bundle; convert them first: "
            f"`python -m tddfa3.assets convert {folder} BUNDLE`"
        )
    return f"{folder} has no {BUNDLE_JSON}, so it is not an asset bundle; {_REMAKE}"


def _check_file(folder: Path, name: str, entry: Mapping[str, Any]) -> None:
    if Path(name).name != name:
        raise AssetError(f"{folder / BUNDLE_JSON} names a file outside the bundle: {name!r}")
    path = folder / name
    try:
        size = path.stat().st_size
    except OSError:
        raise AssetError(f"{path} is missing, but {BUNDLE_JSON} lists it; {_REMAKE}") from None
    if size != entry.get("bytes"):
        raise AssetError(
            f"{path} has {size} bytes, but {BUNDLE_JSON} says {entry.get('bytes')}; {_REMAKE}"
        )
