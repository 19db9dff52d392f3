import dataclasses

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from tests.trainer.user_tower_test import CONFIG, SIZES, SPEC, USERS, features
from trainer import features as f
from trainer import objectives
from trainer.config import TrainingConfig
from trainer.model import InterestModel, make_optimizer

LABELS = [[0, 6], [2], [-1], []]
LABEL_WEIGHTS = [[2.0, 1.0], [1.0], [1.0], []]
ITEM_TAGS = [[0, 1, 5], [2, -1], [], [6]]
ITEM_NUM_TAGS = [[2, 1], [2], [0], [1]]
CLICKED = [[1.0, 0.0], [1.0], [0.0], [1.0]]
IMPRESSION_WEIGHTS = [[1.0, 2.0], [1.0], [0.5], [1.0]]


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


@pytest.mark.parametrize("multi_class_weight,joint_weight", [(1.0, 0.0), (0.0, 2.0), (3.0, 0.5)])
def test_loss_is_the_weighted_sum_of_both(multi_class_weight, joint_weight):
    config = TrainingConfig(multi_class_weight=multi_class_weight, joint_weight=joint_weight)
    model, data = make(config), batch()
    multi_class = objectives.multi_class_loss(
        model.score_tags(data), data[f.LABEL_TAGS], data[f.LABEL_TAG_WEIGHTS]
    )
    joint = objectives.joint_loss(
        model.impression_logits(data),
        data[f.IMPRESSION_CLICKED].flat_values,
        data[f.IMPRESSION_WEIGHTS].flat_values,
    )
    expected = multi_class_weight * multi_class + joint_weight * joint
    assert float(model.compute_loss(data)) == pytest.approx(float(expected), rel=1e-5)


def test_training_reads_only_the_columns_of_its_losses():
    both = make().training_names
    assert set(both) >= {f.LABEL_TAGS, f.IMPRESSION_CLICKED, "clicked_tags_weights", "gender"}
    assert f.HISTORY_TAGS not in both
    only = make(TrainingConfig(joint_weight=0.0))
    assert not any(name.startswith("impression") for name in only.training_names)
    only.compute_loss({name: batch()[name] for name in only.training_names})


@pytest.mark.parametrize("click_projection", [True, False])
def test_click_logits_equal_the_loop(click_projection):
    model = make(click_projection=click_projection)
    users = model(batch()).numpy()
    if click_projection:
        matrix = np.random.default_rng(0).normal(size=(4, 4)).astype(np.float32)
        model.impression_logits(batch())
        model.click_projection.set_weights([matrix])
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


@pytest.mark.parametrize("optimizer,rate", [("adam", 0.02), ("adagrad", 0.2)])
def test_training_learns_the_labels_of_a_tiny_log(optimizer, rate):
    config = TrainingConfig(optimizer=optimizer, learning_rate=rate, joint_weight=1.0)
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


def test_cosine_schedule_falls_to_zero_over_the_last_epoch():
    config = TrainingConfig(learning_rate=0.2, learning_rate_schedule="cosine", max_epochs=5)
    schedule = make_optimizer(config, steps_per_epoch=10)._learning_rate
    rates = [float(schedule(step)) for step in (0, 25, 50)]
    np.testing.assert_allclose(rates, [0.2, 0.1, 0.0], atol=1e-6)


def test_constant_schedule_keeps_the_rate():
    config = TrainingConfig(learning_rate=0.2, learning_rate_schedule="constant")
    assert float(make_optimizer(config, steps_per_epoch=10).learning_rate) == pytest.approx(0.2)


def test_fitting_twice_with_one_seed_gives_one_result():
    def fitted():
        tf_keras.utils.set_random_seed(7)
        config = TrainingConfig()
        model = make(config, seed=7, dropout=0.5)
        model.compile(optimizer=make_optimizer(config), run_eagerly=True)
        data = {name: batch()[name] for name in model.training_names}
        history = model.fit(tf.data.Dataset.from_tensors(data).repeat(3), verbose=0).history
        return model.score_tags(data).numpy(), history

    (first, history), (second, _) = fitted(), fitted()
    np.testing.assert_allclose(first, second, atol=1e-6)
    assert {"multi_class_loss", "joint_loss", "loss"} <= set(history)


def test_scores_of_a_user_do_not_depend_on_the_batch():
    model = make()
    alone = model.score_tags(features(USERS[2:3]))
    np.testing.assert_allclose(model.score_tags(features())[2:3], alone, atol=1e-5)
