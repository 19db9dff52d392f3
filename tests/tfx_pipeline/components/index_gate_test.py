"""Index builder, index evaluator and pusher on real artifacts, blessed and not blessed."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from tfx.components.evaluator import constants
from tfx.types import artifact_utils, standard_artifacts

from serving.client import EventFeatures
from serving.index.scann_index import SearchParameters
from tests.toy_towers import ToyTowers, write_users
from tfx_pipeline.components import tag_index_builder
from tfx_pipeline.components.artifacts import IndexEvaluation, LogSummary
from tfx_pipeline.components.pusher import AtomicPusher
from tfx_pipeline.components.tag_index_builder import TagIndexBuilder
from tfx_pipeline.components.tag_index_evaluator import TagIndexEvaluator
from tfx_pipeline.config.pipeline import to_json
from tfx_pipeline.config.serving import IndexConfig, TagPolicyConfig
from tfx_pipeline.examples.log_summary import TAGS_FILE
from tfx_pipeline.versions.base_path_lock import LOCK_FILE
from trainer.contract import signatures as s
from trainer.contract.config_loader import to_mapping
from trainer.contract.features import FeatureSpec, ProfileFeature
from trainer.contract.tag_normalization import TagNormalization
from trainer.task import TRAINING_FILE

NUM_USERS, NUM_TAGS, SIZE, K = 60, 400, 8, 10
NORMALIZATION = TagNormalization(trim=True, lowercase=True)
SPEC = FeatureSpec(profile=(ProfileFeature("name"),))


def artifact(kind, path: Path):
    path.mkdir(parents=True, exist_ok=True)
    made = kind()
    made.uri = str(path)
    return made


def blessing(kind, path: Path, is_blessed: bool):
    made = artifact(kind, path)
    made.set_int_custom_property(constants.ARTIFACT_PROPERTY_BLESSED_KEY, int(is_blessed))
    return made


def vectors():
    rng = np.random.default_rng(0)
    return rng.normal(size=(NUM_USERS, SIZE)), rng.normal(size=(NUM_TAGS, SIZE))


@pytest.fixture(scope="module")
def towers_and_examples(tmp_path_factory):
    folder = tmp_path_factory.mktemp("towers")
    model = artifact(standard_artifacts.Model, folder / "model")
    saved = folder / "model" / "Format-Serving"
    ToyTowers(*vectors()).save(saved)
    (saved / TRAINING_FILE).write_text(json.dumps({"features": to_mapping(SPEC)}))
    examples = artifact(standard_artifacts.Examples, folder / "examples")
    examples.split_names = artifact_utils.encode_split_names(["validation", "test"])
    names = [f"u{i}" for i in range(NUM_USERS)]
    for split, users in (("validation", names[:30]), ("test", names[30:])):
        write_users(folder / "examples" / f"Split-{split}" / "data_tfrecord-00000.gz", users)
    return model, examples


def build(folder: Path, towers_and_examples, policy=None, **index):
    model, examples = towers_and_examples
    servable = artifact(standard_artifacts.Model, folder / "servable")
    summary = artifact(LogSummary, folder / "summary")
    # Nothing is known of a tag that is not in the log.
    rows = [{"tag": f"t{j}", "category": ["first", "second", None][j % 3]} for j in range(1, 500)]
    (folder / "summary" / TAGS_FILE).write_text("".join(json.dumps(row) + "\n" for row in rows))
    TagIndexBuilder.test_call(
        model=model,
        examples=examples,
        summary=summary,
        servable=servable,
        index=to_json(IndexConfig(k=K, **index)),
        policy=to_json(policy or TagPolicyConfig()),
        tag_normalization=to_json(NORMALIZATION),
        code="",
    )
    description = json.loads((folder / "servable" / "index.json").read_text())
    return servable, description


def evaluate(folder: Path, servable, examples):
    evaluation = artifact(IndexEvaluation, folder / "evaluation")
    made = artifact(standard_artifacts.InfraBlessing, folder / "blessing")
    TagIndexEvaluator.test_call(
        servable=servable,
        examples=examples,
        evaluation=evaluation,
        blessing=made,
        target_recall=0.98,
        code="",
    )
    figures = json.loads((folder / "evaluation" / "index_evaluation.json").read_text())
    return made, figures


def push(folder: Path, servable, is_model_blessed: bool, index_blessing):
    pushed = artifact(standard_artifacts.PushedModel, folder / "pushed")
    AtomicPusher.test_call(
        servable=servable,
        model_blessing=blessing(
            standard_artifacts.ModelBlessing, folder / "model_blessing", is_model_blessed
        ),
        index_blessing=index_blessing,
        pushed_model=pushed,
        base_path=str(folder / "base"),
        exact_base_path=str(folder / "exact"),
        run_name="toy",
        code="",
    )
    return json.loads((folder / "pushed" / "pushed.json").read_text())["version"]


def test_tuned_scann_index_is_blessed_and_pushed_whole(tmp_path, towers_and_examples):
    servable, description = build(tmp_path, towers_and_examples, kind="scann")

    index_blessing, figures = evaluate(tmp_path, servable, towers_and_examples[1])
    # The rest of an older release's killed push is no version, and is removed after a while.
    leftover = tmp_path / "base" / ".staging-dead"
    leftover.mkdir(parents=True)
    os.utime(leftover, (0, 0))
    version = push(tmp_path, servable, True, index_blessing)

    chosen = [point for point in description["curve"] if point["is_chosen"]]
    assert len(chosen) == 1 and chosen[0]["recall"] >= 0.98
    assert figures["validation"]["recall"] >= 0.98
    assert figures["test"]["num_queries"] == 30
    assert index_blessing.get_int_custom_property("blessed") == 1
    assert sorted(os.listdir(tmp_path / "base")) == [LOCK_FILE, str(version)]
    assert (tmp_path / "base" / str(version) / "saved_model.pb").is_file()
    assert (tmp_path / "base" / str(version) / "assets.extra" / "tagtower.json").is_file()
    assert sorted(os.listdir(tmp_path / "exact")) == [LOCK_FILE, str(version)]
    # From the same towers, and it finds everything.
    kinds, answers = [], []
    for base in ("base", "exact"):
        pushed = tmp_path / base / str(version)
        # The description for callers with fresh events.
        assert EventFeatures.load(pushed) == EventFeatures(SPEC, NORMALIZATION)
        kinds.append(json.loads((pushed / s.DESCRIPTION_FILE).read_text())["index"]["kind"])
        served = tf.saved_model.load(str(pushed)).signatures
        answers.append(served[s.RETRIEVE](name=tf.constant(["u1", "u31", "u59"])))
    assert kinds == ["scann", "exact"]
    users, tags = vectors()
    order = np.argsort(-users[[1, 31, 59]] @ tags.T, axis=1)[:, :K]
    assert answers[1][s.TAGS].numpy().tolist() == [[b"t%d" % j for j in row] for row in order]
    found = [[set(row) for row in answer[s.TAGS].numpy()] for answer in answers]
    assert sum(len(a & b) for a, b in zip(*found, strict=True)) >= 0.9 * 3 * K


def test_exact_index_of_few_tags_has_recall_one(tmp_path, towers_and_examples):
    servable, description = build(tmp_path, towers_and_examples, kind="auto")

    _, figures = evaluate(tmp_path, servable, towers_and_examples[1])

    assert description["kind"] == "exact"
    assert figures["validation"]["recall"] == 1.0
    # It is in stock ops already.
    assert not (tmp_path / "servable" / "Format-Serving-exact").exists()


def test_servables_know_the_categories_of_the_log(tmp_path, towers_and_examples):
    build(tmp_path, towers_and_examples, kind="scann")

    users, tags = vectors()
    # Tag 0 is in no line of the log.
    allowed = [j for j in range(1, NUM_TAGS) if j % 3 == 0 and j != 30]
    expected = [allowed[i] for i in np.argsort(-(tags[allowed] @ users[7]))[:K]]
    for name in ("Format-Serving", "Format-Serving-exact"):
        served = tf.saved_model.load(str(tmp_path / "servable" / name)).signatures
        answer = served[s.RETRIEVE_FILTERED](
            name=tf.constant(["u7"]),
            exclude_tags=tf.constant([["t30", ""]]),
            allow_categories=tf.constant([["first"]]),
        )
        assert answer[s.TAGS].numpy().tolist() == [[b"t%d" % j for j in expected]]
        assert answer[s.COUNT].numpy().tolist() == [K]


def test_policy_is_held_by_both_servables(tmp_path, towers_and_examples):
    users, tags = vectors()
    order = np.argsort(-(users[7] @ tags.T))
    blocked = tuple(f" T{j} " for j in order[:3]) + ("no such tag",)
    shares = np.exp(users[7] @ tags.T)
    # The softmax runs over the candidates: by default 200, of those that are left.
    shares /= shares[order[3:203]].sum()
    probabilities = shares / (1 + shares)  # sigmoid(log p)
    least = float(probabilities[order[[8, 9]]].mean())
    policy = TagPolicyConfig(blocked, least)

    servable, description = build(tmp_path, towers_and_examples, policy, kind="scann")
    _, figures = evaluate(tmp_path, servable, towers_and_examples[1])

    assert description["num_tags"] == NUM_TAGS - 3 and description["num_blocked_tags"] == 3
    assert description["unknown_blocked_tags"] == ["no such tag"]
    # Compared with the tags that are left, for any least probability.
    assert figures["validation"]["recall"] >= 0.98
    for name in ("Format-Serving", "Format-Serving-exact"):
        served = tf.saved_model.load(str(tmp_path / "servable" / name)).signatures
        who = {"name": tf.constant(["u7"])}
        none = tf.zeros([1, 0], tf.string)
        answer = served[s.RETRIEVE](**who)
        filtered = served[s.RETRIEVE_FILTERED](**who, exclude_tags=none, allow_categories=none)
        found = [tag for tag in answer[s.TAGS].numpy()[0].tolist() if tag]
        left = [b"t%d" % j for j in order[3:]]
        if name == "Format-Serving-exact":
            assert found == left[:6]
            np.testing.assert_allclose(
                answer[s.PROBABILITIES][0, :6], probabilities[order[3:9]], rtol=1e-4
            )
        # An approximate index misses some of the candidates that the softmax sums over, so that
        # its probabilities are a little higher.
        assert found == [tag for tag in left if tag in found] and len(found) >= 6
        assert (answer[s.PROBABILITIES].numpy()[0, : len(found)] >= least).all()
        assert (answer[s.SCORES].numpy()[0, len(found) :] == -np.inf).all()
        assert filtered[s.TAGS].numpy().tolist() == answer[s.TAGS].numpy().tolist()
        assert filtered[s.COUNT].numpy().tolist() == [len(found)]
        assert set(served[s.CANDIDATES]()[s.TAGS].numpy()).isdisjoint(b"t%d" % j for j in order[:3])


def test_policy_that_leaves_no_tag_is_refused():
    with pytest.raises(ValueError, match="`serving.policy.blocked_tags` must leave at least one"):
        tag_index_builder.served_rows(["a"], ["A"], TagNormalization())


def test_second_export_that_is_not_wanted_is_not_written(tmp_path, towers_and_examples):
    _, description = build(tmp_path, towers_and_examples, kind="scann", export_exact=False)

    assert description["kind"] == "scann"
    assert not (tmp_path / "servable" / "Format-Serving-exact").exists()


def test_second_stage_is_served_and_the_gate_looks_at_the_first(tmp_path):
    rng = np.random.default_rng(1)
    users, tags, clicks = (rng.normal(size=(n, SIZE)) for n in (30, NUM_TAGS, NUM_TAGS))
    model = artifact(standard_artifacts.Model, tmp_path / "model")
    saved = tmp_path / "model" / "Format-Serving"
    ToyTowers(users, tags, clicks, click_weight=0.5).save(saved)
    training = {
        "features": to_mapping(SPEC),
        "second_stage": {"click_weight": 0.5, "num_candidates": 25},
        "calibration": {"tags": {"slope": 2.0, "intercept": 1.0}},
    }
    (saved / TRAINING_FILE).write_text(json.dumps(training))
    examples = artifact(standard_artifacts.Examples, tmp_path / "examples")
    examples.split_names = artifact_utils.encode_split_names(["validation", "test"])
    for split in ("validation", "test"):
        path = tmp_path / "examples" / f"Split-{split}" / "data_tfrecord-00000.gz"
        write_users(path, [f"u{i}" for i in range(30)])

    servable, description = build(tmp_path, (model, examples), kind="scann")
    _, figures = evaluate(tmp_path, servable, examples)

    assert description["num_candidates"] == 25
    assert figures["validation"]["recall"] >= 0.98
    served = tf.saved_model.load(str(tmp_path / "servable" / "Format-Serving")).signatures
    queries = tf.constant(users, tf.float32)
    first = served[s.RETRIEVE_CANDIDATES](query_embeddings=queries)
    answer = served[s.RETRIEVE_BY_EMBEDDING](query_embeddings=queries)
    assert first[s.TAGS].shape == (30, 25) and answer[s.TAGS].shape == (30, K)
    # Recall on the returned tags would measure the second stage.
    same = [
        len(set(a) & set(b)) / K
        for a, b in zip(answer[s.TAGS].numpy(), first[s.TAGS].numpy()[:, :K], strict=True)
    ]
    assert np.mean(same) < 0.9
    logits = first[s.SCORES].numpy()
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    expected = 1 / (1 + np.exp(-(2 * np.log(shares) + 1)))
    np.testing.assert_allclose(first[s.PROBABILITIES], expected, rtol=1e-4)


def test_index_below_target_is_not_blessed_and_nothing_is_pushed(
    tmp_path, towers_and_examples, monkeypatch
):
    def do_not_tune(index, *unused):
        # One leaf of forty: most of the best tags are never searched.
        index.search_parameters = SearchParameters(1, K)
        return []

    monkeypatch.setattr(tag_index_builder, "tune", do_not_tune)
    servable, _ = build(tmp_path, towers_and_examples, kind="scann", num_leaves=40)

    index_blessing, figures = evaluate(tmp_path, servable, towers_and_examples[1])
    version = push(tmp_path, servable, True, index_blessing)

    assert figures["validation"]["recall"] < 0.9
    assert index_blessing.get_int_custom_property("blessed") == 0
    assert version is None
    assert not (tmp_path / "base").exists() and not (tmp_path / "exact").exists()


def test_model_that_is_not_blessed_is_not_pushed(tmp_path, towers_and_examples):
    servable, _ = build(tmp_path, towers_and_examples, kind="exact")
    index_blessing = blessing(standard_artifacts.InfraBlessing, tmp_path / "b", True)

    assert push(tmp_path, servable, False, index_blessing) is None
    assert not (tmp_path / "base").exists()


def test_second_servable_is_a_newer_version_and_the_same_one_stays(tmp_path, towers_and_examples):
    servable, _ = build(tmp_path, towers_and_examples, kind="exact")
    other, _ = build(tmp_path / "other", towers_and_examples, kind="exact")
    index_blessing = blessing(standard_artifacts.InfraBlessing, tmp_path / "b", True)

    first = push(tmp_path, servable, True, index_blessing)
    again = push(tmp_path, servable, True, index_blessing)
    second = push(tmp_path, other, True, index_blessing)

    assert again == first < second
