"""jobs.doctor: every broken thing has a line of its own, with what to do about it."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from jobs import doctor
from jobs.pipeline.doctor import checks, cluster
from jobs.pipeline.storage.store import Store
from tddfa3.assets.bundle import AssetBundle
from tddfa3.errors import UserError


def by_name(text: str) -> dict[str, dict[str, str]]:
    return {check["name"]: check for check in json.loads(text)["checks"]}


def test_all_is_well(
    small_bundle: AssetBundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.jpg").write_bytes(b"x")
    arguments = ["--json", "--device", "cpu", "--assets", str(small_bundle.path)]
    arguments += ["--input", str(tmp_path / "in"), "--output", str(tmp_path / "out")]
    assert doctor.main(arguments) == 0
    found = by_name(capsys.readouterr().out)
    assert {name for name, check in found.items() if check["status"] == "failed"} == set()
    for name in ("python", "torch", "rasterizer cpu", "assets", "input", "output", "ray"):
        assert found[name]["status"] == "ok"
        assert found[name]["remedy"] == ""
    assert small_bundle.digest[:12] in found["assets"]["found"]
    assert [path for path in (tmp_path / "out").rglob("*") if path.is_file()] == []


def test_what_is_not_asked_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert doctor.main(["--device", "cpu"]) == 0
    shown = capsys.readouterr().out
    assert "-> give --output URL" in shown
    assert re.search(r"^ok +assets +open, \d+ MiB", shown, re.MULTILINE)
    assert shown.endswith("a run can start\n")


def test_a_damaged_bundle(
    small_bundle: AssetBundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = tmp_path / "bundle"
    shutil.copytree(small_bundle.path, copy)
    victim = copy / sorted(small_bundle.files)[0]
    data = bytearray(victim.read_bytes())
    data[-1] ^= 1
    victim.write_bytes(data)
    assert doctor.main(["--json", "--device", "cpu", "--assets", str(copy)]) == 2
    check = by_name(capsys.readouterr().out)["assets"]
    assert check["status"] == "failed"
    assert str(victim) in check["found"]
    assert "tddfa3.assets" in check["remedy"]


@pytest.mark.parametrize("arguments", [["--dev", "cpu"], ["--device", "tpu"], ["here"]])
def test_usage_mistakes_exit_with_2(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exited:
        doctor.main(arguments)
    assert exited.value.code == 2
    assert arguments[-1] in capsys.readouterr().err


def test_no_bundle(tmp_path: Path) -> None:
    check = checks.guarded("assets", lambda: checks.check_assets(str(tmp_path), None))
    assert check.status == "failed"
    assert str(tmp_path) in check.found


def test_an_output_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    check = checks.check_output(str(tmp_path / "file"), None)
    assert (check.status, str(tmp_path) in check.found) == ("failed", True)


def test_storage_that_replaces_what_it_should_only_create(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def careless(self: Store, rel: str, data: bytes) -> bool:
        self.publish(rel, data)
        return True

    monkeypatch.setattr(Store, "publish_new", careless)
    check = checks.check_output(str(tmp_path), None)
    assert check.status == "failed"
    assert "If-None-Match" in check.found
    assert "If-None-Match" in check.remedy


def test_a_url_that_is_not_opened() -> None:
    check = checks.check_output("gs://bucket/out", None)
    assert check.status == "failed"
    assert "s3://" in check.remedy


@pytest.mark.parametrize(("make", "status"), [("file", "ok"), ("folder", "ok"), ("none", "failed")])
def test_input(tmp_path: Path, make: str, status: str) -> None:
    target = tmp_path / "shard.tar"
    if make == "file":
        target.write_bytes(b"12345")
    elif make == "folder":
        target.mkdir()
        (target / "a.jpg").write_bytes(b"x")
    check = checks.check_input(str(target), None)
    assert check.status == status
    if make == "file":
        assert "5 bytes" in check.found


def test_a_gpu_that_is_wanted_and_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert checks.check_cuda("auto").status == "warning"
    assert checks.check_cuda("cuda").status == "failed"
    assert checks.check_cuda("cpu").status == "ok"
    check = checks.check_nvdiffrast("cuda", "nvdiffrast")
    assert (check.status, bool(check.remedy)) == ("failed", True)
    assert checks.check_nvdiffrast("auto", "auto").status == "ok"


def test_a_rasterizer_that_draws_wrongly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "tddfa3.rasterize.cpu.CpuRasterizer.rasterize",
        lambda self, pos, tri, resolution, ranges=None: torch.ones(1, *resolution, 4),
    )
    assert checks.check_cpu_rasterizer().status == "failed"


def test_memory_is_the_containers(tmp_path: Path) -> None:
    proc, cgroup = tmp_path / "proc", tmp_path / "cgroup"
    proc.mkdir()
    cgroup.mkdir()
    (proc / "meminfo").write_text("MemTotal: 8388608 kB\nMemFree: 1 kB\nMemAvailable: 6291456 kB\n")
    assert checks.memory_bytes(proc, cgroup) == (8 * 2**30, 6 * 2**30)
    (cgroup / "memory.max").write_text(f"{2 * 2**30}\n")
    (cgroup / "memory.current").write_text(f"{2**30}\n")
    assert checks.memory_bytes(proc, cgroup) == (2 * 2**30, 2**30)
    (cgroup / "memory.max").write_text("max\n")
    assert checks.memory_bytes(proc, cgroup) == (8 * 2**30, 6 * 2**30)


def test_little_memory_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "memory_bytes", lambda: (2**30, 2**29))
    assert checks.check_memory().status == "warning"


def test_little_shared_memory_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    usage = SimpleNamespace(free=64 * 2**20)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage)
    check = checks.check_shared_memory()
    assert check.status == "warning"
    assert "--shm-size" in check.remedy


def test_a_cache_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "file"))
    assert checks.check_numba_cache().status == "failed"
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "cache"))
    assert checks.check_numba_cache().status == "ok"


def test_a_check_that_raises_is_a_failed_check() -> None:
    def broken() -> checks.Check:
        raise ImportError("libcudart.so.13: cannot open shared object file\nmore")

    check = checks.guarded("torch", broken)
    assert check.status == "failed"
    assert check.found == "ImportError: libcudart.so.13: cannot open shared object file"

    def refused() -> checks.Check:
        raise UserError("no bundle in /x; make one")

    assert checks.guarded("assets", refused).found == "no bundle in /x; make one"


def test_a_cluster_that_does_not_answer() -> None:
    check = cluster.join("127.0.0.1:1", "open")
    assert check.status == "failed"
    assert "nobody answers at 127.0.0.1:1" in check.found
    assert "GCS port" in check.remedy


def test_the_worst_status_decides() -> None:
    ok, warning = checks.Check("a", "ok", ""), checks.Check("b", "warning", "")
    failed = checks.Check("c", "failed", "")
    assert doctor.exit_code([ok, warning]) == 0
    assert doctor.exit_code([ok, failed]) == 2
    assert doctor.as_json([ok, warning])["status"] == "warning"
    assert doctor.as_json([failed, warning])["status"] == "failed"
