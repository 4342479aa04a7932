"""Manifest, fingerprint, and what is refused before anything is written."""

from __future__ import annotations

import ast
import dataclasses
import importlib.metadata
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from jobs.pipeline.record.config import LabelConfig
from jobs.pipeline.record.layout import MANIFEST
from jobs.pipeline.record.run import COMPUTING, Run, config_of, open_run, read_manifest
from jobs.pipeline.storage.store import Store
from tddfa3.errors import UserError
from tests.support.fakes import FakeFactory, write_images

ROOT = Path(__file__).resolve().parents[4]


@pytest.fixture
def config(tmp_path: Path) -> LabelConfig:
    write_images(tmp_path / "in", 3)
    return LabelConfig(paths=(str(tmp_path / "in"), str(tmp_path / "out")), assets="x")


def opened(config: LabelConfig, digest: str = "d1") -> Run:
    return open_run(config, FakeFactory(digest=digest).facts(config))


def files(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*"))


def test_the_first_start_creates_the_manifest(config: LabelConfig, tmp_path: Path) -> None:
    run = opened(config)
    assert not run.resumed
    assert [shard.kind for shard in run.shards] == ["folder"]
    manifest = json.loads((tmp_path / "out" / MANIFEST).read_text())
    assert manifest["assets"]["digest"] == "d1"
    assert manifest["input"]["shards"] == 1
    assert manifest["config"]["detector"] == "retinaface"
    assert manifest["versions"]["numpy"]
    assert run.schema.fingerprint == manifest["fingerprint"]


def test_the_same_command_joins_and_changes_nothing(config: LabelConfig, tmp_path: Path) -> None:
    first = opened(config)
    before = (tmp_path / "out" / MANIFEST).read_bytes()
    second = opened(dataclasses.replace(config, batch=99, device="cpu"))
    assert second.resumed
    assert second.schema.fingerprint == first.schema.fingerprint
    assert second.id != first.id
    assert (tmp_path / "out" / MANIFEST).read_bytes() == before


def test_what_the_assets_choose_is_kept_and_compared(config: LabelConfig) -> None:
    first = opened(config)
    assert (first.config.detector, first.config.backbone) == ("retinaface", "resnet50")
    resumed = config_of(dataclasses.replace(config, paths=(), resume=config.output))
    assert resumed == first.config
    named = dataclasses.replace(config, detector="retinaface", backbone="resnet50")
    assert opened(named).schema.fingerprint == first.schema.fingerprint


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"backbone": "mbnetv3"}, ["--backbone resnet50", "--backbone mbnetv3"]),
        ({"refine": "points"}, ["--refine none", "--refine points"]),
        ({"lighting": "solve"}, ["--lighting network", "--lighting solve"]),
        ({"detector": "mtcnn"}, ["--detector retinaface", "--detector mtcnn"]),
        ({"landmarks": ("68", "134")}, ["--landmarks 68,134"]),
        ({"masks": ()}, ["--masks none"]),
        ({"limit": 2}, ["--limit 0", "--limit 2"]),
        ({"chunk_images": 7}, ["--chunk-images 7"]),
    ],
)
def test_another_config_is_refused_by_option_and_both_values(
    config: LabelConfig, change: dict[str, Any], named: list[str]
) -> None:
    opened(config)
    with pytest.raises(UserError) as error:
        opened(dataclasses.replace(config, **change))
    assert all(text in str(error.value) for text in named), error.value


def test_other_assets_are_refused(config: LabelConfig) -> None:
    opened(config)
    with pytest.raises(UserError, match=r"assets of digest d1.*assets of digest d2"):
        opened(config, digest="d2")


def test_another_input_is_refused(config: LabelConfig, tmp_path: Path) -> None:
    opened(config)
    write_images(tmp_path / "other", 1)
    other = dataclasses.replace(config, paths=(str(tmp_path / "other"), config.output))
    with pytest.raises(UserError, match="INPUT"):
        opened(other)


def test_an_input_that_grew_is_taken_up(config: LabelConfig, tmp_path: Path) -> None:
    opened(config)
    write_images(tmp_path / "in" / "more", 2)
    assert len(opened(config).shards) == 2


def test_a_folder_of_others_is_refused_and_left_alone(config: LabelConfig, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("years of work")
    before = files(tmp_path)
    with pytest.raises(UserError, match=r"thesis\.txt"):
        opened(config)
    assert files(tmp_path) == before


def test_an_empty_folder_is_taken(config: LabelConfig, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    assert not opened(config).resumed


@pytest.mark.parametrize(
    ("paths", "named"),
    [
        (("nowhere", "out"), "nowhere: no such file or folder"),
        (("empty", "out"), "empty: no images"),
        (("in", "in/img0000.png"), "OUTPUT is a file"),
        (("http://x/y", "out"), "http"),
        (("in", "simplecache::s3://b/x"), "chained"),
    ],
)
def test_paths_that_cannot_be_used_leave_nothing(
    config: LabelConfig,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    paths: tuple[str, ...],
    named: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    before = files(tmp_path)
    with pytest.raises(UserError, match=named):
        opened(dataclasses.replace(config, paths=paths))
    assert files(tmp_path) == before


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"format": "x"}'])
def test_a_damaged_manifest_is_named(config: LabelConfig, tmp_path: Path, content: str) -> None:
    (tmp_path / "out" / "_run").mkdir(parents=True)
    (tmp_path / "out" / MANIFEST).write_text(content)
    with pytest.raises(UserError, match=r"manifest\.json"):
        opened(config)


def test_resume_reads_the_config_of_an_output_even_when_it_was_moved(
    config: LabelConfig, tmp_path: Path
) -> None:
    opened(dataclasses.replace(config, detector="mtcnn", retry_failed=True))
    (tmp_path / "out").rename(tmp_path / "moved")
    kept = config_of(LabelConfig(resume=str(tmp_path / "moved")))
    assert kept.detector == "mtcnn"
    assert not kept.retry_failed
    assert kept.paths == (*config.inputs, str(tmp_path / "moved"))
    assert opened(kept).resumed


def test_another_version_of_what_numbers_go_through_is_refused(
    config: LabelConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened(config)
    real = importlib.metadata.version
    monkeypatch.setattr(
        importlib.metadata, "version", lambda name: "0.9" if name == "pillow" else real(name)
    )
    with pytest.raises(UserError, match=rf"version of pillow {real('pillow')}, .* pillow 0\.9"):
        opened(config)


def test_a_manifest_made_between_two_looks_is_joined(
    config: LabelConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """We see no manifest; another driver makes one; we see that OUTPUT is not empty."""
    first = opened(config)
    read, looks = Store.read_or_none, []

    def nothing_at_first(store: Store, rel: str) -> bytes | None:
        looks.append(rel)
        return None if len(looks) == 1 else read(store, rel)

    monkeypatch.setattr(Store, "read_or_none", nothing_at_first)
    run = opened(config)
    assert run.resumed
    assert run.schema.fingerprint == first.schema.fingerprint


def test_resume_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no run there"):
        config_of(LabelConfig(resume=str(tmp_path)))


def test_of_two_first_starts_one_creates_the_manifest(
    config: LabelConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other run's manifest appears between our look and our write."""
    real = Store.publish_new

    def beaten(store: Store, rel: str, data: bytes) -> bool:
        other = json.loads(data) | {"created": "earlier"}
        real(store, rel, json.dumps(other).encode())
        return real(store, rel, data)

    monkeypatch.setattr(Store, "publish_new", beaten)
    run = opened(config)
    manifest = read_manifest(run.store)
    assert manifest is not None
    assert manifest["created"] == "earlier"


def test_a_run_begun_with_another_list_of_computing_packages_goes_on(config: LabelConfig) -> None:
    run = opened(config)
    manifest = read_manifest(run.store)
    assert manifest is not None
    fields = manifest["fingerprint_fields"]
    del fields["version of onnxruntime"]
    fields["version of something-else"] = "1.0"
    run.store.publish(MANIFEST, json.dumps(manifest).encode())
    assert opened(config).resumed


def source_of(module: str) -> Path | None:
    path = ROOT.joinpath(*module.split("."))
    return next((p for p in (path.with_suffix(".py"), path / "__init__.py") if p.is_file()), None)


def imported_by(*names: str) -> set[str]:
    """Top-level names of what modules of ours import, in functions too, and so on."""
    todo, seen, others = list(names), set[Path](), set[str]()
    while todo:
        name = todo.pop()
        source = source_of(name)
        if source is None:
            others.add(name.partition(".")[0])
        elif source not in seen:
            seen.add(source)
            for node in ast.walk(ast.parse(source.read_text())):
                if isinstance(node, ast.ImportFrom) and node.module:
                    modules = [f"{node.module}.{alias.name}" for alias in node.names]
                    todo += [node.module, *filter(source_of, modules)]
                elif isinstance(node, ast.Import):
                    todo += [alias.name for alias in node.names]
    return others - sys.stdlib_module_names


def test_the_fingerprint_has_all_that_computes() -> None:
    """All that the labeler and the decoder import, less what only reads or hands on.

    nvdiffrast is left out for the reason that COMPUTING gives.
    """
    used = imported_by("tddfa3.labeler", "tddfa3.drawing.draw", "jobs.pipeline.label.decode")
    packages = importlib.metadata.packages_distributions()
    computing = {name for module in used for name in packages.get(module, [module])}
    assert computing - {"safetensors", "nvdiffrast", "trimesh"} == set(COMPUTING)
