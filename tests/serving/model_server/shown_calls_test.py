"""The calls of docs/serving.md, typed as they are shown, against a server of a toy model."""

import json
import shutil
import sys

import pytest

from serving.model_server.models.model_config import ModelConfig
from serving.model_server.models.version_policy import AllVersions
from serving.model_server.server import ModelServer
from tests.shown_blocks import ReadersShell, shown_blocks

PAGE = "docs/serving.md"
BLOCKS = {
    block.commands[0].partition(" ")[0]: block
    for block in shown_blocks()
    if block.page == PAGE and block.language == "sh"
}


@pytest.fixture(scope="module")
def type_block(toy_versions, tmp_path_factory):
    """Types the block of one program; returns what it wrote."""
    folder = tmp_path_factory.mktemp("reader")
    programs = folder / "programs"
    programs.mkdir()
    stand_in = programs / "grpcurl"
    stand_in.write_text(f'exec {sys.executable} -m tests.serving.grpcurl_stand_in "$@"\n')
    stand_in.chmod(0o755)
    config = ModelConfig("toy", str(toy_versions), AllVersions(), {"stable": 1})
    with ModelServer([config], rest_api_port=0, host="127.0.0.1") as server:
        server.wait_until_available(300)
        ports = {"port": server.port, "rest_port": server.rest_api_port, "version": 1}

        def type_one(program: str) -> str:
            shell = ReadersShell(folder, folder / f"{program}.log", programs)
            try:
                return shell.run(BLOCKS[program], ports)
            finally:
                shell.close()

        yield type_one


def documents(written: str) -> list[dict]:
    """JSON objects that stand one behind the other, whatever a program says between them."""
    found, decoder = [], json.JSONDecoder()
    while (begin := written.find("{")) >= 0:
        document, end = decoder.raw_decode(written[begin:])
        found.append(document)
        written = written[begin + end :]
    return found


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
def test_curl_is_answered(type_block):
    rows, columns, labelled, status, metadata = documents(type_block("curl"))

    # x / 2 + version; the newest is 2.
    assert rows == {"predictions": [2.5]}
    assert columns == {"outputs": [2.5, 3.0]}
    assert set(labelled["predictions"][0]) == set(metadata_outputs(metadata, "two"))
    assert [row["version"] for row in status["model_version_status"]] == ["2", "1"]
    assert metadata["model_spec"]["name"] == "toy"


def metadata_outputs(metadata: dict, signature: str) -> dict:
    return metadata["metadata"]["signature_def"]["signature_def"][signature]["outputs"]


def test_grpcurl_is_answered(type_block):
    predicted, status = documents(type_block("grpcurl"))

    assert predicted["modelSpec"]["version"] == "1"
    assert predicted["outputs"]["y"]["floatVal"] == [1.5]
    assert [row["state"] for row in status["model_version_status"]] == ["AVAILABLE", "AVAILABLE"]
