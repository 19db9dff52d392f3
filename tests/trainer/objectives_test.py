import numpy as np
import pytest
import tensorflow as tf

from trainer import objectives

LABELS = [[2, 0], [], [1, -1, 3], [-1]]
WEIGHTS = [[3.0, 1.0], [], [1.0, 100.0, 1.0], [5.0]]
LOGITS = np.random.default_rng(0).normal(size=(4, 5)).astype(np.float32)


def ragged(rows, dtype):
    return tf.ragged.constant(rows, dtype=dtype, ragged_rank=1)


def log_softmax(row):
    return row - np.log(np.exp(row).sum())


def multi_class(labels=LABELS, weights=WEIGHTS, logits=LOGITS):
    weights = None if weights is None else ragged(weights, tf.float32)
    return float(objectives.multi_class_loss(logits, ragged(labels, tf.int64), weights))


def test_multi_class_loss_equals_the_double_loop():
    # Users 1 and 3 have no known label; the unknown tag of user 2 takes no probability.
    first = -(3 / 4 * log_softmax(LOGITS[0])[2] + 1 / 4 * log_softmax(LOGITS[0])[0])
    third = -(1 / 2 * log_softmax(LOGITS[2])[1] + 1 / 2 * log_softmax(LOGITS[2])[3])
    assert multi_class() == pytest.approx((first + third) / 2, rel=1e-5)


def test_multi_class_loss_without_weights_counts_every_label_once():
    ones = [[1.0] * len(row) for row in LABELS]
    assert multi_class(weights=None) == pytest.approx(multi_class(weights=ones))


def test_multi_class_loss_does_not_depend_on_the_unit_of_weights():
    tenfold = [[10 * weight for weight in row] for row in WEIGHTS]
    assert multi_class(weights=tenfold) == pytest.approx(multi_class())


def test_users_without_labels_contribute_nothing():
    assert multi_class([[2, 0]], [[3.0, 1.0]], LOGITS[:1]) == pytest.approx(
        multi_class([[2, 0], []], [[3.0, 1.0], []], LOGITS[:2])
    )


def test_batch_without_labels_has_loss_and_gradient_zero():
    logits = tf.constant(LOGITS[:2])
    with tf.GradientTape() as tape:
        tape.watch(logits)
        loss = objectives.multi_class_loss(
            logits, ragged([[], [-1]], tf.int64), ragged([[], [2.0]], tf.float32)
        )
    assert float(loss) == 0
    np.testing.assert_array_equal(tape.gradient(loss, logits), np.zeros((2, 5)))


def test_gradient_is_probabilities_minus_labels():
    logits = tf.constant(LOGITS[:1])
    with tf.GradientTape() as tape:
        tape.watch(logits)
        loss = objectives.multi_class_loss(
            logits, ragged([[2, 0]], tf.int64), ragged([[3.0, 1.0]], tf.float32)
        )
    expected = np.exp(log_softmax(LOGITS[0])) - np.array([0.25, 0, 0.75, 0, 0])
    np.testing.assert_allclose(tape.gradient(loss, logits)[0], expected, atol=1e-6)


RNG = np.random.default_rng(1)
USERS = RNG.normal(size=(3, 4)).astype(np.float32)
TAGS = RNG.normal(size=(6, 4)).astype(np.float32)
TAG_BIAS = RNG.normal(size=6).astype(np.float32)
# Items by user: tags of each; -1 is unknown, and one item has no tag at all.
ITEMS = [[[0, 1], [5]], [], [[], [2, -1, 3], [-1]]]


def click_logits(items=ITEMS, users=USERS):
    tags = [[tag for item in row for tag in item] for row in items]
    counts = [[len(item) for item in row] for row in items]
    return objectives.joint_click_logits(
        users,
        tf.constant(TAGS),
        tf.constant(TAG_BIAS),
        tf.constant(2.0),
        tf.constant(-0.5),
        ragged(tags, tf.int64),
        ragged(counts, tf.int64),
    )


@pytest.mark.parametrize("dense_limit", [0, 100])
def test_click_logits_equal_the_loop(monkeypatch, dense_limit):
    monkeypatch.setattr(objectives, "DENSE_SCORES_MAX_TAGS", dense_limit)
    expected = [
        sum(2.0 * USERS[i] @ TAGS[t] + TAG_BIAS[t] for t in item if t >= 0) - 0.5
        for i, row in enumerate(ITEMS)
        for item in row
    ]
    np.testing.assert_allclose(click_logits(), expected, atol=1e-5)


def test_order_of_an_items_tags_does_not_matter():
    permuted = [[[1, 0], [5]], [], [[], [3, 2, -1], [-1]]]
    np.testing.assert_allclose(click_logits(permuted), click_logits(), atol=1e-6)


def test_no_impression_gives_no_logit():
    assert click_logits([[], [], []]).shape == (0,)


def test_joint_loss_is_the_weighted_cross_entropy():
    logits, clicked, weights = (
        np.array([0.3, -2.0, 40.0]),
        np.array([1.0, 0, 1]),
        np.array([1.0, 3, 0.5]),
    )
    probability = 1 / (1 + np.exp(-logits))
    losses = -np.where(
        clicked > 0, np.log(probability), np.log1p(-np.minimum(probability, 1 - 1e-12))
    )
    result = objectives.joint_loss(
        *(tf.constant(a, tf.float32) for a in (logits, clicked, weights))
    )
    assert float(result) == pytest.approx((weights * losses).sum() / weights.sum(), rel=1e-5)


def test_joint_loss_of_nothing_is_zero():
    empty = tf.zeros([0])
    assert float(objectives.joint_loss(empty, empty, empty)) == 0
