"""A run: its manifest, its fingerprint, and whether an output may be continued.

``_run/manifest.json`` is created once and never changed. Everything here only reads until all that
can be refused has been refused; creating the manifest is the first thing that is written.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.metadata
import json
import os
import platform
import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import tddfa3
from jobs.pipeline.record import config as configs
from jobs.pipeline.record.config import LabelConfig, option_name
from jobs.pipeline.record.facts import AssetFacts
from jobs.pipeline.record.layout import LAYOUT_VERSION, LAYOUT_VERSIONS, MANIFEST, Layout
from jobs.pipeline.record.schema import LabelSchema
from jobs.pipeline.shards import ReadOptions, Shard, holds_an_image, list_shards
from jobs.pipeline.storage.store import Store, parse_url
from tddfa3.errors import UserError

COMPUTING = (
    "numba",
    "numpy",
    "onnxruntime",
    "opencv-python-headless",
    "pillow",
    "scipy",
    "torch",
    "torchvision",
)
"""Packages that images and numbers pass through: another version may change the last digits.
nvdiffrast is left out, because the driver that records the versions may have no GPU, unlike its
actors."""
_PACKAGES = (*COMPUTING, "pyarrow", "ray")
_VERSION_OF = "version of "


@dataclass(frozen=True)
class Run:
    """One start of a run.

    Attributes:
        id: of this start; names its log.
        config: with what was left to the assets filled in.
        store: the output.
        layout: names of the files in it.
        schema: the columns.
        shards: all shards of the input, sorted by id.
        read_options: how the shards are read.
        resumed: whether there was a manifest already.
    """

    id: str
    config: LabelConfig
    store: Store
    layout: Layout
    schema: LabelSchema
    shards: tuple[Shard, ...]
    read_options: ReadOptions
    resumed: bool


@dataclass(frozen=True)
class CheckedRun:
    """A run that has passed every check that needs no work; nothing is written yet.

    Attributes:
        config: with what was left to the assets filled in.
        facts: of the assets.
        store: the output.
        shards: all shards of the input, sorted by id.
        read_options: how the shards are read.
        manifest: the one in OUTPUT; None if there is none.
    """

    config: LabelConfig
    facts: AssetFacts
    store: Store
    shards: tuple[Shard, ...]
    read_options: ReadOptions
    manifest: Mapping[str, Any] | None

    def begin(self) -> Run:
        """Create or join the manifest.

        Raises:
            UserError: another driver, with other options, created it first.
        """
        manifest = self.manifest
        if manifest is None:
            fields = fingerprint_fields(self.config, self.facts)
            manifest = make_manifest(self.config, self.facts, fields, self.shards)
            if not self.store.publish_new(MANIFEST, _encode(manifest)):
                manifest = read_manifest(self.store) or manifest
                _refuse_difference(manifest["fingerprint_fields"], fields, self.store)
        return Run(
            _new_id(),
            self.config,
            self.store,
            Layout.of(manifest),
            LabelSchema(self.facts, manifest["fingerprint"], manifest["versions"]),
            self.shards,
            self.read_options,
            resumed=self.manifest is not None,
        )


def check_run(config: LabelConfig, facts: AssetFacts) -> CheckedRun:
    """Check a run before anything is started.

    Args:
        config: a checked config.
        facts: of the assets that ``config`` names.

    Raises:
        UserError: something given cannot be used, there is not one image in INPUT, or OUTPUT
            belongs to something else.
    """
    # From here on the run is fixed to what the assets chose.
    config = dataclasses.replace(config, **facts.chosen)
    options = read_options(config)
    store = output_store(config)
    shards = tuple(list_shards(config.inputs, options))
    manifest = read_manifest(store) or _manifest_of_another(store)
    if manifest is not None:
        fields = fingerprint_fields(config, facts)
        _refuse_difference(manifest["fingerprint_fields"], fields, store)
    _require_an_image(config, shards, options)
    return CheckedRun(config, facts, store, shards, options, manifest)


def open_run(config: LabelConfig, facts: AssetFacts) -> Run:
    """Check a run and begin it: :func:`check_run`, then :meth:`CheckedRun.begin`.

    Raises:
        UserError: as these do.
    """
    return check_run(config, facts).begin()


def read_options(config: LabelConfig) -> ReadOptions:
    """How the shards of a config are read."""
    return ReadOptions(
        s3_endpoint=config.s3_endpoint or None, image_column=config.image_column or None
    )


def output_store(config: LabelConfig) -> Store:
    """The store of OUTPUT.

    Raises:
        UserError: it is a file.
    """
    kind, root = parse_url(config.output)
    if kind == "local" and os.path.lexists(root) and not os.path.isdir(root):
        raise UserError(f"{config.output}: OUTPUT is a file; give a folder that is new or empty")
    return Store.open(config.output, s3_endpoint=config.s3_endpoint or None)


def read_manifest(store: Store) -> dict[str, Any] | None:
    """The manifest of an output; None if there is none.

    Raises:
        UserError: it is damaged, or of a format that this version does not know.
    """
    data = store.read_or_none(MANIFEST)
    if data is None:
        return None
    try:
        manifest: dict[str, Any] = json.loads(data)
        known = manifest["format"] in LAYOUT_VERSIONS
    except (ValueError, KeyError, TypeError):
        raise UserError(f"{store.uri(MANIFEST)}: not a manifest of this program") from None
    if not known:
        raise UserError(
            f"{store.uri(MANIFEST)}: format {manifest['format']}, this version writes "
            f"{LAYOUT_VERSION}; use the version that wrote it, or another OUTPUT"
        )
    return manifest


def config_of(given: LabelConfig) -> LabelConfig:
    """The config kept in the manifest of the output that ``--resume`` names.

    Raises:
        UserError: there is no manifest, or it cannot be used.
    """
    store = Store.open(given.resume, s3_endpoint=given.s3_endpoint or None)
    manifest = read_manifest(store)
    if manifest is None:
        raise UserError(f"--resume {given.resume}: no run there ({MANIFEST} is missing)")
    kept = configs.from_json(manifest["config"])
    # The output may have been moved, or be seen under another path from here.
    return dataclasses.replace(kept, paths=(*kept.inputs, given.resume))


def fingerprint_fields(config: LabelConfig, facts: AssetFacts) -> dict[str, Any]:
    """Everything that changes rows.

    The input's content is not part of it: it is compared shard by shard, so that it may grow.
    """
    rows = {name: getattr(config, name) for name in configs.field_names("rows")}
    return {
        **{name: list(v) if isinstance(v, tuple) else v for name, v in rows.items()},
        "inputs": sorted("://".join(parse_url(given)) for given in config.inputs),
        "assets": facts.digest,
        **{_VERSION_OF + name: version for name, version in versions(COMPUTING).items()},
    }


def fingerprint(fields: Mapping[str, Any]) -> str:
    """SHA-256 of the fields, hexadecimal."""
    return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()


def make_manifest(
    config: LabelConfig, facts: AssetFacts, fields: Mapping[str, Any], shards: Sequence[Shard]
) -> dict[str, Any]:
    """The manifest of a new run, as JSON values."""
    listing = "".join(f"{s.id}\0{s.size}\0{s.etag}\n" for s in shards)
    return {
        "format": LAYOUT_VERSION,
        "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "config": configs.to_json(config),
        "fingerprint": fingerprint(fields),
        "fingerprint_fields": dict(fields),
        "assets": {
            "name": facts.name,
            "digest": facts.digest,
            "source": facts.source,
            "licence": facts.licence,
            "files": {name: dict(about) for name, about in facts.files.items()},
            "coefficients": dict(facts.coefficients),
            "landmarks": dict(facts.landmarks),
            "parts": list(facts.part_names),
        },
        "versions": {"python": platform.python_version(), **versions()},
        "input": {
            "shards": len(shards),
            "bytes": sum(shard.size for shard in shards),
            "listing_sha256": hashlib.sha256(listing.encode()).hexdigest(),
        },
    }


def versions(packages: Sequence[str] = _PACKAGES) -> dict[str, str]:
    """Versions of tddfa3 and of ``packages``; "not installed" for those that are missing."""
    found = {"tddfa3": tddfa3.__version__}
    for name in packages:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def _manifest_of_another(store: Store) -> dict[str, Any] | None:
    """None if OUTPUT is empty; else the manifest that another driver has written just now.

    Raises:
        UserError: there is something else in OUTPUT.
    """
    found = next(iter(store.list()), None)
    if found is None:
        return None
    manifest = read_manifest(store)
    if manifest is None:
        raise UserError(
            f"{store.url}: not empty ({found.rel} is there) and not a run of this program; "
            "give an OUTPUT that is new or empty"
        )
    return manifest


def _require_an_image(config: LabelConfig, shards: Sequence[Shard], options: ReadOptions) -> None:
    if not holds_an_image(shards, options):
        raise UserError(
            f"{', '.join(config.inputs)}: there is not one image in INPUT; in tar and zip files "
            "images are what is named .jpg, .png, .webp and so on"
        )


def _refuse_difference(kept: Mapping[str, Any], now: Mapping[str, Any], store: Store) -> None:
    for name in sorted({*kept, *now}):
        if name.startswith(_VERSION_OF) and not (name in kept and name in now):
            # The run began under a version that recorded other packages; nothing to compare with.
            continue
        if kept.get(name) != now.get(name):
            raise UserError(
                f"{store.url} holds a run with {_shown(name, kept.get(name))}, but this command "
                f"has {_shown(name, now.get(name))}; use the same options (--resume takes them "
                "from the run), or another OUTPUT"
            )


def _shown(name: str, value: Any) -> str:
    text = ",".join(map(str, value)) if isinstance(value, list) else str(value)
    labels = {"inputs": "INPUT", "assets": "assets of digest"}
    shown = name if name.startswith(_VERSION_OF) else labels.get(name) or option_name(name)
    return f"{shown} {text or 'none'}"


def _encode(manifest: Mapping[str, Any]) -> bytes:
    return (json.dumps(manifest, indent=2, sort_keys=True) + "\n").encode()


def _new_id() -> str:
    return f"{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}-{secrets.token_hex(3)}"
