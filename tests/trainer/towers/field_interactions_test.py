import itertools

import numpy as np
import pytest
import tensorflow as tf

from tests.trainer.tower_oracles import interact
from trainer.config import ModelConfig
from trainer.towers.field_interactions.attentional_fm import AttentionalFM
from trainer.towers.field_interactions.concatenation import Concatenation
from trainer.towers.field_interactions.cross_network import CrossNetwork
from trainer.towers.field_interactions.neural_fm import NeuralFM
from trainer.towers.field_interactions.registry import ATTENTION_NAMES, make_interaction
from trainer.towers.field_interactions.self_attention import SelfAttention

TOWERS = [
    ("utpm", "attention"),
    ("utpm", "average"),
    ("youtube_dnn", "default"),
    ("afm", "default"),
    ("nfm", "default"),
    ("dcn", "default"),
    ("autoint", "default"),
]
BATCH, FIELDS, HEADS, SIZE = 5, 4, 2, 3
MASK = np.array([[1, 1, 1, 1], [0, 1, 0, 1], [0, 0, 1, 0], [0, 0, 0, 0], [1, 1, 0, 1]], bool)


def random_fields(num_fields=FIELDS, heads=HEADS, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(BATCH, num_fields, heads, SIZE)).astype(np.float32)


def fields_of(pooling, seed=0):
    # An average has one head.
    return random_fields(heads=1 if pooling == "average" else HEADS, seed=seed)


def make(interaction, pooling="default", fields=None, mask=MASK, norm="batch", seed=1):
    """Makes a layer after one step of training, with random weights."""
    config = ModelConfig(
        interaction=interaction,
        pooling=pooling,
        num_heads=HEADS,
        attention_dim=3,
        cross_dim=2,
        norm=norm,
    )
    rng = np.random.default_rng(seed)
    has_queries = config.effective_pooling == "attention"
    queries = tf.Variable(tf.ones([HEADS, 3]), name="queries") if has_queries else None
    layer = make_interaction(config, iter([3, 4]), queries)
    layer(fields_of(pooling) if fields is None else fields, mask, training=True)
    for variable in layer.weights:
        sign = 1 if "moving" in variable.name else rng.choice([-1, 1], variable.shape)
        variable.assign(sign * rng.uniform(0.2, 1.0, variable.shape))
    return layer


@pytest.mark.parametrize("norm", ["batch", "layer"])
@pytest.mark.parametrize(("interaction", "pooling"), TOWERS)
def test_interaction_equals_the_loops(interaction, pooling, norm):
    fields = fields_of(pooling)
    layer = make(interaction, pooling, norm=norm)

    result = layer(fields, MASK).numpy()
    attention = layer.attention(fields, MASK)

    for i in range(BATCH):
        features, weights = interact(layer, fields[i], MASK[i])
        np.testing.assert_allclose(result[i], features, rtol=1e-4, atol=1e-4)
        assert set(weights) == set(attention) <= ATTENTION_NAMES
        for name in weights:
            np.testing.assert_allclose(attention[name][i], weights[name], atol=1e-5)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("interaction", ["afm", "nfm", "dcn", "autoint"])
def test_interaction_of_random_fields_equals_the_loops(interaction, seed):
    rng = np.random.default_rng(seed)
    num_fields, heads = int(rng.integers(1, 7)), int(rng.integers(1, 3))
    fields = random_fields(num_fields, heads, seed)
    mask = rng.random((BATCH, num_fields)) < rng.random()
    layer = make(interaction, fields=fields, mask=mask, norm="layer", seed=seed)

    result = layer(fields, mask).numpy()

    for i in range(BATCH):
        features, _ = interact(layer, fields[i], mask[i])
        # A layer norm divides by the spread, which may be only rounding.
        np.testing.assert_allclose(result[i], features, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(("interaction", "pooling"), TOWERS)
def test_absent_field_does_not_matter(interaction, pooling):
    fields = fields_of(pooling)
    layer = make(interaction, pooling)
    other = np.where(MASK[:, :, None, None], fields, 1e6).astype(np.float32)

    np.testing.assert_allclose(layer(other, MASK), layer(fields, MASK), atol=1e-5)
    for name, weights in layer.attention(other, MASK).items():
        np.testing.assert_allclose(weights, layer.attention(fields, MASK)[name], atol=1e-6)


@pytest.mark.parametrize(("interaction", "pooling"), TOWERS)
def test_user_without_any_field_gets_what_zeros_get(interaction, pooling):
    fields = fields_of(pooling)
    layer = make(interaction, pooling)

    result = layer(fields, MASK).numpy()[3]

    zeros = layer(np.zeros_like(fields), np.ones_like(MASK)).numpy()[3]
    assert np.isfinite(result).all()
    # Zeros in are zeros before the norm: in a cross network as well, where x_0 is a factor of all.
    np.testing.assert_allclose(result, zeros, atol=1e-5)


@pytest.mark.parametrize("norm", ["batch", "layer"])
@pytest.mark.parametrize(("interaction", "pooling"), TOWERS)
def test_user_does_not_depend_on_the_batch(interaction, pooling, norm):
    fields = fields_of(pooling)
    layer = make(interaction, pooling, norm=norm)
    alone = layer(fields[4:], MASK[4:])
    np.testing.assert_allclose(layer(fields, MASK)[4:], alone, rtol=1e-4, atol=1e-5)


def test_average_of_fields_counts_present_fields_alone():
    layer = make("utpm", "average")
    weights = layer.attention(fields_of("average"), MASK)["fields"].numpy()
    np.testing.assert_allclose(weights[4, :, 0], [1 / 3, 1 / 3, 0, 1 / 3], atol=1e-6)
    np.testing.assert_array_equal(weights[3], 0)


def test_attention_over_pairs_sums_to_one_over_present_pairs():
    fields = random_fields()
    weights = make("afm").attention(fields, MASK)["field_pairs"].numpy()
    # Users with four, two, one, no and three fields: the third and fourth have no pair.
    np.testing.assert_allclose(weights.sum(axis=1), [1, 1, 0, 0, 1], atol=1e-6)
    pairs = list(itertools.combinations(range(FIELDS), 2))
    assert weights[1, pairs.index((1, 3))] == pytest.approx(1)
    is_absent = [2 in pair for pair in pairs]
    np.testing.assert_array_equal(weights[4, is_absent], 0)


def test_self_attention_sums_to_one_over_present_fields():
    weights = make("autoint").attention(random_fields(), MASK)["field_self_attention"].numpy()
    assert weights.shape == (BATCH, 2, 2, FIELDS, FIELDS)
    for i in range(BATCH):
        np.testing.assert_allclose(weights[i].sum(axis=-1), np.tile(MASK[i], (2, 2, 1)), atol=1e-6)
        assert not weights[i][..., ~MASK[i]].any()


def test_permuting_fields_permutes_the_attention_over_pairs():
    fields, order = random_fields(), [2, 0, 3, 1]
    layer = make("afm")
    weights = layer.attention(fields, MASK)["field_pairs"].numpy()
    permuted = layer.attention(fields[:, order], MASK[:, order])["field_pairs"].numpy()
    pairs = list(itertools.combinations(range(FIELDS), 2))
    for p, (i, j) in enumerate(pairs):
        origin = pairs.index(tuple(sorted((order[i], order[j]))))
        np.testing.assert_allclose(permuted[:, p], weights[:, origin], atol=1e-6)


def test_permuting_fields_permutes_self_attention():
    fields, order = random_fields(), [2, 0, 3, 1]
    layer = make("autoint")
    weights = layer.attention(fields, MASK)["field_self_attention"].numpy()
    permuted = layer.attention(fields[:, order], MASK[:, order])["field_self_attention"].numpy()
    np.testing.assert_allclose(permuted, weights[..., order, :][..., order], atol=1e-6)


@pytest.mark.parametrize(("interaction", "pooling"), TOWERS)
def test_every_weight_gets_a_gradient(interaction, pooling):
    layer = make(interaction, pooling)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(layer(fields_of(pooling), MASK, training=True) ** 3)
    variables = layer.trainable_variables
    assert variables
    for variable, gradient in zip(variables, tape.gradient(loss, variables), strict=True):
        assert np.abs(gradient).sum() > 0, variable.name


@pytest.mark.parametrize(
    ("cls", "arguments"),
    [
        (Concatenation, {}),
        (AttentionalFM, {"attention_dim": 3, "seed": 5}),
        (NeuralFM, {}),
        (CrossNetwork, {"num_layers": 3, "seed": 5}),
        (SelfAttention, {"num_layers": 2, "num_heads": 3, "attention_dim": 2, "seed": 5}),
    ],
)
def test_config_round_trip_gives_an_equal_layer(cls, arguments):
    layer = cls(norm="layer", **arguments)
    copy = cls.from_config(layer.get_config())
    assert copy.get_config() == layer.get_config()
    np.testing.assert_array_equal(copy(random_fields(), MASK), layer(random_fields(), MASK))


@pytest.mark.parametrize("interaction", ["afm", "dcn", "autoint"])
def test_another_seed_gives_other_weights(interaction):
    config = ModelConfig(interaction=interaction, attention_dim=3)
    first, second = (make_interaction(config, iter([seed])) for seed in (1, 2))
    difference = first(random_fields(), MASK) - second(random_fields(), MASK)
    assert np.abs(difference).max() > 1e-3


@pytest.mark.parametrize(
    ("cls", "arguments"),
    [
        (AttentionalFM, {"attention_dim": 0}),
        (CrossNetwork, {"num_layers": 0}),
        (SelfAttention, {"num_layers": 0, "num_heads": 2, "attention_dim": 3}),
        (SelfAttention, {"num_heads": 0, "num_layers": 2, "attention_dim": 3}),
        (SelfAttention, {"attention_dim": 0, "num_layers": 2, "num_heads": 2}),
    ],
)
def test_impossible_arguments_are_refused(cls, arguments):
    with pytest.raises(ValueError, match=f"`{next(iter(arguments))}` must be"):
        cls(**arguments)


def test_bag_is_no_interaction_of_fields():
    with pytest.raises(ValueError, match="`interaction` must be one of utpm, youtube_dnn"):
        make_interaction(ModelConfig(interaction="bag"), iter([1]))
