"""A small configuration with a window over days, as an object and as a file."""

import pytest

from tests.tfx_pipeline.run_log.logged_runs import daily_config
from tfx_pipeline.config.pipeline import to_json


@pytest.fixture
def config(tmp_path):
    return daily_config(tmp_path)


@pytest.fixture
def config_path(config, tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text(to_json(config), encoding="utf-8")
    return str(path)
