"""Signals inside a node of TFX, inside Beam and while TFX is loaded, in real processes.

Signals at other commands and moments are in `tests/field/interrupted_commands_test.py`.
"""

import signal

import pytest

from tests.e2e.small_log import make_small_project
from tfx_pipeline.run_log.log import read_runs

pytestmark = pytest.mark.e2e

IMAGE = "registry.example/tagtower:1"


@pytest.fixture
def project(tmp_path_factory):
    """Makes a project for one test: nodes cached by another test could not be interrupted."""
    return make_small_project(tmp_path_factory.mktemp("interrupted"))


def interrupt(process, line: str, number: signal.Signals) -> str:
    """Sends a signal once a line was printed; returns the error output."""
    while line not in (printed := process.stdout.readline()):
        assert printed, process.communicate()
    process.send_signal(number)
    _, err = process.communicate()
    return err


@pytest.mark.parametrize(
    ("line", "number", "status"),
    [
        ("loading TFX", signal.SIGTERM, 143),
        ("ExampleGen ...", signal.SIGINT, 130),  # Beam
        ("StatisticsGen ...", signal.SIGTERM, 143),
    ],
)
def test_interrupted_run_is_one_line_and_logged_as_such(project, line, number, status):
    process = project.tagtower("run", "--config", str(project.config_path))

    err = interrupt(process, line, number)

    assert (process.returncode, err) == (status, "tagtower run: interrupted\n")
    last = read_runs(str(project.output))[-1]
    assert (last["run.state"], last["run.reason"]) == ("failed", "interrupted")
    assert not project.base_path.exists()


def test_interrupted_compilation_writes_no_file(project, tmp_path):
    options = ["--config", str(project.config_path), "--image", IMAGE]
    process = project.tagtower("compile", *options, "--output", str(tmp_path / "pipeline.json"))

    err = interrupt(process, "loading TFX", signal.SIGINT)

    assert (process.returncode, err) == (130, "tagtower compile: interrupted\n")
    assert list(tmp_path.iterdir()) == []
