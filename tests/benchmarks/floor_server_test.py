"""The minimal server in C++ answers as the model server does."""

import shutil

import pytest

from benchmarks import floor_server
from serving.client import TagClient
from serving.model_server.models.model_config import ModelConfig
from serving.model_server.server import ModelServer
from tests.serving.model_server import toy_models

INSTANCES = [{"gender": "F", "recent": ["drama", "café"], "recent_weights": [0.5, 2]}, {}]


def test_answers_are_those_of_the_model_server(tmp_path):
    lines = []
    program = floor_server.build_floor_server(lines.append, tmp_path)
    if program is None:
        pytest.skip(lines[0])
    toy_models.save_retriever(tmp_path / "model" / "1", 1)
    config = ModelConfig("default", str(tmp_path / "model"))
    with ModelServer([config], rest_api_port=0, host="127.0.0.1") as server:
        server.wait_until_available(30)
        address = f"127.0.0.1:{server.port}"
        log = tmp_path / "log"
        with floor_server.floor_server(program, tmp_path / "model" / "1", address, log) as port:
            answers = []
            for target in (address, f"127.0.0.1:{port}"):
                with TagClient(target, timeout_s=30) as client:
                    answers.append(client.retrieve(INSTANCES))

    assert [profile.tags for profile in answers[0].profiles] == [("F", "drama|café"), ("", "|")]
    assert answers[1] == answers[0]
    assert answers[1].model_version == 1


@pytest.mark.parametrize(("has_compiler", "line"), [(False, "no C++ compiler"), (True, "gRPC for")])
def test_without_compiler_or_library_the_server_is_left_out(
    tmp_path, monkeypatch, has_compiler, line
):
    # `false` is a compiler that finds no header.
    found = shutil.which("false") if has_compiler else None
    monkeypatch.setattr(floor_server.shutil, "which", lambda name: found)
    lines = []

    assert floor_server.build_floor_server(lines.append, tmp_path) is None
    assert len(lines) == 1 and line in lines[0]
    assert list(tmp_path.iterdir()) == []
