"""One HTML file made of the template, the styles, the scripts and the data.

Everything that comes from the output is data: text in the template is escaped, the scripts get it
as JSON and put it on the page as text. A Content-Security-Policy allows only the scripts written
here to run, and nothing to be loaded from anywhere.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from importlib.resources import files
from typing import Any

import jinja2
from markupsafe import Markup

_FOLDER = files("jobs.report_page")
_VENDORED = ("d3", "three")
# In this order: each uses those before it.
_SCRIPTS = (
    "core", "filter", "histograms", "face", "gallery", "detail", "speed", "viewer", "main",
)  # fmt: skip


def render(context: Mapping[str, Any], data: Mapping[str, Any]) -> bytes:
    """The page, as UTF-8.

    Args:
        context: what the template shows.
        data: what the scripts show; JSON values.
    """
    style = _text("report.css")
    scripts = [_vendored(name) for name in _VENDORED]
    scripts.append("".join(_text(f"js/{name}.js") for name in _SCRIPTS))
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["count"] = lambda number: f"{number:,}"
    page = environment.from_string(_text("page.html.j2")).render(
        **context,
        policy=policy(style, scripts),
        style=Markup(style),
        scripts=[Markup(script) for script in scripts],
        data=Markup(script_json(data)),
    )
    return page.encode()


def script_json(data: Any) -> str:
    """JSON for a ``<script>`` element: nothing in it can end the element."""
    text = json.dumps(data, allow_nan=False, separators=(",", ":"))
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def policy(style: str, scripts: list[str]) -> str:
    """What the browser may do: run these scripts, apply this style, show pictures in the page."""
    allowed = " ".join(_digest(script) for script in scripts)
    return (
        f"default-src 'none'; script-src {allowed}; style-src {_digest(style)}; "
        "img-src data:; base-uri 'none'; form-action 'none'"
    )


def _digest(text: str) -> str:
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    return f"'sha256-{digest}'"


def _vendored(name: str) -> str:
    """A library with its licence in front, so that the licence is in every page."""
    return f"/*\n{_text(f'vendor/LICENSE.{name}')}*/\n{_text(f'vendor/{name}.min.js')}"


def _text(name: str) -> str:
    text: str = _FOLDER.joinpath(name).read_text(encoding="utf-8")
    return text
