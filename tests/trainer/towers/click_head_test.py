import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from tests.trainer.objectives.losses_test import ITEMS, TAG_BIAS, TAGS, USERS, item_tags
from trainer.config import ModelConfig
from trainer.towers.click_head import ClickHead
from trainer.towers.item_attention import ItemAttention
from trainer.towers.tag_tower import TagTower, TagVectors

CONFIG = ModelConfig(output_dim=4, attention_dim=3)
VECTORS = TagVectors(tf.constant(TAGS), tf.zeros(5), tf.constant(TAG_BIAS))
SCALE, OFFSET = 1.5, -0.25


def make_head(**changes):
    tower = TagTower(5, CONFIG)
    tower.click_scale.assign(SCALE)
    tower.click_offset.assign(OFFSET)
    config = dataclasses.replace(CONFIG, **changes)
    head = ClickHead(tower, config, has_attention=True, seed=1)
    head.tag_logits(tf.constant(USERS), VECTORS, item_tags())
    if head.projection is not None:
        matrix = np.random.default_rng(2).normal(size=(4, 4))
        head.projection.set_weights([matrix.astype(np.float32)])
    randomize(head.attention)
    return head


def randomize(attention):
    attention(VECTORS.embeddings, item_tags())
    rng = np.random.default_rng(3)
    for weight in attention.weights:
        weight.assign(rng.normal(size=weight.shape))


def slow_attention(layer, item):
    """Returns the softmax over the item's known tags of q . relu(W t + b), by tag."""
    kernel, bias = layer.hidden.get_weights()
    (query,) = layer.query.get_weights()
    scores = {t: np.maximum(TAGS[t] @ kernel + bias, 0) @ query[:, 0] for t in item if t >= 0}
    total = sum(np.exp(score) for score in scores.values())
    return {t: np.exp(score) / total for t, score in scores.items()}


def slow_logits(head, objective):
    matrix = np.eye(4) if head.projection is None else head.projection.get_weights()[0]
    logits = []
    for user, row in zip(USERS @ matrix, ITEMS, strict=True):
        for item in row:
            known = [t for t in item if t >= 0]
            if not known:
                logits.append(OFFSET)
            elif objective == "joint":
                total = sum(SCALE * user @ TAGS[t] + TAG_BIAS[t] for t in known)
                logits.append(total + OFFSET)
            elif objective == "split":
                total = sum(SCALE * user @ TAGS[t] + TAG_BIAS[t] for t in known)
                logits.append(total / len(known) + OFFSET)
            else:  # pools vectors and biases, then takes the inner product
                attention = slow_attention(head.attention, item)
                vector = sum(attention[t] * TAGS[t] for t in known)
                bias = sum(attention[t] * TAG_BIAS[t] for t in known)
                logits.append(SCALE * user @ vector + bias + OFFSET)
    return logits


@pytest.mark.parametrize("click_projection", [True, False])
@pytest.mark.parametrize("objective", ["joint", "split", "attention"])
def test_item_logits_equal_the_loop(objective, click_projection):
    head = make_head(click_projection=click_projection)
    items = item_tags()
    tag_logits = head.tag_logits(tf.constant(USERS), VECTORS, items)
    logits = head.item_logits(objective, tag_logits, VECTORS, items)
    np.testing.assert_allclose(logits, slow_logits(head, objective), atol=1e-5)


@pytest.mark.parametrize("objective", ["joint", "split", "attention"])
def test_order_of_an_items_tags_does_not_matter(objective):
    head = make_head()

    def logits(items):
        tag_logits = head.tag_logits(tf.constant(USERS), VECTORS, items)
        return head.item_logits(objective, tag_logits, VECTORS, items)

    permuted = [[item[::-1] for item in row] for row in ITEMS]
    np.testing.assert_allclose(logits(item_tags(permuted)), logits(item_tags()), atol=1e-6)


@pytest.mark.parametrize("objective", ["joint", "split", "attention"])
def test_candidate_embeddings_give_the_logits_of_items_with_one_tag(objective):
    head = make_head()
    # Every user is shown five items, one for each tag.
    items = item_tags([[[t] for t in range(5)]] * 4)
    tag_logits = head.tag_logits(tf.constant(USERS), VECTORS, items)
    logits = tf.reshape(head.item_logits(objective, tag_logits, VECTORS, items), [4, 5])
    queries = np.concatenate([USERS, np.ones((4, 1))], axis=1)
    candidates = head.candidate_embeddings(VECTORS).numpy()
    np.testing.assert_allclose(logits, queries @ candidates.T, atol=1e-5)
    np.testing.assert_allclose(logits, tf.reshape(head.single_tag_logits(tag_logits), [4, 5]))


def test_item_attention_equals_the_loop():
    layer = ItemAttention(3)
    randomize(layer)
    expected = [
        weight for row in ITEMS for item in row for weight in slow_attention(layer, item).values()
    ]
    assert max(expected) == 1.0 > min(expected)  # items with one tag, and with more
    np.testing.assert_allclose(layer(VECTORS.embeddings, item_tags()), expected, atol=1e-6)


def test_item_attention_comes_back_from_its_config():
    layer = ItemAttention(3, seed=5, name="a")
    again = ItemAttention.from_config(layer.get_config())
    items = item_tags()
    np.testing.assert_array_equal(
        layer(VECTORS.embeddings, items), again(VECTORS.embeddings, items)
    )


def test_item_attention_without_a_hidden_layer_is_refused():
    with pytest.raises(ValueError, match="`attention_dim` must be a positive integer"):
        ItemAttention(0)
