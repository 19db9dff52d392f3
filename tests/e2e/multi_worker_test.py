"""`training.strategy: multi_worker`: `tagtower run` and a second process train one model."""

import json
import os
import subprocess
import sys

import pytest

from tests.e2e.small_log import make_small_project, node_states
from tests.trainer.fitting.distribution_test import free_ports

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    made = make_small_project(tmp_path_factory.mktemp("cluster"))
    configuration = made.configuration()
    budget = {"max_epochs": 2, "budget_steps": 0, "min_steps": 0}
    configuration["training"] = {**budget, "batch_size": 32, "strategy": "multi_worker"}
    configuration["index"] = {"kind": "exact", "export_exact": False, "k": 20}
    made.write_configuration(configuration)
    return made


@pytest.fixture(scope="module")
def refusals():
    """Returns the list of the refused runs; `refused` makes the missing ones."""
    return []


def refused(project, refusals, monkeypatch, capfd) -> list[tuple[int, str]]:
    """Returns status and error output of two runs without a cluster, before any training."""
    monkeypatch.delenv("TF_CONFIG", raising=False)
    while len(refusals) < 2:
        status, _, err = project.run_here(capfd)
        refusals.append((status, err))
    return refusals


def test_run_without_a_cluster_is_refused_in_one_line(project, refusals, monkeypatch, capfd):
    status, err = refused(project, refusals, monkeypatch, capfd)[0]

    assert status == 2
    (line,) = err.strip().splitlines()
    assert "Trainer: `training.strategy` must not be `multi_worker` in a process without" in line


def test_pipeline_is_still_sound_in_the_process_that_was_refused(
    project, refusals, monkeypatch, capfd
):
    # TFX reloads the module of what it calls to train.
    status, err = refused(project, refusals, monkeypatch, capfd)[1]

    assert status == 2
    assert "Trainer: `training.strategy` must not be `multi_worker`" in err


def test_two_processes_train_and_the_chief_goes_on_with_the_pipeline(
    project, refusals, monkeypatch, capfd
):
    # The refused runs leave in the cache what comes before the training.
    refused(project, refusals, monkeypatch, capfd)
    cluster = {"worker": [f"localhost:{port}" for port in free_ports(2)]}
    job = project.output / "checkpoints" / "job.json"

    def config(index: int) -> str:
        return json.dumps({"cluster": cluster, "task": {"type": "worker", "index": index}})

    with subprocess.Popen(
        [sys.executable, "-m", "trainer.worker", str(job)],
        env={**os.environ, "TF_CONFIG": config(1)},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as second:
        monkeypatch.setenv("TF_CONFIG", config(0))
        status, out, err = project.run()
        told, _ = second.communicate(timeout=60)

    assert status == 0, out + err
    assert second.returncode == 0
    assert node_states(out)["Transform"] == "cached"
    # Both log every epoch with the same figures, except for their seconds.
    lines = [line.strip() for line in out.splitlines() if line.strip().startswith("step ")]
    others = [line for line in told.splitlines() if line.startswith("step ")]
    assert len(lines) == 2
    assert [e.rpartition(",")[0] for e in lines] == [o.rpartition(",")[0] for o in others]
    # A finished training leaves nothing that others could find.
    assert list(job.parent.iterdir()) == []
    assert json.loads((project.output / "report.json").read_text())["train.epochs"] == 2
