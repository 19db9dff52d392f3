"""All steps on a small log: kill, cache, gates, warm start, serve, query, batch prediction.

The tests share one project. Each asks for a step of its life, which is taken then, after those
before it, and checks what the step recorded: the order of the tests does not matter. Tests of
requests ask a server of the last trained version.
"""

import contextlib
import json
import math
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from serving.client import TagClient
from tests.e2e.equal_lists import assert_equal_order
from tests.e2e.pipeline_life import EARLY, LATE, PipelineLife, instances
from tests.e2e.small_log import make_small_project, node_states
from tests.report_keys import undocumented_keys, unwritten_keys
from tfx_pipeline.cli import main
from tfx_pipeline.config.pipeline import load_config
from tfx_pipeline.examples.moments import user_part
from trainer.contract.tag_items import TagItems

pytestmark = pytest.mark.e2e

NODES = {
    "CuratedSchema",
    "ExampleGen",
    "StatisticsGen",
    "ExampleValidator",
    "Transform",
    "WarmStart",
    "Trainer",
    "LastBlessed",
    "Evaluator",
    "TagIndexBuilder",
    "TagIndexEvaluator",
    "Pusher",
}
# Resolvers are never cached.
CACHEABLE = NODES - {"LastBlessed", "WarmStart"}
FROM_TRAINER = {"Trainer", "Evaluator", "TagIndexBuilder", "TagIndexEvaluator", "Pusher"}


@pytest.fixture(scope="module")
def shared_life(tmp_path_factory):
    made = make_small_project(tmp_path_factory.mktemp("small"))
    configuration = made.configuration()
    configuration["training"]["warm_start"] = True
    # Views for the reindexing.
    configuration["model"]["tag_views"] = ["words", "category"]
    made.write_configuration(configuration)
    with contextlib.ExitStack() as resources:
        life = PipelineLife(made, resources)
        yield life
    assert life.server is None or life.server.exit_status == 0


@pytest.fixture
def life(shared_life, capfd):
    shared_life.capfd = capfd
    return shared_life


@pytest.fixture
def project(life):
    return life.project


@pytest.fixture
def server(life) -> str:
    """Returns the address of a server that answers with the last trained version."""
    life.settled()
    return life.served()


def executed(output: str) -> set[str]:
    return {node for node, state in node_states(output).items() if state != "cached"} & CACHEABLE


@pytest.mark.parametrize("moment", [EARLY, LATE])
def test_run_killed_leaves_nothing_pushed_and_no_report(life, moment):
    ran = life.killed()[moment]

    assert ran.versions is None
    assert ran.report is None


def test_run_after_kill_resumes_at_the_killed_node_and_pushes(life):
    ran = life.first()

    assert ran.status == 0, ran.out + ran.err
    assert node_states(ran.out).keys() == NODES
    # The last kill came in the Evaluator: towers and index were there already.
    assert executed(ran.out) == {"Evaluator", "TagIndexEvaluator", "Pusher"}
    assert len(ran.versions) == 1
    report = ran.report
    assert report["push.version"] == ran.versions[0]
    assert ran.exact_versions == ran.versions
    assert report["index.kind"] == "scann"
    # The gate looks at validation; the few test users of a toy may lie on either side of it.
    assert report["index.validation_recall_at_20"] >= 0.98
    assert report["index.recall_at_20"] >= 0.95
    assert report["demo.planted_precision"] > 2 * report["demo.planted_precision_random"]
    assert report["eval.model.precision_at_10"] > report["eval.random.precision_at_10"]
    assert report["eval.multi_class_stage.precision_at_10"] is not None
    # Shares of one click among many are no probabilities of clicks on tags.
    assert report["eval.model.tag_ece"] < report["eval.model.tag_ece_uncalibrated"] / 2
    # Planted interests choose the items, so a user's own tags recall more of them than chance does.
    # The tags of a toy model need not.
    recall = {who: report[f"eval.{who}.item_recall_at_100"] for who in ("own_history", "random")}
    assert recall["own_history"] > recall["random"]
    assert 0 < report["eval.model.item_recall_at_100"] < 1
    assert report["eval.model.item_num_users"] == report["eval.popular_items.item_num_users"] > 0
    assert " item R@100 " in ran.out and "popular items" in ran.out
    # Libraries are quiet: what is printed is the program's own.
    assert "WARNING" not in ran.out + ran.err and "Traceback" not in ran.out + ran.err


def test_items_beside_the_report_have_the_clicks_of_the_training_users(life, project):
    config = load_config(str(project.config_path))
    clicks = Counter(
        row["item_id"]
        for row in life.prepared()
        if row["clicked"] and user_part(row["user_id"], config.examples) == "train"
    )

    found = {row["item_id"]: row["clicks"] for row in life.first().items}

    assert {item: number for item, number in found.items() if number} == clicks


def test_report_has_the_keys_of_the_registry_and_no_others(life):
    report = life.first().report

    assert undocumented_keys(report) == []
    assert unwritten_keys(report) == []
    assert unwritten_keys(report, "tfx_pipeline/evaluation/planted_score.py") == []


def test_first_training_starts_from_fresh_values(life):
    ran = life.first()

    assert not [key for key in ran.report if key.startswith("train.warm_start")]
    assert ran.training["warm_start"] is None


def test_validation_in_training_is_the_evaluators(life):
    ran = life.first()
    report, fit, path = ran.report, ran.training["fit"], ran.training["linear_path"]

    best = fit["validation"][fit["evaluated_steps"].index(fit["best_step"])]
    # The ranking of retrieval alone, towers and path: the second stage is chosen afterwards.
    figures = [
        report[f"eval_validation.multi_class_stage.{name}"]
        for name in ("ndcg_at_10", "novel_ndcg_at_10")
    ]
    (quality,) = (t["quality"] for t in path["trials"] if t["weight"] == path["weight"])
    assert sum(figures) / 2 == pytest.approx(quality, rel=1e-5)
    assert report["train.linear_path"].endswith(f"weight {path['weight']:g}")
    # Some of the same weights were tried during training.
    tried = [t["quality"] for t in path["trials"]]
    assert min(tried) <= best["mean_ndcg_at_10"] <= max(tried) + 1e-6
    assert report["eval_validation.model.click_gauc"] == pytest.approx(best["click_gauc"], rel=1e-4)
    assert report["train.seconds_per_evaluation"] > 0


def test_second_run_is_answered_from_the_cache_though_its_own_model_is_blessed(life):
    ran = life.second()

    assert ran.status == 0, ran.out
    assert executed(ran.out) == set()
    assert len(ran.versions) == 1


def test_deleted_version_is_pushed_again_by_a_cached_run(life):
    ran = life.deleted()

    assert ran.status == 0
    assert executed(ran.out) == set()
    assert [ran.report["push.version"]] == ran.versions
    assert ran.exact_versions[-1:] == ran.versions


def test_changed_training_runs_trainer_and_what_follows(life):
    ran = life.retrained()

    assert ran.status == 0, ran.out
    assert executed(ran.out) == FROM_TRAINER
    assert len(ran.versions) == 2
    # The model blessed before was scored on the same examples.
    assert "eval.last_blessed.precision_at_10" in ran.report


def test_unreachable_gate_pushes_nothing_and_says_why(life):
    ran = life.gated()

    assert ran.status == 3
    assert executed(ran.out) == {"Evaluator", "Pusher"}
    assert "NOT pushed" in ran.out and "P@10 against the best of the baselines" in ran.out
    assert len(ran.versions) == 2


def test_edited_tables_run_everything_but_the_schema_and_a_kill_leaves_a_checkpoint(life):
    before = life.gated().versions
    ran = life.edited()

    assert ran.report is None
    assert executed(ran.out) == CACHEABLE - FROM_TRAINER - {"CuratedSchema"}
    assert [path.parts[1:] for path in ran.checkpoints].count(("checkpoint.npz",)) == 1
    assert ran.versions == before


def test_killed_training_goes_on_and_has_started_from_the_last_model(life):
    ran = life.resumed()

    assert ran.status == 0, ran.out + ran.err
    assert executed(ran.out) == FROM_TRAINER
    assert "resuming from the checkpoint after step" in ran.out
    rows = ran.training["warm_start"]
    assert rows["tags"]["new"] >= 1 and rows["tags"]["retired"] >= 1
    assert rows["tags"]["kept"] > 10 * rows["tags"]["new"]
    report = ran.report
    assert report["train.warm_start.kept_rows"] == sum(counts["kept"] for counts in rows.values())
    assert report["train.warm_start.tags.new_rows"] == rows["tags"]["new"]
    assert undocumented_keys(report) == []
    # A finished training needs no checkpoint.
    assert ran.checkpoints == []


def test_unchanged_run_starts_from_the_same_model_and_is_answered_from_the_cache(life):
    before = life.resumed().versions
    ran = life.unchanged()

    assert ran.status == 0, ran.out
    assert executed(ran.out) == set()
    assert ran.versions == before


def test_another_architecture_is_refused_in_one_line_with_a_remedy(life):
    ran = life.other_architecture()

    assert ran.status == 2
    (line,) = ran.err.strip().splitlines()
    assert "`training.warm_start` must be false for a model of another architecture" in line
    assert "user_tower.hidden.bias: [33] here, [32] there" in line


def test_bad_rows_above_the_threshold_fail_in_one_line_and_are_kept(life):
    ran, num_bad, rejected = life.bad_rows()

    assert ran.status == 2
    assert len(ran.err.strip().splitlines()) == 1
    assert "max_rejected_fraction" in ran.err and "clicked_not_0_or_1" in ran.err
    assert len(rejected) == num_bad
    assert {row["reason"] for row in rejected} == {"clicked_not_0_or_1"}


def test_log_of_clicks_alone_is_refused_before_anything_is_trained(life):
    ran = life.clicks_alone()

    assert ran.status == 2
    (line,) = ran.err.strip().splitlines()
    assert "ExampleGen: `data.interactions` must have skips (`clicked` 0)" in line
    assert line.endswith("or set `training.joint_weight` to 0.")
    assert "] StatisticsGen" not in ran.out and "] Trainer" not in ran.out


def test_query_by_user_equals_the_snapshot_now(life, project, server):
    instance = next(i for i in instances(project) if i["clicked_tags"])
    with TagClient(server) as client:
        features = {k: v for k, v in instance.items() if k != "user_id"}
        expected = client.retrieve([features], num_tags=5).profiles[0]

    status, out, _ = life.tagtower(
        "query", "--server", server, "--user", instance["user_id"], "--num_tags", "5", "--json"
    )

    assert status == 0
    assert json.loads(out)["tags"] == list(expected.tags)


def test_query_by_fresh_events_equals_their_features(life, project, server, tmp_path):
    items = pq.read_table(project.tables / "items.parquet").slice(0, 3).to_pylist()
    path = tmp_path / "events.jsonl"
    events = [
        {"item_id": item["item_id"], "timestamp": 1_700_000_000 + i, "clicked": 1}
        for i, item in enumerate(items)
    ]
    path.write_text("".join(json.dumps(event) + "\n" for event in events), encoding="utf-8")
    tags = [tag for item in items for tag in item["tags"]]
    counted = sorted(set(tags), key=lambda tag: (-tags.count(tag), tag))
    with TagClient(server) as client:
        features = {
            "clicked_tags": counted,
            "clicked_tags_weights": [float(tags.count(t)) for t in counted],
        }
        expected = client.retrieve([features], num_tags=5).profiles[0]

    status, out, _ = life.tagtower(
        "query", "--server", server, "--events", str(path), "--num_tags", "5", "--json"
    )

    assert status == 0
    assert json.loads(out)["tags"] == list(expected.tags)


def test_query_shows_items_that_the_user_has_not_clicked(life, project, server):
    table = pq.read_table(
        project.tables / "interactions", columns=["user_id", "item_id", "clicked"]
    )
    rows = [row for row in table.to_pylist() if row["clicked"]]
    user = rows[0]["user_id"]
    clicked = {row["item_id"] for row in rows if row["user_id"] == user}

    status, out, _ = life.tagtower(
        "query", "--server", server, "--user", user, "--items", "20", "--json"
    )

    assert status == 0
    content = json.loads(out)
    items = TagItems.load(str(project.output / "items.jsonl"))
    assert content["items"] == items.recall(content["tags"], 20, clicked)
    assert len(content["items"]) == 20
    assert set(items.recall(content["tags"], 20)) & clicked


def test_query_of_an_unknown_user_is_one_clear_line(life, server):
    status, _, err = life.tagtower("query", "--server", server, "--user", "nobody")

    assert status == 2
    assert "nobody" in err


# Unusual users: empty in three ways, unknown in every feature, with a history of noise.
NOBODY = [
    {},
    {"segment": "", "age_band": "", "clicked_tags": [], "skipped_tags": []},
    {"clicked_tags": ["", ""], "clicked_tags_weights": [1.0, 5.0], "skipped_tags": [""]},
]
STRANGER = {
    "segment": "never seen",
    "age_band": "never seen",
    "clicked_tags": ["never seen"],
    "skipped_tags": ["nor this", "never seen"],
}


def strange_users(tags: list[str]) -> list[dict]:
    """Returns users of whom nothing, little or too much is known."""
    many = [tags[i % len(tags)] for i in range(2_000)]
    return [
        *NOBODY,
        STRANGER,
        {"clicked_tags": many, "skipped_tags": [f"never seen {i}" for i in range(2_000)]},
        {"clicked_tags": tags[:3], "clicked_tags_weights": [0.0, 0.0, 0.0]},
        {"clicked_tags": tags[:3], "clicked_tags_weights": [0.5, 1e6, 0.0]},
        {"skipped_tags": tags[:2]},
    ]


def test_every_signature_answers_whoever_asks(server):
    with TagClient(server, timeout_s=60) as client:
        tags = list(client.retrieve([{}]).profiles[0].tags)
        users = strange_users(tags)
        profiles = client.retrieve(users).profiles
        filtered = client.retrieve_filtered(
            users,
            exclude_tags=[[profile.tags[0], "never seen", ""] for profile in profiles],
            allow_categories=[[]] * len(users),
        ).profiles
        scored = client.score_tags(users, [profile.tags for profile in profiles]).users
        items = client.score_items(users, [[tags[:2], ["never seen"], []]] * len(users)).users
        # The tower does not run once for each of the 4,000 values.
        few = [user for user in users if len(user.get("clicked_tags", [])) < 10]
        explained = client.explain(few, [tags[0]] * len(few)).explanations
        empty = client.predict({"examples": np.array([b""], object)}).outputs

    for profile, rest, known, clicks in zip(profiles, filtered, scored, items, strict=True):
        assert len(set(profile.tags)) == 20 and "" not in profile.tags
        assert list(profile.scores) == sorted(profile.scores, reverse=True)
        assert np.isfinite(profile.scores).all()
        assert all(0 < probability < 1 for probability in profile.probabilities)
        assert len(rest.tags) == 20 and profile.tags[0] not in rest.tags
        # Float32 sums of 4,000 values are no closer.
        assert known.scores == pytest.approx(profile.scores, rel=1e-4, abs=1e-3)
        assert known.probabilities == pytest.approx(profile.probabilities, rel=1e-3)
        assert np.isfinite(clicks.logits).all() and clicks.logits[1] == pytest.approx(
            clicks.logits[2]
        )
    assert len(explained) == len(users) - 1
    for explanation in explained:
        numbers = [explanation.score, *(x.contribution for x in explanation.features)]
        numbers += [x.contribution for x in explanation.values]
        assert np.isfinite(numbers).all()
    # An empty user has nothing to leave out.
    assert [value for x in explained[:2] for value in x.values] == []
    assert [x.contribution for x in explained[0].features] == pytest.approx([0] * 4, abs=1e-5)
    for profile in profiles[: len(NOBODY)]:
        assert profile.tags == profiles[0].tags
        assert profile.scores == pytest.approx(profiles[0].scores, rel=1e-5)
    assert tuple(tag.decode() for tag in empty["tags"][0]) == profiles[0].tags
    np.testing.assert_allclose(empty["scores"][0], profiles[0].scores, rtol=1e-5)


def test_answer_to_nobody_leans_to_popular_tags(project, server):
    clicks: Counter = Counter()
    for line in (project.output / "items.jsonl").read_text("utf-8").splitlines():
        row = json.loads(line)
        clicks.update(dict.fromkeys(row["tags"], row["clicks"]))
    popular = sorted(clicks, key=lambda tag: (-clicks[tag], tag))[:10]

    with TagClient(server, timeout_s=60) as client:
        (profile,) = client.retrieve([{}], num_tags=10).profiles

    # Chance would find 0.8 of them among the 120 tags (docs/serving-signatures.md, Cold start).
    assert len(set(profile.tags) & set(popular)) >= 2


def test_batch_prediction_of_every_user_equals_online(project, server, tmp_path):
    output = tmp_path / "predictions"

    status = main(
        ["batch-predict", f"--model_base_path={project.base_path}"]
        + ["--input", str(project.output / "instances" / "*.jsonl"), "--output", str(output)]
    )

    assert status == 0
    lines = [
        json.loads(line)
        for path in sorted(output.glob("prediction.results-*"))
        for line in path.read_text(encoding="utf-8").splitlines()
    ]
    users = instances(project)
    assert sorted(line["instance"]["user_id"] for line in lines) == sorted(
        u["user_id"] for u in users
    )
    with TagClient(server, timeout_s=60) as client:
        online = client.retrieve([{k: v for k, v in u.items() if k != "user_id"} for u in users])
    by_user = {user["user_id"]: p for user, p in zip(users, online.profiles, strict=True)}
    for line in lines:
        profile = by_user[line["instance"]["user_id"]]
        assert_equal_order(line["prediction"], profile.tags, profile.scores)
        for name in ("scores", "probabilities"):
            assert line["prediction"][name] == pytest.approx(
                list(getattr(profile, name)), rel=1e-4, abs=1e-4
            )


def test_bad_instances_go_to_the_errors_file_and_stop_nothing(life, project, tmp_path):
    life.settled()
    path = tmp_path / "instances.jsonl"
    path.write_text('{"clicked_tags": []}\nno json\n{"colour": ["red"]}\n{"segment": 3}\n')
    output = tmp_path / "predictions"

    status = main(
        ["batch-predict", f"--model_base_path={project.base_path}", "--input", str(path)]
        + ["--output", str(output)]
    )

    assert status == 0
    assert sorted(p.name.split("-")[0] for p in output.iterdir()) == [
        "_predictions.json",
        "prediction.errors_stats",
        "prediction.results",
    ]
    errors = [json.loads(x) for p in output.glob("*errors*") for x in p.read_text().splitlines()]
    assert len(errors) == 3
    assert {error["error"]["status"] for error in errors} == {"INVALID_ARGUMENT"}
    assert len("".join(p.read_text() for p in output.glob("*results*")).splitlines()) == 1


def test_servable_loads_where_nothing_of_the_project_is(life, project, tmp_path):
    script = """
import os, sys
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
import importlib.util, tensorflow as tf
spec = importlib.util.find_spec("scann")
tf.load_op_library(os.path.join(spec.submodule_search_locations[0], "scann_ops/cc/_scann_ops.so"))
model = tf.saved_model.load(sys.argv[1])
answer = model.signatures["serving_default"](examples=tf.constant([b"", b""]))
assert not {"trainer", "serving", "tfx_pipeline", "scann"} & set(sys.modules)
print(answer["tags"].shape, sorted(model.signatures))
"""
    path = tmp_path / "load.py"
    path.write_text(script)
    newest = project.base_path / str(life.settled())

    finished = subprocess.run(
        [sys.executable, str(path), str(newest)],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={k: v for k, v in os.environ.items() if k != "PYTHONPATH"},
        check=True,
    )

    assert finished.stdout.startswith("(2, 20)")
    for name in ("serving_default", "retrieve", "embed_users", "score_tags", "score_items"):
        assert name in finished.stdout
    assert (newest / "assets.extra" / "tf_serving_warmup_requests").is_file()


def test_exact_export_loads_without_scann_and_gives_a_tag_the_same_score(
    life, project, server, tmp_path
):
    script = """
import json, os, sys
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
import tensorflow as tf
model = tf.saved_model.load(sys.argv[1])
answer = model.signatures["serving_default"](examples=tf.constant([b""]))
assert not {"trainer", "serving", "tfx_pipeline", "scann"} & set(sys.modules)
tags = [tag.decode() for tag in answer["tags"].numpy()[0]]
print(json.dumps(dict(zip(tags, answer["scores"].numpy()[0].tolist()))))
"""
    path = tmp_path / "load.py"
    path.write_text(script)
    newest = project.output / "serving_exact" / str(life.settled())

    finished = subprocess.run(
        [sys.executable, str(path), str(newest)],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={k: v for k, v in os.environ.items() if k != "PYTHONPATH"},
        check=True,
    )

    exact = json.loads(finished.stdout)
    with TagClient(server, timeout_s=60) as client:
        (profile,) = client.retrieve([{}]).profiles
    common = {tag: s for tag, s in zip(profile.tags, profile.scores, strict=True) if tag in exact}
    assert len(common) >= 0.9 * len(exact) == 18
    assert common == pytest.approx({tag: exact[tag] for tag in common}, rel=1e-4, abs=1e-4)
    assert (newest / "assets.extra" / "tf_serving_warmup_requests").is_file()


def test_reindexed_version_serves_a_new_tag_and_no_retired_one(life):
    done = life.reindexed()

    assert any(done.retired in profile.tags for profile in done.before)
    assert done.exact_versions[-1] == done.versions[-1]
    assert not any(done.retired in profile.tags for profile in done.after)
    assert any(done.new in profile.tags for profile in done.after)
    served = [
        sum(done.risen in profile.tags for profile in found) for found in (done.before, done.after)
    ]
    assert served[1] > served[0]
    assert [math.isnan(explanation.score) for explanation in done.explained] == [False, True]


def test_versions_say_what_they_were_made_from_and_which_serves(life):
    numbers = life.reindexed().versions
    status, out = life.listed()

    lines = out.splitlines()[2:]
    assert status == 0
    assert [int(line.split()[0]) for line in lines] == numbers[::-1]
    assert " reindex " in lines[0] and "+1 -1 ~2 file" in lines[0]
    assert lines[0].endswith("serves") and lines[1].split()[2] == "run"


def test_cached_run_leaves_the_reindexed_version_serving(life):
    before = life.reindexed().versions
    ran = life.cached_after_reindexing()

    assert ran.status == 0, ran.out + ran.err
    assert executed(ran.out) == set()
    assert ran.versions == before
    assert ran.report["push.version"] == before[-1]


def test_rollback_serves_the_version_before_and_no_run_undoes_it(life):
    *older, before, own, reindexed = life.reindexed().versions
    ran, at_the_end = life.rolled_back()

    assert ran.status == 3, ran.out
    assert f"version {own} of these towers was rolled back" in ran.out or (
        f"version {reindexed} of these towers was rolled back" in ran.out
    )
    assert ran.versions == ran.exact_versions[-len(ran.versions) :]
    assert ran.versions == [*older, before]
    assert at_the_end == [*older, before, own]


def test_no_half_version_and_no_staging_folder_is_left(life, project):
    life.rolled_back()

    for base_path in (project.base_path, project.output / "serving_exact"):
        names = {path.name for path in Path(base_path).iterdir()}
        assert all(name.isdigit() for name in names - {"withdrawn", ".lock"})
