"""The shipped MovieLens-1M configuration on the real data, against the figures it must reach."""

import json

import numpy as np
import pytest
import yaml

from serving.client import TagClient
from serving.model_server.models.model_config import ModelConfig
from serving.model_server.server import ModelServer
from tests.movielens_data import RATINGS_DIR, TAGS_FILE, needs_movielens
from tests.report_keys import undocumented_keys, unwritten_keys
from tfx_pipeline.cli import main

pytestmark = [pytest.mark.movielens, needs_movielens]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Tables and one run; the folder of the run and its report."""
    folder = tmp_path_factory.mktemp("movielens")
    tables = folder / "tables"
    prepared = ["prepare", "movielens-1m", "--source", str(RATINGS_DIR), "--tags", str(TAGS_FILE)]
    assert main([*prepared, "--output", str(tables)]) == 0
    with open("tfx_pipeline/configs/movielens-1m.yaml", encoding="utf-8") as file:
        configuration = yaml.safe_load(file)
    data = configuration["data"]
    for name in data:
        data[name] = data[name].replace("build/movielens-1m/tables", str(tables))
    config = folder / "config.yaml"
    config.write_text(yaml.safe_dump(configuration), encoding="utf-8")
    output = folder / "run"
    assert main(["run", "--config", str(config), "--output", str(output)]) == 0
    return output, json.loads((output / "report.json").read_text(encoding="utf-8")), config


def test_quality_reaches_the_demands_on_test_users(run):
    _, report, _ = run
    model = report["eval.model.precision_at_10"]

    # One seed; the means over three are in docs/results.md.
    assert model > report["eval.popularity.precision_at_10"]
    assert model > report["eval.own_history.precision_at_10"]
    assert model > report["eval.blend.precision_at_10"]
    assert (
        report["eval.model.novel_precision_at_10"]
        >= 1.1 * report["eval.popularity.novel_precision_at_10"]
    )
    assert report["eval.own_history.novel_precision_at_10"] is None
    assert report["eval.model.click_gauc"] >= 0.66
    assert report["eval.model.distinct_top10"] > 0.5 * report["eval.model.num_users"]


def test_index_and_costs_stay_within_their_bounds(run):
    _, report, _ = run

    assert report["index.kind"] == "scann"
    assert report["index.recall_at_100"] >= 0.98
    assert report["memory.peak_mb"] < 8_000
    assert report["rows.read.interactions"] == 1_000_209
    assert undocumented_keys(report) == []
    assert unwritten_keys(report) == []


def test_batch_prediction_of_all_users_equals_online(run, tmp_path, capsys):
    output, _, config = run
    base_path = output / "serving"
    predictions = tmp_path / "predictions"
    everyone = str(output / "instances" / "*.jsonl")
    batch = ["batch-predict", f"--model_base_path={base_path}", "--input", everyone]
    assert main([*batch, "--output", str(predictions)]) == 0
    lines = [
        json.loads(line)
        for path in sorted(predictions.glob("prediction.results-*"))
        for line in path.read_text(encoding="utf-8").splitlines()
    ]
    assert len({line["instance"]["user_id"] for line in lines}) == len(lines) == 6040
    users_with_other_candidates = set()

    capsys.readouterr()
    with ModelServer([ModelConfig("default", str(base_path))], port=0) as server:
        server.wait_until_available(timeout_s=1200)
        target = f"localhost:{server.port}"
        with TagClient(target, timeout_s=120) as client:
            for first in range(0, len(lines), 500):
                part = lines[first : first + 500]
                features = [
                    {k: v for k, v in line["instance"].items() if k != "user_id"} for line in part
                ]
                answer = client.retrieve(features)
                for line, profile in zip(part, answer.profiles, strict=True):
                    predicted = line["prediction"]
                    offline = dict(zip(predicted["tags"], predicted["scores"], strict=True))
                    online = dict(zip(profile.tags, profile.scores, strict=True))
                    # Scores that are equal to six digits may change places with the batch's shape,
                    # so tags are compared and not their order.
                    both = sorted(offline.keys() & online.keys())
                    shifts = np.array([offline[tag] - online[tag] for tag in both])
                    if len(both) < len(online) or np.abs(shifts).max() > 1e-4:
                        users_with_other_candidates.add(line["instance"]["user_id"])
                    # Another candidate of the first stage has a share of all others' scores, in one
                    # direction: they are logarithms of shares of the candidates.
                    assert np.abs(shifts).max() < 1e-2
                    assert shifts.max() < 1e-4 or shifts.min() > -1e-4
        query = ["query", "--server", target, "--config", str(config), "--user", "1", "--json"]
        assert main(query) == 0
    # A user's vector differs in its last bits with the batch's shape, and ScaNN's 4-bit hashes have
    # edges: on some machines one user of 6,040 has a candidate on the other side of one, on others
    # none. Before small batches were padded it was one tag in 20,000.
    assert len(users_with_other_candidates) <= len(lines) / 1000
    answer = json.loads(capsys.readouterr().out)
    by_user = {line["instance"]["user_id"]: line["prediction"] for line in lines}
    assert answer["tags"] == by_user["1"]["tags"][:10]
