"""The log of runs: states, reasons, and the record of a killed run."""

import dataclasses
import json
import subprocess
import sys

import pytest

from tests.tfx_pipeline.run_log.logged_runs import daily_config, fail, push
from tfx_pipeline.config.data import DataConfig, WindowConfig
from tfx_pipeline.config.pipeline import to_json
from tfx_pipeline.run_log.log import find_run, logged_run, read_runs
from tfx_pipeline.terminal.refusals import NotPushed


@pytest.fixture
def config(tmp_path):
    return daily_config(tmp_path)


def test_run_is_in_the_log_while_it_runs_and_after_it(config, tmp_path):
    with logged_run(config) as run:
        (report,) = read_runs(config.output_dir)
        assert report["run.state"] == "running" and report["run.ended"] is None
        assert report["window.day"] == "2024-05-02"
        assert run.config.data.window.day == "2024-05-02"
        run.end({"push.version": 7}, ())

    (report,) = read_runs(config.output_dir)
    assert report["run.state"] == "pushed" and report["run.reason"] is None
    assert report["run.ended"] >= report["run.started"]
    assert report == json.loads((tmp_path / "run" / "report.json").read_text("utf-8"))


@pytest.mark.parametrize(
    ("error", "state", "reason"),
    [
        (NotPushed("DriftValidator: feature `a`"), "not pushed", "DriftValidator: feature `a`"),
        (ValueError("`days` must\n be"), "failed", "`days` must be"),
        (RuntimeError("engine\ndied"), "failed", "RuntimeError: engine died"),
        (KeyboardInterrupt(), "failed", "interrupted"),
    ],
)
def test_run_that_ends_with_an_error_keeps_the_reason_and_leaves_no_report(
    config, tmp_path, error, state, reason
):
    push(config)
    fail(config, error)

    report = read_runs(config.output_dir)[-1]
    assert (report["run.state"], report["run.reason"]) == (state, reason)
    assert not (tmp_path / "run" / "report.json").exists()


def test_gates_that_held_a_run_are_its_reason(config):
    with logged_run(config) as run:
        run.end({"push.version": None}, ("P@10: 0.1", "index recall: 0.5"))

    (report,) = read_runs(config.output_dir)
    assert report["run.state"] == "not pushed"
    assert report["run.reason"] == "P@10: 0.1; index recall: 0.5"


def test_missing_day_is_a_run_with_its_reason(config, tmp_path):
    (tmp_path / "log" / "2024-05-02.jsonl").rename(tmp_path / "log" / "2024-05-03.jsonl")
    wide = dataclasses.replace(
        config, data=dataclasses.replace(config.data, window=WindowConfig(days=3))
    )
    with pytest.raises(ValueError, match="max_missing_days"), logged_run(wide):
        pass

    (report,) = read_runs(config.output_dir)
    assert report["run.state"] == "failed" and "2024-05-02" in report["run.reason"]


def test_killed_run_is_told_from_one_that_runs(config):
    script = (
        "import os, signal, sys\n"
        "from tfx_pipeline.config.pipeline import load_config\n"
        "from tfx_pipeline.run_log.log import logged_run\n"
        "with logged_run(load_config(sys.argv[1])):\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    path = config.data.items.replace("items.jsonl", "config.yaml")
    with open(path, "w", encoding="utf-8") as file:
        file.write(to_json(config))
    subprocess.run([sys.executable, "-c", script, path], check=False)

    (report,) = read_runs(config.output_dir)
    assert report["run.state"] == "killed"
    assert report["window.day"] == "2024-05-02"
    # The next run, which holds the lock, records it.
    push(config)
    folder = f"{config.output_dir}/runs/{report['run.id']}/report.json"
    with open(folder, encoding="utf-8") as file:
        assert json.load(file)["run.state"] == "killed"


def test_runs_of_one_second_have_ids_of_their_own(config, tmp_path, monkeypatch):
    whole = DataConfig(str(tmp_path / "log"), config.data.items, config.data.users)
    config = dataclasses.replace(config, data=whole)
    monkeypatch.setattr("time.time", lambda: 1_714_600_000.9)

    ids = [push(config)["run.id"] for _ in range(3)]

    assert ids == ["20240501T214640Z", "20240501T214640Z-2", "20240501T214640Z-3"]
    assert [report["run.id"] for report in read_runs(config.output_dir)] == ids


def test_run_is_found_by_id_or_day(config):
    first, second = push(config), push(config)

    assert find_run(config.output_dir, first["run.id"]) == first
    assert find_run(config.output_dir, "2024-05-02") == second
    with pytest.raises(ValueError, match="`compare` must name runs of .* '2024-05-01'"):
        find_run(config.output_dir, "2024-05-01")
