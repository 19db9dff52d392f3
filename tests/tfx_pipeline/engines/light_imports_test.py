"""Modules that TFX's import defers are there when used; tested in separate processes."""

import subprocess
import sys

VERTEX_CLIENT = "google.cloud.aiplatform"


def run(script: str) -> str:
    finished = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    return finished.stdout


def test_pipeline_is_imported_without_the_client_of_vertex_ai_which_comes_when_asked_for():
    said = run(
        f"""
import inspect, sys
import tfx_pipeline.pipeline, tfx_pipeline.runs.run
from tfx import v1 as tfx
inspect.getmodule(inspect.currentframe())  # looks at every module there is
print({VERTEX_CLIENT!r} in sys.modules)
print(hasattr(tfx.extensions, "no_such"), {VERTEX_CLIENT!r} in sys.modules)
print(tfx.extensions.google_cloud_ai_platform.Trainer.__name__, {VERTEX_CLIENT!r} in sys.modules)
from tfx.v1.extensions import google_cloud_big_query
print(google_cloud_big_query.__name__)
"""
    )

    assert said.splitlines() == [
        "False",
        "False False",
        "Trainer True",
        "tfx.v1.extensions.google_cloud_big_query",
    ]
