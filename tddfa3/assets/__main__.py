"""``python -m tddfa3.assets``: make and describe the bundles that everything else loads."""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tddfa3.assets.bundle import DETECTOR_FILES, OPEN, AssetBundle
from tddfa3.assets.upstream import BACKBONES
from tddfa3.errors import UserError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code (2 for anything the user can put right)."""
    logging.basicConfig(level=logging.WARNING, format="warning: %(message)s")
    options = _parser().parse_args(arguments)
    try:
        options.run(options)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped; the same command goes on", file=sys.stderr)
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tddfa3.assets", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    synthesize = commands.add_parser("synthesize", help="make a synthetic bundle from a seed")
    synthesize.add_argument("dest", type=Path, metavar="BUNDLE")
    synthesize.add_argument("--seed", type=int, default=0)
    synthesize.add_argument("--vertices", type=int, default=35709)
    synthesize.add_argument("--backbones", nargs="*", default=list(BACKBONES))
    synthesize.add_argument("--detectors", nargs="*", default=list(DETECTOR_FILES))
    synthesize.add_argument(
        "--upstream-files",
        type=Path,
        metavar="DIR",
        help="also write the same assets in 3DDFA-V3's own formats",
    )
    synthesize.set_defaults(run=_synthesize)

    fetch = commands.add_parser("fetch", help="download 3DDFA-V3's assets and convert them")
    fetch.add_argument("dest", type=Path, metavar="BUNDLE")
    fetch.add_argument("--revision", default="main", help="branch, tag or commit on the hub")
    fetch.add_argument("--download-folder", type=Path, metavar="DIR")
    fetch.add_argument("--endpoint", help="address of a mirror of the hub")
    fetch.set_defaults(run=_fetch)

    convert = commands.add_parser("convert", help="convert a folder of 3DDFA-V3's own files")
    convert.add_argument("folder", type=Path, metavar="FOLDER")
    convert.add_argument("dest", type=Path, metavar="BUNDLE")
    convert.set_defaults(run=_convert)

    default = commands.add_parser(OPEN, help="make the bundle that comes with tddfa3 again")
    default.add_argument("dest", type=Path, metavar="BUNDLE")
    default.add_argument("--weights", type=Path, required=True, metavar="FILE",
                         help="safetensors of the trained EfficientNet-Lite0")  # fmt: skip
    default.add_argument("--texts", type=Path, nargs="*", default=[], metavar="FILE",
                         help="its README.md and LICENSES.txt")  # fmt: skip
    default.set_defaults(run=_open)

    describe = commands.add_parser("describe", help="say what is in a bundle")
    describe.add_argument("bundle", nargs="?", default=OPEN, metavar="BUNDLE")
    describe.add_argument("--json", action="store_true", help="for programs")
    describe.set_defaults(run=_describe)
    return parser


def _synthesize(options: argparse.Namespace) -> None:
    from tddfa3.assets.generators.synthetic import synthesize

    bundle = synthesize(
        options.dest,
        seed=options.seed,
        vertices=options.vertices,
        backbones=options.backbones,
        detectors=options.detectors,
        write_upstream_files=options.upstream_files,
    )
    print(f"{bundle.path}  {bundle.digest}")


def _fetch(options: argparse.Namespace) -> None:
    from tddfa3.assets.fetch import fetch

    bundle = fetch(
        options.dest,
        revision=options.revision,
        download_folder=options.download_folder,
        endpoint=options.endpoint,
    )
    print(f"{bundle.path}  {bundle.digest}")


def _convert(options: argparse.Namespace) -> None:
    from tddfa3.assets.convert import convert

    bundle = convert(options.folder, options.dest)
    print(f"{bundle.path}  {bundle.digest}")


def _open(options: argparse.Namespace) -> None:
    from tddfa3.assets.open_bundle import make_open_bundle

    bundle = make_open_bundle(options.dest, options.weights, texts=options.texts)
    print(f"{bundle.path}  {bundle.digest}")


def _describe(options: argparse.Namespace) -> None:
    description = AssetBundle.load(options.bundle).describe()
    if options.json:
        print(json.dumps(description, indent=2, ensure_ascii=False))
    else:
        print(description_text(description))


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
