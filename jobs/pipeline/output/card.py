"""The dataset card of an output, in the style of the Hugging Face hub: ``_run/README.md``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from jobs.pipeline.output.compacting import merged
from jobs.pipeline.output.reading import Counts, LabelledRun
from jobs.pipeline.record.config import field_names, option_name
from jobs.pipeline.record.layout import CARD, COMPACTION
from jobs.pipeline.record.parts import read_part
from jobs.pipeline.record.schema import Column, columns, type_name

SAMPLED_PARTS = 64
"""Distributions are taken from so many part files, spread evenly; counts from all."""
_PARALLEL_READS = 16
_DISTRIBUTIONS = {
    "yaw": "degrees",
    "pitch": "degrees",
    "roll": "degrees",
    "score": "",
    "quality_points": "inter-ocular distances",
    "quality_visible": "",
    "quality_coverage": "",
}
_QUANTILES = (0.01, 0.25, 0.5, 0.75, 0.99)
_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (10**6, "100K<n<1M"),
          (10**7, "1M<n<10M"), (10**8, "10M<n<100M"), (10**9, "100M<n<1B"))  # fmt: skip

_CITATION = """\
```bibtex
@inproceedings{wang2024geometric,
  title     = {3D Face Reconstruction with the Geometric Guidance of Facial Part Segmentation},
  author    = {Wang, Zidu and Zhu, Xiangyu and Zhang, Tianshuo and Wang, Baiqin and Lei, Zhen},
  booktitle = {IEEE/CVF Conference on Computer Vision and Pattern Recognition (CVPR)},
  year      = {2024}
}
```"""
_CITATION_BFM = """\
```bibtex
@inproceedings{paysan2009face,
  title     = {A 3D Face Model for Pose and Illumination Invariant Face Recognition},
  author    = {Paysan, Pascal and Knothe, Reinhard and Amberg, Brian and Romdhani, Sami and
               Vetter, Thomas},
  booktitle = {IEEE International Conference on Advanced Video and Signal Based Surveillance},
  year      = {2009}
}
```"""

_LOADING = """\
```python
import pyarrow.dataset as ds

table = ds.dataset("annotations").to_table(columns=["image_id", "status", "box", "ldm68"])
```

```python
from datasets import load_dataset

faces = load_dataset("parquet", data_files="annotations/**/*.parquet", split="train")
```

A mesh of any row: `python -m jobs.export . MESHES --where "image_id = '…'" --meshes pca`. SQL,
other libraries, training: `docs/recipes.md` of tddfa3."""

_FRAMES = """\
*Image pixels* are those of the photograph after EXIF rotation, x to the right, y down. *Crop
pixels* are those of the 224 x 224 crop that the networks saw; `crop_params` is the way between the
two. The camera (`camera_K`, `camera_R`, `camera_t`) follows OpenCV: a point v of the model frame
lies at `K (R v + t)`. Angles in degrees have the signs of `coef_angle`: yaw to the image's right,
pitch down and roll counter-clockwise are positive; AFLW2000 has all three the other way round.
"Right" in the names of parts is the subject's. Lists are row-major; points are x, y pairs."""


@dataclass
class CardCounts(Counts):
    """Sums of what part files say about themselves, and what computed their labels.

    Attributes:
        computed_with: device, engine and the like; all values that occur, separated by commas.
    """

    computed_with: dict[str, str] = field(default_factory=dict)

    def add(self, about: Mapping[str, Any]) -> None:
        """Add what one part file says about itself (``about``)."""
        super().add(about)
        self.computed_with = merged([self.computed_with, about.get("computed_with", {})])


def write_card(url: str, *, s3_endpoint: str | None = None, rel: str = CARD) -> str:
    """Write the card of an output, as it is now.

    Args:
        url: the output.
        s3_endpoint: of the S3 server, when it is not AWS.
        rel: the card's name in the output.

    Returns:
        The card's path or URL.

    Raises:
        UserError: there is no output.
        StoreError: it could not be read or written.
    """
    run = LabelledRun(url, s3_endpoint=s3_endpoint)
    run.store.publish(rel, card(run).encode())
    return run.store.uri(rel)


def card(run: LabelledRun) -> str:
    """The whole text of the card, in Markdown."""
    counts = count_parts(run)
    sections = [
        _front_matter(run, counts),
        "# Faces labelled in 3D",
        _summary(run, counts),
        _counts_section(run, counts),
        _distribution_section(run),
        "## Columns\n\nOne row per face; an image without a labelled face has one row, whose "
        "`status` and `error` say why.\n\n" + column_table(columns(run.facts)),
        "## Frames and signs\n\n" + _FRAMES,
        "## Parts\n\n" + _part_table(run.part_names),
        "## How it was made\n\n" + _config_table(run, counts),
        "## Licences\n\n" + _licences(run, counts),
        "## Citation\n\n" + _citation(run),
        "## Loading\n\n" + _LOADING,
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def count_parts(run: LabelledRun) -> CardCounts:
    """Sums over all part files, a small read each; superseded shards are left out."""
    counts = CardCounts()
    for about in run.footers():
        if about.get("chunk", {}).get("shard") not in run.superseded:
            counts.add(about)
    return counts


def column_table(described: Iterable[Column]) -> str:
    """A table of columns in Markdown: name, type, description, unit, frame."""
    lines = ["| column | type | what | unit | frame |", "|---|---|---|---|---|"]
    for column in described:
        cells = (_type_text(column), column.description, column.unit, column.frame)
        # Markdown would take <shard> for HTML.
        lines.append(f"| `{column.name}` | {' | '.join(cells)} |".replace("<", "&lt;"))
    return "\n".join(lines)


def _type_text(column: Column) -> str:
    """The type in short: ``float32 [136]`` for lists of that length."""
    if column.length is None:
        return type_name(column.type)
    return f"{type_name(column.type.value_type)} [{column.length}]"


def _front_matter(run: LabelledRun, counts: CardCounts) -> str:
    size = next((name for most, name in _SIZES if counts.faces < most), "n>1B")
    return "\n".join(
        [
            "---",
            "pretty_name: Faces labelled in 3D",
            "license: other",
            f"license_name: {_yaml(run.facts.licence or 'see below')}",
            "task_categories: [image-segmentation, keypoint-detection, image-to-3d]",
            "tags: [face, 3dmm, 3d-face-reconstruction, landmarks, head-pose]",
            f"size_categories: [{size}]",
            "configs:",
            "- config_name: default",
            '  data_files: "annotations/**/*.parquet"',
            "---",
        ]
    )


def _summary(run: LabelledRun, counts: CardCounts) -> str:
    created = (run.manifest or {}).get("created", "")[:10]
    version = run.about["versions"].get("tddfa3", "")
    text = (
        f"{counts.faces:,} faces in {counts.images:,} images, labelled by tddfa3 {version}"
        f"{f' from {created} on' if created else ''}: landmarks, face parts, pose, camera, and the "
        "coefficients of a 3D morphable model, from which a mesh of every face can be made. The "
        "method is that of 3DDFA-V3 (CVPR 2024). The labels are predictions; the quality columns "
        "tell which to trust."
    )
    so_far = run.completeness()
    if so_far is not None and not so_far.finished:
        text += f"\n\n**Not finished**: {so_far} are committed."
    if run.store.exists(COMPACTION):
        text += (
            "\n\nThe rows are sorted by shard, key and face. Meshes, textures and overlays are not "
            "here; their URIs are relative to the output that this was made of."
        )
    return text


def _counts_section(run: LabelledRun, counts: CardCounts) -> str:
    size = sum(part.size for part in run.parts)
    lines = ["## How many", "", "| | |", "|---|---|"]
    lines += [f"| images | {counts.images:,} |"]
    lines += [f"| images with status `{s}` | {n:,} |" for s, n in sorted(counts.statuses.items())]
    lines += [f"| faces | {counts.faces:,} |"]
    if counts.shard_errors:
        lines += [f"| shards that could not be read in full | {counts.shard_errors:,} |"]
    lines += [f"| part files | {len(run.parts):,} ({size / 1e6:,.1f} MB) |"]
    return "\n".join(lines)


def _distribution_section(run: LabelledRun) -> str:
    step = max(1, -(-len(run.parts) // SAMPLED_PARTS))
    sampled = run.parts[::step]
    tables = [read_part(run.store, part.rel, tuple(_DISTRIBUTIONS)) for part in sampled]
    if not tables:
        return ""
    table = pa.concat_tables([table.replace_schema_metadata(None) for table in tables])
    heads = " | ".join(f"{q:.0%}" for q in _QUANTILES)
    lines = [f"| column | unit | {heads} |", "|---|---|" + "---|" * len(_QUANTILES)]
    for name, unit in _DISTRIBUTIONS.items():
        values = table[name].drop_null().to_numpy()  # (faces,)
        if len(values):
            numbers = " | ".join(f"{v:.3g}" for v in np.quantile(values, _QUANTILES))
            lines.append(f"| `{name}` | {unit} | {numbers} |")
    if len(lines) == 2:
        return ""
    of = "" if step == 1 else f" (of {len(sampled):,} of {len(run.parts):,} part files)"
    return f"## Distributions\n\nQuantiles over faces{of}.\n\n" + "\n".join(lines)


def _part_table(names: Sequence[str]) -> str:
    lines = ["| label in `seg_visible` | bit in `seg` | part |", "|---|---|---|"]
    lines += [f"| {i + 1} | {1 << i} | {name} |" for i, name in enumerate(names)]
    return "\n".join(lines)


def _config_table(run: LabelledRun, counts: CardCounts) -> str:
    config = (run.manifest or {}).get("config", {})
    lines = ["| option | value |", "|---|---|"]
    for name in field_names("rows"):
        if name in config:
            value = config[name]
            text = ",".join(map(str, value)) if isinstance(value, list) else str(value)
            lines.append(f"| `{option_name(name)}` | {text or 'none'} |")
    packages = ", ".join(f"{name} {v}" for name, v in sorted(run.about["versions"].items()))
    given = (run.manifest or {}).get("input", {})
    if given:
        lines.append(f"| input | {given['shards']:,} shards, {given['bytes'] / 1e6:,.1f} MB |")
    lines += [f"| {name} | {text} |" for name, text in counts.computed_with.items()]
    lines.append(f"| plan | `{run.about['plan'][:16]}` |")
    return "\n".join(lines) + f"\n\nVersions: {packages}."


def _holds_bfm(run: LabelledRun) -> bool:
    """Whether the face model is, or may be, the Basel Face Model's."""
    licence = run.facts.licence or run.about["assets"]["licence"]
    return not licence or "Basel" in licence


def _citation(run: LabelledRun) -> str:
    return f"{_CITATION}\n{_CITATION_BFM}" if _holds_bfm(run) else _CITATION


def _rasterizer_licence(counts: CardCounts) -> str:
    nvdiffrast = "**nvdiffrast** (Nvidia Source Code License: **non-commercial** use only)"
    if "nvdiffrast" in counts.computed_with.get("rasterizer", ""):
        return (
            f"Triangles were drawn by {nvdiffrast}; whoever runs it needs that licence. None of "
            "its code is in this data set."
        )
    return (
        "Triangles were drawn by tddfa3's own rasterizer (MIT). On GPUs tddfa3 can use "
        f"{nvdiffrast} instead."
    )


_BFM_LICENCE = (
    "- The face model of 3DDFA-V3 is derived from the **Basel Face Model (BFM): non-commercial "
    "research only, no redistribution** of the model or of anything that contains it. If the "
    "assets above are 3DDFA-V3's, these labels are for non-commercial research only."
)


def _licences(run: LabelledRun, counts: CardCounts) -> str:
    facts = run.facts
    assets = run.about["assets"]
    licence = facts.licence or assets["licence"]
    lines = [
        f"- **Assets**: {assets['name']}, licence: **{licence}** (digest `{assets['digest'][:16]}`"
        f"{f'; source: {facts.source}' if facts.source else ''}). Coefficients, and meshes made of "
        "them, are derived from these assets: what their licence forbids, it forbids here.",
        *([_BFM_LICENCE] if _holds_bfm(run) else []),
        "- " + _rasterizer_licence(counts),
        "- **The photographs** are not part of this data set, unless overlays or textures are; the "
        "rights in them, and the privacy of the people in them, remain as they were.",
    ]
    files = [
        f"| `{name}` | {about.get('licence', '')} | {about.get('source', '')} | "
        f"`{about.get('sha256', '')[:16]}` |"
        for name, about in sorted(facts.files.items())
    ]
    if files:
        lines += ["", "| asset file | licence | source | sha256 |", "|---|---|---|---|", *files]
    return "\n".join(lines)


def _yaml(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
