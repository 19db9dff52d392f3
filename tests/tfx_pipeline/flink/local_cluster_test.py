import os
import socket
import subprocess
import sys
import time

import pytest

from tests.tfx_pipeline.flink.programs import write_program
from tfx_pipeline.cli import main
from tfx_pipeline.flink import launch
from tfx_pipeline.flink.java_class_path import jars_folder
from tfx_pipeline.flink.local_cluster import bring_up
from tfx_pipeline.flink.processes import find_processes, start_process, stop_processes

JAVA_THAT_DIES = """case $1 in
-version) echo 'openjdk version "17"' >&2 ;;
*) printf 'Exception in x\\n\\tat y\\nCaused by: java.lang.Bad: no memory\\n\\tat z\\n'; exit 1 ;;
esac"""


@pytest.fixture
def java_that_dies(tmp_path, monkeypatch):
    write_program(tmp_path / "java" / "bin" / "java", JAVA_THAT_DIES)
    monkeypatch.setenv("JAVA_HOME", str(tmp_path / "java"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    jars_folder().mkdir(parents=True)


FREE_PORTS = {"job_port": 0, "rest_port": 0, "pool_port": 0}


def up(folder, **options):
    return bring_up(folder, {**FREE_PORTS, **options}, 60, lambda line: None)


def wait_for(condition) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_process_that_dies_is_named_with_its_cause_and_nothing_is_left(tmp_path, java_that_dies):
    folder = tmp_path / "flink"
    log = folder / "logs" / "job-manager.log"

    with pytest.raises(ValueError, match=rf"^job-manager ended: java\.lang\.Bad: .* \(see {log}\)"):
        up(folder)

    assert find_processes(folder) == {}


def test_taken_port_is_one_clear_line(tmp_path, java_that_dies):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]

        with pytest.raises(ValueError, match=f"^`job_port` must be a free port. Received: {port},"):
            up(tmp_path / "flink", job_port=port)


def test_options_of_a_running_cluster_stay_what_they_are(tmp_path, java_that_dies):
    cluster = launch.LocalCluster(tmp_path, 3, 1001, 1002, 1003, 1004, None)
    cluster.save()
    start_process(launch.JOB_SERVER, ["sleep", "600"], tmp_path, tmp_path / "log")

    with pytest.raises(ValueError, match=r"^`slots` must be that of the running cluster, 3, or "):
        up(tmp_path, slots=4)

    # Other processes come up with its ports, and die; the running one is left alone.
    with pytest.raises(ValueError, match="^job-manager ended: "):
        up(tmp_path, slots=3)
    assert launch.JOB_SERVER in find_processes(tmp_path)
    assert launch.load_cluster(tmp_path) == cluster
    stop_processes(tmp_path)


@pytest.mark.parametrize("text", ["{half", "[]", "{}", '{"folder": "/x", "what": 1}'])
def test_file_of_a_cluster_that_is_not_whole_is_one_line(tmp_path, capfd, text):
    (tmp_path / "cluster.json").write_text(text, encoding="utf-8")

    assert main(["flink", "status", "--folder", str(tmp_path)]) == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert "cluster.json must be what `tagtower flink up` has written. Remove it" in line

    assert main(["flink", "down", "--folder", str(tmp_path)]) == 0


def test_missing_java_is_one_line_of_the_command(tmp_path, monkeypatch, capfd):
    monkeypatch.setenv("JAVA_HOME", "/nowhere")

    status = main(["flink", "up", "--folder", str(tmp_path / "flink")])

    assert status == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith("tagtower flink: Java is missing")


def test_folder_where_nothing_runs_is_down(tmp_path, capfd):
    folder = str(tmp_path / "flink")

    assert main(["flink", "status", "--folder", folder]) == 1
    assert main(["flink", "down", "--folder", folder]) == 0

    out = capfd.readouterr().out
    assert out == f"down: nothing runs from {folder}\ndown: 0 processes stopped\n"


def test_stop_takes_the_children_along_and_no_other_folder(tmp_path):
    script = "import subprocess, sys, time; subprocess.Popen(['sleep', '600']); time.sleep(600)"
    for name in ("one", "two"):
        command = [sys.executable, "-c", script]
        start_process("parent", command, tmp_path / name, tmp_path / f"{name}.log")
    for name in ("one", "two"):
        wait_for(lambda name=name: len(find_processes(tmp_path / name).get("parent", [])) == 2)

    assert stop_processes(tmp_path / "one") == 2
    assert find_processes(tmp_path / "one") == {}
    assert len(find_processes(tmp_path / "two")["parent"]) == 2
    assert stop_processes(tmp_path / "two") == 2


def test_process_whose_starter_was_killed_is_found(tmp_path):
    script = f"""
import os, pathlib, signal
from tfx_pipeline.flink.processes import start_process
folder = pathlib.Path({str(tmp_path)!r})
start_process("orphan", ["sleep", "600"], folder, folder / "log")
os.kill(os.getpid(), signal.SIGKILL)
"""
    subprocess.run([sys.executable, "-c", script], check=False, cwd=os.getcwd())

    assert list(find_processes(tmp_path)) == ["orphan"]
    assert stop_processes(tmp_path) == 1


def test_section_of_a_cluster_is_a_configuration(tmp_path):
    from tfx_pipeline.config.beam import BeamConfig
    from trainer.contract.config_loader import from_mapping

    cluster = launch.LocalCluster(tmp_path, 3, 1001, 1002, 1003, 1004, None)

    flink = from_mapping(BeamConfig, cluster.beam_section()).flink
    assert (flink.job_endpoint, flink.parallelism) == ("localhost:1001", 3)
    assert (flink.environment_type, flink.environment_config) == ("EXTERNAL", "localhost:1004")
    cluster.save()
    assert launch.load_cluster(tmp_path) == cluster
