"""A step over a large vocabulary touches only the rows that its batch names."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from tests.trainer.toy_training import SMALL, make_model, train_part
from trainer.fitting.model_state import ModelState, build_optimizer
from trainer.fitting.optimizer import make_optimizer

# More rows than are pooled densely.
MANY_TAGS = 9_000
BATCH = 4
MODELS = {
    "tables": SMALL,
    "average": dataclasses.replace(SMALL, pooling="average"),
    "shared": dataclasses.replace(SMALL, share_tag_embeddings=True),
    "bag": dataclasses.replace(SMALL, interaction="bag"),
}
each_model = pytest.mark.parametrize("name", MODELS)


def built(name):
    """Makes a model with Adagrad, and a batch of users who have clicked the tags 0 to 3."""
    model = make_model(
        model=MODELS[name],
        num_tags=MANY_TAGS,
        full_softmax_max_tags=100,
        num_sampled_tags=16,
        optimizer="adagrad",
    )
    batch = train_part().take(np.arange(BATCH)).features(model.training_names)
    model.compute_loss(batch)
    build_optimizer(model, make_optimizer(model.training_config))
    return model, batch


def rows_of_the_vocabulary(shape):
    return any((size or 0) >= MANY_TAGS for size in shape)


@each_model
def test_gradients_of_tables_are_of_the_rows_that_a_batch_names(name):
    model, batch = built(name)
    found = []

    @tf.function(autograph=False)
    def trace():
        with tf.GradientTape() as tape:
            loss = model.compute_loss(batch, training=True)
        gradients = tape.gradient(loss, model.trainable_variables)
        found.extend(zip(model.trainable_variables, gradients, strict=True))
        return loss

    trace.get_concrete_function()
    large = {v.name: type(g) for v, g in found if rows_of_the_vocabulary(v.shape)}
    assert len(large) >= 3
    assert set(large.values()) == {tf.IndexedSlices}


@each_model
def test_no_tensor_of_a_step_has_the_size_of_the_vocabulary(name):
    model, batch = built(name)
    graph = tf.function(model.train_step, autograph=False).get_concrete_function(batch).graph
    # A new shape of the same values is no copy.
    operations = [o for o in graph.get_operations() if o.type != "Reshape"]
    tensors = [tensor for operation in operations for tensor in operation.outputs]

    # What is drawn from has a number a tag, captured from outside of the step.
    large = [t.name for t in tensors if t.shape.rank and rows_of_the_vocabulary(t.shape)]
    captured = [inside.name for _, inside in graph.captures]
    assert [name for name in large if name not in captured] == []


@each_model
def test_step_changes_rows_of_its_batch_and_no_others(name):
    model, batch = built(name)
    before = ModelState.of(model)
    tf.function(model.train_step, autograph=False)(batch)
    after = ModelState.of(model)

    (kind,) = before.slots  # Adagrad's sums of squares
    pairs = [(before.weights, after.weights), (before.slots[kind], after.slots[kind])]
    # Labels, impressions and the sample, at most.
    most = 4 * BATCH + 16
    num_large = 0
    for old, new in pairs:
        for key, value in old.items():
            if value.ndim and len(value) >= MANY_TAGS:
                num_large += 1
                changed = np.flatnonzero((value != new[key]).reshape(len(value), -1).any(axis=1))
                assert 1 <= len(changed) <= most, key
    assert num_large >= 6


@pytest.mark.parametrize("changes", [{}, {"share_tag_embeddings": True}])
def test_users_of_a_large_vocabulary_get_the_vectors_of_a_small_one(monkeypatch, changes):
    model = make_model(model=dataclasses.replace(SMALL, **changes))
    # Unknown tags as well, which are in the bucket behind the vocabulary; and an empty history.
    tags = tf.ragged.constant([[0, 8, 3], [], [8], [5, 5]], tf.int64)
    users = {
        "segment": tf.constant([1, 2, 0, 1], tf.int64),
        "clicked_tags": tags,
        "clicked_tags_weights": tf.ragged.constant([[1.0, 2, 3], [], [1], [2, 2]], tf.float32),
    }
    expected = model(users).numpy()
    attention = model.user_tower.attention(users)
    monkeypatch.setattr("trainer.towers.domain_attention.DENSE_POOLING_MAX_ROWS", 4)

    np.testing.assert_allclose(model(users), expected, rtol=1e-4, atol=1e-5)
    for key, found in model.user_tower.attention(users).items():
        values = getattr(found, "flat_values", found)
        expected = getattr(attention[key], "flat_values", attention[key])
        np.testing.assert_allclose(values, expected, rtol=1e-4, atol=1e-5, err_msg=key)
