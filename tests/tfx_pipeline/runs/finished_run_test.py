"""Tests when a repeated run of a day counts as done."""

import dataclasses
import os
import shutil

import pytest

from tests.tfx_pipeline.examples.random_users import write_jsonl
from tests.tfx_pipeline.run_log.logged_runs import EVENT, daily_config, fail, push
from tfx_pipeline.config.data import DataConfig, WindowConfig
from tfx_pipeline.config.gate import DistributionThreshold, ValidationConfig
from tfx_pipeline.run_log.log import read_runs
from tfx_pipeline.runs.finished_run import finished_run
from tfx_pipeline.terminal.refusals import NotPushed


@pytest.fixture
def config(tmp_path):
    return daily_config(tmp_path)


def test_pushed_day_is_done_until_something_changes(config, tmp_path):
    assert finished_run(config) is None
    report = push(config)
    assert finished_run(config) == report
    # Another day is not done, and thresholds are checked before anything is made.
    first = dataclasses.replace(config.data, window=WindowConfig(2, day="2024-05-01"))
    assert finished_run(dataclasses.replace(config, data=first)) is None
    drift = ValidationConfig(drift={"clicked": DistributionThreshold(l_infinity=0.5)})
    assert finished_run(dataclasses.replace(config, validation=drift)) == report
    assert finished_run(dataclasses.replace(config, seed=1)) is None
    # A later, aborted attempt changes nothing.
    fail(config, KeyboardInterrupt())
    assert finished_run(config) == report

    write_jsonl(tmp_path / "log" / "2024-05-01.jsonl", [EVENT, EVENT])
    assert finished_run(config) is None


def test_day_whose_version_is_gone_is_not_done_and_a_withdrawn_one_is(config):
    report = push(config)
    place = f"{config.base_path}/7"
    withdrawn = f"{config.base_path}/withdrawn"
    os.mkdir(withdrawn)
    shutil.move(place, withdrawn)
    assert finished_run(config) == report
    shutil.rmtree(withdrawn)
    assert finished_run(config) is None


def test_held_day_is_done_and_a_failed_one_is_not(config):
    fail(config, ValueError("too many rejected rows"))
    assert finished_run(config) is None
    fail(config, NotPushed("feature `a`"))
    assert finished_run(config)["run.reason"] == "feature `a`"


def test_configuration_without_a_window_is_never_done(config, tmp_path):
    whole = DataConfig(str(tmp_path / "log"), config.data.items, config.data.users)
    config = dataclasses.replace(config, data=whole)
    push(config)

    assert finished_run(config) is None
    assert "window.day" not in read_runs(config.output_dir)[0]
