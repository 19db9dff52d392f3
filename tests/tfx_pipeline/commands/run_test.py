"""Runs of `tagtower run` that end before TFX is loaded: exit status and one line."""

import dataclasses
import os

from tests.tfx_pipeline.run_log.logged_runs import fail
from tfx_pipeline.cli import main
from tfx_pipeline.commands.run import accepting_drift
from tfx_pipeline.config.gate import DistributionThreshold, ValidationConfig
from tfx_pipeline.run_log.lock import only_run
from tfx_pipeline.run_log.log import read_runs
from tfx_pipeline.terminal.refusals import NotPushed


def test_second_start_in_a_folder_in_use_is_one_line_and_4(config, config_path, capfd):
    output = config.output_dir
    os.makedirs(output)
    with only_run(output):
        status = main(["run", "--config", config_path, "--day", "latest"])

    captured = capfd.readouterr()
    assert status == 4
    (line,) = captured.err.strip().splitlines()
    assert line.startswith("tagtower run: `output` must be a folder that no other run is using.")
    assert read_runs(output) == []


def test_held_day_started_again_is_one_line_and_3(config, config_path, capfd):
    fail(config, NotPushed("DriftValidator: feature `a`"))

    status = main(["run", "--config", config_path])

    assert status == 3
    (line,) = capfd.readouterr().out.strip().splitlines()
    assert line.startswith("2024-05-02 is done: run ") and line.endswith("feature `a`")
    assert len(read_runs(config.output_dir)) == 1


def test_day_that_is_no_date_is_a_mistake(config_path, capfd):
    assert main(["run", "--config", config_path, "--day", "yesterday"]) == 2
    assert "`day` must be latest or a date" in capfd.readouterr().err


def test_accepted_drift_is_a_warning_at_the_same_thresholds(config):
    skew = {"clicked": DistributionThreshold(l_infinity=0.3)}
    drift = {
        "clicked": DistributionThreshold(l_infinity=0.1, jensen_shannon=0.2),
        "label_tags": DistributionThreshold(l_infinity=0.4, on_violation="warn"),
    }
    config = dataclasses.replace(config, validation=ValidationConfig(drift, skew))

    accepted = accepting_drift(config)

    assert accepted.validation.drift["clicked"] == DistributionThreshold(0.1, 0.2, "warn")
    assert accepted.validation.drift["label_tags"] == drift["label_tags"]
    assert accepted.validation.skew == skew
    assert dataclasses.replace(accepted, validation=config.validation) == config
