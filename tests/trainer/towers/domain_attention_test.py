import numpy as np
import pytest
import tensorflow as tf

from trainer.towers import domain_attention
from trainer.towers.domain_attention import (
    InterDomainAttention,
    IntraDomainAttention,
    masked_softmax,
    segment_softmax,
    value_shares,
    weighted_sum,
)

HEADS, WIDTH, SIZE, ROWS = 2, 3, 4, 6


def softmax(x):
    exponentials = np.exp(x - x.max())
    return exponentials / exponentials.sum()


def scores_of(vector, kernel, bias, queries):
    """Returns s_h = q_h . relu(W_h t + b), one head at a time."""
    return np.array(
        [queries[h] @ np.maximum(vector @ kernel[h] + bias[0], 0) for h in range(HEADS)]
    )


def make(cls):
    rng = np.random.default_rng(0)
    layer = cls(HEADS, WIDTH)
    layer.build((None, SIZE))
    layer.set_weights([rng.normal(size=weight.shape) for weight in layer.get_weights()])
    return layer, rng.normal(size=(HEADS, WIDTH)).astype(np.float32)


TABLE = np.random.default_rng(1).normal(size=(ROWS, SIZE)).astype(np.float32)
VALUES = [[1, 3], [], [0, 2, 5, 4, 1], [3]]
WEIGHTS = [[2.0, 1.0], [], [1.0, 5.0, 0.5, 1.0, 3.0], [4.0]]


def ragged(rows, dtype):
    return tf.ragged.constant(rows, dtype=dtype, ragged_rank=1)


def slow_intra(layer, queries, values, weights):
    kernel, bias = layer.get_weights()
    result = np.zeros((len(values), HEADS, SIZE))
    for i, row in enumerate(values):
        if not row:
            continue
        scores = np.array([scores_of(TABLE[value], kernel, bias, queries) for value in row])
        for h in range(HEADS):
            attention = softmax(scores[:, h] + np.log(weights[i]))
            result[i, h] = sum(a * TABLE[value] for a, value in zip(attention, row, strict=True))
    return result


@pytest.mark.parametrize(
    "values", [VALUES, VALUES[:2]]
)  # more values than rows of the table, and fewer
@pytest.mark.parametrize("dense_limit", [0, 100])
def test_intra_attention_equals_the_loop(monkeypatch, values, dense_limit):
    monkeypatch.setattr(domain_attention, "DENSE_POOLING_MAX_ROWS", dense_limit)
    layer, queries = make(IntraDomainAttention)
    weights = WEIGHTS[: len(values)]
    result = layer(TABLE, ragged(values, tf.int64), ragged(weights, tf.float32), queries)
    np.testing.assert_allclose(result, slow_intra(layer, queries, values, weights), atol=1e-5)


def test_without_weights_every_value_counts_once():
    layer, queries = make(IntraDomainAttention)
    result = layer(TABLE, ragged(VALUES, tf.int64), None, queries)
    ones = [[1.0] * len(row) for row in VALUES]
    np.testing.assert_allclose(result, slow_intra(layer, queries, VALUES, ones), atol=1e-5)


def test_weight_two_is_the_same_value_twice():
    layer, queries = make(IntraDomainAttention)
    weighted = layer(TABLE, ragged([[1, 3]], tf.int64), ragged([[2.0, 1.0]], tf.float32), queries)
    repeated = layer(TABLE, ragged([[1, 3, 1]], tf.int64), None, queries)
    np.testing.assert_allclose(weighted, repeated, atol=1e-6)


def test_empty_list_gives_zeros():
    layer, queries = make(IntraDomainAttention)
    result = layer(TABLE, ragged([[], []], tf.int64), ragged([[], []], tf.float32), queries)
    np.testing.assert_array_equal(result, np.zeros((2, HEADS, SIZE)))


def test_value_listed_twice_counts_twice():
    layer, queries = make(IntraDomainAttention)
    once = layer(TABLE, ragged([[3, 1]], tf.int64), ragged([[5.0, 1.0]], tf.float32), queries)
    values, weights = [[3, 1, 3]], [[2.0, 1.0, 3.0]]
    twice = layer(TABLE, ragged(values, tf.int64), ragged(weights, tf.float32), queries)
    np.testing.assert_allclose(twice, once, atol=1e-6)


def test_order_of_values_and_other_users_do_not_matter():
    layer, queries = make(IntraDomainAttention)
    alone = layer(
        TABLE, ragged([[5, 2, 1]], tf.int64), ragged([[1.0, 2.0, 3.0]], tf.float32), queries
    )
    values, weights = [[0, 1, 2, 3], [1, 2, 5]], [[9.0] * 4, [3.0, 2.0, 1.0]]
    both = layer(TABLE, ragged(values, tf.int64), ragged(weights, tf.float32), queries)
    np.testing.assert_allclose(both[1], alone[0], atol=1e-6)


def test_segment_softmax_of_huge_logits_is_finite():
    logits = tf.constant([[1e4], [1e4 + 1], [-1e4]])
    result = segment_softmax(logits, tf.constant([0, 0, 2]), 3)
    expected = [[1 / (1 + np.e)], [np.e / (1 + np.e)], [1.0]]
    np.testing.assert_allclose(result, expected, atol=1e-6)


def test_masked_softmax_leaves_absent_entries_out():
    logits = tf.constant([[1.0, 2.0, 1e9], [-1e9, 1.0, 0.0], [3.0, 4.0, 5.0]])
    mask = tf.constant([[True, True, False], [True, False, False], [False, False, False]])
    e = np.e
    expected = [[1 / (1 + e), e / (1 + e), 0], [1, 0, 0], [0, 0, 0]]
    np.testing.assert_allclose(masked_softmax(logits, mask, axis=1), expected, atol=1e-6)
    transposed = masked_softmax(tf.transpose(logits), tf.transpose(mask), axis=0)
    np.testing.assert_allclose(transposed, np.transpose(expected), atol=1e-6)


def test_shares_are_weights_over_their_sum():
    values = ragged(VALUES, tf.int64)
    shares = value_shares(values, ragged(WEIGHTS, tf.float32))
    expected = [2 / 3, 1 / 3, 1 / 10.5, 5 / 10.5, 0.5 / 10.5, 1 / 10.5, 3 / 10.5, 1]
    np.testing.assert_allclose(shares[:, 0], expected, rtol=1e-6)
    unweighted = value_shares(values, None)
    np.testing.assert_allclose(unweighted[:, 0], [0.5] * 2 + [0.2] * 5 + [1], rtol=1e-6)


@pytest.mark.parametrize("dense_limit", [0, 100])
def test_weighted_sum_equals_the_loop(monkeypatch, dense_limit):
    monkeypatch.setattr(domain_attention, "DENSE_POOLING_MAX_ROWS", dense_limit)
    coefficients = np.random.default_rng(3).normal(size=(8, HEADS)).astype(np.float32)
    expected, n = np.zeros((len(VALUES), HEADS, SIZE)), 0
    for i, row in enumerate(VALUES):
        for value in row:
            expected[i] += coefficients[n][:, None] * TABLE[value]
            n += 1
    result = weighted_sum(tf.constant(TABLE), ragged(VALUES, tf.int64), coefficients)
    np.testing.assert_allclose(result, expected, atol=1e-5)


@pytest.mark.parametrize("dense_limit", [0, 100])
def test_gradient_of_the_pooled_vector_equals_finite_differences(monkeypatch, dense_limit):
    monkeypatch.setattr(domain_attention, "DENSE_POOLING_MAX_ROWS", dense_limit)
    layer, queries = make(IntraDomainAttention)

    def total(table):
        pooled = layer(table, ragged(VALUES, tf.int64), ragged(WEIGHTS, tf.float32), queries)
        return tf.reduce_sum(pooled**2)

    table = tf.constant(TABLE)
    with tf.GradientTape() as tape:
        tape.watch(table)
        loss = total(table)
    gradient = tf.convert_to_tensor(tape.gradient(loss, table)).numpy()
    step = 1e-2
    for row, column in ((0, 0), (3, 2), (5, 1)):
        shift = np.zeros_like(TABLE)
        shift[row, column] = step
        slope = (total(TABLE + shift) - total(TABLE - shift)) / (2 * step)
        np.testing.assert_allclose(gradient[row, column], slope, rtol=0.02, atol=1e-2)


FIELDS = np.random.default_rng(2).normal(size=(3, 4, HEADS, SIZE)).astype(np.float32)
MASK = np.array([[1, 1, 1, 1], [0, 1, 0, 1], [0, 0, 0, 0]], bool)


def test_inter_attention_equals_the_loop():
    layer, queries = make(InterDomainAttention)
    kernel, biases = layer.get_weights()
    expected = np.zeros((3, HEADS, SIZE))
    for i in range(2):
        present = np.flatnonzero(MASK[i])
        for h in range(HEADS):
            scores = [scores_of(FIELDS[i, k, h], kernel, biases, queries)[h] for k in present]
            for a, k in zip(softmax(np.array(scores)), present, strict=True):
                expected[i, h] += a * FIELDS[i, k, h]
    result = layer(FIELDS, MASK, queries)
    np.testing.assert_allclose(result, expected.reshape(3, -1), atol=1e-5)


def test_absent_domain_gets_no_attention_and_its_vector_does_not_matter():
    layer, queries = make(InterDomainAttention)
    weights = layer.attention(FIELDS, MASK, queries).numpy()
    np.testing.assert_array_equal(weights[~MASK], 0)
    np.testing.assert_allclose(weights[:2].sum(axis=1), 1, atol=1e-6)
    other = np.where(MASK[:, :, None, None], FIELDS, 1e6).astype(np.float32)
    np.testing.assert_allclose(layer(other, MASK, queries), layer(FIELDS, MASK, queries), atol=1e-6)


def test_user_without_any_domain_gets_zeros():
    layer, queries = make(InterDomainAttention)
    np.testing.assert_array_equal(layer(FIELDS, MASK, queries)[2], np.zeros(HEADS * SIZE))


def test_permuting_domains_permutes_their_attention():
    layer, queries = make(InterDomainAttention)
    order = [2, 0, 3, 1]
    weights = layer.attention(FIELDS, MASK, queries).numpy()
    permuted = layer.attention(FIELDS[:, order], MASK[:, order], queries).numpy()
    np.testing.assert_allclose(permuted, weights[:, order], atol=1e-6)


@pytest.mark.parametrize("cls", [IntraDomainAttention, InterDomainAttention])
@pytest.mark.parametrize("wrong", [{"num_heads": 0}, {"attention_dim": 0}])
def test_impossible_arguments_are_refused(cls, wrong):
    with pytest.raises(ValueError, match=f"`{next(iter(wrong))}` must be"):
        cls(**{"num_heads": 2, "attention_dim": 3, **wrong})


@pytest.mark.parametrize("cls", [IntraDomainAttention, InterDomainAttention])
def test_config_round_trip_gives_an_equal_layer(cls):
    layer = cls(2, 3, seed=5)
    assert cls.from_config(layer.get_config()).get_config() == layer.get_config()
