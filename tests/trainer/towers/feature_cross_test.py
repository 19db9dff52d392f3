import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from trainer.towers.feature_cross import FeatureCross

X = np.random.default_rng(0).normal(size=(5, 6)).astype(np.float32)


def built(**kwargs):
    layer = FeatureCross(3, seed=1, **kwargs)
    layer(X)
    layer.linear.assign(np.linspace(-1, 1, 6))
    return layer


def double_loop(layer, x):
    latent, linear = layer.latent.numpy(), layer.linear.numpy()
    crossed = [
        [latent[i] @ latent[j] * row[i] * row[j] for i in range(6) for j in range(i + 1, 6)]
        for row in x
    ]
    return linear * x, np.array(crossed)


def layer_norm(x):
    return (x - x.mean(1, keepdims=True)) / np.sqrt(x.var(1, keepdims=True) + 1e-6)


def batch_norm(x):
    return (x - x.mean(0)) / np.sqrt(x.var(0) + 1e-6)


@pytest.mark.parametrize("norm,expected", [("layer", layer_norm), ("batch", batch_norm)])
def test_normalised_parts_equal_the_double_loop_and_numpy(norm, expected):
    layer = built(norm=norm)
    linear, crossed = double_loop(layer, X)
    result = layer(X, training=True)
    np.testing.assert_allclose(
        result, np.concatenate([expected(linear), expected(crossed)], axis=1), atol=2e-3
    )


def test_prediction_of_a_row_does_not_depend_on_its_batch():
    layer = built()
    np.testing.assert_allclose(layer(X)[2:3], layer(X[2:3]), atol=1e-6)


def test_scaling_one_feature_scales_only_its_products():
    # Out of training, batch normalisation is a factor near 1, the same for every user.
    layer = built()
    scaled = X.copy()
    scaled[:, 0] *= 2
    ratio = layer(scaled).numpy() / layer(X).numpy()
    # After 6 linear terms come the 5 products of feature 0, then all others.
    np.testing.assert_allclose(ratio[:, [0, 6, 7, 8, 9, 10]], 2, rtol=1e-4)
    np.testing.assert_allclose(ratio[:, [1, 2, 4, 5, 11, 20]], 1, rtol=1e-4)


def test_all_weights_get_a_gradient():
    layer = built()
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(layer(X, training=True) ** 3)
    for gradient in tape.gradient(loss, layer.trainable_variables):
        assert np.abs(gradient).sum() > 0


def test_zeros_stay_finite():
    assert np.isfinite(built()(np.zeros_like(X))).all()


def test_saved_layer_gives_the_same_values(tmp_path):
    model = tf_keras.Sequential([tf_keras.Input((6,)), FeatureCross(3, seed=1)])
    model.save(tmp_path / "model.keras")
    loaded = tf_keras.models.load_model(
        tmp_path / "model.keras", custom_objects={"FeatureCross": FeatureCross}
    )
    np.testing.assert_allclose(loaded(X), model(X), atol=1e-6)


@pytest.mark.parametrize("wrong", [{"cross_dim": 0}, {"norm": "group"}])
def test_impossible_arguments_are_refused(wrong):
    with pytest.raises(ValueError, match=f"`{next(iter(wrong))}` must be"):
        FeatureCross(**{"cross_dim": 2, **wrong})
