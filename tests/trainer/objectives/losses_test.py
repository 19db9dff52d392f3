import numpy as np
import pytest
import tensorflow as tf

from trainer.objectives import losses as objectives
from trainer.objectives.losses import FullSoftmax, ItemTags

LABELS = [[2, 0], [], [1, -1, 3], [-1]]
WEIGHTS = [[3.0, 1.0], [], [1.0, 100.0, 1.0], [5.0]]
LOGITS = np.random.default_rng(0).normal(size=(4, 5)).astype(np.float32)


def ragged(rows, dtype):
    return tf.ragged.constant(rows, dtype=dtype, ragged_rank=1)


def log_softmax(row):
    return row - np.log(np.exp(row).sum())


def explained(scores, tags, masked=()):
    """Returns -log sum_{t in tags} p(t); the normaliser leaves out masked tags except `tags`."""
    inside = [t for t in range(len(scores)) if t in tags or t not in masked]
    return -np.log(np.exp(scores[tags]).sum() / np.exp(scores[inside]).sum())


def multi_class(labels=LABELS, weights=WEIGHTS, logits=LOGITS, **options):
    weights = None if weights is None else ragged(weights, tf.float32)
    softmax = FullSoftmax(tf.constant(logits))
    return float(objectives.multi_class_loss(softmax, ragged(labels, tf.int64), weights, **options))


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
            FullSoftmax(logits), ragged([[], [-1]], tf.int64), ragged([[], [2.0]], tf.float32)
        )
    assert float(loss) == 0
    np.testing.assert_array_equal(tape.gradient(loss, logits), np.zeros((2, 5)))


def test_gradient_is_probabilities_minus_labels():
    logits = tf.constant(LOGITS[:1])
    with tf.GradientTape() as tape:
        tape.watch(logits)
        loss = objectives.multi_class_loss(
            FullSoftmax(logits), ragged([[2, 0]], tf.int64), ragged([[3.0, 1.0]], tf.float32)
        )
    expected = np.exp(log_softmax(LOGITS[0])) - np.array([0.25, 0, 0.75, 0, 0])
    np.testing.assert_allclose(tape.gradient(loss, logits)[0], expected, atol=1e-6)


def test_users_weigh_what_they_are_given():
    first = 3 / 4 * explained(LOGITS[0], [2]) + 1 / 4 * explained(LOGITS[0], [0])
    third = 1 / 2 * explained(LOGITS[2], [1]) + 1 / 2 * explained(LOGITS[2], [3])
    weights = tf.constant([2.0, 50.0, 0.5, 50.0])  # users without a label count nothing
    expected = (2 * first + 0.5 * third) / 2.5
    assert multi_class(user_weights=weights) == pytest.approx(expected, rel=1e-5)


def test_masked_positives_do_not_compete():
    first = 3 / 4 * explained(LOGITS[0], [2], masked=[0, 2]) + 1 / 4 * explained(
        LOGITS[0], [0], masked=[0, 2]
    )
    third = 1 / 2 * explained(LOGITS[2], [1], masked=[1, 3]) + 1 / 2 * explained(
        LOGITS[2], [3], masked=[1, 3]
    )
    assert multi_class(mask_positives=True) == pytest.approx((first + third) / 2, rel=1e-5)


def test_masked_loss_of_a_label_has_no_gradient_to_another():
    logits = tf.constant(LOGITS[:1])
    with tf.GradientTape() as tape:
        tape.watch(logits)
        loss = objectives.multi_class_loss(
            FullSoftmax(logits), ragged([[2, 0]], tf.int64), mask_positives=True
        )
    gradient = tape.gradient(loss, logits)[0]
    negatives = np.exp(LOGITS[0, [1, 3, 4]])
    expected = np.zeros(5)
    for label in (2, 0):
        total = negatives.sum() + np.exp(LOGITS[0, label])
        expected[label] = -0.5 * negatives.sum() / total
        expected[[1, 3, 4]] += 0.5 * negatives / total
    np.testing.assert_allclose(gradient, expected, atol=1e-6)


def test_user_all_of_whose_tags_are_positive_has_nothing_to_learn_when_masked():
    logits = tf.constant(LOGITS[:2])
    with tf.GradientTape() as tape:
        tape.watch(logits)
        loss = objectives.multi_class_loss(
            FullSoftmax(logits), ragged([[0, 1, 2, 3, 4], [3]], tf.int64), mask_positives=True
        )
    assert float(loss) == pytest.approx(explained(LOGITS[1], [3]) / 2, rel=1e-5)
    np.testing.assert_array_equal(tape.gradient(loss, logits)[0], np.zeros(5))


def test_logits_of_any_size_give_a_finite_loss():
    logits = np.array([[300.0, -300.0, 0.0]], np.float32)
    assert multi_class([[1]], None, logits) == pytest.approx(600)
    assert multi_class([[0]], None, logits, mask_positives=True) == pytest.approx(0, abs=1e-6)
    assert multi_class([[0, 1]], None, logits, mask_positives=True) == pytest.approx(150)


# Items by user: tags of each; -1 is unknown, and one item has no tag at all.
ITEMS = [[[0, 1], [4]], [], [[], [2, -1, 3], [-1]], [[1, 4], [3]]]
CLICKED = [1.0, 0.0, 1.0, 1.0, 1.0, 1.0, 1.0]
IMPRESSION_WEIGHTS = [1.0, 1.0, 9.0, 2.0, 9.0, 3.0, 1.0]


def item_tags(items=ITEMS):
    tags = [[tag for item in row for tag in item] for row in items]
    counts = [[len(item) for item in row] for row in items]
    return ItemTags.from_lists(ragged(tags, tf.int64), ragged(counts, tf.int64))


def multi_class_joint(clicked=CLICKED, **options):
    loss = objectives.multi_class_joint_loss(
        FullSoftmax(tf.constant(LOGITS)),
        item_tags(),
        tf.constant(clicked),
        tf.constant(IMPRESSION_WEIGHTS),
        len(LOGITS),
        **options,
    )
    return float(loss)


def test_multi_class_joint_loss_explains_a_click_by_any_tag_of_the_item():
    # User 1 sees nothing; two clicked items of user 2 have no known tag.
    first = explained(LOGITS[0], [0, 1])
    third = explained(LOGITS[2], [2, 3])
    fourth = (3 * explained(LOGITS[3], [1, 4]) + explained(LOGITS[3], [3])) / 4
    assert multi_class_joint() == pytest.approx((first + third + fourth) / 3, rel=1e-5)
    weights = tf.constant([2.0, 50.0, 1.0, 0.5])
    expected = (2 * first + third + 0.5 * fourth) / 3.5
    assert multi_class_joint(user_weights=weights) == pytest.approx(expected, rel=1e-5)


def test_multi_class_joint_loss_masks_later_tags_and_those_of_other_clicks():
    # The labels may know of more than the impressions (of which examples hold a part), and of less.
    positives = ragged([[0, 2], [1], [-1], []], tf.int64)
    first = explained(LOGITS[0], [0, 1], masked=[0, 1, 2])
    third = explained(LOGITS[2], [2, 3], masked=[2, 3])
    fourth = 3 * explained(LOGITS[3], [1, 4], masked=[1, 3, 4])
    fourth = (fourth + explained(LOGITS[3], [3], masked=[1, 3, 4])) / 4
    expected = (first + third + fourth) / 3
    assert multi_class_joint(positives=positives) == pytest.approx(expected, rel=1e-5)


def test_multi_class_joint_loss_without_clicks_is_zero():
    assert multi_class_joint(clicked=[0.0] * 7) == 0


def test_of_items_with_one_tag_both_multi_class_losses_are_the_same():
    labels = [[1], [0, 4]]
    items = item_tags([[[1]], [[0], [4]]])
    softmax = FullSoftmax(tf.constant(LOGITS[:2]))
    joint = objectives.multi_class_joint_loss(softmax, items, tf.ones(3), tf.ones(3), 2)
    assert float(joint) == pytest.approx(multi_class(labels, None, LOGITS[:2]), rel=1e-6)


RNG = np.random.default_rng(1)
USERS = RNG.normal(size=(4, 4)).astype(np.float32)
TAGS = RNG.normal(size=(5, 4)).astype(np.float32)
TAG_BIAS = RNG.normal(size=5).astype(np.float32)


def tag_click_logits(items):
    return objectives.tag_click_logits(
        tf.constant(USERS), tf.constant(TAGS), tf.constant(TAG_BIAS), tf.constant(2.0), items
    )


@pytest.mark.parametrize("dense_limit", [0, 100])
def test_click_logits_of_tags_equal_the_loop(monkeypatch, dense_limit):
    monkeypatch.setattr(objectives, "DENSE_SCORES_MAX_TAGS", dense_limit)
    expected = [
        2.0 * USERS[i] @ TAGS[t] + TAG_BIAS[t]
        for i, row in enumerate(ITEMS)
        for item in row
        for t in item
        if t >= 0
    ]
    np.testing.assert_allclose(tag_click_logits(item_tags()), expected, atol=1e-5)


def test_values_of_tags_are_pooled_by_item():
    values = tf.constant([1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0])
    items = item_tags()
    np.testing.assert_array_equal(items.sum_by_item(values), [3, 4, 0, 24, 0, 96, 128])
    np.testing.assert_array_equal(items.mean_by_item(values), [1.5, 4, 0, 12, 0, 48, 128])


def test_no_impression_gives_no_logit():
    items = item_tags([[], [], [], []])
    assert tag_click_logits(items).shape == (0,)
    assert items.sum_by_item(tag_click_logits(items)).shape == (0,)


def test_click_loss_is_the_weighted_cross_entropy():
    logits, clicked, weights = (
        np.array([0.3, -2.0, 40.0]),
        np.array([1.0, 0, 1]),
        np.array([1.0, 3, 0.5]),
    )
    probability = 1 / (1 + np.exp(-logits))
    losses = -np.where(
        clicked > 0, np.log(probability), np.log1p(-np.minimum(probability, 1 - 1e-12))
    )
    result = objectives.click_loss(
        *(tf.constant(a, tf.float32) for a in (logits, clicked, weights))
    )
    assert float(result) == pytest.approx((weights * losses).sum() / weights.sum(), rel=1e-5)


def test_click_loss_of_nothing_is_zero():
    empty = tf.zeros([0])
    assert float(objectives.click_loss(empty, empty, empty)) == 0
