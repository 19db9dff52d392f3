"""A training starts from popularity and the plain click rate, whatever is trained."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf
from scipy import special

from tests.trainer.toy_training import NUM_TAGS, SMALL, SPEC, make_model, snapshots
from trainer.contract import features as f
from trainer.contract.list_column import ListValues
from trainer.data.snapshots import Snapshots
from trainer.fitting.initial_values import click_rate, label_shares, set_initial_values
from trainer.fitting.loop import build_model
from trainer.fitting.model_state import copy_weights
from trainer.objectives.sampled_softmax import TagSampler

# Labels of snapshots: tags and weights. Tag 7 has none, 9 and -1 are out of vocabulary.
LABELS = [
    ([0, 1], [3.0, 1.0]),
    ([0, 2, -1], [1.0, 1.0, 2.0]),
    ([3], [2.0]),
    ([0, 4, 5, 6], [1.0, 1.0, 1.0, 1.0]),
    ([1], [5.0]),
    ([], []),
    ([-1], [4.0]),
]
IMPRESSIONS = [(1.0, 2.0), (0.0, 5.0), (1.0, 1.0)]  # clicked, weight


def ragged(rows, dtype):
    offsets = np.concatenate([[0], np.cumsum([len(row) for row in rows])]).astype(np.int64)
    return ListValues(np.array([value for row in rows for value in row], dtype), offsets)


def planted() -> Snapshots:
    """Makes snapshots with the labels and impressions above; each user has a different history."""
    plain = snapshots(len(LABELS))
    shown = [[], *([row] for row in IMPRESSIONS), *([[]] * (len(LABELS) - 4))]
    lists = {
        f.LABEL_TAGS: ragged([tags for tags, _ in LABELS], np.int32),
        f.LABEL_TAG_WEIGHTS: ragged([weights for _, weights in LABELS], np.float32),
        f.IMPRESSION_TAGS: ragged([[i, i + 1] if row else [] for i, row in enumerate(shown)], int),
        f.IMPRESSION_NUM_TAGS: ragged([[2] * len(row) for row in shown], np.int64),
        f.IMPRESSION_CLICKED: ragged([[c for c, _ in row] for row in shown], np.float32),
        f.IMPRESSION_WEIGHTS: ragged([[w for _, w in row] for row in shown], np.float32),
    }
    return Snapshots(plain.scalars, {**plain.lists, **lists})


def counts_by_hand(by_sqrt_clicks: bool) -> np.ndarray:
    """Spreads each labelled snapshot's importance over its known labels."""
    counts = np.zeros(NUM_TAGS)
    for tags, weights in LABELS:
        known = [(t, w) for t, w in zip(tags, weights, strict=True) if t >= 0]
        for tag, weight in known:
            importance = np.sqrt(sum(weights)) if by_sqrt_clicks else 1.0
            counts[tag] += importance * weight / sum(w for _, w in known)
    return counts


def started(**training):
    model = make_model(model=training.pop("model", SMALL), **training)
    build_model(model, planted())
    set_initial_values(model, planted())
    return model


@pytest.mark.parametrize("by_sqrt_clicks", [False, True])
def test_shares_are_those_of_the_labels_as_the_loss_weights_them(by_sqrt_clicks):
    shares = label_shares(planted(), NUM_TAGS, by_sqrt_clicks)

    counts = counts_by_hand(by_sqrt_clicks)
    # Ten labels of the average weight, and half of one more for each of the eight tags.
    smoothed = counts + 0.5 * counts.sum() / 10
    np.testing.assert_allclose(shares, smoothed / smoothed.sum(), rtol=1e-6)
    assert 0 < shares[7] == shares.min()


def test_without_labels_all_tags_are_alike():
    nothing = planted().take(np.array([5, 6]))

    np.testing.assert_allclose(label_shares(nothing, 4), 0.25)


@pytest.mark.parametrize(
    ("clicked", "expected"),
    [([1, 0, 1], 3 / 8), ([0, 0, 0], 0.5 / 9), ([1, 1, 1], 8.5 / 9), ([], 0.5)],
)
def test_click_rate_counts_impressions_by_their_weight(clicked, expected):
    part = planted()
    num = len(clicked)
    offsets = np.concatenate([[0], np.full(part.num_examples, num)]).astype(np.int64)
    weights = [w for _, w in IMPRESSIONS][:num]
    part.lists[f.IMPRESSION_CLICKED] = ListValues(np.array(clicked, np.float32), offsets)
    part.lists[f.IMPRESSION_WEIGHTS] = ListValues(np.array(weights, np.float32), offsets)

    assert click_rate(part) == pytest.approx(expected)


OBJECTIVES = {
    "multi_class": {"joint_weight": 0.0},
    "multi_class_joint": {"multi_class_weight": 0.0, "multi_class_joint_weight": 1.0},
    "both": {},
    "joint": {"multi_class_weight": 0.0},
    "split": {"multi_class_weight": 0.0, "joint_weight": 0.0, "split_weight": 1.0},
    "attention": {"multi_class_weight": 0.0, "joint_weight": 0.0, "attention_weight": 1.0},
    "masked": {"mask_positives": True},
    "sqrt_clicks": {"user_weighting": "sqrt_clicks"},
    "sampled": {"full_softmax_max_tags": 4, "num_sampled_tags": 5},
}


@pytest.mark.parametrize("interaction", ["utpm", "bag"])
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_before_the_first_step_every_list_is_that_of_popularity(objective, interaction):
    model = started(
        model=dataclasses.replace(SMALL, interaction=interaction), **OBJECTIVES[objective]
    )

    scores = model.score_tags(planted().features(SPEC.raw_names)).numpy()
    clicks = counts_by_hand(objective == "sqrt_clicks")
    by_popularity = np.argsort(-clicks, kind="stable")
    assert len(np.unique(clicks)) > 3
    for row in scores:
        np.testing.assert_array_equal(np.argsort(-row, kind="stable"), by_popularity)
    shares = label_shares(planted(), NUM_TAGS, objective == "sqrt_clicks")
    np.testing.assert_allclose(special.softmax(scores, axis=1), [shares] * len(LABELS), rtol=1e-5)


@pytest.mark.parametrize("objective", ["both", "split", "attention"])
def test_before_the_first_step_an_impression_is_clicked_at_the_plain_rate(objective):
    model = started(**OBJECTIVES[objective])

    logits = model.impression_logits(planted().features(None)).numpy()
    np.testing.assert_allclose(special.expit(logits), [3 / 8] * 3, rtol=1e-6)


def test_a_user_vector_of_zero_is_no_dead_point():
    model = started()
    with tf.GradientTape() as tape:
        loss = model.compute_loss(planted().features(model.training_names), training=True)

    gradient = tape.gradient(loss, model.user_tower.last.kernel)
    assert np.abs(gradient.numpy()).max() > 1e-3


def test_the_first_loss_is_that_of_the_shares_with_a_full_and_a_sampled_softmax():
    train = planted()
    shares = label_shares(train, NUM_TAGS)
    distributions = [
        np.bincount([t for t in tags if t >= 0], np.array(w)[np.array(tags) >= 0], NUM_TAGS)
        for tags, w in LABELS
        if any(t >= 0 for t in tags)
    ]
    distributions = [counts / counts.sum() for counts in distributions]
    expected = -np.mean([d @ np.log(shares) for d in distributions])
    model = started(joint_weight=0.0)

    loss = float(model.compute_loss(train.features(model.training_names)))

    # The lowest loss of a model that treats all users alike, except for the prior.
    assert loss == pytest.approx(expected, rel=1e-6)
    counts = np.sum(distributions, axis=0) / len(distributions)
    assert loss == pytest.approx(special.entr(counts).sum(), rel=0.1)

    features = train.features(model.training_names)
    # A sample of nearly every tag: the correction then leaves the softmax over all of them.
    sampled = started(joint_weight=0.0, full_softmax_max_tags=4, num_sampled_tags=100)
    assert float(sampled.compute_loss(features)) == pytest.approx(expected, rel=1e-4)
    # A sample of some: over it and the label, by hand.
    sampled = started(joint_weight=0.0, full_softmax_max_tags=4, num_sampled_tags=6)
    sampler = TagSampler(np.ones(NUM_TAGS), 6)
    drawn = sampler.sample(tf.constant([0, 0], tf.int64)).numpy()
    assert len(drawn) < NUM_TAGS
    odds = shares / np.exp(sampler.log_inclusion(tf.range(NUM_TAGS)).numpy())
    losses = [np.log(odds[np.union1d(drawn, [tag])].sum() / odds[tag]) for tag in range(NUM_TAGS)]
    by_hand = np.mean([d @ losses for d in distributions])
    assert float(sampled.compute_loss(features)) == pytest.approx(by_hand, rel=1e-5)


def test_with_views_a_tag_without_an_id_begins_as_an_average_one():
    model = started(joint_weight=0.0)
    bias = model.tag_tower.bias.numpy().astype(np.float64)

    # What the softmax gives to a tag of bias 0 among all others.
    assert np.exp(0.0) / np.exp(bias).sum() == pytest.approx(1 / NUM_TAGS, rel=1e-6)


def test_nothing_else_of_a_model_is_changed():
    model, fresh = started(), make_model()
    build_model(fresh, planted())
    before, after = copy_weights(fresh), copy_weights(model)

    changed = {name for name in before if not np.array_equal(before[name], after[name])}
    assert changed == {"tag_tower.bias", "tag_tower.click_offset", "user_tower.last.kernel"}
