"""What is to be exported: options, the faces that a filter selects, and batches of them.

A string after a field of :class:`ExportConfig` is its help text on the command line.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby, islice
from typing import Annotated, Any, Literal

import tyro

from jobs.pipeline.output.database import Database
from jobs.pipeline.output.reading import LabelledRun
from jobs.pipeline.record.layout import Layout
from jobs.pipeline.shards.model import is_image_name
from tddfa3.conventions import LANDMARK_SETS
from tddfa3.errors import UserError
from tddfa3.outputs import Outputs

BATCH_FACES = 256
"""Most faces in a batch that is not a tar shard."""
ALWAYS_MASKS = ("seg", "seg_visible")
"""Masks that WebDataset shards and 3DDFA-V3's layout always have."""
# File names that every system accepts, and that nothing reads as an option or a pattern.
_PLAIN_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._ -]{0,99}")


def _text(metavar: str) -> Any:
    return tyro.conf.arg(metavar=metavar)


@dataclass(frozen=True)
class ExportConfig:
    """Files out of labels: meshes, landmarks, masks, poses, WebDataset shards, 3DDFA-V3's layout.

    The same command continues an export that was stopped.
    """

    output: Annotated[tyro.conf.Positional[str], _text("OUTPUT")]
    """Folder with the labels, local or s3://."""
    dest: Annotated[tyro.conf.Positional[str], _text("DEST")]
    """Folder that gets the files, local or s3://."""
    where: Annotated[str, _text("SQL")] = ""
    """Which faces: an SQL condition on the columns of the view faces, for example
    "abs(yaw) < 20 and quality > 0.7"; empty: all."""
    limit: Annotated[int, _text("N")] = 0
    """The first N of them only; 0: all."""

    layout: Literal["files", "webdataset", "upstream"] = "files"
    """files: what the options below ask for, one file each. webdataset: tar shards of samples for
    training. upstream: for each photograph the files that 3DDFA-V3's demo writes."""
    meshes: Literal["none", "pca", "extracted", "both"] = "none"
    """Meshes with the model's texture, the photograph's, or both."""
    mesh_format: Literal["obj", "ply", "glb"] = "ply"
    mesh_frame: Literal["crop", "image"] = "crop"
    """crop: as 3DDFA-V3 writes them; image: the photograph's camera, which camera_K projects."""
    landmarks: Annotated[str, _text("pts,json")] = ""
    """Landmarks as 300W's .pts (pixels counted from 1, as there), as JSON, or both."""
    landmark_sets: Annotated[str, _text(",".join(LANDMARK_SETS))] = ""
    """Which sets; default: those that were labelled. Others are made again from the face model."""
    masks: Annotated[str, _text("png,coco")] = ""
    """Visible parts as PNG label maps, as one COCO file with RLE, or both."""
    mask_frame: Literal["image", "crop"] = "image"
    """PNG masks of the whole photograph or of the 224 crop."""
    poses: bool = False
    """Pose_Para and coefficients as .mat, in the style of AFLW2000."""
    images: Literal["photo", "crop"] = "photo"
    """webdataset: the photograph as it was, or the 224 crop as PNG."""
    samples_per_shard: Annotated[int, _text("N")] = 1000
    """webdataset: faces in a tar."""

    assets: Annotated[str, _text("DIR")] = ""
    """Bundle for meshes and for what was not labelled; default: the one of the label job."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    workers: Annotated[int, _text("N")] = 0
    """Processes; 0: one per CPU of the cluster for many faces, none beside this one for few."""
    ray_address: Annotated[str, _text("local|auto|HOST")] = "local"
    """local starts an own Ray on this machine when workers are needed; auto or HOST joins one."""
    s3_endpoint: Annotated[str, _text("URL")] = ""
    """Endpoint of the S3 server, when it is not AWS."""

    @property
    def mesh_sources(self) -> tuple[str, ...]:
        """The colour sources that ``--meshes`` asks for."""
        return {"none": (), "both": ("pca", "extracted")}.get(self.meshes, (self.meshes,))

    @property
    def landmark_formats(self) -> tuple[str, ...]:
        """The formats that ``--landmarks`` asks for; UserError for an unknown one."""
        return _listed("landmarks", self.landmarks, ("pts", "json"))

    @property
    def mask_formats(self) -> tuple[str, ...]:
        """The formats that ``--masks`` asks for; UserError for an unknown one."""
        return _listed("masks", self.masks, ("png", "coco"))

    @property
    def asked_sets(self) -> tuple[str, ...]:
        """The sets that ``--landmark-sets`` asks for; UserError for an unknown one."""
        return _listed("landmark-sets", self.landmark_sets, LANDMARK_SETS)


@dataclass(frozen=True, slots=True)
class Pick:
    """A face that is to be exported: where its row is, and what its files are called.

    Attributes:
        part: the part file that holds its row.
        shard: the shard of its image.
        key: its image's key in the shard.
        face_index: its rank in the image.
        name: what its files are called.
    """

    part: str
    shard: str
    key: str
    face_index: int
    name: str


@dataclass(frozen=True, slots=True)
class Batch:
    """Faces that are exported together.

    Attributes:
        number: from 0; names a tar shard.
        id: digest of which faces are exported, with which options, in what order.
        picks: the faces.
    """

    number: int
    id: str
    picks: tuple[Pick, ...] = field(repr=False)


@dataclass(frozen=True)
class Needs:
    """What the files are made of, beyond the rows.

    Attributes:
        outputs: what the face model has to compute again; None where the rows have everything.
        photos: whether the photographs are read.
    """

    outputs: Outputs | None
    photos: bool


def check(config: ExportConfig) -> ExportConfig:
    """The config itself, when every value can be used.

    Raises:
        UserError: one cannot; the message names the option.
    """
    asked = (*config.mesh_sources, *config.landmark_formats, *config.mask_formats)
    if config.layout == "files" and not (asked or config.poses):
        raise UserError(
            "nothing to export: give --meshes, --landmarks, --masks or --poses, "
            "or --layout webdataset or upstream"
        )
    _listed("landmark-sets", config.landmark_sets, LANDMARK_SETS)
    for name in ("limit", "workers"):
        if getattr(config, name) < 0:
            raise UserError(f"--{name} {getattr(config, name)}: must be at least 0")
    if config.samples_per_shard < 1:
        raise UserError(f"--samples-per-shard {config.samples_per_shard}: must be at least 1")
    return config


def landmark_sets(config: ExportConfig, run: LabelledRun) -> tuple[str, ...]:
    """The sets to write: those asked for, or those that were labelled."""
    if config.layout == "upstream":
        return LANDMARK_SETS
    return config.asked_sets or labelled(run, "landmarks", ("68",))


def labelled(run: LabelledRun, option: str, default: tuple[str, ...]) -> tuple[str, ...]:
    """What the label job was asked for by an option; ``default`` if there is no manifest."""
    return tuple((run.manifest or {}).get("config", {}).get(option, default))


def needs(config: ExportConfig, run: LabelledRun) -> Needs:
    """The least that the files can be made of."""
    if config.layout == "upstream":
        outputs = Outputs(
            landmarks=LANDMARK_SETS,
            masks=ALWAYS_MASKS,
            meshes=("pca", "extracted"),
            renders=("face", "shape"),
        )
        return Needs(outputs, photos=True)
    wanted_masks: tuple[str, ...] = ALWAYS_MASKS if config.layout == "webdataset" else ()
    if config.layout == "files" and config.mask_formats:
        wanted_masks = ("seg_visible",)
    wanted_sets = (
        landmark_sets(config, run) if config.landmark_formats or config.layout != "files" else ()
    )
    meshes = config.mesh_sources if config.layout == "files" else ()
    sets = tuple(s for s in wanted_sets if s not in labelled(run, "landmarks", LANDMARK_SETS))
    masks = tuple(m for m in wanted_masks if m not in labelled(run, "masks", ALWAYS_MASKS))
    photos = "extracted" in meshes or config.layout == "webdataset"
    if not (meshes or sets or masks):
        return Needs(None, photos)
    outputs = Outputs(landmarks=sets, masks=masks, meshes=meshes, mesh_frame=config.mesh_frame)
    return Needs(outputs, photos)


def select(config: ExportConfig, run: LabelledRun) -> list[Pick]:
    """The faces that the filter lets through, in the order of shard, key and rank.

    Raises:
        UserError: the filter is not SQL that DuckDB understands.
    """
    limit = f"LIMIT {config.limit}" if config.limit else ""
    # The filter is on lines of its own, so that a comment in it ends there.
    where = f"WHERE (\n{config.where}\n)" if config.where.strip() else ""
    sql = (
        f"SELECT part, shard, key, face_index FROM faces {where} "
        f"ORDER BY shard, key, face_index {limit}"
    )
    with Database(run) as database:
        table = database.table(sql)
    columns = (table[name].to_pylist() for name in ("part", "shard", "key", "face_index"))
    rows = list(zip(*columns, strict=True))
    return [
        Pick(part, shard, key, face, name)
        for (part, shard, key, face), name in zip(
            rows, _names(config, run.layout, rows), strict=True
        )
    ]


def batches(config: ExportConfig, run: LabelledRun, picks: Sequence[Pick]) -> Iterator[Batch]:
    """Faces of one part file together or, for tar shards, a fixed number at a time."""
    groups: Iterator[tuple[Pick, ...]]
    if config.layout == "webdataset":
        groups = _slices(picks, config.samples_per_shard)
    else:
        by_part = groupby(sorted(picks, key=lambda pick: pick.part), lambda pick: pick.part)
        groups = (part for _, group in by_part for part in _slices(list(group), BATCH_FACES))
    options = _options_text(config, run)
    etags = {part.rel: part.etag for part in run.parts}
    for number, group in enumerate(groups):
        digest = hashlib.sha256(options.encode())
        if config.layout == "webdataset":
            digest.update(f"{number}\0".encode())
        for pick in group:
            text = f"{pick.part}\0{etags[pick.part]}\0{pick.key}\0{pick.face_index}\0{pick.name}\n"
            digest.update(text.encode("utf-8", "surrogatepass"))
        yield Batch(number, digest.hexdigest()[:32], group)


def _options_text(config: ExportConfig, run: LabelledRun) -> str:
    """Everything that a file's content depends on, apart from its row."""
    skip = {
        "output",
        "dest",
        "where",
        "limit",
        "assets",
        "device",
        "workers",
        "ray_address",
        "s3_endpoint",
    }
    options = {n: v for n, v in sorted(vars(config).items()) if n not in skip}
    return f"{options} {landmark_sets(config, run)} {run.facts.digest} {run.about['versions']}"


def _listed(option: str, text: str, allowed: Sequence[str]) -> tuple[str, ...]:
    """Values separated by commas, in the order of ``allowed``."""
    values = [value for value in text.split(",") if value and value != "none"]
    for value in values:
        if value not in allowed:
            raise UserError(f"--{option} {value}: not one of {', '.join(allowed)}, none")
    return tuple(value for value in allowed if value in values)


def _slices(items: Sequence[Pick], size: int) -> Iterator[tuple[Pick, ...]]:
    rest = iter(items)
    while part := tuple(islice(rest, size)):
        yield part


def _names(
    config: ExportConfig, layout: Layout, rows: Sequence[tuple[str, str, str, int]]
) -> list[str]:
    full = [f"{layout.stem(shard, key)}_{face}" for _, shard, key, face in rows]
    if config.layout == "files":
        return full
    if config.layout == "webdataset":
        # To WebDataset, everything after the first dot is the kind of a file.
        names = (f"{layout.component(f'{shard}/{key}')}_{face}" for _, shard, key, face in rows)
        return [name.replace(".", f"{layout.mark}2E") for name in names]
    short = [_upstream_name(layout, key, face) for _, _, key, face in rows]
    seen = Counter(name.lower() for name in short)
    # Photographs of the same name would overwrite each other: they get their full names.
    return [
        name if seen[name.lower()] == 1 else long.replace("/", "_")
        for name, long in zip(short, full, strict=True)
    ]


def _upstream_name(layout: Layout, key: str, face_index: int) -> str:
    """The photograph's name without folder and extension; numbered from its second face on."""
    base = key.rpartition("/")[2]
    stem = base.rpartition(".")[0] if is_image_name(base) else base
    name = stem if _PLAIN_NAME.fullmatch(stem) else layout.component(stem)
    return f"{name}_{face_index}" if face_index else name
