"""The light client as a wheel, in a fresh environment of each Python that is on the machine.

The environments have nothing but the wheel and what it requires. Each is given another major
version of protobuf; the oldest Python gets the oldest versions that the metadata allows.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tagtower_client import TagClient
from tests.client_wheel import build_client_wheel, read_metadata
from tests.serving.client import light_caller

UV = Path(sys.executable).with_name("uv")
# Constraints by Python; the metadata says the rest.
PYTHONS = {
    "3.9": ["protobuf==3.20.3", "grpcio==1.60.*", "numpy==1.22.*"],
    "3.10": ["protobuf==4.*"],
    "3.11": ["protobuf==5.*"],
    "3.12": ["protobuf==6.*"],
    "3.13": [],
}


def find_python(version):
    """Returns the interpreter of a Python version; None: the machine has none.

    It is run, not looked at: a pyenv shim can be on PATH and fail.
    """
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    managed = subprocess.run(
        [str(UV), "python", "find", "--no-python-downloads", "--no-project", version],
        capture_output=True,
        text=True,
        check=False,
    )
    candidates = [
        shutil.which(f"python{version}"),
        *sorted(map(str, pyenv.glob(f"{version}.*/bin/python{version}")), reverse=True),
        managed.stdout.strip() if managed.returncode == 0 else None,
    ]
    code = "import sys, venv; print('%d.%d' % sys.version_info[:2])"
    for candidate in filter(None, candidates):
        ran = subprocess.run([candidate, "-c", code], capture_output=True, text=True, check=False)
        if ran.returncode == 0 and ran.stdout.strip() == version:
            return candidate
    return None


def package_sources():
    """Returns the environment of uv with the sources of packages that pip is configured for."""
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV")}
    listed = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=True
    )
    names = {
        "index-url": "UV_DEFAULT_INDEX",
        "find-links": "UV_FIND_LINKS",
        "cert": "SSL_CERT_FILE",
    }
    for line in listed.stdout.splitlines():
        key, _, value = line.partition("=")
        name = names.get(key.rpartition(".")[2])
        if name:
            environment.setdefault(name, value.strip("'"))
    return environment


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    return build_client_wheel(tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module", params=PYTHONS)
def python(request, wheel, tmp_path_factory):
    """Makes the environment of one Python version and returns its interpreter."""
    found = find_python(request.param)
    if found is None:
        pytest.skip(f"no Python {request.param} on this machine")
    environment = package_sources()
    folder = tmp_path_factory.mktemp("fresh") / "environment"
    python = folder / "bin" / "python"

    def uv(*arguments):
        command = [str(UV), "--quiet", *map(str, arguments)]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)

    made = uv("venv", "--no-project", "--python", found, folder)
    assert made.returncode == 0, made.stderr
    wanted = [*read_metadata(wheel).get_all("Requires-Dist"), *PYTHONS[request.param]]
    installed = uv("pip", "install", "--python", python, *wanted)
    if installed.returncode != 0:
        reason = (installed.stderr.strip().splitlines() or ["uv failed"])[0]
        pytest.skip(f"grpcio, numpy and protobuf cannot be had for {request.param}: {reason}")
    # What the metadata does not require is not there, and would be missed.
    installed = uv("pip", "install", "--python", python, "--offline", "--no-index", wheel)
    assert installed.returncode == 0, installed.stderr
    checked = uv("pip", "check", "--python", python)
    assert checked.returncode == 0, checked.stderr
    return python


def test_wheel_alone_answers_as_the_client_here_does(python, target):
    with TagClient(target, timeout_s=60) as client:
        here = light_caller.blocking(lambda *_, **__: client, target)

    finished = subprocess.run(
        [str(python), "-I", light_caller.__file__, target],
        capture_output=True,
        text=True,
        check=False,
    )

    assert finished.returncode == 0, finished.stderr
    answers = json.loads(finished.stdout)
    print({name: answers[name] for name in ("protobuf", "import_s")})
    # The vector of the first user: [0, 2, 0] + [3, 1, 0] + [1, -1, 2] = [4, 2, 2].
    assert answers["tags"][0][0] == "jazz" and answers["scores"][0][0] == 14.0
    assert {name: answers[name] for name in here} == json.loads(json.dumps(here))
    assert answers["by_label"] and answers["version"] == 1 and answers["state"] == "AVAILABLE"
    assert answers["concurrent"] == [answers["concurrent"][0]] * 3
    assert answers["refused"] == "NOT_FOUND"
    assert answers["heavy"] == []
