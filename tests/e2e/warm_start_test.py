"""Two days of one log: the second day's training starts from the first day's model.

The tests share one project and run in order. Training of the second day is killed on the way.
"""

import json
import signal

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.e2e.small_log import make_small_project, node_states
from tests.report_keys import undocumented_keys

pytestmark = pytest.mark.e2e

NEW_TAG = "brand new"
RESOLVERS = {"WarmStart", "LastBlessed"}


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    made = make_small_project(tmp_path_factory.mktemp("days"))
    configuration = made.configuration()
    configuration["training"] = {"max_epochs": 3, "batch_size": 32, "warm_start": True}
    configuration["index"] = {"kind": "exact", "export_exact": False, "k": 20}
    made.write_configuration(configuration)
    return made


def report_of(project) -> dict:
    return json.loads((project.output / "report.json").read_text(encoding="utf-8"))


def training_of(project) -> dict:
    """Of the latest model."""
    models = (project.output / "artifacts" / "Trainer" / "model").iterdir()
    latest = max(models, key=lambda path: int(path.name))
    return json.loads((latest / "Format-Serving" / "training.json").read_text(encoding="utf-8"))


def rename_a_tag(project) -> str:
    """The most frequent tag gets another name in the items table; returns the old one."""
    path = project.tables / "items.parquet"
    table = pq.read_table(path)
    lists = table.column("tags").to_pylist()
    tags = [tag for tags in lists for tag in tags]
    old = max(sorted(set(tags)), key=tags.count)
    renamed = [[NEW_TAG if tag == old else tag for tag in tags] for tags in lists]
    place = table.schema.get_field_index("tags")
    field = table.schema.field(place)
    pq.write_table(table.set_column(place, field, pa.array(renamed, field.type)), path)
    return old


def test_first_day_starts_from_fresh_values(project):
    status, out, err = project.run()

    assert status == 0, out + err
    assert node_states(out).keys() >= RESOLVERS
    assert not [key for key in report_of(project) if key.startswith("train.warm_start")]
    assert training_of(project)["warm_start"] is None


def test_validation_in_training_is_the_evaluators(project):
    report, fit = report_of(project), training_of(project)["fit"]

    best = fit["validation"][fit["best_epoch"] - 1]
    for name in ("ndcg_at_10", "novel_precision_at_10", "precision_at_50"):
        # Of what retrieval alone ranks: the second stage is chosen afterwards.
        who = "multi_class_stage" if f"eval.multi_class_stage.{name}" in report else "model"
        assert report[f"eval_validation.{who}.{name}"] == pytest.approx(best[name], rel=1e-5)
    assert report["eval_validation.model.click_gauc"] == pytest.approx(best["click_gauc"], rel=1e-4)
    assert report["train.validation_seconds_per_epoch"] > 0


def test_second_day_killed_in_training_leaves_a_checkpoint(project):
    rename_a_tag(project)

    process = project.tagtower("run", "--config", str(project.config_path))
    for line in process.stdout:
        if "epoch 1/3" in line:
            break
    process.send_signal(signal.SIGKILL)
    process.communicate()

    assert process.returncode == -signal.SIGKILL
    assert len(list((project.output / "checkpoints").glob("*/checkpoint.npz"))) == 1


def test_second_day_goes_on_and_has_started_from_the_first_days_model(project, capfd):
    status, out, err = project.run_here(capfd)

    assert status == 0, out + err
    assert node_states(out)["Transform"] == "cached"
    assert "goes on from the checkpoint after step" in out
    rows = training_of(project)["warm_start"]
    assert rows["tags"]["new"] >= 1 and rows["tags"]["retired"] >= 1
    assert rows["tags"]["kept"] > 10 * rows["tags"]["new"]
    report = report_of(project)
    assert report["train.warm_start.kept_rows"] == sum(counts["kept"] for counts in rows.values())
    assert report["train.warm_start.tags.new_rows"] == rows["tags"]["new"]
    assert undocumented_keys(report, "docs/report.md") == []
    # What is finished needs no checkpoint.
    assert list((project.output / "checkpoints").iterdir()) == []


def test_unchanged_day_is_answered_from_the_cache_though_its_own_model_is_blessed(project, capfd):
    status, out, err = project.run_here(capfd)

    assert status == 0, out + err
    states = node_states(out)
    assert {node for node, state in states.items() if state != "cached"} == RESOLVERS


def test_another_architecture_is_refused_in_one_line_with_a_remedy(project, capfd):
    configuration = project.configuration()
    configuration["model"]["hidden_dim"] += 1
    project.write_configuration(configuration)

    status, _, err = project.run_here(capfd)

    assert status == 2
    (line,) = err.strip().splitlines()
    assert "`training.warm_start` must be false for a model of another architecture" in line
    assert "user_tower.hidden.bias: [33] here, [32] there" in line
