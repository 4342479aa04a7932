"""The driver of a job schedules and does not label: what only labelling needs stays out of it."""

from __future__ import annotations

import json
import subprocess
import sys

from tests.support.programs import ROOT

PROGRAM = """
import json, sys
import jobs.label
from jobs.pipeline.record.config import LabelConfig
from jobs.pipeline.label.factory import FaceLabelerFactory
FaceLabelerFactory().facts(LabelConfig(paths=("in", "out"), assets="open"))
print(json.dumps(sorted(sys.modules)))
"""


def test_driver_loads_neither_pytorch_nor_numba_nor_onnxruntime() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], cwd=ROOT, capture_output=True, text=True, check=True
    )
    loaded = set(json.loads(done.stdout))
    assert "jobs.pipeline.drive.scheduler" in loaded
    assert not loaded & {"torch", "numba", "onnxruntime", "scipy", "pandas"}
