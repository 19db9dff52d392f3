import subprocess
import sys

import pytest

from serving.inference_environment import INTRA_OP_VARIABLE, ONEDNN_VARIABLE

CODE = """
import os, sys
{before}
from serving.inference_environment import prefer_small_batches
prefer_small_batches({argument})
print(os.environ.get("{variable}"))
"""


def said(variable: str, before: str = "", argument: str = "") -> str:
    before = f"os.environ.pop('{variable}', None); {before}"
    finished = subprocess.run(
        [sys.executable, "-c", CODE.format(before=before, argument=argument, variable=variable)],
        capture_output=True,
        text=True,
        check=True,
    )
    return finished.stdout.strip()


@pytest.mark.parametrize(
    ("variable", "chosen", "other"), [(ONEDNN_VARIABLE, "0", "1"), (INTRA_OP_VARIABLE, "1", "7")]
)
def test_choice_is_made_before_tensorflow_and_never_after_it(variable, chosen, other):
    assert said(variable) == chosen
    assert said(variable, before=f"os.environ['{variable}'] = '{other}'") == other
    assert said(variable, before="sys.modules['tensorflow'] = object()") == "None"


def test_threads_of_an_operation_are_those_asked_for():
    assert said(INTRA_OP_VARIABLE, argument="3") == "3"
    assert said(INTRA_OP_VARIABLE, argument="0") == "None"
