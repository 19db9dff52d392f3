"""`tagtower prepare` on an engine: its choice, and refusals before it starts."""

import os
import socket
import subprocess
import sys

import pytest
import yaml

from tests.tfx_pipeline.datasets.mind_folder import BEHAVIORS, NEWS, write_source
from tests.tfx_pipeline.datasets.written_files import files_below
from tfx_pipeline.cli import main

SMALL = ["--num_users=50", "--num_tags=60", "--num_items=60", "--num_categories=2"]
DATAFLOW = {"project": "p", "region": "r", "temp_location": "gs://bucket/temp"}


def refusal(capfd, arguments) -> str:
    """Returns the one line with which a command is refused."""
    capfd.readouterr()
    status = main(["prepare", *arguments])
    captured = capfd.readouterr()
    assert status == 2 and captured.out == ""
    (line,) = captured.err.strip().splitlines()
    return line


def write_config(folder, **beam) -> str:
    config = {
        "name": "log",
        "data": {"interactions": "i.csv", "items": "t.csv", "users": "u.csv"},
        "features": {"domains": [{"name": "clicked"}]},
        "beam": beam,
    }
    path = folder / "log.yaml"
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    return f"--config={path}"


def test_default_engine_needs_no_beam(tmp_path):
    program = (
        "import sys; from tfx_pipeline.cli import main; status = main(sys.argv[1:]); "
        "sys.exit(status or int('apache_beam' in sys.modules))"
    )
    command = ["prepare", "demo", f"--output={tmp_path}/out", *SMALL]

    subprocess.run([sys.executable, "-c", program, *command], check=True, timeout=300)

    assert os.listdir(tmp_path) == ["out"]


def test_engine_of_a_configuration_writes_the_same_files(tmp_path, capfd):
    source = write_source(tmp_path / "source", NEWS, BEHAVIORS)
    command = ["prepare", "mind", f"--source={source}"]
    config = write_config(tmp_path, runner="multi_process")

    assert main([*command, f"--output={tmp_path}/local"]) == 0
    local = capfd.readouterr().out.splitlines()
    assert main([*command, f"--output={tmp_path}/workers", config]) == 0
    workers = capfd.readouterr().out.splitlines()

    assert files_below(tmp_path / "workers") == files_below(tmp_path / "local")
    # Messages of libraries are not shown.
    assert [line for line in workers[:-1] if line[0] != " "] == local[:-1]


def test_dataflow_without_its_options_is_refused(tmp_path, capfd):
    config = write_config(tmp_path, runner="dataflow")

    line = refusal(capfd, ["demo", f"--output={tmp_path}/out", config])

    assert "`dataflow` must have project, region and temp_location" in line
    assert os.listdir(tmp_path) == ["log.yaml"]


def test_dataflow_needs_places_that_it_reaches(tmp_path, capfd):
    config = write_config(tmp_path, runner="dataflow", dataflow=DATAFLOW)

    output = refusal(capfd, ["demo", f"--output={tmp_path}/out", config])
    source = refusal(capfd, ["mind", "--source=data/mind", "--output=gs://b/out", config])

    assert "`output` must be a place that Dataflow reaches, gs://" in output
    assert "`source` must be a place that Dataflow reaches, gs://" in source
    assert os.listdir(tmp_path) == ["log.yaml"]


@pytest.mark.parametrize(
    ("engine", "received"),
    [
        (["--runner=multi_process"], "runner='multi_process'"),
        (["--beam_pipeline_args=--runner=X --y"], "runner='--runner=X --y'"),
    ],
)
def test_movielens_has_no_other_engine_than_the_local_one(tmp_path, capfd, engine, received):
    command = ["movielens-1m", "--source=x", "--tags=y", f"--output={tmp_path}/out"]

    line = refusal(capfd, [*command, *engine])

    assert "`runner` must be local for movielens-1m" in line and received in line
    assert os.listdir(tmp_path) == []


def test_job_server_that_does_not_answer_is_refused(tmp_path, capfd):
    with socket.socket() as probe:
        # Bound, and not listening.
        probe.bind(("localhost", 0))
        endpoint = f"localhost:{probe.getsockname()[1]}"
        config = write_config(tmp_path, runner="flink", flink={"job_endpoint": endpoint})
        line = refusal(capfd, ["demo", f"--output={tmp_path}/out", config])

    assert f"Received: {endpoint}, " in line
    assert os.listdir(tmp_path) == ["log.yaml"]


def test_flag_out_of_range_is_refused(tmp_path, capfd):
    line = refusal(capfd, ["demo", f"--output={tmp_path}/out", "--num_workers=0"])

    assert "`num_workers` must be a positive integer. Received: num_workers=0" in line
    assert os.listdir(tmp_path) == []


def test_command_line_of_beam_with_an_open_quote_is_refused(tmp_path, capfd):
    line = refusal(capfd, ["demo", f"--output={tmp_path}/out", "--beam_pipeline_args=--runner='X"])

    assert "`beam_pipeline_args` must be a command line whose quotes are closed" in line
    assert """Received: "--runner='X".""" in line
    assert os.listdir(tmp_path) == []
