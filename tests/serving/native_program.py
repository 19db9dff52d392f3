"""Builds and runs the C program that calls signatures without Python."""

import os
import shutil
import subprocess
from importlib.util import find_spec
from pathlib import Path

import pytest
import tensorflow as tf

SOURCE = Path(__file__).parents[2] / "serving" / "native" / "run_signature.c"
# Stated explicitly, for Python and for C.
ENVIRONMENT = {**os.environ, "TF_ENABLE_ONEDNN_OPTS": "1", "TF_CPP_MIN_LOG_LEVEL": "3"}


def build_program(folder: Path) -> Path:
    """Compiles the program; skips the test where there is no compiler."""
    target = folder / "run_signature"
    tensorflow = os.path.dirname(tf.__file__)
    command = [_compiler(), "-std=c11", "-O2", "-Wall", "-Wextra", "-Werror", str(SOURCE)]
    command += ["-isystem", f"{tensorflow}/include", f"-L{tensorflow}", f"-Wl,-rpath,{tensorflow}"]
    command += ["-l:libtensorflow_cc.so.2", "-l:libtensorflow_framework.so.2", "-o", str(target)]
    built = subprocess.run(command, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    return target


def run_program(program: Path, *arguments: object) -> subprocess.CompletedProcess:
    return subprocess.run(
        [str(program), *map(str, arguments)], capture_output=True, text=True, env=ENVIRONMENT
    )


def scann_library() -> str:
    return os.path.join(
        find_spec("scann").submodule_search_locations[0], "scann_ops/cc/_scann_ops.so"
    )


def _compiler() -> str:
    for name in ("cc", "gcc", "clang"):
        found = shutil.which(name)
        if found:
            return found
    pytest.skip("no C compiler (cc, gcc or clang) on PATH")
