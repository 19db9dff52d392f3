from pathlib import Path

from tfx_pipeline.config.pipeline import PipelineConfig
from tfx_pipeline.engines.worker_paths import with_absolute_paths
from trainer.contract.config_loader import from_mapping, to_mapping


def test_workers_get_absolute_paths_and_nothing_else_changes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    mapping = {
        "name": "log",
        "data": {"interactions": "logs/*.csv", "items": "s3://b/i.csv", "users": "/u.csv"},
        "features": {"domains": [{"name": "clicked"}]},
        "beam": {"runner": "flink"},
    }
    config = from_mapping(PipelineConfig, mapping)

    absolute = with_absolute_paths(config)

    here = Path.cwd()
    assert absolute.output_dir == str(here / "build" / "runs" / "log")
    assert absolute.data.interactions == str(here / "logs" / "*.csv")
    assert (absolute.data.items, absolute.data.users) == ("s3://b/i.csv", "/u.csv")
    data = {**to_mapping(absolute)["data"], **mapping["data"]}
    assert to_mapping(config) == {**to_mapping(absolute), "output": None, "data": data}
