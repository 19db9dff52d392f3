"""From a served request to the check of requests: `tagtower serve` logs, `check-requests` reads.

The servable is a toy with features of its own; server, client, log and both commands are real.
"""

import json
import re
import urllib.request
from pathlib import Path

import pytest
import yaml

from serving.client import TagClient
from tests.serving.model_server.server_process import server_process, wait_until
from tests.serving.model_server.toy_models import save_retriever
from tests.tfx_pipeline.evaluation.distributions_test import statistics
from tfx_pipeline.cli import main
from tfx_pipeline.config.pipeline import load_config
from tfx_pipeline.run_log.log import logged_run

pytestmark = pytest.mark.e2e

WAIT_S = 120.0
RECORDS = ":tagtower:request_log:record_count"


@pytest.fixture
def config_path(tmp_path):
    """Makes an output folder with version 1, its run and the statistics of its training."""
    output = tmp_path / "run"
    save_retriever(output / "serving" / "1", 1)
    extra = output / "serving" / "1" / "assets.extra"
    extra.mkdir(exist_ok=True)
    (extra / "version.json").write_text(json.dumps({"examples": "artifacts/examples/1"}))
    trained = statistics(gender=[["f"], ["m"]] * 5, recent=[["jazz"], ["pop"]] * 5)
    folder = tmp_path / "statistics" / "Split-train"
    folder.mkdir(parents=True)
    (folder / "FeatureStats.pb").write_bytes(trained.SerializeToString())
    path = tmp_path / "config.yaml"
    config = {
        "name": "log",
        "output": str(output),
        "data": {"interactions": "i.csv", "items": "t.csv", "users": "u.csv"},
        "features": {"profile": [{"name": "gender"}], "domains": [{"name": "recent"}]},
        "validation": {"skew": {"gender": {"l_infinity": 0.2}}},
    }
    path.write_text(yaml.safe_dump(config))
    with logged_run(load_config(str(path))) as run:
        facts = {"run.examples": "artifacts/examples/1", "run.statistics": str(folder.parent)}
        run.end({**facts, "push.version": 1}, ())
    return str(path)


def num_logged(server, status="written"):
    page = f"http://127.0.0.1:{server.rest_api_port}/monitoring/prometheus/metrics"
    with urllib.request.urlopen(page, timeout=WAIT_S) as answer:
        text = answer.read().decode()
    counts = re.findall(rf'^{RECORDS}{{[^}}]*status="{status}"[^}}]*}} (\d+)$', text, re.MULTILINE)
    return sum(map(int, counts))


def check(config_path, folder, capfd):
    """Returns the exit status of `check-requests`, and what it prints."""
    capfd.readouterr()
    arguments = ["--config", config_path, "--requests", str(folder), "--json"]
    status = main(["check-requests", *arguments])
    return status, json.loads(capfd.readouterr().out)


def test_log_of_a_server_is_checked_while_it_writes(config_path, tmp_path, capfd):
    logs = tmp_path / "logs"
    base_path = Path(config_path).parent / "run" / "serving"
    served = tmp_path / "models.config"
    served.write_text(
        f"""model_config_list {{ config {{
          name: "tags" base_path: "{base_path}" model_platform: "tensorflow"
          logging_config {{
            log_collector_config {{ type: "tfrecord" filename_prefix: "{logs}/tags" }}
            sampling_config {{ sampling_rate: 1 }}
          }}
        }} }}"""
    )
    (tmp_path / "salt").write_text("0123456789abcdef" * 4)
    flags = [f"--model_config_file={served}", "--request_log_file_mb=0.0001"]
    flags.append(f"--request_log_salt_file={tmp_path / 'salt'}")
    with server_process(tmp_path, *flags) as server:
        with TagClient(f"127.0.0.1:{server.port}", model_name="tags") as client:
            for gender in "fmfm":
                client.retrieve([{"gender": gender, "recent": ["jazz", "pop"]}])
            client.retrieve([{"gender": "f"}, {"gender": "m", "recent": ["pop"]}])
            assert wait_until(lambda: num_logged(server) == 5, WAIT_S)
            first = check(config_path, logs, capfd)
            num_closed = len(list(logs.glob("*.tfrecord")))
            client.retrieve([{"gender": "f"}] * 14)
            assert wait_until(lambda: num_logged(server) == 6, WAIT_S)
            second = check(config_path, logs, capfd)
        assert num_logged(server, "dropped") == 0

    status, found = first
    assert (status, found["num_requests"], found["num_rejected"]) == (0, 6, 0)
    assert found["features"][0]["distance"] == pytest.approx(0.0)  # half and half, as in training
    assert num_closed >= 4  # by size, while the server runs; the fifth may just be closed
    status, found = second
    assert (status, found["num_requests"]) == (3, 20)
    assert found["features"][0]["distance"] == pytest.approx(0.35)  # 17 of 20 less one half
    assert not list(logs.glob("*.part"))
    assert check(config_path, logs, capfd)[1]["num_requests"] == 20
