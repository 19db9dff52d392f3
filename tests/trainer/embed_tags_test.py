"""The saved signature that embeds tags, known and new, as callers find it on disk."""

import numpy as np
import pytest
import tensorflow as tf

from tests.tfx_pipeline.toy_rows import SPEC, TAGS
from trainer.config import ModelConfig, TrainingConfig
from trainer.contract import signatures as s
from trainer.data.input_data import vocabulary_sizes
from trainer.model import InterestModel
from trainer.saved.saved_towers import save_towers
from trainer.towers.tag_views import TagAttributes

CLICK_WEIGHT = 0.25
ATTRIBUTES = TagAttributes(
    tuple(TAGS), ("x", "y", "x", ""), np.arange(8, dtype=np.float32).reshape(4, 2)
)
NEW = ["jazz", "new jazz", "pop", "unheard of"]
CATEGORIES = ["", "y", "z", "no such category"]
VECTORS = np.array([[9, 9], [1, 2], [9, 9], [0, 0]], np.float32)
ALL_VIEWS = ("words", "category", "vectors")


@pytest.fixture(scope="module")
def transform_output(toy_graph):
    return toy_graph.output


def make(transform_output, views, **weights):
    """Makes a model with random rows in all tables, and the user tower with the smallest graph."""
    config = ModelConfig(
        embedding_dim=4,
        attention_dim=3,
        cross_dim=2,
        hidden_dim=6,
        output_dim=3,
        num_word_buckets=50,
        tag_views=views,
        interaction="bag",
    )
    sizes = vocabulary_sizes(transform_output, SPEC)
    model = InterestModel(
        SPEC, sizes, len(TAGS), config, TrainingConfig(**weights), tag_attributes=ATTRIBUTES
    )
    features = {feature.name: tf.constant([0], tf.int64) for feature in SPEC.profile}
    for domain in SPEC.domains:
        features[domain.name] = tf.ragged.constant([[0]], tf.int64)
        features[f"{domain.name}_weights"] = tf.ragged.constant([[1.0]])
    model.query_embeddings(features)
    model.click_candidate_embeddings()
    rng = np.random.default_rng(0)
    for weight in (*model.tag_tower.trainable_weights, *model.click_head.trainable_weights):
        weight.assign(rng.normal(size=weight.shape))
    return model


def saved(model, transform_output, folder):
    save_towers(model, transform_output, str(folder), CLICK_WEIGHT)
    return tf.saved_model.load(str(folder)).signatures


def expected_embeddings(model):
    """Returns embeddings of `NEW`: known tags as trained, others by their views alone."""
    ids = tf.constant([TAGS.index(tag) if tag in TAGS else -1 for tag in NEW])
    found = model.tag_tower.embed(ids, tf.constant(NEW), tf.constant(CATEGORIES), VECTORS)
    candidates = found.candidate_embeddings.numpy()
    clicks = model.click_candidate_embeddings(found).numpy()
    return {
        s.CANDIDATE_EMBEDDINGS: candidates,
        s.CLICK_EMBEDDINGS: clicks,
        s.RANKING_EMBEDDINGS: (1 - CLICK_WEIGHT) * candidates + CLICK_WEIGHT * clicks,
    }


def test_saved_signature_embeds_known_and_new_tags(transform_output, tmp_path):
    model = make(transform_output, ALL_VIEWS)
    expected, all_tags = expected_embeddings(model), model.candidate_embeddings().numpy()
    signatures = saved(model, transform_output, tmp_path)
    inputs = {
        s.TAGS: tf.constant(NEW),
        s.TAG_CATEGORIES: tf.constant(CATEGORIES),
        s.TAG_VECTORS: tf.constant(VECTORS),
    }
    found = signatures[s.EMBED_TAGS](**inputs)
    assert found.pop(s.IS_KNOWN).numpy().tolist() == [True, False, True, False]
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, atol=1e-5, err_msg=name)
    candidates = signatures[s.CANDIDATES]()[s.CANDIDATE_EMBEDDINGS].numpy()
    np.testing.assert_allclose(candidates, all_tags, atol=1e-5)
    # "jazz" and "pop", with any category.
    embedded = found[s.CANDIDATE_EMBEDDINGS].numpy()
    np.testing.assert_allclose(embedded[[0, 2]], candidates[[1, 0]], atol=1e-5)


def test_inputs_and_outputs_are_those_of_the_configuration(transform_output, tmp_path):
    model = make(transform_output, ("words",), joint_weight=0.0)
    signature = saved(model, transform_output, tmp_path)[s.EMBED_TAGS]
    assert set(signature.structured_input_signature[1]) == {s.TAGS, s.TAG_CATEGORIES}
    assert set(signature.structured_outputs) == {
        s.CANDIDATE_EMBEDDINGS,
        s.RANKING_EMBEDDINGS,
        s.IS_KNOWN,
    }


def test_without_views_there_is_no_such_signature(transform_output, tmp_path):
    assert s.EMBED_TAGS not in saved(make(transform_output, ()), transform_output, tmp_path)
