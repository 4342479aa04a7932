"""Shell patterns over names with folders in them."""

from __future__ import annotations

import re
from collections.abc import Callable

_WILDCARD = re.compile(r"[*?\[]")
_TOKEN = re.compile(r"\*\*/|\*+|\?|\[[!^]?\]?[^\]]*\]|.", re.DOTALL)


def first_wildcard(text: str) -> int | None:
    """Position of the first ``*``, ``?`` or ``[``; None if there is none."""
    match = _WILDCARD.search(text)
    return match.start() if match else None


def escape(text: str) -> str:
    """A pattern that matches ``text`` only."""
    return _WILDCARD.sub(lambda match: f"[{match[0]}]", text)


def compile_pattern(pattern: str) -> Callable[[str], bool]:
    """A test of whether a name matches a pattern as a whole.

    ``*``, ``?`` and ``[…]`` stay within a folder; ``**`` crosses folders, and ``**/`` may also
    stand for none.
    """
    matches = re.compile("".join(map(_translate, _TOKEN.findall(pattern))), re.DOTALL).fullmatch
    return lambda text: matches(text) is not None


def _translate(token: str) -> str:
    if token == "**/":
        return "(?:.*/)?"
    if token.startswith("*"):
        return "[^/]*" if token == "*" else ".*"
    if token == "?":
        return "[^/]"
    if token.startswith("[") and len(token) > 1:
        negated = token[1] in "!^"
        letters = token[2:-1] if negated else token[1:-1]
        safe = re.sub(r"([\\\[\]^&~|])", r"\\\1", letters)
        return f"[^{safe}]" if negated else f"[{safe}]"
    return re.escape(token)
