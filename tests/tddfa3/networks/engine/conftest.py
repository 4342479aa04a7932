"""A bundle of its own per test, so that no test sees another's kept exports."""

from __future__ import annotations

from pathlib import Path

import pytest

from tddfa3.assets.bundle import AssetBundle


@pytest.fixture
def fresh_bundle(
    small_bundle: AssetBundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AssetBundle:
    """The small bundle in a folder without exports; the user's cache, too, is a new folder."""
    folder = tmp_path / "bundle"
    folder.mkdir()
    for file in small_bundle.path.iterdir():
        if file.is_file():
            (folder / file.name).symlink_to(file)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return AssetBundle.load(folder)
