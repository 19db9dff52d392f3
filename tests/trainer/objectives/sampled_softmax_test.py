import numpy as np
import pytest
import tensorflow as tf

from tests.trainer.objectives.losses_test import item_tags, ragged
from trainer.objectives import losses as objectives
from trainer.objectives.losses import FullSoftmax
from trainer.objectives.sampled_softmax import SampledSoftmax, TagSampler, renumber

FREQUENCIES = np.array([50.0, 1.0, 8.0, 20.0, 1.0, 20.0])

# --- the sampler ---


def test_inclusion_probability_is_that_of_at_least_one_draw():
    sampler = TagSampler(FREQUENCIES, num_draws=7, power=0.5)
    q = FREQUENCIES**0.5 / (FREQUENCIES**0.5).sum()
    expected = np.log(1 - (1 - q) ** 7)
    np.testing.assert_allclose(sampler.log_inclusion(tf.range(6)), expected, rtol=1e-5)


def test_correction_of_a_rare_tag_is_exact_and_not_clipped():
    frequencies = np.array([1e15, 1.0])
    (log_inclusion,) = TagSampler(frequencies, num_draws=10).log_inclusion(tf.constant([1])).numpy()
    assert log_inclusion == pytest.approx(np.log(10) - 15 * np.log(10), rel=1e-6)


def test_tags_are_drawn_as_often_as_the_correction_says():
    sampler = TagSampler(FREQUENCIES, num_draws=4, power=0.75)
    num_samples = 2000
    counts = np.zeros(6)
    draw = tf.function(sampler.sample)
    for i in range(num_samples):
        counts[draw(tf.constant([3, i], tf.int64)).numpy()] += 1
    expected = np.exp(sampler.log_inclusion(tf.range(6)).numpy())
    deviation = np.sqrt(expected * (1 - expected) / num_samples)
    assert (np.abs(counts / num_samples - expected) < 4 * deviation).all()


def test_sample_names_each_tag_once_and_follows_its_seed():
    sampler = TagSampler(FREQUENCIES, num_draws=20)
    first, again, other = (
        sampler.sample(tf.constant(seed, tf.int64)).numpy() for seed in ([1, 2], [1, 2], [1, 3])
    )
    assert len(set(first)) == len(first)
    np.testing.assert_array_equal(first, again)
    assert list(first) != list(other)


def test_power_zero_draws_all_tags_alike():
    log_inclusion = TagSampler(FREQUENCIES, num_draws=3, power=0.0).log_inclusion(tf.range(6))
    np.testing.assert_allclose(log_inclusion, np.full(6, np.log(1 - (5 / 6) ** 3)), rtol=1e-6)


def test_only_tag_is_always_drawn():
    sampler = TagSampler(np.array([3.0]), num_draws=2)
    np.testing.assert_array_equal(sampler.sample(tf.constant([0, 0])), [0])
    np.testing.assert_array_equal(sampler.log_inclusion(tf.constant([0])), [0.0])


@pytest.mark.parametrize(
    "arguments,message",
    [
        (([1.0, 0.0], 1), "`frequencies` must be a positive number for each tag"),
        (([1.0, np.nan], 1), "`frequencies` must be a positive number for each tag"),
        (([], 1), "`frequencies` must be a positive number for each tag"),
        (([1.0], 0), "`num_draws` must be a positive integer"),
        (([1.0], 1, -1.0), "`power` must be 0 or positive"),
        (([1.0, 1e9], 1, 100.0), "`power` must leave every tag a positive probability"),
    ],
)
def test_impossible_samplers_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        TagSampler(*arguments)


def test_tags_of_a_batch_are_numbered_once():
    ids = {"labels": [7, -1, 3, 7], "items": [], "sample": [3, 9]}
    distinct, rows = renumber({name: tf.constant(row, tf.int64) for name, row in ids.items()})
    assert sorted(distinct.numpy()) == [3, 7, 9]
    for name, row in ids.items():
        back = [distinct.numpy()[place] if place >= 0 else -1 for place in rows[name].numpy()]
        assert back == row


# --- its losses, for a fixed sample ---

RNG = np.random.default_rng(4)
USERS = RNG.normal(size=(4, 3)).astype(np.float32)
TAGS = RNG.normal(size=(6, 3)).astype(np.float32)
BIAS = RNG.normal(size=6).astype(np.float32)
LOG_INCLUSION = np.log(RNG.uniform(0.01, 1, size=6)).astype(np.float32)
CORRECTED = USERS @ TAGS.T + BIAS - LOG_INCLUSION
SAMPLE = [4, 2, 3]
# Labels in the sample and not, several and none; the last user's labels are all of the sample.
LABELS = [[2, 0], [], [1, -1, 5], [2, 3, 4]]
WEIGHTS = [[3.0, 1.0], [], [1.0, 100.0, 1.0], [2.0, 1.0, 1.0]]
ITEMS = [[[0, 2]], [[1]], [[5, 1, 4], [3]], [[2], [3, 4], [-1]]]
CLICKED = [1.0, 0.0, 1.0, 1.0, 1.0, 1.0, 1.0]


def sampled(sample=SAMPLE, tags=TAGS, bias=BIAS, log_inclusion=LOG_INCLUSION):
    return SampledSoftmax(
        tf.constant(USERS),
        tf.convert_to_tensor(tags),
        tf.convert_to_tensor(bias),
        tf.constant(log_inclusion),
        tf.constant(sample, tf.int64),
    )


def explained(user, tags, masked=()):
    """Returns -log sum_{t in tags} p(t), p over `tags` and the unmasked part of the sample."""
    scores = np.exp(CORRECTED[user].astype(np.float64))
    candidates = {t for t in SAMPLE if t not in masked} | set(tags)
    return -np.log(sum(scores[t] for t in tags) / sum(scores[t] for t in candidates))


@pytest.mark.parametrize("mask_positives", [False, True])
def test_sampled_multi_class_loss_equals_the_loop(mask_positives):
    loss = objectives.multi_class_loss(
        sampled(),
        ragged(LABELS, tf.int64),
        ragged(WEIGHTS, tf.float32),
        mask_positives=mask_positives,
    )
    by_user = []
    for user, (labels, weights) in enumerate(zip(LABELS, WEIGHTS, strict=True)):
        known = {t: w for t, w in zip(labels, weights, strict=True) if t >= 0}
        if known:
            masked = known if mask_positives else ()
            losses = [w * explained(user, [t], masked) for t, w in known.items()]
            by_user.append(sum(losses) / sum(known.values()))
    assert float(loss) == pytest.approx(np.mean(by_user), rel=1e-5)


@pytest.mark.parametrize("mask_positives", [False, True])
def test_sampled_multi_class_joint_loss_equals_the_loop(mask_positives):
    loss = objectives.multi_class_joint_loss(
        sampled(),
        item_tags(ITEMS),
        tf.constant(CLICKED),
        tf.ones(len(CLICKED)),
        len(USERS),
        positives=ragged(LABELS, tf.int64) if mask_positives else None,
    )
    masked = [{0, 2}, (), {1, 3, 4, 5}, {2, 3, 4}] if mask_positives else [()] * 4
    by_user = [
        explained(0, [0, 2], masked[0]),
        np.mean([explained(2, [5, 1, 4], masked[2]), explained(2, [3], masked[2])]),
        np.mean([explained(3, [2], masked[3]), explained(3, [3, 4], masked[3])]),
    ]
    assert float(loss) == pytest.approx(np.mean(by_user), rel=1e-5)


def test_sample_of_all_tags_without_correction_is_the_full_softmax():
    labels = ragged(LABELS, tf.int64)
    softmax = sampled([5, 4, 3, 2, 1, 0], log_inclusion=np.zeros(6, np.float32))
    full = FullSoftmax(tf.constant(USERS @ TAGS.T + BIAS))
    for mask_positives in (False, True):
        loss, expected = (
            float(objectives.multi_class_loss(s, labels, mask_positives=mask_positives))
            for s in (softmax, full)
        )
        assert loss == pytest.approx(expected, rel=1e-5)


def test_loss_approaches_the_full_one_as_the_sample_grows():
    labels = ragged(LABELS, tf.int64)
    full = float(
        objectives.multi_class_loss(FullSoftmax(tf.constant(USERS @ TAGS.T + BIAS)), labels)
    )
    distances = []
    for num_draws in (4, 32, 4096):
        sampler = TagSampler(FREQUENCIES, num_draws)
        log_inclusion = sampler.log_inclusion(tf.range(6)).numpy()
        losses = []
        for i in range(50):
            sample = sampler.sample(tf.constant([0, i])).numpy()
            losses.append(
                float(
                    objectives.multi_class_loss(
                        sampled(sample, log_inclusion=log_inclusion), labels
                    )
                )
            )
        distances.append(np.sqrt(np.mean((np.array(losses) - full) ** 2)))
    assert distances[0] > distances[1] > distances[2]
    assert distances[2] == pytest.approx(0, abs=1e-5)


def test_gradients_reach_the_tags_of_labels_and_sample_alone():
    tags, bias = tf.Variable(TAGS), tf.Variable(BIAS)
    with tf.GradientTape() as tape:
        loss = objectives.multi_class_loss(
            sampled([4, 2], tf.gather(tags, range(6)), tf.gather(bias, range(6))),
            ragged([[2, 0], [], [-1], []], tf.int64),
        )
    for gradient in tape.gradient(loss, [tags, bias]):
        assert isinstance(gradient, tf.IndexedSlices)
        dense = tf.convert_to_tensor(gradient).numpy().reshape(6, -1)
        np.testing.assert_array_equal(np.abs(dense).sum(axis=1) > 0, [1, 0, 1, 0, 1, 0])


# --- its effect ---


def fitted_log_probabilities(labels, sampler, is_corrected, num_steps=3000):
    """Fits a free logit for each user and tag, and returns the log softmax, float [users, tags].

    Every label has its exact share in each step, so that the sample is the only chance there is;
    steps shrink and the last half is averaged.
    """
    num_users, num_tags = labels.shape
    log_inclusion = sampler.log_inclusion(tf.range(num_tags)) * float(is_corrected)
    logits = tf.Variable(tf.zeros([num_users, num_tags]))
    mean = tf.Variable(tf.zeros([num_users, num_tags]))
    ids = ragged([list(range(num_tags))] * num_users, tf.int64)
    weights = ragged(labels.tolist(), tf.float32)

    @tf.function
    def fit():
        for step in tf.range(num_steps):
            sample = sampler.sample(tf.stack([1, step]))
            with tf.GradientTape() as tape:
                # One dimension a user: a tag's vector is its logits.
                softmax = SampledSoftmax(
                    tf.eye(num_users),
                    tf.transpose(logits),
                    tf.zeros([num_tags]),
                    log_inclusion,
                    sample,
                )
                loss = objectives.multi_class_loss(softmax, ids, weights)
            rate = 40.0 / (1.0 + tf.cast(step, tf.float32) / 100.0)
            logits.assign_sub(rate * tape.gradient(loss, logits))
            if step >= num_steps // 2:
                mean.assign_add(logits / (num_steps / 2))

    fit()
    return tf.nn.log_softmax(mean).numpy()


def test_logits_converge_to_the_log_of_the_distribution_only_with_the_correction():
    rng = np.random.default_rng(5)
    frequencies = 1.0 / np.arange(1, 31)
    labels = rng.uniform(0.2, 1.0, size=(2, 30)) * frequencies
    labels /= labels.sum(axis=1, keepdims=True)
    sampler = TagSampler(frequencies, num_draws=8)
    log_inclusion = sampler.log_inclusion(tf.range(30)).numpy()

    errors = {
        is_corrected: fitted_log_probabilities(labels, sampler, is_corrected) - np.log(labels)
        for is_corrected in (True, False)
    }
    slopes = {
        is_corrected: [np.polyfit(log_inclusion, error, 1)[0] for error in of_users]
        for is_corrected, of_users in errors.items()
    }
    np.testing.assert_allclose(slopes[True], [0, 0], atol=0.1)
    # Without the correction the model learns log p - log pi.
    np.testing.assert_allclose(slopes[False], [-1, -1], atol=0.1)
    assert np.abs(errors[True]).max() < 0.4 < 1.0 < np.abs(errors[False]).max()
