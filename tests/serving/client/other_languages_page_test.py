"""docs/other-languages.md where no other language is needed, and what builds the programs."""

import re
import subprocess
import sys

import pytest

from tests.serving.client.other_languages import (
    PAGE,
    PROTOS,
    ROOT,
    TOOLS,
    shown_commands,
    unreachable,
)

TEXT = PAGE.read_text("utf-8")
SOURCES = {
    "Go": "main.go",
    "Java": "src/main/java/example/Retrieve.java",
    "Node": "retrieve.ts",
}


def source(language):
    return (ROOT / "docs" / "clients" / language.lower() / SOURCES[language]).read_text("utf-8")


@pytest.mark.parametrize("language", TOOLS)
def test_first_command_copies_program_and_protos_and_the_last_asks_a_server(language):
    first, *_, last = shown_commands(language)

    name = language.lower()
    assert first == (
        f"cp -r docs/clients/{name} my-client && cp -r serving/protos my-client && cd my-client"
    )
    assert last.endswith(" --server=localhost:8500")


@pytest.mark.parametrize("language", TOOLS)
def test_program_has_the_flags_and_the_advice_of_the_page(language):
    flags = re.findall(r"`--(\w+)`", re.search(r"^The programs have the flags .*", TEXT, re.M)[0])
    codes = re.findall(r"^\| `([A-Z_]+)` \|", TEXT, re.MULTILINE)
    assert (len(flags), len(codes)) == (6, 7)

    program = source(language)

    assert [flag for flag in flags if not re.search(rf"\b{flag}\b", program)] == []
    if language == "Go":
        codes = [code.title().replace("_", "") for code in codes]
    assert [code for code in codes if not re.search(rf"\b{code}\b", program)] == []


def test_protos_of_the_installed_package_are_copied(tmp_path):
    (block,) = re.findall(r"^```sh\n(cp -r \"\$.*?)^```", TEXT, re.M | re.S)
    command = block.replace("python", sys.executable)

    subprocess.run(
        ["bash", "-ec", command], cwd=tmp_path, env={"PYTHONPATH": str(ROOT)}, check=True
    )

    copied = {path.relative_to(tmp_path / "protos") for path in tmp_path.rglob("*.proto")}
    assert copied == {path.relative_to(PROTOS) for path in PROTOS.rglob("*.proto")}
    assert len(copied) == 8


@pytest.mark.parametrize(
    "line",
    [
        'go: x@v1: Get "https://registry/x": dial tcp 127.0.0.1:9: connect: connection refused',
        "module lookup disabled by GOPROXY=off",
        "npm error code ECONNREFUSED",
        "npm error network request to https://x/y failed, reason: getaddrinfo ENOTFOUND x",
        "[ERROR] Could not transfer artifact io.grpc:grpc-stub:pom:1.80.0 from/to central",
        "[ERROR] Cannot access central (https://x/y) in offline mode and the artifact",
    ],
)
def test_registry_that_cannot_be_reached_is_seen(line):
    assert unreachable(f"a\n{line}\nb") == line


@pytest.mark.parametrize(
    "line",
    [
        "main.go:21:2: undefined: pb.Nothing",
        "npm error code EINTEGRITY",
        "[ERROR] COMPILATION ERROR :",
        "verifying google.golang.org/grpc@v1.80.0: checksum mismatch",
    ],
)
def test_other_faults_of_a_build_are_not_skipped(line):
    assert unreachable(f"a\n{line}\nb") == ""
