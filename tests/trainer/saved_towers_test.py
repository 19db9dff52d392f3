"""Saved towers, loaded again: strings in, and what the model in memory says out."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_transform as tft
import tensorflow_transform.beam as tft_beam

from tests.tfx_pipeline.preprocessing_test import SPEC, TAGS, TRAIN, metadata, transform
from tests.trainer.user_tower_test import CONFIG
from trainer import signatures as s
from trainer.calibration import Calibration
from trainer.config import TrainingConfig
from trainer.input_data import vocabulary_sizes
from trainer.model import InterestModel
from trainer.saved_towers import SavedTowers, save_towers

CLICK_WEIGHT = 0.3
CALIBRATION = Calibration(slope=1.7, intercept=-0.4)


@pytest.fixture(scope="module")
def transform_output(tmp_path_factory):
    folder = tmp_path_factory.mktemp("transform")
    with tft_beam.Context(temp_dir=str(tmp_path_factory.mktemp("beam"))):
        _, transform_fn = (TRAIN, metadata()) | tft_beam.AnalyzeAndTransformDataset(transform)
        transform_fn | tft_beam.WriteTransformFn(str(folder))  # noqa: B018 (Beam's way to write)
    return tft.TFTransformOutput(str(folder))


def raw(num_users=2):
    """Users with a history, and users of whom nothing is known, as a server gets them."""
    inputs = {}
    for profile in SPEC.profile:
        inputs[profile.name] = tf.constant(["F", ""][:num_users])
    for domain in SPEC.domains:
        inputs[domain.name] = tf.constant([["jazz", "pop"], ["", ""]][:num_users])
        inputs[f"{domain.name}_weights"] = tf.constant([[2.0, 1.0], [1.0, 1.0]][:num_users])
    return inputs


def make(transform_output, **training):
    model = InterestModel(
        SPEC,
        vocabulary_sizes(transform_output, SPEC),
        len(TAGS),
        dataclasses.replace(CONFIG, click_projection=False),
        TrainingConfig(**training),
        seed=1,
    )
    ids = {profile.name: tf.constant([0], tf.int64) for profile in SPEC.profile}
    for domain in SPEC.domains:
        ids[domain.name] = tf.ragged.constant([[0]], tf.int64)
        ids[f"{domain.name}_weights"] = tf.ragged.constant([[1.0]])
    model(ids)
    rng = np.random.default_rng(0)
    tower = model.tag_tower
    for weight in (tower.embeddings, tower.bias, tower.click_bias):
        weight.assign(rng.normal(size=weight.shape))
    tower.click_scale.assign(0.7)
    tower.click_offset.assign(-0.6)
    return model


@pytest.fixture(scope="module")
def saved(transform_output, tmp_path_factory):
    model, folder = make(transform_output), str(tmp_path_factory.mktemp("towers"))
    save_towers(model, transform_output, folder, CLICK_WEIGHT, CALIBRATION)
    return model, tf.saved_model.load(folder).signatures


def tables(model):
    """Of the multi-class head and the click head, by hand."""
    tower = model.tag_tower
    vectors, scale = tower.embeddings.numpy(), tower.click_scale.numpy()
    constants = tower.click_bias.numpy() + tower.click_offset.numpy()
    return (
        np.concatenate([vectors, tower.bias.numpy()[:, np.newaxis]], axis=1),
        np.concatenate([scale * vectors, constants[:, np.newaxis]], axis=1),
    )


def test_candidates_have_the_vectors_of_both_stages(saved):
    model, signatures = saved

    outputs = signatures[s.CANDIDATES]()

    multi_class, clicks = tables(model)
    assert [tag.decode() for tag in outputs[s.TAGS].numpy()] == TAGS
    np.testing.assert_allclose(outputs[s.CANDIDATE_EMBEDDINGS], multi_class, rtol=1e-6)
    np.testing.assert_allclose(outputs[s.CLICK_EMBEDDINGS], clicks, rtol=1e-6)
    mixed = (1 - CLICK_WEIGHT) * multi_class + CLICK_WEIGHT * clicks
    np.testing.assert_allclose(outputs[s.RANKING_EMBEDDINGS], mixed, rtol=1e-5)


@pytest.mark.parametrize("by_embedding", [False, True])
def test_score_tags_mixes_both_heads(saved, by_embedding):
    model, signatures = saved
    queries = signatures[s.EMBED_USERS](**raw())[s.QUERY_EMBEDDINGS]
    tags = tf.constant([["pop", "no tag", "folk"], ["", "jazz", "jazz"]])

    if by_embedding:
        scored = signatures[s.SCORE_TAGS_BY_EMBEDDING](
            query_embeddings=queries, candidate_tags=tags
        )
    else:
        scored = signatures[s.SCORE_TAGS](**raw(), candidate_tags=tags)

    multi_class, clicks = (queries.numpy() @ table.T for table in tables(model))
    expected = np.full((2, 3), np.nan)
    for row, place, tag in ((0, 0, "pop"), (0, 2, "folk"), (1, 1, "jazz"), (1, 2, "jazz")):
        expected[row, place] = multi_class[row, TAGS.index(tag)]
    np.testing.assert_allclose(scored[s.MULTI_CLASS_LOGITS], expected, rtol=1e-5)
    for row, place, tag in ((0, 0, "pop"), (0, 2, "folk"), (1, 1, "jazz"), (1, 2, "jazz")):
        expected[row, place] *= 1 - CLICK_WEIGHT
        expected[row, place] += CLICK_WEIGHT * clicks[row, TAGS.index(tag)]
    np.testing.assert_allclose(scored[s.SCORES], expected, rtol=1e-5)


def test_click_probabilities_are_calibrated_and_logits_are_not(saved):
    model, signatures = saved
    items = tf.constant([[["pop", "jazz"], ["folk", ""]], [["", ""], ["new age", "no tag"]]])

    scored = signatures[s.SCORE_ITEMS](**raw(), item_tags=items)

    queries = signatures[s.EMBED_USERS](**raw())[s.QUERY_EMBEDDINGS].numpy()
    offset = float(model.tag_tower.click_offset)
    singles = queries @ tables(model)[1].T - offset
    expected = np.array([[singles[0, :2].sum(), singles[0, 3]], [0.0, singles[1, 2]]]) + offset
    np.testing.assert_allclose(scored[s.CLICK_LOGITS], expected, rtol=1e-5)
    probabilities = 1 / (1 + np.exp(-(1.7 * expected - 0.4)))
    np.testing.assert_allclose(scored[s.CLICK_PROBABILITIES], probabilities, rtol=1e-5)


def test_weight_zero_keeps_the_multi_class_score(transform_output):
    towers = SavedTowers(make(transform_output), transform_output)

    outputs = towers.candidates()
    scored = towers.score_tags(
        tf.random.stateless_normal([2, 5], seed=(0, 0)), tf.constant([TAGS] * 2)
    )

    np.testing.assert_array_equal(outputs[s.RANKING_EMBEDDINGS], outputs[s.CANDIDATE_EMBEDDINGS])
    assert s.CLICK_EMBEDDINGS in outputs
    np.testing.assert_array_equal(scored[s.SCORES], scored[s.MULTI_CLASS_LOGITS])


def test_towers_without_a_click_loss_have_no_click_vectors(transform_output):
    outputs = SavedTowers(make(transform_output, joint_weight=0.0), transform_output).candidates()

    assert set(outputs) == {s.TAGS, s.CANDIDATE_EMBEDDINGS, s.RANKING_EMBEDDINGS}
    np.testing.assert_array_equal(outputs[s.RANKING_EMBEDDINGS], outputs[s.CANDIDATE_EMBEDDINGS])
