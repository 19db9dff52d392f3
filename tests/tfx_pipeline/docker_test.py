"""Checks of the nodes' and workers' image recipe that need no build."""

import json
import re
from pathlib import Path

import pytest

from tests.docker_recipes import environment_of, instructions

ROOT = Path(__file__).parents[2]
DOCKERFILE = ROOT / "tfx_pipeline" / "docker" / "Dockerfile"


@pytest.fixture(scope="module")
def lines() -> list[tuple[str, str]]:
    return instructions(DOCKERFILE)


def arguments(lines, name: str) -> list[str]:
    return [args for found, args in lines if found == name]


def locked(package: str) -> str:
    lock = (ROOT / "requirements.lock").read_text("utf-8")
    (version,) = re.findall(rf"^{package}==(\S+)", lock, re.MULTILINE)
    return version


def test_beams_worker_is_of_the_beam_that_the_lock_has(lines):
    (pinned,) = arguments(lines, "ARG")
    assert pinned == f"BEAM_VERSION={locked('apache-beam')}"
    beam, build, base = arguments(lines, "FROM")
    assert beam == "apache/beam_python3.10_sdk:${BEAM_VERSION} AS beam"
    # The built image runs without a compiler, on the same system.
    assert build == f"{base} AS build" and re.fullmatch(r"python:3\.10-slim-\w+", base)
    assert "--from=beam /opt/apache/beam /opt/apache/beam" in arguments(lines, "COPY")
    (entry_point,) = arguments(lines, "ENTRYPOINT")
    assert json.loads(entry_point) == ["/opt/apache/beam/boot"]


def test_everything_that_is_installed_has_a_hash_or_is_this_project(lines):
    installs = [
        command.strip()
        for line in arguments(lines, "RUN")
        for command in line.split("&&")
        if "pip install" in command
    ]

    assert len(installs) == 3
    assert all("--require-hashes -r requirements" in command for command in installs[:2])
    assert all("--no-build-isolation" in command for command in installs[1:])
    # The light client is in no index: it is installed with the package that requires it.
    assert installs[2].split()[-2:] == ["./client", "."] and "--no-deps" in installs[2]


def test_files_that_it_copies_are_there_and_are_what_the_package_is_made_of(lines):
    sources = [
        source
        for args in arguments(lines, "COPY")
        if not args.startswith("--from")
        for source in args.split()[:-1]
    ]

    assert all((ROOT / source).exists() for source in sources)
    setup = (ROOT / "setup.py").read_text("utf-8")
    (packages,) = re.findall(r"include=\[(.*)\]", setup)
    assert set(re.findall(r'"(\w+)"', packages)) <= set(sources)
    assert {
        "setup.py",
        "client",
        "README.md",
        "requirements.lock",
        "requirements-setup.lock",
    } <= set(sources)
    ignored = DOCKERFILE.with_name("Dockerfile.dockerignore").read_text("utf-8").splitlines()
    assert ignored[1] == "*"
    assert {line[1:] for line in ignored if line.startswith("!")} == set(sources)


def test_nodes_get_keras_2_before_tfx_imports_tensorflow():
    assert environment_of(DOCKERFILE)["TF_USE_LEGACY_KERAS"] == "1"


def test_recipe_names_no_host_that_packages_would_come_from():
    text = DOCKERFILE.read_text("utf-8")

    assert not re.findall(r"https?://|index-url", text)
