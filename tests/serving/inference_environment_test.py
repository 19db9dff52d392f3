import subprocess
import sys

CODE = """
import os, sys
{before}
from serving.inference_environment import prefer_small_batches
prefer_small_batches()
print(os.environ.get("TF_ENABLE_ONEDNN_OPTS"))
"""


def said(before: str) -> str:
    finished = subprocess.run(
        [sys.executable, "-c", CODE.format(before=before)],
        capture_output=True,
        text=True,
        check=True,
    )
    return finished.stdout.strip()


def test_kernels_are_turned_off_before_tensorflow_and_never_after_it():
    assert said("os.environ.pop('TF_ENABLE_ONEDNN_OPTS', None)") == "0"
    assert said("os.environ['TF_ENABLE_ONEDNN_OPTS'] = '1'") == "1"
    loaded = "sys.modules['tensorflow'] = object()"
    assert said(f"os.environ.pop('TF_ENABLE_ONEDNN_OPTS', None); {loaded}") == "None"
