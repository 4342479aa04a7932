"""CITATION.cff is what its readers take for one, and names the paper that the README names."""

from __future__ import annotations

import yaml

from tests.support.programs import ROOT


def test_it_has_what_the_format_asks_for_and_cites_the_method() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert {"cff-version", "message", "title", "authors"} <= set(citation)
    assert citation["license"] == "MIT"
    [method] = citation["references"]
    readme = " ".join((ROOT / "README.md").read_text().split())
    assert f"*{method['title']}*" in readme
    assert method["authors"][0]["family-names"] in readme
    assert str(method["year"]) in readme
