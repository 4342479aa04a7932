"""The whole job with assets, input and output in buckets, as it is typed; then a page about it."""

from __future__ import annotations

import hashlib
import io
import os
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import numpy as np
import pytest
import s3fs
from PIL import Image

from jobs import report
from jobs.pipeline.record.parts import read_part
from jobs.pipeline.storage.store import Store
from jobs.verify import verify
from tddfa3.assets.bundle import BUNDLE_JSON, AssetBundle
from tests.support.seaweed import SECRET_KEY, SeaweedServer

ROOT = Path(__file__).resolve().parents[2]
IMAGES = 5


def tar_of_crops() -> bytes:
    sink, noise = io.BytesIO(), np.random.default_rng(0)
    with tarfile.open(fileobj=sink, mode="w") as archive:
        for number in range(IMAGES):
            encoded = io.BytesIO()
            pixels = noise.integers(0, 255, (224, 224, 3), np.uint8)
            Image.fromarray(pixels).save(encoded, "PNG")
            member = tarfile.TarInfo(f"{number} é%20.png")
            member.size = encoded.tell()
            archive.addfile(member, io.BytesIO(encoded.getvalue()))
    return sink.getvalue()


def assert_uris_open(output: str, endpoint: str, rows: list[dict[str, Any]]) -> None:
    """OUTPUT's URL, a slash and the URI: by S3, and by HTTP as the server itself writes it."""
    files = s3fs.S3FileSystem(endpoint_url=endpoint)
    for row in rows:
        for column in ("mesh_pca", "overlay"):
            url, digest = f"{output}/{row[f'{column}_uri']}", row[f"{column}_sha256"]
            assert hashlib.sha256(files.cat_file(url)).hexdigest() == digest
            signed = files.sign(url)
            assert f"/{row[f'{column}_uri']}?" in signed
            with urlopen(signed) as reply:
                assert hashlib.sha256(reply.read()).hexdigest() == digest


@pytest.mark.slow
def test_everything_in_buckets(
    s3_store: Store, s3_server: SeaweedServer, small_bundle: AssetBundle, tmp_path: Path
) -> None:
    for name in (BUNDLE_JSON, *small_bundle.files):
        s3_store.publish(f"bundle/{name}", (small_bundle.path / name).read_bytes())
    s3_store.publish("in/crops.tar", tar_of_crops())
    output = s3_store.uri("out")
    door = ["--s3-endpoint", s3_server.endpoint]
    command = [sys.executable, "-m", "jobs.label", s3_store.uri("in"), output, *door]
    command += ["--assets", s3_store.uri("bundle"), "--backbone", "mbnetv3", "--detector", "none"]
    command += ["--meshes", "pca", "--mesh-format", "glb", "--overlays", "jpg"]
    done = subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, "TDDFA3_CACHE": str(tmp_path / "cache")},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"done: {IMAGES} images, {IMAGES} faces" in done.stdout
    [copy] = (tmp_path / "cache" / "bundles").glob("*/bundle.json")
    assert AssetBundle.load(copy.parent).digest == small_bundle.digest
    proof, unlisted = verify(output, s3_server.endpoint)
    assert (proof.problems, proof.missing, unlisted) == ([], [], 0)

    store = Store.open(output, s3_endpoint=s3_server.endpoint)
    [part] = [entry.rel for entry in store.list("annotations")]
    assert_uris_open(output, s3_server.endpoint, read_part(store, part).to_pylist())

    page = tmp_path / "report.html"
    options = ["--out", str(page), "--assets", str(small_bundle.path)]
    assert report.main([output, *options, *door]) == 0
    html = page.read_text()
    assert html.count("crops.tar/0") > 0
    written = [entry.rel for entry in store.list()]
    assert any(name.startswith("_run/logs/") for name in written)
    said = [done.stdout, done.stderr, html]
    said += [s3_store.read(f"out/{rel}").decode("latin-1") for rel in written]
    assert not any(SECRET_KEY in text for text in said)
