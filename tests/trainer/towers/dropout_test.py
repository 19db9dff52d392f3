"""Dropout: what it drops, and that a resumed process draws what one process would have."""

import numpy as np
import pytest
import tensorflow as tf

from trainer.towers.dropout import Dropout


def draws(layer, num_calls: int, shape=(4, 50)):
    return [layer(tf.ones(shape), training=True).numpy() for _ in range(num_calls)]


def test_values_are_dropped_at_the_rate_and_scaled_to_keep_the_mean():
    (dropped,) = draws(Dropout(0.25, seed=1), 1, shape=(100, 100))

    assert set(np.unique(dropped)) == {0.0, np.float32(1 / 0.75)}
    # 10,000 draws: the standard deviation of their share is 0.0043.
    assert np.mean(dropped == 0) == pytest.approx(0.25, abs=0.02)


def test_nothing_is_dropped_outside_training():
    layer = Dropout(0.5)
    inputs = tf.constant([[1.0, np.inf]])

    np.testing.assert_array_equal(layer(inputs), inputs)
    np.testing.assert_array_equal(layer(inputs, training=False), inputs)
    assert layer.num_calls.numpy() == 0


def test_rate_0_has_no_state_and_drops_nothing():
    layer = Dropout(0.0)

    np.testing.assert_array_equal(layer(tf.ones([3]), training=True), np.ones(3))
    assert layer.weights == []


def test_every_call_draws_anew_and_a_seed_repeats_the_calls():
    first, again, other = (draws(Dropout(0.5, seed=seed), 3) for seed in (7, 7, 8))

    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first[0], first[1])
    assert not np.array_equal(first[0], other[0])


def test_restored_layer_goes_on_where_the_saved_one_stopped():
    whole = draws(Dropout(0.5, seed=7), 5)
    stopped = Dropout(0.5, seed=7)
    draws(stopped, 2)

    resumed = Dropout(0.5, seed=7)
    resumed.set_weights(stopped.get_weights())

    np.testing.assert_array_equal(draws(resumed, 3), whole[2:])


def test_compiled_calls_count_as_eager_ones():
    compiled = Dropout(0.5, seed=7)
    function = tf.function(lambda: compiled(tf.ones([4, 50]), training=True))

    np.testing.assert_array_equal([function(), function()], draws(Dropout(0.5, seed=7), 2))


def test_noise_shape_shares_a_draw_along_the_other_axis():
    (dropped,) = draws(Dropout(0.5, noise_shape=(None, 1), seed=3), 1, shape=(64, 5))

    assert all(len(set(row)) == 1 for row in dropped)
    assert {row[0] for row in dropped} == {0.0, 2.0}


def test_rate_of_1_is_refused():
    with pytest.raises(ValueError, match="`rate` must be at least 0 and below 1"):
        Dropout(1.0)
