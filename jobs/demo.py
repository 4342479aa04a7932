"""``make demo``: label a photograph and a few rendered faces, and show what comes out.

Everything is labelled with the bundle that comes with tddfa3, so nothing has to be downloaded. The
results are in ``demo/`` below the current folder.

Exit codes: those of ``jobs.label``.
"""

from __future__ import annotations

import io
import subprocess
import sys
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.dataset as ds
import tyro
from PIL import Image
from rich.console import Console
from rich.table import Table

from jobs.exits import run_program
from tddfa3.assets.bundle import AssetBundle
from tddfa3.drawing.sample import rendered_faces
from tddfa3.errors import UserError

DEMO = Path("demo")
INPUT, OUTPUT = DEMO / "input", DEMO / "output"
SHARDS, FACES_PER_SHARD = 2, 6


@dataclass(frozen=True)
class DemoConfig:
    """Label a photograph and a few rendered faces in demo/, and show what comes out."""


def main(argv: Sequence[str] | None = None, *, prog: str = "python -m jobs.demo") -> int:
    """Runs the program; returns its exit code."""
    tyro.cli(DemoConfig, prog=prog, args=argv)
    return run_program(demonstrate)


def demonstrate() -> int:
    """Makes the input unless it is there, labels it, and shows the rows."""
    console = Console()
    bundle = AssetBundle.load()
    if not INPUT.exists():
        console.print(f"Making a small input in {INPUT} ...")
        make_input(rendered_faces(bundle, SHARDS * FACES_PER_SHARD))
    command = [
        *("-m", "jobs.label", str(INPUT), str(OUTPUT)),
        *("--faces", "all", "--overlays", "sheet", "--meshes", "pca"),
        # Small chunks, so that there is progress to see.
        *("--chunk-images", "4"),
    ]
    console.print("[bold]$ python " + " ".join(command), highlight=False, soft_wrap=True)
    code = subprocess.call([sys.executable, *command])
    if code == 0:
        show(console)
    return code


def make_input(faces: list[np.ndarray]) -> None:
    """Makes the input, a photograph and tar shards of rendered faces, all of it or nothing.

    Raises:
        UserError: scikit-image, which the photograph comes with, is not installed.
    """
    try:
        import skimage.data
    except ImportError:
        raise UserError(
            "the demo's photograph comes with scikit-image: pip install scikit-image"
        ) from None
    building = DEMO / "input.tmp"
    (building / "photos").mkdir(parents=True, exist_ok=True)
    # Eileen Collins, NASA, public domain; comes with scikit-image.
    photo = Image.fromarray(skimage.data.astronaut())
    photo.save(building / "photos" / "astronaut.png")
    for shard in range(SHARDS):
        with tarfile.open(building / f"rendered-{shard:03d}.tar", "w") as tar:
            for k in range(shard * FACES_PER_SHARD, (shard + 1) * FACES_PER_SHARD):
                encoded = io.BytesIO()
                Image.fromarray(faces[k]).save(encoded, "JPEG", quality=92)
                member = tarfile.TarInfo(f"{k:04d}.jpg")
                member.size = encoded.tell()
                tar.addfile(member, io.BytesIO(encoded.getvalue()))
    building.rename(INPUT)


def show(console: Console) -> None:
    """Shows a table read from the Parquet files, and says what to look at."""
    columns = ["image_id", "status", "n_faces", "score", "yaw", "pitch", "overlay_uri"]
    rows = ds.dataset(OUTPUT / "annotations").to_table(columns=columns).to_pylist()
    table = Table(title=f"{OUTPUT / 'annotations'}: {len(rows)} rows")
    for name in columns[:-1]:
        table.add_column(name, justify="left" if name in ("image_id", "status") else "right")
    for row in rows:
        table.add_row(*(cell(row[name]) for name in columns[:-1]))
    console.print(table)
    written = [p for p in OUTPUT.rglob("*") if p.is_file()]
    size = sum(p.stat().st_size for p in written)
    console.print(f"{len(written)} files, {size / 1e6:.1f} MB in {OUTPUT}")
    picture = next((row["overlay_uri"] for row in rows if "astronaut" in row["image_id"]), None)
    if picture:
        console.print(f"Look at [bold]{OUTPUT / picture}[/bold]", soft_wrap=True)


def cell(value: object) -> str:
    """A value as text in the table."""
    return "" if value is None else f"{value:.2f}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    sys.exit(main())
