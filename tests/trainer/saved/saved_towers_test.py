"""Saved and loaded towers take strings, and give the values of the model in memory."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from tests.tfx_pipeline.toy_rows import SPEC, TAGS
from tests.trainer.saved.transform_oracle import model_features
from tests.trainer.towers.user_tower_test import CONFIG
from trainer.config import TrainingConfig
from trainer.contract import features as f
from trainer.contract import signatures as s
from trainer.contract.raw_features import raw_signature
from trainer.data.input_data import vocabulary_sizes
from trainer.evaluation.calibration import Calibration
from trainer.model import InterestModel
from trainer.saved.saved_towers import SavedTowers, save_towers

CLICK_WEIGHT = 0.3
CALIBRATION = Calibration(slope=1.7, intercept=-0.4)


@pytest.fixture(scope="module")
def transform_output(toy_graph):
    return toy_graph.output


def raw(num_users=2):
    """Returns users with a history, and unknown users, as a server gets them."""
    inputs = {}
    for profile in SPEC.profile:
        inputs[profile.name] = tf.constant(["F", ""][:num_users])
    for domain in SPEC.domains:
        inputs[domain.name] = tf.constant([["jazz", "pop"], ["", ""]][:num_users])
        inputs[f"{domain.name}_weights"] = tf.constant([[2.0, 1.0], [1.0, 1.0]][:num_users])
    return inputs


def make(transform_output, config=CONFIG, **training):
    model = InterestModel(
        SPEC,
        vocabulary_sizes(transform_output, SPEC),
        len(TAGS),
        dataclasses.replace(config, click_projection=False),
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
def folder(tmp_path_factory):
    return str(tmp_path_factory.mktemp("towers"))


@pytest.fixture(scope="module")
def saved(transform_output, folder):
    model = make(transform_output)
    save_towers(model, transform_output, folder, CLICK_WEIGHT, CALIBRATION)
    return model, tf.saved_model.load(folder).signatures


def tables(model):
    """Returns the tables of the multi-class head and the click head, by hand."""
    tower = model.tag_tower
    vectors, scale = tower.embeddings.numpy(), tower.click_scale.numpy()
    constants = tower.click_bias.numpy() + tower.click_offset.numpy()
    return (
        np.concatenate([vectors, tower.bias.numpy()[:, np.newaxis]], axis=1),
        np.concatenate([scale * vectors, constants[:, np.newaxis]], axis=1),
    )


def test_signatures_share_one_user_tower_and_no_keras_layer_is_described(saved, folder):
    content = saved_model_pb2.SavedModel()
    content.ParseFromString(Path(folder, "saved_model.pb").read_bytes())
    (graph,) = content.meta_graphs

    names = [function.signature.name for function in graph.graph_def.library.function]
    assert sum("_embed_columns_" in name for name in names) == 1
    objects = {node.user_object.identifier for node in graph.object_graph_def.nodes}
    assert not {name for name in objects if name.startswith("_tf_keras")}


def test_candidates_have_the_vectors_of_both_stages(saved):
    model, signatures = saved

    outputs = signatures[s.CANDIDATES]()

    multi_class, clicks = tables(model)
    assert [tag.decode() for tag in outputs[s.TAGS].numpy()] == TAGS
    np.testing.assert_allclose(outputs[s.CANDIDATE_EMBEDDINGS], multi_class, rtol=1e-6)
    np.testing.assert_allclose(outputs[s.CLICK_EMBEDDINGS], clicks, rtol=1e-6)
    mixed = (1 - CLICK_WEIGHT) * multi_class + CLICK_WEIGHT * clicks
    np.testing.assert_allclose(outputs[s.RANKING_EMBEDDINGS], mixed, rtol=1e-5)


def test_gaps_in_a_list_change_nothing(saved):
    _, signatures = saved
    whole, gaps = raw(1), raw(1)
    for domain in SPEC.domains:
        gaps[domain.name] = tf.constant([["", "jazz", "", "pop", ""]])
        gaps[f"{domain.name}_weights"] = tf.constant([[9.0, 2.0, 9.0, 1.0, 9.0]])

    expected, found = (
        signatures[s.EMBED_USERS](**inputs)[s.QUERY_EMBEDDINGS] for inputs in (whole, gaps)
    )

    np.testing.assert_array_equal(found, expected)
    explained, with_gaps = (
        signatures[s.EXPLAIN](**inputs, explained_tag=tf.constant(["jazz"]))
        for inputs in (whole, gaps)
    )
    for domain in SPEC.domains:
        for name in (s.attention_of(domain.name), s.contributions_of(domain.name)):
            np.testing.assert_allclose(with_gaps[name][:, 1:4:2], explained[name], atol=1e-6)
            np.testing.assert_array_equal(with_gaps[name][:, 0:5:2], np.zeros([1, 3]))


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf, -1.0])
@pytest.mark.parametrize("signature", [s.EMBED_USERS, s.SCORE_TAGS, s.EXPLAIN, s.EMBED_EXAMPLES])
def test_weight_that_no_log_has_is_refused_by_the_graph_itself(saved, signature, wrong):
    _, signatures = saved
    name = f"{SPEC.domains[0].name}_weights"
    inputs = replaced(raw(), name, [[1.0, wrong], [1.0, 1.0]])
    if signature == s.SCORE_TAGS:
        inputs[s.CANDIDATE_TAGS] = tf.constant([["jazz"], ["pop"]])
    if signature == s.EXPLAIN:
        inputs[s.EXPLAINED_TAG] = tf.constant(["jazz", "pop"])
    if signature == s.EMBED_EXAMPLES:
        example = tf.train.Example()
        example.features.feature[SPEC.domains[0].name].bytes_list.value.extend([b"jazz", b"pop"])
        example.features.feature[name].float_list.value.extend([1.0, wrong])
        inputs = {s.EXAMPLES: tf.constant([example.SerializeToString()])}
    message = f"`{name}` must hold finite numbers, 0 or more : Tensor had"
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        signatures[signature](**inputs)


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


DOMAINS = [domain.name for domain in SPEC.domains]


def transformed(transform_output, inputs, spec):
    """Features by the whole transform, of which the model may lack some."""
    everything = {**histories(SHORT), **inputs}
    found = model_features(transform_output, everything, SPEC)
    return {name: column for name, column in found.items() if name in spec.raw_names}


def histories(*rows):
    """Returns users with the same values and weights in every domain, padded."""
    width = max(len(row) for row in rows)
    values = [[value for value, _ in row] + [""] * (width - len(row)) for row in rows]
    weights = [[weight for _, weight in row] + [0.0] * (width - len(row)) for row in rows]
    inputs = {}
    for profile in SPEC.profile:
        inputs[profile.name] = tf.constant(["F"] * len(rows))
    for name in DOMAINS:
        inputs[name] = tf.reshape(tf.constant(values, tf.string), [len(rows), width])
        inputs[f"{name}_weights"] = tf.reshape(tf.constant(weights, tf.float32), [len(rows), width])
    return inputs


# Twice the same value; two that training never saw, of which some domains have one bucket.
LONG = [("jazz", 2.0), ("pop", 1.0), ("never seen", 1.0), ("pop", 3.0), ("unheard of", 2.0)]
SHORT = [("folk", 1.0)]


def score_of(signatures, inputs, tag):
    scored = signatures[s.SCORE_TAGS](**inputs, candidate_tags=tf.constant([[tag]]))
    return scored[s.SCORES].numpy().item()


def replaced(inputs, name, value):
    return inputs | {name: tf.constant(value, inputs[name].dtype)}


def test_contributions_are_differences_of_what_score_tags_says(saved):
    _, signatures = saved

    found = signatures[s.EXPLAIN](**histories(LONG, SHORT), explained_tag=tf.constant(["pop"] * 2))

    for row, history in enumerate((LONG, SHORT)):
        inputs = histories(history)
        score = score_of(signatures, inputs, "pop")
        np.testing.assert_allclose(found[s.SCORE][row], score, rtol=1e-5)
        for domain in DOMAINS:
            expected = np.zeros(len(LONG))
            for place in range(len(history)):
                rest = histories(history[:place] + history[place + 1 :])
                names = (domain, f"{domain}_weights")
                without = inputs | {name: rest[name] for name in names}
                expected[place] = score - score_of(signatures, without, "pop")
            contributions = found[s.contributions_of(domain)][row]
            np.testing.assert_allclose(contributions, expected, rtol=1e-3, atol=1e-4)
        emptied = [replaced(inputs, profile.name, [""]) for profile in SPEC.profile]
        emptied += [replaced(inputs, name, np.full([1, 1], "")) for name in DOMAINS]
        for name, without in zip(DOMAINS, emptied[len(SPEC.profile) :], strict=True):
            without[f"{name}_weights"] = tf.zeros([1, 1])
        np.testing.assert_allclose(
            found[s.CONTRIBUTIONS_BY_FEATURE][row],
            [score - score_of(signatures, without, "pop") for without in emptied],
            rtol=1e-3,
            atol=1e-4,
        )
    features = [profile.name for profile in SPEC.profile] + DOMAINS
    assert found[s.FEATURES].numpy().astype(str).tolist() == [features] * 2
    assert np.abs(found[s.contributions_of("clicked")].numpy()[0]).max() > 0.01


def test_attention_lies_beside_the_callers_values(saved, transform_output):
    model, signatures = saved
    inputs = histories(LONG, SHORT)

    found = signatures[s.EXPLAIN](**inputs, explained_tag=tf.constant(["pop", "jazz"]))

    features = model_features(transform_output, inputs, SPEC)
    attention = model.user_tower.attention(features)
    for domain in DOMAINS:
        of_domain = found[s.attention_of(domain)].numpy()
        for row, history in enumerate((LONG, SHORT)):
            fields = [attention[name][row].numpy() for name in (domain, f"{domain}_log")]
            expected = np.zeros(len(LONG))
            expected[: len(history)] = np.mean(fields, axis=(0, 2))
            np.testing.assert_allclose(of_domain[row], expected, atol=1e-6)
        np.testing.assert_allclose(of_domain.sum(axis=1), [1, 1], rtol=1e-5)
    heads = attention["fields"].numpy().mean(axis=2)
    of_clicked = [i for i, x in enumerate(model.user_tower.field_features) if x == "clicked"]
    names = found[s.FEATURES].numpy()[0].tolist()
    by_feature = found[s.ATTENTION_BY_FEATURE].numpy()[:, names.index(b"clicked")]
    np.testing.assert_allclose(by_feature, heads[:, of_clicked].sum(axis=1), atol=1e-6)
    assert len(of_clicked) == 3


def test_top_contributors_are_the_largest_of_all_domains(saved):
    _, signatures = saved
    inputs = histories(LONG, SHORT)

    found = signatures[s.EXPLAIN](**inputs, explained_tag=tf.constant(["jazz", "pop"]))

    for row, history in enumerate((LONG, SHORT)):
        rows = [
            (domain, value, found[s.contributions_of(domain)].numpy()[row, place])
            for domain in DOMAINS
            for place, (value, _) in enumerate(history)
        ]
        # Five domains: 25 values of the one, 5 of the other.
        rows = sorted(rows, key=lambda entry: -abs(entry[2]))[:10]
        rows += [("", "", 0.0)] * (10 - len(rows))
        outputs = (s.TOP_DOMAINS, s.TOP_VALUES, s.TOP_CONTRIBUTIONS)
        tops = [found[name].numpy()[row].tolist() for name in outputs]
        assert list(zip(*tops, strict=True)) == [(d.encode(), v.encode(), c) for d, v, c in rows]


def test_explanation_of_a_user_is_that_of_a_batch(saved):
    _, signatures = saved
    both = signatures[s.EXPLAIN](
        **histories(LONG, SHORT), explained_tag=tf.constant(["jazz", "pop"])
    )

    for row, (history, tag) in enumerate(((LONG, "jazz"), (SHORT, "pop"))):
        alone = signatures[s.EXPLAIN](**histories(history), explained_tag=tf.constant([tag]))
        for name, column in alone.items():
            found = column.numpy()[0]
            # In a batch it is padded.
            expected = np.resize(both[name][row].numpy(), found.shape)
            if column.dtype == tf.string:
                assert found.tolist() == expected.tolist()
            else:
                np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)


def test_user_without_a_history_is_explained_by_the_profile(saved):
    _, signatures = saved
    inputs = histories([])

    found = signatures[s.EXPLAIN](**inputs, explained_tag=tf.constant(["pop"]))

    score = score_of(signatures, inputs, "pop")
    np.testing.assert_allclose(found[s.SCORE], [score], rtol=1e-5)
    without = [score_of(signatures, replaced(inputs, p.name, [""]), "pop") for p in SPEC.profile]
    changes = found[s.CONTRIBUTIONS_BY_FEATURE].numpy()[0]
    np.testing.assert_allclose(changes[: len(without)], score - np.array(without), atol=1e-5)
    np.testing.assert_allclose(changes[len(without) :], 0, atol=1e-5)
    attention = found[s.ATTENTION_BY_FEATURE].numpy()[0]
    np.testing.assert_allclose(attention[: len(without)].sum(), 1, rtol=1e-5)
    assert (attention[len(without) :] == 0).all()
    assert set(found[s.TOP_VALUES].numpy().ravel()) == {b""}
    assert (found[s.TOP_CONTRIBUTIONS].numpy() == 0).all()
    assert found[s.contributions_of("clicked")].shape == (1, 0)


def test_unknown_tag_has_no_contributors(saved):
    _, signatures = saved

    found = signatures[s.EXPLAIN](
        **histories(LONG, SHORT), explained_tag=tf.constant(["no tag", "pop"])
    )

    assert np.isnan(found[s.SCORE]).tolist() == [True, False]
    contributions = found[s.contributions_of("clicked")].numpy()
    assert np.isnan(contributions[0]).all() and np.isfinite(contributions[1]).all()
    assert np.isnan(found[s.CONTRIBUTIONS_BY_FEATURE].numpy()).all(axis=1).tolist() == [True, False]
    assert set(found[s.TOP_VALUES].numpy()[0]) == {b""}
    assert (found[s.TOP_CONTRIBUTIONS].numpy()[0] == 0).all()
    # What the tower looks at does not depend on the tag.
    np.testing.assert_allclose(tf.reduce_sum(found[s.ATTENTION_BY_FEATURE], 1), [1, 1], rtol=1e-5)


@pytest.mark.parametrize(
    "spec", [{"profile": SPEC.profile}, {"domains": SPEC.domains}], ids=["profile", "domains"]
)
def test_features_of_one_kind_are_explained(transform_output, spec):
    spec = f.FeatureSpec(**spec, vocabularies=SPEC.vocabularies if "domains" in spec else {})
    model = InterestModel(
        spec, vocabulary_sizes(transform_output, spec), len(TAGS), CONFIG, TrainingConfig()
    )
    inputs = {n: c for n, c in histories(SHORT).items() if n in raw_signature(spec)}
    model.query_embeddings(transformed(transform_output, inputs, spec))
    towers = SavedTowers(model, transform_output)
    tags = tf.constant(["pop"])

    found = towers.explain_by_embedding(inputs, towers.ranking_embeddings(tags))

    scored = towers.score_tags(towers.query_embeddings(inputs), tags[:, tf.newaxis])
    np.testing.assert_allclose(found[s.SCORE], scored[s.SCORES][:, 0], rtol=1e-5)
    assert found[s.FEATURES].shape == (1, len(spec.profile) + len(spec.domains))
    assert found[s.TOP_VALUES].numpy()[0].astype(bool).sum() == len(spec.domains)
