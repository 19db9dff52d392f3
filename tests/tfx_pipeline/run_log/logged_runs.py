"""A small log by day, and logged runs of it that did not take place."""

import os
from pathlib import Path

import pytest

from tests.tfx_pipeline.examples.random_users import item_rows, write_jsonl
from tfx_pipeline.config.data import DataConfig, WindowConfig
from tfx_pipeline.config.pipeline import PipelineConfig
from tfx_pipeline.run_log.log import Report, logged_run
from trainer.contract.features import Domain, FeatureSpec

EVENT = {"user_id": "u", "item_id": "i0", "timestamp": 1_000_000_000, "clicked": 1}
DAYS = ("2024-05-01", "2024-05-02")


def daily_config(folder: Path) -> PipelineConfig:
    """Writes two days of a log; returns its configuration, with a window of both."""
    for day in DAYS:
        write_jsonl(folder / "log" / f"{day}.jsonl", [EVENT])
    data = DataConfig(
        interactions=str(folder / "log" / "{date}.jsonl"),
        items=write_jsonl(folder / "items.jsonl", item_rows()),
        users=write_jsonl(folder / "users.jsonl", [{"user_id": "u"}]),
        window=WindowConfig(days=2),
    )
    features = FeatureSpec(history_window_days=1.0, domains=(Domain("clicked"),))
    return PipelineConfig("log", data, features, output=str(folder / "run"))


def push(config: PipelineConfig, version: int = 7) -> Report:
    """Logs a run that pushes a version."""
    with logged_run(config) as run:
        os.makedirs(os.path.join(config.base_path, str(version)), exist_ok=True)
        run.end({"push.version": version, "rows.read": 3}, ())
    return run.report


def fail(config: PipelineConfig, error: BaseException) -> None:
    """Logs a run that is aborted."""
    with pytest.raises(type(error)), logged_run(config):
        raise error
