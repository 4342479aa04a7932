"""``jobs.submit`` of the labeler that only waits, as a program of its own.

Ray reads the token once per process, so a process that has met another cluster is no use here.
"""

from __future__ import annotations

import sys

from jobs import submit

if __name__ == "__main__":
    sys.exit(submit.main(program="tests.support.fake_label"))
