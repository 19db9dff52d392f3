"""The values of the peer models equal those of loops: comparisons need correct models."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from benchmarks.peers.direct_utpm import DirectUtpm
from benchmarks.peers.label_rows import LABEL, LabelRows
from benchmarks.peers.tfrs_two_tower import TwoTower
from tests.benchmarks.small_training_data import NUM_TAGS, SIZES, SPEC, training_data
from trainer.config import ModelConfig

CONFIG = ModelConfig(
    embedding_dim=3, num_heads=2, attention_dim=4, cross_dim=2, hidden_dim=5, output_dim=4
)
E, H = CONFIG.embedding_dim, CONFIG.num_heads


def batch(num_rows: int = 6):
    rows = LabelRows.of(training_data(12).snapshots, SPEC)
    features = next(iter(rows.dataset(num_rows, seed=1)))
    # One user without any behaviour.
    for domain in SPEC.domains:
        empty = tf.zeros_like(features[domain.name][:1])
        features[domain.name] = tf.concat([empty, features[domain.name][1:]], axis=0)
    return features


def made(peer):
    """Builds a peer whose weights leave no part of a formula at 0 or 1."""
    model = peer(SPEC, SIZES, NUM_TAGS, CONFIG)
    model(batch())
    if isinstance(model, TwoTower):
        model.compute_loss(batch())
    rng = np.random.default_rng(0)
    for variable in model.weights:
        is_variance = "moving_variance" in variable.name
        variable.assign(rng.uniform(0.2 if is_variance else -1.0, 1.0, variable.shape))
    return model


def softmax(x):
    exponentials = np.exp(x - x.max())
    return exponentials / exponentials.sum()


def values_of(features, row, name):
    ids = features[name].numpy()[row]
    return ids[ids != 0]


def dense(model, x):
    (first, second) = model._dense.layers
    hidden = np.maximum(x @ first.kernel.numpy() + first.bias.numpy(), 0)
    return hidden @ second.kernel.numpy() + second.bias.numpy()


def slow_two_tower(model, features, row):
    fields = [
        model._profile[p.name].embeddings.numpy()[features[p.name].numpy()[row]]
        for p in SPEC.profile
    ]
    for domain in SPEC.domains:
        table = model._domains[domain.name].embeddings.numpy()
        ids = values_of(features, row, domain.name)
        fields.append(np.mean([table[i] for i in ids], axis=0) if len(ids) else np.zeros(E))
    return dense(model, np.concatenate(fields))


def slow_utpm(model, features, row):
    queries = model._queries.numpy()

    def pool(layer, vectors, head):
        kernel, bias = layer.kernel.numpy(), layer.bias.numpy()
        scores = [queries[head] @ np.maximum(v @ kernel[:, head] + bias, 0) for v in vectors]
        return sum(a * v for a, v in zip(softmax(np.array(scores)), vectors, strict=True))

    x = []
    for head in range(H):
        fields = [
            model._profile[p.name].embeddings.numpy()[features[p.name].numpy()[row]]
            for p in SPEC.profile
        ]
        for domain in SPEC.domains:
            table = model._domains[domain.name].embeddings.numpy()
            values = [table[i] for i in values_of(features, row, domain.name)]
            if values:
                fields.append(pool(model._intra[domain.name], values, head))
        kernel, bias = model._inter.kernel.numpy(), model._inter.bias.numpy()
        scores = [queries[head] @ np.maximum(v @ kernel[:, head] + bias, 0) for v in fields]
        x.append(sum(a * v for a, v in zip(softmax(np.array(scores)), fields, strict=True)))
    x = np.concatenate(x)
    latent = model._latent.numpy()
    crossed = [
        latent[i] @ latent[j] * x[i] * x[j] for i in range(H * E) for j in range(i + 1, H * E)
    ]

    def norm(layer, values):
        gamma, beta, mean, variance = layer.get_weights()
        return gamma * (values - mean) / np.sqrt(variance + layer.epsilon) + beta

    linear = norm(model._linear_norm, model._linear.numpy() * x)
    return dense(model, np.concatenate([linear, norm(model._cross_norm, np.array(crossed))]))


def test_two_tower_equals_the_loops():
    model, features = made(TwoTower), batch()
    users = np.array([slow_two_tower(model, features, row) for row in range(6)])
    np.testing.assert_allclose(model(features), users, rtol=1e-4, atol=1e-5)

    tags = model._tags.embeddings.numpy()[features[LABEL].numpy()]
    expected = -sum(np.log(softmax(tags @ user)[i]) for i, user in enumerate(users))
    assert float(model.compute_loss(features)) == pytest.approx(expected, rel=1e-4)


def test_direct_utpm_equals_the_loops():
    model, features = made(DirectUtpm), batch()
    users = np.array([slow_utpm(model, features, row) for row in range(6)])
    np.testing.assert_allclose(model.users(features), users, rtol=1e-3, atol=1e-4)

    logits = users @ model._tags.kernel.numpy() + model._tags.bias.numpy()
    np.testing.assert_allclose(model(features), logits, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("peer", [TwoTower, DirectUtpm])
def test_peer_learns(peer):
    tf_keras.utils.set_random_seed(0)
    model = peer(SPEC, SIZES, NUM_TAGS, CONFIG)
    model.compile(optimizer=tf_keras.optimizers.Adam(0.05))
    dataset = LabelRows.of(training_data(12).snapshots, SPEC).dataset(16, seed=0)
    losses = model.fit(dataset, steps_per_epoch=10, epochs=6, verbose=0).history["loss"]

    assert losses[-1] < 0.8 * losses[0]
