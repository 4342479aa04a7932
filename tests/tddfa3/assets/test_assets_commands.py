"""``python -m tddfa3.assets``: what it prints and its exit codes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tddfa3.assets.__main__ import main
from tddfa3.assets.bundle import AssetBundle


def test_synthesize_then_convert_its_upstream_files(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made, files, converted = tmp_path / "made", tmp_path / "files", tmp_path / "converted"
    small = ["--vertices", "1000", "--backbones", "--detectors", "mtcnn"]
    command = ["synthesize", str(made), *small, "--seed", "2", "--upstream-files", str(files)]
    assert main(command) == 0
    assert main(["convert", str(files), str(converted)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines == [f"{path}  {AssetBundle.load(path).digest}" for path in (made, converted)]
    assert AssetBundle.load(made).digest == AssetBundle.load(converted).digest


def test_upstream_files_are_written_even_if_the_bundle_is_there(tmp_path: Path) -> None:
    small = [str(tmp_path / "made"), "--vertices", "1000", "--backbones", "--detectors"]
    assert main(["synthesize", *small]) == 0
    assert main(["synthesize", *small, "--upstream-files", str(tmp_path / "files")]) == 0
    assert (tmp_path / "files" / "face_model.npy").exists()


def test_describe_for_people(small_bundle: AssetBundle, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["describe", str(small_bundle.path)]) == 0
    text = capsys.readouterr().out
    for part in (small_bundle.digest, "3,000 vertices", "mbnetv3", "mtcnn", "MIT"):
        assert part in text
    for digest in small_bundle.digests.values():
        assert digest in text


def test_describe_for_programs(
    small_bundle: AssetBundle, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["describe", str(small_bundle.path), "--json"]) == 0
    description = json.loads(capsys.readouterr().out)
    assert description["digest"] == small_bundle.digest
    assert description["topology"]["vertices"] == 3000
    assert set(description["files"]) == set(small_bundle.files)


@pytest.mark.parametrize(
    "arguments",
    [
        ["describe", "absent"],
        ["convert", "absent", "bundle"],
        ["synthesize", "bundle", "--vertices", "3"],
        ["synthesize", "bundle", "--backbones", "vgg"],
        ["fetch", "bundle", "--endpoint", "http://127.0.0.1:9"],
    ],
)
def test_mistakes_give_one_line_and_exit_code_2(
    arguments: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1


def test_as_a_program_without_a_traceback(tmp_path: Path) -> None:
    result = subprocess.run(
        [sys.executable, "-m", "tddfa3.assets", "describe", str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert result.returncode == 2
    assert "Traceback" not in result.stderr
    assert "not an asset bundle" in result.stderr


@pytest.mark.parametrize(
    "arguments", [["polish"], [], ["open", "bundle"], ["describe", "--js"], ["convert", "one"]]
)
def test_usage_mistakes_exit_with_2_too(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert capsys.readouterr().err
