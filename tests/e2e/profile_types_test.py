"""Ages and interests of users through the whole pipeline, twice: the second day starts warm.

The tests share one project. Each asks for the run that it is about, which is made then, after those
before it: the order of the tests does not matter.
"""

import dataclasses
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from serving.client import TagClient
from tests.e2e.small_log import SMALLEST_GRAPH, make_small_project
from tests.report_keys import undocumented_keys
from tfx_pipeline.cli import main
from tfx_pipeline.runs.local_server import local_server

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    made = make_small_project(tmp_path_factory.mktemp("profiles"))
    configuration = made.configuration()
    configuration["model"] |= SMALLEST_GRAPH
    configuration["index"]["kind"] = "exact"
    configuration["training"] |= {"max_epochs": 2, "warm_start": True}
    configuration["features"]["profile"] += [
        {"name": "age", "type": "number", "num_buckets": 5},
        {"name": "interests", "type": "list", "separator": ";"},
    ]
    made.write_configuration(configuration)
    return made


@dataclasses.dataclass(frozen=True)
class Run:
    """What a run printed and left."""

    out: str
    err: str
    report: dict
    instances: list[dict]


@pytest.fixture(scope="module")
def runs():
    """Returns the list of the runs, in order; `made_run` makes the missing ones."""
    return []


def made_run(project, runs, number, capfd) -> Run:
    """Returns a run by its number; makes it, and those before it, where they are missing."""
    while len(runs) <= number:
        write_profiles(project, shift=3.0 * len(runs))
        status, out, err = project.run_here(capfd)
        assert status == 0, out + err
        runs.append(Run(out, err, report_of(project), instances(project)))
    return runs[number]


def write_profiles(project, shift):
    """Writes users of whom every fourth has no age and every third no interest."""
    path = project.tables / "users.parquet"
    table = pq.read_table(path).select(["user_id", "segment", "age_band"])
    rows = np.arange(table.num_rows)
    ages = pa.array(18.0 + shift + rows % 50, mask=rows % 4 == 0)
    interests = ["" if i % 3 == 0 else f"hobby {i % 7}; hobby {i % 5}" for i in rows]
    table = table.append_column("age", ages).append_column("interests", pa.array(interests))
    pq.write_table(table, path)


def report_of(project):
    return json.loads((project.output / "report.json").read_text(encoding="utf-8"))


def instances(project):
    lines = [
        line
        for path in sorted((project.output / "instances").glob("*.jsonl"))
        for line in path.read_text(encoding="utf-8").splitlines()
    ]
    return [json.loads(line) for line in lines]


def test_run_counts_the_missing_and_pushes(project, runs, capfd):
    run = made_run(project, runs, 0, capfd)

    assert run.report["users.missing.age"] == run.report["users.total"] / 4
    assert undocumented_keys(run.report) == []
    assert f"missing    of {run.report['users.total']} users" in run.out
    ages = {instance["age"] for instance in run.instances}
    assert None in ages and max(ages - {None}) == 67.0


def test_query_and_batch_answer_as_the_server_does(project, runs, tmp_path, capfd):
    made_run(project, runs, 0, capfd)
    asked = instances(project)[:40]
    features = [{k: v for k, v in each.items() if k != "user_id"} for each in asked]
    with local_server(project.base_path, project.folder / "log", has_rest=False) as server:
        with TagClient(server.target) as client:
            profiles = client.retrieve(features).profiles
            aged = client.retrieve([features[0] | {"age": 66.0}]).profiles[0]
        arguments = ["query", "--server", server.target, "--config", str(project.config_path)]
        status = main([*arguments, "--user", asked[0]["user_id"], "--num_tags", "20", "--json"])
    assert status == 0
    queried = json.loads(capfd.readouterr().out)
    assert queried["tags"] == list(profiles[0].tags)
    assert queried["scores"] != list(aged.scores)

    status = main(
        ["batch-predict", "--model_base_path", str(project.base_path)]
        + ["--input", str(project.output / "instances" / "*.jsonl")]
        + ["--output", str(tmp_path / "out"), "--key_field", "user_id"]
    )
    assert status == 0
    predicted = {
        row["key"]: row["prediction"]
        for path in (tmp_path / "out").glob("prediction.results-*")
        for row in map(json.loads, path.read_text(encoding="utf-8").splitlines())
    }
    for instance, profile in zip(asked, profiles, strict=True):
        found = predicted[instance["user_id"]]
        assert tuple(found["tags"]) == profile.tags
        np.testing.assert_allclose(found["scores"], profile.scores, rtol=1e-4, atol=1e-5)


def test_buckets_of_other_quantiles_start_from_those_of_the_day_before(project, runs, capfd):
    run = made_run(project, runs, 1, capfd)

    assert "warm start: profile_age: 5 rows kept, 0 new" in run.out + run.err
    assert run.report["train.warm_start.profile_age.new_rows"] == 0
