"""``jobs.label`` with the labeler of ``fakes``, as a program of its own: for tests that kill it."""

from __future__ import annotations

import sys

from jobs.label import main
from tests.support.fakes import FakeFactory

if __name__ == "__main__":
    sys.exit(main(factory=FakeFactory()))
