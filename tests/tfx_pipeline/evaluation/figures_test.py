"""The evaluation judges what will be served: towers, second stage, calibrations, versions."""

import json

import numpy as np
import pytest
import tensorflow as tf

from serving.index.top_k import BruteForceIndex
from serving.servable.retrieval import TagRetrieval
from tests.report_keys import undocumented_keys
from tests.tfx_pipeline.evaluation.model_figures import model_figures
from tests.toy_towers import OlderToyTowers, ToyTowers, write_users
from tests.trainer.evaluation.figures_test import snapshots as label_snapshots
from tests.trainer.evaluation.second_stage_test import slow_order
from tfx_pipeline.evaluation.saved_model_scorer import SavedModelScorer, read_examples
from trainer.contract import features as f
from trainer.contract import signatures as s
from trainer.data.snapshots import Snapshots
from trainer.evaluation import metrics
from trainer.task import TRAINING_FILE

NUM_USERS, NUM_TAGS, SIZE, NUM_CANDIDATES = 70, 30, 3, 12
TAGS = [f"t{j}" for j in range(NUM_TAGS)]
CLICK_WEIGHT, ITEM_SLOPE = 0.25, 0.5
TRAINING = {
    "second_stage": {
        "click_weight": CLICK_WEIGHT,
        "mix_weight": 0.5,
        "num_candidates": NUM_CANDIDATES,
        "metric": "ndcg_at_10",
        "trials": [{"click_weight": 0.0, "quality": None}],
    },
    "calibration": {"tags": {"slope": 0.7, "intercept": -0.2, "num_examples": 9, "note": ""}},
}


@pytest.fixture(scope="module")
def vectors():
    """Returns small whole numbers: products without rounding, and many ties."""
    rng = np.random.default_rng(0)
    return [rng.integers(-2, 3, (n, SIZE)) for n in (NUM_USERS, NUM_TAGS, NUM_TAGS)]


@pytest.fixture(scope="module")
def users():
    """Returns labels, history and impressions; the last user has only skipped impressions."""
    rng = np.random.default_rng(1)

    def some(most):
        return rng.choice(NUM_TAGS, rng.integers(1, most), replace=False).tolist()

    labels = [some(8) for _ in range(NUM_USERS - 1)] + [[]]
    impressions = [
        [(some(3), int(rng.integers(2))) for _ in range(rng.integers(1, 6))] for _ in labels[:-1]
    ]
    made = label_snapshots(labels, [some(10) for _ in labels], [*impressions, [([3], 0)]])
    # In canonical order, "u10" comes before "u2".
    ids = np.array([f"u{i}".encode() for i in range(NUM_USERS)])
    return Snapshots({**made.scalars, f.USER_ID: ids}, made.lists).sorted()


@pytest.fixture(scope="module")
def examples(tmp_path_factory):
    path = tmp_path_factory.mktemp("examples") / "examples.gz"
    write_users(path, [f"u{i}" for i in range(NUM_USERS)])
    return [str(path)]


def save(folder, towers, training):
    towers.save(folder)
    (folder / TRAINING_FILE).write_text(json.dumps(training))
    return str(folder)


@pytest.fixture(scope="module")
def towers_dir(vectors, tmp_path_factory):
    towers = ToyTowers(*vectors, click_weight=CLICK_WEIGHT, item_slope=ITEM_SLOPE)
    return save(tmp_path_factory.mktemp("towers"), towers, TRAINING)


def numbers(chunk):
    return [int(user[1:]) for user in chunk.scalars[f.USER_ID]]


def orders(scores):
    return np.argsort(-scores, axis=1, kind="stable")


def test_order_is_that_of_the_servable(vectors, users, examples, towers_dir):
    scorer = SavedModelScorer(towers_dir, TAGS, read_examples(examples))
    loaded = tf.saved_model.load(towers_dir)
    module = TagRetrieval(
        loaded, BruteForceIndex(vectors[1]), NUM_CANDIDATES, num_candidates=NUM_CANDIDATES
    )

    order = orders(scorer.score_tags(users))

    queries = vectors[0][numbers(users)]
    served = module.search(tf.constant(queries, tf.float32))[s.TAGS].numpy()
    np.testing.assert_array_equal(
        order[:, :NUM_CANDIDATES], [[int(t[1:]) for t in r] for r in served]
    )
    # Behind the candidates, all others by the multi-class logit.
    multi_class, clicks = queries @ vectors[1].T, queries @ vectors[2].T
    for row, first, second in zip(order, multi_class, clicks, strict=True):
        ranking = (1 - CLICK_WEIGHT) * first + CLICK_WEIGHT * second
        assert row.tolist() == slow_order(first, ranking, NUM_CANDIDATES)


@pytest.mark.parametrize("click_weight", [0.0, 0.5, 1.0])
def test_other_stages_order_the_same_candidates(vectors, users, examples, towers_dir, click_weight):
    scorer = SavedModelScorer(towers_dir, TAGS, read_examples(examples))

    order = orders(scorer.stage_scorer(click_weight)(users))

    queries = vectors[0][numbers(users)]
    for row, query in zip(order, queries, strict=True):
        first, second = vectors[1] @ query, vectors[2] @ query
        ranking = (1 - click_weight) * first + click_weight * second
        assert row.tolist() == slow_order(first, ranking, NUM_CANDIDATES)


def test_tags_that_a_model_does_not_know_come_last(vectors, users, examples, towers_dir):
    # The evaluation's ids in another order, with two tags more: neither is ever proposed.
    tags = ["new", *TAGS[::-1], "newer"]
    scorer = SavedModelScorer(towers_dir, tags, read_examples(examples))

    order = orders(scorer.score_tags(users))

    assert {tuple(row[-2:]) for row in order} == {(0, NUM_TAGS + 1)}
    queries = vectors[0][numbers(users)]
    for row, query in zip(order, queries, strict=True):
        first, second = (vectors[i][::-1] @ query for i in (1, 2))
        ranking = (1 - CLICK_WEIGHT) * first + CLICK_WEIGHT * second
        assert (row[:-2] - 1).tolist() == slow_order(first, ranking, NUM_CANDIDATES)


def test_a_model_that_knows_fewer_tags_than_candidates_is_scored(users, examples, towers_dir):
    scorer = SavedModelScorer(towers_dir, ["t4", "new", "t9"], read_examples(examples))

    order = orders(scorer.score_tags(users))

    assert set(order[:, 2]) == {1}


@pytest.mark.parametrize("training", [{}, {"second_stage": {}, "calibration": {}}])
def test_older_towers_are_scored_as_they_were_served(vectors, users, examples, tmp_path, training):
    folder = save(tmp_path / "towers", OlderToyTowers(*vectors), training)

    figures = model_figures(
        "last_blessed", folder, TAGS, np.ones(NUM_TAGS), users, examples, with_stages=True
    )

    assert list(figures) == ["last_blessed", "multi_class_stage"]
    scorer = SavedModelScorer(folder, TAGS, read_examples(examples))
    expected = vectors[0][numbers(users)] @ vectors[1].T
    np.testing.assert_array_equal(scorer.score_tags(users), expected)


def test_stages_are_reported_beside_the_one_that_is_served(users, examples, towers_dir):
    clicks = np.ones(NUM_TAGS)

    figures = model_figures("model", towers_dir, TAGS, clicks, users, examples, with_stages=True)
    alone = model_figures("model", towers_dir, TAGS, clicks, users, examples)

    assert list(figures) == ["model", "multi_class_stage", "click_stage", "mix_stage"]
    assert alone == {"model": figures["model"]}
    # Items are scored by the click head whatever orders the tags.
    assert len({row["click_gauc"] for row in figures.values()}) == 1
    assert figures["model"]["click_gauc"] is not None
    # A stage moves tags within the candidates and changes none.
    assert len({row["precision_at_10"] for row in figures.values()}) > 1


@pytest.mark.parametrize(
    ("weight", "same"), [(0.0, "multi_class_stage"), (1.0, "click_stage"), (0.5, "mix_stage")]
)
def test_the_stage_that_is_served_has_the_figures_of_the_model(
    vectors, users, examples, towers_dir, tmp_path, weight, same
):
    training = {"second_stage": {**TRAINING["second_stage"], "click_weight": weight}}
    folder = save(tmp_path / "t", ToyTowers(*vectors, click_weight=weight), training)
    clicks = np.ones(NUM_TAGS)

    found = model_figures("model", folder, TAGS, clicks, users, examples, with_stages=True)
    other = model_figures("model", towers_dir, TAGS, clicks, users, examples, with_stages=True)

    assert found[same].items() <= found["model"].items()
    # The stages do not depend on what is served.
    for name in ("multi_class_stage", "click_stage", "mix_stage"):
        assert found[name] == other[name]


def test_every_key_is_documented(users, examples, towers_dir):
    figures = model_figures(
        "model", towers_dir, TAGS, np.ones(NUM_TAGS), users, examples, with_stages=True
    )

    keys = [f"eval.{who}.{name}" for who, by_name in figures.items() for name in by_name]
    assert "eval.model.click_ece_uncalibrated" in keys and "eval.mix_stage.ndcg_at_10" in keys
    assert undocumented_keys([*keys, "eval.click_weight", "eval.mix_weight"]) == []


def test_without_a_click_head_there_is_nothing_to_mix_and_no_click_probability(
    vectors, users, examples, tmp_path
):
    folder = save(tmp_path / "t", ToyTowers(*vectors[:2]), {})

    figures = model_figures(
        "model", folder, TAGS, np.ones(NUM_TAGS), users, examples, with_stages=True
    )

    assert list(figures) == ["model", "multi_class_stage"]
    assert figures["multi_class_stage"].items() <= figures["model"].items()
    assert {figures["model"][f"click_{name}"] for name in ("ece", "log_loss", "brier")} == {None}
    assert figures["model"]["tag_ece"] is not None


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def test_calibration_figures_equal_the_loops(vectors, users, examples, towers_dir):
    found = model_figures("model", towers_dir, TAGS, np.ones(NUM_TAGS), users, examples)["model"]

    logits, shares, clicked, tag_clicked = [], [], [], []
    labels, impressions = users.lists[f.LABEL_TAGS], users.lists[f.IMPRESSION_NUM_TAGS]
    items = users.lists[f.IMPRESSION_TAGS]
    for i, number in enumerate(numbers(users)):
        query = vectors[0][number]
        first = items.offsets[i]
        for j in range(impressions.offsets[i], impressions.offsets[i + 1]):
            tags = items.values[first : first + impressions.values[j]]
            first += len(tags)
            logits.append(sum(float(query @ vectors[2][tag]) for tag in tags))
            clicked.append(users.lists[f.IMPRESSION_CLICKED].values[j])
        scores = vectors[1] @ query
        best = slow_order(scores, scores, NUM_TAGS)[:NUM_CANDIDATES]
        truth = labels.values[labels.offsets[i] : labels.offsets[i + 1]]
        shares += (np.exp(scores[best]) / np.exp(scores[best]).sum()).tolist()
        tag_clicked += [tag in truth for tag in best]
    logits, shares = np.array(logits), np.array(shares)
    for prefix, calibrated, uncalibrated, outcomes in (
        ("click", sigmoid(ITEM_SLOPE * logits), sigmoid(logits), np.array(clicked)),
        ("tag", sigmoid(0.7 * np.log(shares) - 0.2), shares, np.array(tag_clicked)),
    ):
        for suffix, p in (("", calibrated), ("_uncalibrated", uncalibrated)):
            # Served probabilities have 32 bits: equal ones may fall into two bins.
            ece = metrics.expected_calibration_error(np.round(p, 6), outcomes)
            assert found[f"{prefix}_ece{suffix}"] == pytest.approx(ece, abs=1e-4)
            loss = -np.mean(np.where(outcomes, np.log(p), np.log(1 - p)))
            assert found[f"{prefix}_log_loss{suffix}"] == pytest.approx(loss, rel=1e-4)
            assert found[f"{prefix}_brier{suffix}"] == pytest.approx(
                np.mean((p - outcomes) ** 2), rel=1e-4
            )
