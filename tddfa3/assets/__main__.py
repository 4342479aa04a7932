"""``python -m tddfa3.assets``: make and describe the bundles that everything else loads."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from tddfa3.assets.bundle import BACKBONES, DETECTOR_FILES, OPEN, AssetBundle
from tddfa3.errors import UserError

_Bundle = Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="BUNDLE")]
_Folder = Annotated[Path | None, tyro.conf.arg(metavar="DIR")]
_Files = Annotated[tuple[Path, ...], tyro.conf.arg(metavar="FILE")]


@dataclass(frozen=True)
class Synthesize:
    """Make a synthetic bundle from a seed."""

    dest: _Bundle
    """Folder of the bundle."""
    seed: int = 0
    """Of all that is random in it."""
    vertices: int = 35709
    """Of the face model."""
    backbones: tuple[str, ...] = tuple(BACKBONES)
    """Networks from crop to coefficients."""
    detectors: tuple[str, ...] = tuple(DETECTOR_FILES)
    """Networks that find faces."""
    upstream_files: _Folder = None
    """Also write the same assets in 3DDFA-V3's own formats."""

    def run(self) -> None:
        """Makes the bundle and prints its path and digest."""
        from tddfa3.assets.generators.synthetic import synthesize

        bundle = synthesize(
            self.dest,
            seed=self.seed,
            vertices=self.vertices,
            backbones=self.backbones,
            detectors=self.detectors,
            write_upstream_files=self.upstream_files,
        )
        print(f"{bundle.path}  {bundle.digest}")


@dataclass(frozen=True)
class Fetch:
    """Download 3DDFA-V3's assets and convert them."""

    dest: _Bundle
    """Folder of the bundle."""
    revision: str = "main"
    """Branch, tag or commit on the hub."""
    download_folder: _Folder = None
    """Keep the downloaded files here."""
    endpoint: Annotated[str | None, tyro.conf.arg(metavar="URL")] = None
    """Address of a mirror of the hub."""

    def run(self) -> None:
        """Downloads, converts and prints the bundle's path and digest."""
        from tddfa3.assets.fetch import fetch

        bundle = fetch(
            self.dest,
            revision=self.revision,
            download_folder=self.download_folder,
            endpoint=self.endpoint,
        )
        print(f"{bundle.path}  {bundle.digest}")


@dataclass(frozen=True)
class Convert:
    """Convert a folder of 3DDFA-V3's own files."""

    folder: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="FOLDER")]
    """Where they are."""
    dest: _Bundle
    """Folder of the bundle."""

    def run(self) -> None:
        """Converts and prints the bundle's path and digest."""
        from tddfa3.assets.convert import convert

        bundle = convert(self.folder, self.dest)
        print(f"{bundle.path}  {bundle.digest}")


@dataclass(frozen=True)
class MakeOpen:
    """Make the bundle that comes with tddfa3 again."""

    dest: _Bundle
    """Folder of the bundle."""
    weights: Annotated[Path, tyro.conf.arg(metavar="FILE")]
    """Safetensors of the trained EfficientNet-Lite0."""
    texts: _Files = ()
    """Its README.md and LICENSES.txt."""

    def run(self) -> None:
        """Makes the bundle and prints its path and digest."""
        from tddfa3.assets.open_bundle import make_open_bundle

        bundle = make_open_bundle(self.dest, self.weights, texts=self.texts)
        print(f"{bundle.path}  {bundle.digest}")


@dataclass(frozen=True)
class Describe:
    """Say what is in a bundle."""

    bundle: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="BUNDLE")] = OPEN
    """Folder of the bundle."""
    json: bool = False
    """For programs."""

    def run(self) -> None:
        """Prints the description, as JSON if asked for."""
        description = AssetBundle.load(self.bundle).describe()
        if self.json:
            print(json.dumps(description, indent=2, ensure_ascii=False))
        else:
            print(description_text(description))


Command = (
    Annotated[Synthesize, tyro.conf.subcommand("synthesize")]
    | Annotated[Fetch, tyro.conf.subcommand("fetch")]
    | Annotated[Convert, tyro.conf.subcommand("convert")]
    | Annotated[MakeOpen, tyro.conf.subcommand(OPEN)]
    | Annotated[Describe, tyro.conf.subcommand("describe")]
)


def main(argv: Sequence[str] | None = None, *, prog: str = "python -m tddfa3.assets") -> int:
    """Run one command; returns the exit code (2 for anything the user can put right)."""
    logging.basicConfig(level=logging.WARNING, format="warning: %(message)s")
    command: Any = tyro.cli(
        Command,
        prog=prog,
        description="Make and describe the bundles that everything else loads.",
        args=argv,
        config=(tyro.conf.FlagCreatePairsOff,),
    )
    try:
        command.run()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped; the same command goes on", file=sys.stderr)
        return 130
    return 0


def description_text(description: dict[str, Any]) -> str:
    """A bundle's description for a person to read."""
    topology, sizes = description["topology"], description["coefficients"]
    lines = [
        f"name       {description['name']}",
        f"source     {description['source']}",
        f"licence    {description['licence']}",
        f"notice     {description['notice']}",
        f"digest     {description['digest']}",
        f"topology   {topology['vertices']:,} vertices, {topology['triangles']:,} triangles",
        f"sizes      id {sizes['id']}, exp {sizes['exp']}, alb {sizes['alb']}",
        f"backbones  {', '.join(description['backbones']) or 'none'}",
        f"detectors  {', '.join(description['detectors']) or 'none'}",
        f"lighting   {description.get('lighting', 'network')}",
        f"refine     {description.get('refine', 'none')}",
        f"maps       {', '.join(description.get('correspondences', [])) or 'none'}",
        "files",
    ]
    for name, entry in description["files"].items():
        lines.append(f"  {name:32} {entry['bytes']:>12,} bytes  sha256 {entry['sha256']}")
        lines.append(f"  {'':32} {entry['licence']}; {entry['source']}")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
