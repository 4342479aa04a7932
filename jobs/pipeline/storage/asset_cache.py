"""A bundle on S3, copied to this machine once and shared by all its actors.

The copy's folder is named after a hash of the bundle's description, so that another bundle at the
same address gets another folder. The folder appears whole or not at all, and the digest of every
file is checked while it is copied. Actors that start together wait for the first one's download.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from jobs.pipeline.storage.store import Store, StoreError, parse_url
from tddfa3.assets.bundle import BUNDLE_JSON
from tddfa3.assets.default import OPEN, default_folder
from tddfa3.errors import AssetError

CACHE_VARIABLE = "TDDFA3_CACHE"
"""Environment variable that names the folder for copies."""
_SPAN = 64 * 2**20


def local_bundle(assets: str, s3_endpoint: str | None = None) -> Path:
    """The folder on this machine that holds the bundle ``assets``.

    Bundles on S3 are copied into the folder that TDDFA3_CACHE names (default: ``~/.cache/tddfa3``),
    and used from there afterwards.

    Args:
        assets: "open" for the bundle that comes with the code, a local path, or ``s3://…``.
        s3_endpoint: as for :class:`.store.Store`.

    Raises:
        AssetError: there is no bundle on S3, or a file is not what its description says.
        StoreError: the storage can't be read.
    """
    if assets == OPEN:
        return default_folder()
    kind, root = parse_url(assets)
    if kind == "local":
        return Path(root)
    store = Store.open(assets, s3_endpoint=s3_endpoint)
    description = store.read_or_none(BUNDLE_JSON)
    if description is None:
        raise AssetError(f"{assets}: no bundle there ({BUNDLE_JSON} is missing)")
    cache = cache_folder()
    folder = cache / hashlib.sha256(description).hexdigest()[:32]
    if folder.is_dir():
        return folder
    cache.mkdir(parents=True, exist_ok=True)
    with _locked(cache / f"{folder.name}.lock"):
        if not folder.is_dir():
            _fetch(store, description, folder)
    return folder


def cache_folder() -> Path:
    """The folder for copies of bundles; it may not exist yet."""
    given = os.environ.get(CACHE_VARIABLE)
    return (Path(given) if given else Path.home() / ".cache" / "tddfa3") / "bundles"


def _fetch(store: Store, description: bytes, folder: Path) -> None:
    files = _files(store, description)
    building = Path(tempfile.mkdtemp(prefix=".fetching-", dir=folder.parent))
    try:
        for name, entry in files.items():
            _fetch_file(store, name, entry, building / name)
        (building / BUNDLE_JSON).write_bytes(description)
        # mkdtemp makes private folders; the machine's other users may read this one.
        building.chmod(0o755)
        building.rename(folder)
    except BaseException:
        shutil.rmtree(building, ignore_errors=True)
        raise


def _files(store: Store, description: bytes) -> Mapping[str, Mapping[str, Any]]:
    """File name to its entry. Names come from storage: they must not lead out of the folder."""
    try:
        files = json.loads(description)["files"]
        sized = all(int(e["bytes"]) >= 0 and isinstance(e["sha256"], str) for e in files.values())
    except (ValueError, KeyError, TypeError, AttributeError):
        raise AssetError(f"{store.uri(BUNDLE_JSON)} is not a bundle's description") from None
    for name in files:
        if not sized or name != os.path.basename(name) or name in ("", ".", "..", BUNDLE_JSON):
            raise AssetError(f"{store.uri(BUNDLE_JSON)} lists {name!r}, which is not a file name")
    return files


def _fetch_file(store: Store, name: str, entry: Mapping[str, Any], target: Path) -> None:
    size, digest = int(entry["bytes"]), hashlib.sha256()
    try:
        with target.open("wb") as sink:
            for start in range(0, size, _SPAN):
                span = store.read(name, start, min(size, start + _SPAN))
                digest.update(span)
                sink.write(span)
    except StoreError as error:
        if error.kind != "not_found":
            raise
        raise AssetError(f"{store.uri(name)} is missing; copy the bundle there again") from None
    if digest.hexdigest() != entry["sha256"]:
        raise AssetError(
            f"{store.uri(name)} is not what {BUNDLE_JSON} says (sha256 {digest.hexdigest()[:12]}…, "
            f"not {entry['sha256'][:12]}…); copy the bundle there again"
        )


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Lock out the machine's other processes; the kernel releases the lock if this one dies."""
    with path.open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
