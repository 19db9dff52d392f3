import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from tests.trainer.towers.user_tower_test import CONFIG, SIZES, SPEC, USERS, features
from trainer.config import TrainingConfig
from trainer.contract import features as f
from trainer.fitting.optimizer import make_optimizer
from trainer.model import InterestModel
from trainer.objectives.losses import ItemTags
from trainer.objectives.sampled_softmax import TagSampler

LABELS = [[0, 6], [2], [-1], []]
LABEL_WEIGHTS = [[2.0, 1.0], [1.0], [1.0], []]
ITEM_TAGS = [[0, 1, 5], [2, -1], [], [6]]
ITEM_NUM_TAGS = [[2, 1], [2], [0], [1]]
CLICKED = [[1.0, 0.0], [1.0], [0.0], [1.0]]
IMPRESSION_WEIGHTS = [[1.0, 2.0], [1.0], [0.5], [1.0]]
FREQUENCIES = np.array([9.0, 1.0, 3.0, 1.0, 2.0, 4.0, 1.0])

OFF = {"multi_class_weight": 0.0, "joint_weight": 0.0}
ALL = {
    "multi_class_weight": 0.7,
    "multi_class_joint_weight": 0.4,
    "joint_weight": 0.3,
    "split_weight": 0.2,
    "attention_weight": 0.5,
}
# Seven tags are a large vocabulary here.
SAMPLED = {"full_softmax_max_tags": 6, "num_sampled_tags": 3, "sampling_power": 0.5}


def batch():
    columns = features()
    for name, rows, dtype in (
        (f.LABEL_TAGS, LABELS, tf.int64),
        (f.LABEL_TAG_WEIGHTS, LABEL_WEIGHTS, tf.float32),
        (f.IMPRESSION_TAGS, ITEM_TAGS, tf.int64),
        (f.IMPRESSION_NUM_TAGS, ITEM_NUM_TAGS, tf.int64),
        (f.IMPRESSION_CLICKED, CLICKED, tf.float32),
        (f.IMPRESSION_WEIGHTS, IMPRESSION_WEIGHTS, tf.float32),
    ):
        columns[name] = tf.ragged.constant(rows, dtype, ragged_rank=1)
    return columns


def make(training=None, seed=0, **changes):
    model = InterestModel(
        SPEC,
        SIZES,
        7,
        dataclasses.replace(CONFIG, **changes),
        training or TrainingConfig(),
        seed=seed,
        tag_frequencies=FREQUENCIES,
    )
    model(batch())
    model.tag_tower.bias.assign(np.linspace(-1, 1, 7))
    model.tag_tower.click_bias.assign(np.linspace(1, -1, 7))
    return model


def test_inner_product_of_query_and_candidate_is_the_multi_class_logit():
    model = make()
    users = model(batch()).numpy()
    expected = users @ model.tag_tower.embeddings.numpy().T + np.linspace(-1, 1, 7)
    product = model.query_embeddings(batch()).numpy() @ model.candidate_embeddings().numpy().T
    np.testing.assert_allclose(product, expected, atol=1e-5)
    np.testing.assert_allclose(model.score_tags(batch()), expected, atol=1e-5)


def items_of(user):
    """Returns known tags, click and weight of each impression of a user."""
    first = 0
    for count, clicked, weight in zip(
        ITEM_NUM_TAGS[user], CLICKED[user], IMPRESSION_WEIGHTS[user], strict=True
    ):
        item = ITEM_TAGS[user][first : first + count]
        first += count
        yield [t for t in item if t >= 0], clicked, weight


def slow_losses(model, sample=range(7), log_inclusion=None):
    """Returns every loss of docs/model.md, in loops over users, items and tags."""
    config, tower = model.training_config, model.tag_tower
    users = model(batch()).numpy().astype(np.float64)
    vectors, scale = tower.embeddings.numpy(), float(tower.click_scale)
    scores = users @ vectors.T + tower.bias.numpy()
    if log_inclusion is not None:
        scores -= log_inclusion
    labels = [
        {t: w for t, w in zip(*row, strict=True) if t >= 0}
        for row in zip(LABELS, LABEL_WEIGHTS, strict=True)
    ]
    importance = [1.0] * 4
    if config.user_weighting == "sqrt_clicks":
        importance = [np.sqrt(sum(weights)) for weights in LABEL_WEIGHTS]

    def explained(user, tags, others):
        """Returns -log p that one of `tags` is it; `others` are masked where that is on."""
        masked = others if config.mask_positives else ()
        candidates = {t for t in sample if t not in masked} | set(tags)
        odds = np.exp(scores[user])
        return -np.log(sum(odds[t] for t in tags) / sum(odds[t] for t in candidates))

    def mean_of_users(pairs):
        """Returns the mean of (user, weight, loss), first within a user."""
        total = count = 0.0
        for user in range(4):
            own = [(weight, loss) for i, weight, loss in pairs if i == user]
            if own:
                mean = sum(w * loss for w, loss in own) / sum(w for w, _ in own)
                total, count = total + importance[user] * mean, count + importance[user]
        return total / count

    multi_class, multi_class_joint = [], []
    clicks = {"joint": [], "split": [], "attention": []}  # of (weight, clicked, logit)
    offset = float(tower.click_offset)
    projection = model.click_head.projection.get_weights()[0]
    for user in range(4):
        known, items = labels[user], list(items_of(user))
        later = set(known).union(*(tags for tags, clicked, _ in items if clicked))
        for tag, weight in known.items():
            multi_class.append((user, weight, explained(user, [tag], known)))
        by_tag = scale * users[user] @ projection @ vectors.T + tower.click_bias.numpy()
        for tags, clicked, weight in items:
            if clicked and tags:
                multi_class_joint.append((user, weight, explained(user, tags, later)))
            clicks["joint"].append((weight, clicked, sum(by_tag[tags]) + offset))
            clicks["split"] += [(weight, clicked, by_tag[t] + offset) for t in tags]
            if model.click_head.attention is not None:
                one = tf.ragged.constant([tags], tf.int64, ragged_rank=1)
                count = tf.ragged.constant([[len(tags)]], tf.int64, ragged_rank=1)
                attention = item_attention(model, one, count).flat_values.numpy()
                logit = attention @ by_tag[tags] + offset
                clicks["attention"].append((weight, clicked, logit))

    def cross_entropy(rows):
        losses = [w * np.log1p(np.exp(-x if clicked else x)) for w, clicked, x in rows]
        return sum(losses) / sum(w for w, _, _ in rows)

    return {
        "multi_class": mean_of_users(multi_class),
        "multi_class_joint": mean_of_users(multi_class_joint),
        **{name: cross_entropy(rows) for name, rows in clicks.items() if rows},
    }


def weighted(config, losses):
    return sum(getattr(config, f"{name}_weight") * loss for name, loss in losses.items())


@pytest.mark.parametrize(
    "options",
    [
        {},
        {**OFF, "multi_class_weight": 3.0},
        {**OFF, "multi_class_joint_weight": 0.5},
        {**OFF, "joint_weight": 2.0},
        {**OFF, "split_weight": 2.0},
        {**OFF, "attention_weight": 2.0},
        ALL,
        {**ALL, "mask_positives": True},
        {**ALL, "user_weighting": "sqrt_clicks"},
    ],
)
def test_loss_is_the_weighted_sum_of_what_the_loops_give(options):
    config = TrainingConfig(**options)
    model = make(config)
    data = {name: batch()[name] for name in model.training_names}
    assert float(model.compute_loss(data)) == pytest.approx(
        weighted(config, slow_losses(model)), rel=1e-5
    )


@pytest.mark.parametrize(
    "options",
    [
        {},
        {**OFF, "multi_class_joint_weight": 1.0},
        ALL,
        {**ALL, "mask_positives": True, "user_weighting": "sqrt_clicks"},
    ],
)
def test_loss_over_a_sample_equals_the_loops(options):
    config = TrainingConfig(**options, **SAMPLED)
    model = make(config, seed=5)
    sampler = TagSampler(FREQUENCIES, num_draws=3, power=0.5)
    log_inclusion = sampler.log_inclusion(tf.range(7)).numpy()
    for step in range(3):
        sample = sampler.sample(tf.constant([5, step], tf.int64)).numpy()
        expected = weighted(config, slow_losses(model, sample, log_inclusion))
        # Outside training the step's sample does not change.
        assert float(model.compute_loss(batch())) == pytest.approx(expected, rel=1e-5)
        model.user_tower.trainable = False  # batch moments stay
        assert float(model.compute_loss(batch(), training=True)) == pytest.approx(
            expected, rel=1e-5
        )


def test_sampled_softmax_without_frequencies_is_refused():
    for frequencies in (None, FREQUENCIES[:6]):
        with pytest.raises(ValueError, match="`tag_frequencies` must be those of all 7 tags"):
            InterestModel(
                SPEC, SIZES, 7, CONFIG, TrainingConfig(**SAMPLED), tag_frequencies=frequencies
            )
    # A click loss samples nothing.
    InterestModel(SPEC, SIZES, 7, CONFIG, TrainingConfig(multi_class_weight=0.0, **SAMPLED))


def shapes_of_a_step(model, data):
    """Returns the runtime shapes of all tensors of a step and its gradients."""

    def step():
        with tf.GradientTape() as tape:
            loss = model.compute_loss(data, training=True)
        gradients = tape.gradient(loss, model.trainable_variables)
        return [loss, *(g for g in gradients if g is not None)]

    wrapped = tf.compat.v1.wrap_function(step, [])
    outputs = [
        tensor
        for operation in wrapped.graph.get_operations()
        if operation.type != "Placeholder"  # variables, and the sampler's tables
        for tensor in operation.outputs
        if tensor.dtype in (tf.float32, tf.float64, tf.int32, tf.int64, tf.bool)
    ]
    return {tuple(value.shape) for value in wrapped.prune([], outputs)()}


def test_step_over_a_sample_holds_nothing_of_the_size_of_the_vocabulary():
    num_tags = 997

    def shapes(**limits):
        model = InterestModel(
            SPEC,
            SIZES,
            num_tags,
            dataclasses.replace(CONFIG, interaction="youtube_dnn"),
            TrainingConfig(**ALL, mask_positives=True, **limits),
            tag_frequencies=np.ones(num_tags),
        )
        model(batch())
        # `searchsorted` sees the sampler's table, which is as long, as a matrix of one row.
        return shapes_of_a_step(model, batch()) - {(1, num_tags)}

    full = shapes()
    assert {(4, num_tags), (num_tags, 4)} <= full  # logits and gradients
    sampled = shapes(full_softmax_max_tags=900, num_sampled_tags=20)
    assert max(size for shape in sampled for size in shape) < 200


def test_replicas_add_up_to_one_worker():
    """It runs in a separate process, because logical devices are fixed when TensorFlow starts."""
    script = Path(__file__).with_name("replica_gradients.py")
    root = script.parents[2]
    environment = {**os.environ, "PYTHONPATH": str(root), "TF_CPP_MIN_LOG_LEVEL": "3"}
    output = subprocess.run(
        [sys.executable, str(script)], env=environment, cwd=root, capture_output=True, check=True
    ).stdout
    for softmax, figures in json.loads(output.splitlines()[-1]).items():
        assert figures["num_replicas"] == 2, softmax
        assert figures["replicas_loss"] == pytest.approx(figures["loss"], rel=1e-5), softmax
        assert figures["replicas_metrics"] == pytest.approx(figures["metrics"], rel=1e-5), softmax
        assert figures["gradient_difference"] < 1e-5 < figures["gradient_size"], softmax
        assert figures["sampling_steps"] in ([], [1]), softmax


LABEL_NAMES = {f.LABEL_TAGS, f.LABEL_TAG_WEIGHTS}
IMPRESSION_NAMES = {
    f.IMPRESSION_TAGS,
    f.IMPRESSION_NUM_TAGS,
    f.IMPRESSION_CLICKED,
    f.IMPRESSION_WEIGHTS,
}


@pytest.mark.parametrize(
    "options,expected",
    [
        ({}, LABEL_NAMES | IMPRESSION_NAMES),
        ({**OFF, "multi_class_weight": 1.0}, LABEL_NAMES),
        ({**OFF, "multi_class_joint_weight": 1.0}, LABEL_NAMES | IMPRESSION_NAMES),
        ({**OFF, "joint_weight": 1.0}, IMPRESSION_NAMES),
        ({**OFF, "split_weight": 1.0}, IMPRESSION_NAMES),
        ({**OFF, "attention_weight": 1.0}, IMPRESSION_NAMES),
        (ALL, LABEL_NAMES | IMPRESSION_NAMES),
    ],
)
def test_training_reads_only_the_columns_of_its_losses(options, expected):
    model = make(TrainingConfig(**options))
    assert set(model.training_names) - set(SPEC.raw_names) == expected
    model.compute_loss({name: batch()[name] for name in model.training_names})


def item_attention(model, item_tags, item_num_tags):
    """The attention of items to their tags, as a list for each user; 0 for an unknown tag."""
    items = ItemTags.from_lists(item_tags, item_num_tags)
    weights = model.click_head.attention(model.tag_tower.vectors().embeddings, items)
    known = tf.where(item_tags.flat_values >= 0)
    shape = tf.shape(item_tags.flat_values, tf.int64)
    return item_tags.with_flat_values(tf.scatter_nd(known, weights, shape))


def click_objective_of(name):
    return TrainingConfig(**{**OFF, f"{name}_weight": 1.0})


@pytest.mark.parametrize("limits", [{}, {"full_softmax_max_tags": 3}])
@pytest.mark.parametrize("objective", ["joint", "split", "attention"])
def test_click_logits_pool_tags_as_the_objective_does(objective, limits):
    model = make(dataclasses.replace(click_objective_of(objective), **limits))
    queries, candidates = model.query_embeddings(batch()), model.click_candidate_embeddings()
    by_tag = queries.numpy() @ candidates.numpy().T  # with the offset, 0 here
    expected = []
    if objective == "attention":
        tags, counts = batch()[f.IMPRESSION_TAGS], batch()[f.IMPRESSION_NUM_TAGS]
        attention = item_attention(model, tags, counts)
        assert attention[1].numpy().tolist() == [1, 0]  # of a tag out of vocabulary 0
        first, second, third = attention[0].numpy()
        assert 0 < first < 1 == third and first + second == pytest.approx(1)
    for user in range(4):
        first = 0
        for item, _, _ in items_of(user):
            logits = by_tag[user, item]
            weights = {"joint": np.ones(len(item)), "split": np.ones(len(item)) / max(len(item), 1)}
            if objective == "attention":
                weights["attention"] = attention[user].numpy()[first : first + len(item)]
            expected.append(weights[objective] @ logits)
            first += len(item)
    np.testing.assert_allclose(model.impression_logits(batch()), expected, atol=1e-5)


def test_highest_click_weight_says_how_an_item_is_scored():
    model = make(TrainingConfig(joint_weight=0.3, split_weight=0.4))
    split = make(click_objective_of("split"))
    np.testing.assert_allclose(
        model.impression_logits(batch()), split.impression_logits(batch()), atol=1e-6
    )


@pytest.mark.parametrize("objective", ["joint", "split", "attention"])
def test_click_candidates_are_items_with_one_tag(objective):
    model = make(click_objective_of(objective), click_projection=True)
    model.tag_tower.click_offset.assign(0.25)
    model.click_head.projection.set_weights([np.random.default_rng(0).normal(size=(4, 4))])
    queries = model.query_embeddings(batch())
    tags = tf.RaggedTensor.from_tensor(tf.tile(tf.range(7, dtype=tf.int64)[tf.newaxis], [4, 1]))
    logits = model.click_logits(queries, tags, tf.ones_like(tags))
    expected = queries.numpy() @ model.click_candidate_embeddings().numpy().T
    np.testing.assert_allclose(tf.reshape(logits, [4, 7]), expected, atol=1e-5)


@pytest.mark.parametrize("click_projection", [True, False])
def test_click_logits_equal_the_loop(click_projection):
    model = make(click_projection=click_projection)
    users = model(batch()).numpy()
    if click_projection:
        matrix = np.random.default_rng(0).normal(size=(4, 4)).astype(np.float32)
        model.impression_logits(batch())
        model.click_head.projection.set_weights([matrix])
        users = users @ matrix
    tower = model.tag_tower
    tower.click_scale.assign(1.5)
    tower.click_offset.assign(0.25)
    expected = []
    for i, tags in enumerate(ITEM_TAGS):
        first = 0
        for count in ITEM_NUM_TAGS[i]:
            item = [t for t in tags[first : first + count] if t >= 0]
            vectors, biases = tower.embeddings.numpy(), tower.click_bias.numpy()
            expected.append(sum(1.5 * users[i] @ vectors[t] + biases[t] for t in item) + 0.25)
            first += count
    np.testing.assert_allclose(model.impression_logits(batch()), expected, atol=1e-5)
    # The index's queries, with a 1 at their end, serve as well.
    queries = model.query_embeddings(batch())
    logits = model.click_logits(queries, batch()[f.IMPRESSION_TAGS], batch()[f.IMPRESSION_NUM_TAGS])
    np.testing.assert_allclose(logits, expected, atol=1e-5)


@pytest.mark.parametrize("limits", [{}, SAMPLED])
@pytest.mark.parametrize("optimizer,rate", [("adam", 0.02), ("adagrad", 0.2)])
def test_training_learns_the_labels_of_a_tiny_log(optimizer, rate, limits):
    config = TrainingConfig(optimizer=optimizer, learning_rate=rate, joint_weight=1.0, **limits)
    model = make(config)
    model.compile(optimizer=make_optimizer(config))
    data = {name: batch()[name] for name in model.training_names}
    dataset = tf.data.Dataset.from_tensors(data).repeat(150)
    model.fit(dataset, epochs=1, verbose=0)
    best = np.argmax(model.score_tags(data), axis=1)
    assert best[0] == 0
    assert best[1] == 2
    is_clicked = model.impression_logits(data).numpy() > 0
    # The item without tags, the fourth, has nothing but the offset.
    np.testing.assert_array_equal(is_clicked[[0, 1, 2, 4]], [True, False, True, True])


def test_cosine_schedule_falls_to_zero_over_the_budget():
    config = TrainingConfig(learning_rate=0.2, learning_rate_schedule="cosine")
    schedule = make_optimizer(config, num_steps=50)._learning_rate
    rates = [float(schedule(step)) for step in (0, 25, 50)]
    np.testing.assert_allclose(rates, [0.2, 0.1, 0.0], atol=1e-6)


def test_constant_schedule_keeps_the_rate():
    config = TrainingConfig(learning_rate=0.2, learning_rate_schedule="constant")
    assert float(make_optimizer(config, num_steps=10).learning_rate) == pytest.approx(0.2)


@pytest.mark.parametrize("options", [{}, {**ALL, **SAMPLED}])
def test_fitting_twice_with_one_seed_gives_one_result(options):
    config = TrainingConfig(**options)

    def fitted():
        tf_keras.utils.set_random_seed(7)
        model = make(config, seed=7, dropout=0.5)
        model.compile(optimizer=make_optimizer(config), run_eagerly=True)
        data = {name: batch()[name] for name in model.training_names}
        history = model.fit(tf.data.Dataset.from_tensors(data).repeat(3), verbose=0).history
        return model.score_tags(data).numpy(), history

    (first, history), (second, _) = fitted(), fitted()
    np.testing.assert_allclose(first, second, atol=1e-6)
    active = ALL if options else ("multi_class_weight", "joint_weight")
    names = {name.replace("_weight", "_loss") for name in active}
    assert {name for name in history if name.endswith("_loss")} == names | {
        "regularization_loss",
        "total_loss",
    }
    total = sum(getattr(config, n.replace("_loss", "_weight")) * history[n][0] for n in names)
    assert total > 0


def test_scores_of_a_user_do_not_depend_on_the_batch():
    model = make()
    alone = model.score_tags(features(USERS[2:3]))
    np.testing.assert_allclose(model.score_tags(features())[2:3], alone, atol=1e-5)
