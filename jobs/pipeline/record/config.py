"""One frozen dataclass that the command line, the manifest and the documentation come from.

Every field has a role. ``rows`` fields change what is written and are part of a run's fingerprint;
``scheduling`` fields only change how fast it is written; ``action`` fields ask for something once
and are not taken over by ``--resume``.

A string after a field is its help text on the command line.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, NamedTuple
from urllib.parse import urlsplit

import tyro

from tddfa3.assets.default import OPEN
from tddfa3.conventions import LANDMARK_SETS
from tddfa3.errors import UserError

MASKS = ("seg", "seg_visible", "rle")
"""What ``--masks`` takes."""


class ActorRange(NamedTuple):
    """How many actors may run.

    Attributes:
        minimum: at least 1; the run begins with so many.
        maximum: the run grows up to so many; None: as many as fit.
    """

    minimum: int
    maximum: int | None

    @staticmethod
    def parse(text: str) -> ActorRange:
        """The range of a text such as "2", "2:8" or "2:".

        Raises:
            ValueError: it is no such text, or MAX is less than MIN.
        """
        low, colon, high = text.partition(":")
        try:
            minimum = int(low)
            maximum = minimum if not colon else (int(high) if high else None)
        except ValueError:
            raise ValueError(f"{text!r} is not MIN or MIN:MAX, for example 2 or 2:8") from None
        if minimum < 1 or (maximum is not None and maximum < minimum):
            raise ValueError(f"{text!r}: MIN must be at least 1 and MAX at least MIN")
        return ActorRange(minimum, maximum)

    def __str__(self) -> str:
        if self.maximum == self.minimum:
            return str(self.minimum)
        return f"{self.minimum}:{'' if self.maximum is None else self.maximum}"


ONE_OR_MORE = ActorRange(1, None)
"""The default of ``--actors``."""


def _several_of(allowed: Sequence[str]) -> tyro.constructors.PrimitiveConstructorSpec[Any]:
    def parse(args: Sequence[str]) -> tuple[str, ...]:
        values = tuple(v for v in args[0].split(",") if v and v != "none")
        for value in values:
            if value not in allowed:
                raise ValueError(f"{value!r} is not one of {', '.join(allowed)}, none")
        return tuple(v for v in allowed if v in values)

    return tyro.constructors.PrimitiveConstructorSpec(
        nargs=1,
        metavar="{" + ",".join(allowed) + "}",
        instance_from_str=parse,
        is_instance=lambda value: isinstance(value, tuple),
        str_from_instance=lambda value: [",".join(value) or "none"],
    )


_ACTORS = tyro.constructors.PrimitiveConstructorSpec(
    nargs=1,
    metavar="MIN[:MAX]",
    instance_from_str=lambda args: ActorRange.parse(args[0]),
    is_instance=lambda value: isinstance(value, ActorRange),
    str_from_instance=lambda value: [str(value)],
)


def _text(metavar: str) -> Any:
    return tyro.conf.arg(metavar=metavar)


def _rows(default: Any) -> Any:
    return field(default=default, metadata={"role": "rows"})


def _scheduling(default: Any) -> Any:
    return field(default=default, metadata={"role": "scheduling"})


def _action(default: Any) -> Any:
    return field(default=default, metadata={"role": "action"})


@dataclass(frozen=True)
class LabelConfig:
    """Label every face of a data set: images in, Parquet (and meshes, textures, overlays) out.

    The same command continues a run that was stopped; what is committed is never done twice.
    """

    paths: Annotated[tyro.conf.Positional[tuple[str, ...]], _text("INPUT... OUTPUT")] = field(
        default=(), metadata={"role": "paths"}
    )
    """One or more inputs (folder, .tar, .zip, .parquet, list of URIs, glob; local or s3://), then
    the folder that gets the labels."""

    assets: Annotated[str, _text("DIR|open")] = field(default=OPEN, metadata={"role": "paths"})
    """Bundle with the networks and the face model (python -m tddfa3.assets makes one); open is the
    small free one that comes with tddfa3; from s3:// it is copied to every machine once."""

    detector: Literal["auto", "retinaface", "mtcnn", "none"] = _rows("auto")
    """How faces are found; auto: as the bundle does best; none: every image is a 224x224 crop
    already."""
    backbone: Annotated[str, _text("NAME")] = _rows("auto")
    """The network from crop to coefficients: one that the bundle has; auto: its best."""
    refine: Literal["auto", "none", "points"] = _rows("auto")
    """points: faces are moved so that they agree with the detector's five points, too; auto: as the
    bundle does best."""
    lighting: Literal["auto", "network", "solve"] = _rows("auto")
    """Where light and skin colour come from: network predicts them, solve fits them to the image;
    auto: as the bundle does best."""
    faces: Literal["best", "largest", "all"] = _rows("best")
    """Which faces of an image are labelled."""
    landmarks: Annotated[tuple[str, ...], _several_of(LANDMARK_SETS)] = _rows(LANDMARK_SETS)
    """Landmark sets, separated by commas, or none."""
    masks: Annotated[tuple[str, ...], _several_of(MASKS)] = _rows(("seg", "seg_visible"))
    """Part masks: seg (occlusion ignored), seg_visible, rle (COCO, on the original image)."""
    meshes: Literal["none", "pca", "extracted", "both"] = _rows("none")
    """Meshes as files: with the model's texture, the photograph's, or both."""
    mesh_format: Literal["obj", "ply", "glb"] = _rows("ply")
    """File format of the meshes."""
    textures: Literal["none", "jpg", "png", "webp"] = _rows("none")
    """UV textures taken from the photograph, as files."""
    overlays: Literal["none", "jpg", "sheet"] = _rows("none")
    """Pictures of the labels, as files: jpg draws all faces of an image over it; sheet shows every
    output of one face, side by side."""
    mesh_frame: Literal["crop", "image", "model"] = _rows("crop")
    """Frame of the meshes: crop is that of 3DDFA-V3's files; image the photograph's camera, so that
    camera_K projects them; model unposed, so that camera_K, camera_R and camera_t do."""
    points106: bool = _rows(False)
    """Also write the 106 points that the detector's own network saw (retinaface)."""
    precision: Literal["fp32", "bf16", "fp16"] = _rows("fp32")
    """Of the networks; less than fp32 needs CUDA and moves the labels a little."""
    image_column: Annotated[str, _text("NAME")] = _rows("")
    """Column of Parquet shards that holds the image bytes; empty: find it."""
    decode: Literal["full", "reduced"] = _rows("full")
    """reduced: large JPEGs at 1/2, 1/4 or 1/8 of their size where the detector (retinaface) and the
    faces need no more; quicker, and moves the labels a little."""
    max_pixels: Annotated[int, _text("N")] = _rows(100_000_000)
    """Larger images are not decoded; they get the status too_large."""
    chunk_images: Annotated[int, _text("N")] = _rows(256)
    """Most images in a chunk, the unit of work, of retry and of commit."""
    chunk_bytes: Annotated[int, _text("N")] = _rows(256 * 2**20)
    """Most encoded bytes in a chunk."""
    limit: Annotated[int, _text("N")] = _rows(0)
    """Label the first N images only; 0: all."""

    device: Literal["auto", "cpu", "cuda"] = _scheduling("auto")
    """Where the networks run."""
    rasterizer: Literal["auto", "nvdiffrast", "cpu"] = _scheduling("auto")
    """What draws triangles: nvdiffrast needs CUDA; cpu works everywhere."""
    engine: Literal["auto", "torch", "onnx"] = _scheduling("auto")
    """What runs the networks: onnx (onnxruntime) is faster on CPUs; auto takes it there."""
    compiled: bool = _scheduling(False)
    """CUDA only: networks through torch.compile and CUDA graphs; compiles once per batch size."""
    batch: Annotated[int, _text("N")] = _scheduling(8)
    """Images labelled at once; more bring nothing on a CPU, and a GPU wants 32 or more. Halved by
    itself when the GPU's memory is too small."""
    actors: Annotated[ActorRange, _ACTORS] = field(
        default=ONE_OR_MORE, metadata={"role": "scheduling"}
    )
    """Labelling processes: starts with MIN, grows to MAX as the cluster allows (1: as many as
    fit)."""
    gpus_per_actor: Annotated[float, _text("F")] = _scheduling(-1.0)
    """GPUs of an actor, fractions allowed; -1: one where the cluster has GPUs, else none."""
    cpus_per_actor: Annotated[int, _text("N")] = _scheduling(0)
    """CPUs (and threads) of an actor; 0: the node's CPUs shared evenly."""
    actor_memory_gb: Annotated[float, _text("F")] = _scheduling(0.0)
    """An actor that holds more memory than this is replaced between chunks; 0: never."""
    ray_address: Annotated[str, _text("local|auto|HOST")] = _scheduling("local")
    """local starts an own Ray on this machine; auto or HOST joins a cluster."""
    wait: Annotated[float, _text("SECONDS")] = _scheduling(0.0)
    """Give up when no actor could be started for so long; 0: wait for ever."""
    stall: Annotated[float, _text("SECONDS")] = _scheduling(900.0)
    """An actor whose chunk made no step for so long is killed, as if it had died; 0: never."""
    s3_endpoint: Annotated[str, _text("URL")] = _scheduling("")
    """Endpoint of the S3 server, when it is not AWS."""

    retry_failed: bool = _action(False)
    """Do the images again whose rows say that they failed."""
    accept_changed: bool = _action(False)
    """Label shards again whose content changed since they were first seen; old rows stay."""
    resume: Annotated[str, _text("OUTPUT")] = _action("")
    """Continue the run in OUTPUT with everything taken from its manifest."""

    @property
    def inputs(self) -> tuple[str, ...]:
        """What is labelled: all paths but the last."""
        return self.paths[:-1]

    @property
    def output(self) -> str:
        """The folder that gets the labels: the last path."""
        return self.paths[-1]


def field_names(role: str) -> tuple[str, ...]:
    """The fields of a role: rows, scheduling, action or paths."""
    return tuple(f.name for f in dataclasses.fields(LabelConfig) if f.metadata["role"] == role)


def option_name(field_name: str) -> str:
    """The option of the command line that sets a field."""
    return "--" + field_name.replace("_", "-")


def check(config: LabelConfig) -> LabelConfig:
    """The config itself, when every value can be used.

    Raises:
        UserError: one cannot; the message names the option.
    """
    if len(config.paths) < 2:
        raise UserError("say where from and where to: python -m jobs.label INPUT... OUTPUT")
    if not config.assets:
        raise UserError(
            "--assets is empty; leave it out for the bundle that comes with tddfa3, or name a "
            "folder (python -m tddfa3.assets --help tells how to get one)"
        )
    for name, lowest in (
        ("max_pixels", 1),
        ("chunk_images", 1),
        ("chunk_bytes", 1),
        ("limit", 0),
        ("batch", 1),
        ("cpus_per_actor", 0),
        ("actor_memory_gb", 0),
        ("wait", 0),
        ("stall", 0),
    ):
        value = getattr(config, name)
        if not math.isfinite(value) or value < lowest:
            raise UserError(f"{option_name(name)} {value}: must be at least {lowest}")
    gpus = config.gpus_per_actor
    if gpus != -1 and not (0 <= gpus <= 1 or (gpus > 1 and gpus.is_integer())):
        raise UserError(
            f"--gpus-per-actor {gpus}: must be -1 (choose), between 0 and 1, or a whole number"
        )
    if config.device == "cuda" and gpus == 0:
        raise UserError("--device cuda needs a GPU, but --gpus-per-actor is 0")
    _refuse_secrets(config)
    return config


def _refuse_secrets(config: LabelConfig) -> None:
    """Refuse URLs with a user name or password, because the manifest keeps the config."""
    for text in (*config.paths, config.s3_endpoint, config.ray_address, config.assets):
        parts = urlsplit(text) if "://" in text else None
        if parts is not None and "@" in parts.netloc:
            shown = f"{parts.scheme}://***@{parts.netloc.rpartition('@')[2]}{parts.path}"
            raise UserError(f"{shown}: credentials belong into the environment, not into a URL")


def to_json(config: LabelConfig) -> dict[str, Any]:
    """What the manifest keeps: every field but the actions, as JSON values."""
    kept = {n: getattr(config, n) for r in ("paths", "rows", "scheduling") for n in field_names(r)}
    kept["paths"], kept["actors"] = list(config.paths), str(config.actors)
    return {name: list(v) if isinstance(v, tuple) else v for name, v in kept.items()}


def from_json(values: Mapping[str, Any]) -> LabelConfig:
    """The inverse of :func:`to_json`.

    Raises:
        UserError: there are fields that this version does not know.
    """
    unknown = set(values) - {f.name for f in dataclasses.fields(LabelConfig)}
    if unknown:
        raise UserError(
            f"the manifest has options this version does not know: {', '.join(sorted(unknown))}"
        )
    given: dict[str, Any] = {n: tuple(v) if isinstance(v, list) else v for n, v in values.items()}
    if "actors" in given:
        given["actors"] = ActorRange.parse(given["actors"])
    return LabelConfig(**given)


def parse(
    argv: Sequence[str],
    read_manifest: Callable[[LabelConfig], LabelConfig],
    *,
    prog: str = "python -m jobs.label",
) -> LabelConfig:
    """The command line as a checked config.

    Exits with code 2 when the command line cannot be understood.

    Args:
        argv: without the program's name.
        read_manifest: gives the config kept in the output to be resumed. With ``--resume`` its
            values are the defaults, so that other options on the same line still count.
        prog: what usage texts call the program.

    Raises:
        UserError: a value cannot be used.
    """
    argv = _positionals_first(argv)
    config = _parse(argv, LabelConfig(), prog)
    if config.resume:
        if config.paths:
            raise UserError("--resume OUTPUT takes the inputs from its manifest; give no others")
        config = _parse(argv, read_manifest(config), prog)
    return check(config)


def _parse(argv: Sequence[str], default: LabelConfig, prog: str) -> LabelConfig:
    return tyro.cli(
        LabelConfig,
        prog=prog,
        args=list(argv),
        default=default,
        config=(tyro.conf.FlagCreatePairsOff,),
    )


def _positionals_first(argv: Sequence[str]) -> list[str]:
    """Options may stand between INPUT and OUTPUT, but argparse wants positionals together."""
    flags = {option_name(f.name) for f in dataclasses.fields(LabelConfig) if f.default is False}
    flags |= {"--help", "-h"}
    positionals: list[str] = []
    options: list[str] = []
    rest = iter(argv)
    for word in rest:
        if not word.startswith("-") or word == "-":
            positionals.append(word)
        else:
            options.append(word)
            if word not in flags and "=" not in word:
                options += [value for value in [next(rest, None)] if value is not None]
    return [*positionals, *options]
