"""Explanations with memory, for towers with a list in the profile and long histories."""

import numpy as np
import pytest
import tensorflow as tf

from tests.serving.real_exports import NUM_USERS, make_exports
from tests.trainer.contract.memory_test import slow_mixture
from trainer.contract import features as f
from trainer.contract import signatures as s
from trainer.contract.memory import DomainMemory

MEMORY = (DomainMemory("clicked", 1.0, 1.0),)
SPEC = f.FeatureSpec(
    profile=(f.ProfileFeature("gender"), f.ProfileFeature("hobbies", type="list")),
    domains=(f.Domain("clicked"),),
)
TAG = "tag 01"


@pytest.fixture(scope="module")
def exports(tmp_path_factory):
    return make_exports(tmp_path_factory.mktemp("exports"), memory=MEMORY, spec=SPEC)


@pytest.fixture(scope="module")
def signatures(exports):
    return tf.saved_model.load(str(exports.exact)).signatures


@pytest.fixture(scope="module")
def towers(exports):
    return tf.saved_model.load(str(exports.exact.parents[1] / "towers")).signatures


@pytest.fixture(scope="module")
def users(exports):
    """Returns gender, hobbies, clicked tags and weights of users, who all clicked `TAG`."""
    found = []
    for example in exports.examples:
        feature = tf.train.Example.FromString(example).features.feature
        tags = [tag.decode() for tag in feature["clicked"].bytes_list.value if tag != TAG.encode()]
        weights = list(feature["clicked_weights"].float_list.value)[: len(tags)]
        hobbies = [value.decode() for value in feature["hobbies"].bytes_list.value]
        gender = feature["gender"].bytes_list.value[0].decode()
        found.append((gender, hobbies, [*tags, TAG], [*weights, 3.0]))
    return found


def padded(rows, fill, dtype):
    width = max(map(len, rows))
    values = [[*row, *[fill] * (width - len(row))] for row in rows]
    return tf.reshape(tf.constant(values, dtype), [len(rows), width])


def tensors(users):
    genders, hobbies, tags, weights = zip(*users, strict=True)
    return {
        "gender": tf.constant(genders),
        "hobbies": padded(hobbies, "", tf.string),
        "clicked": padded(tags, "", tf.string),
        "clicked_weights": padded(weights, 1.0, tf.float32),
    }


def explain(signatures, users):
    inputs = tensors(users) | {s.EXPLAINED_TAG: tf.constant([TAG] * len(users))}
    return {name: column.numpy() for name, column in signatures[s.EXPLAIN](**inputs).items()}


def log_mixture(log_p, tags, weights):
    own = {"clicked": [(0 if t == TAG else -1, w) for t, w in zip(tags, weights, strict=True)]}
    return np.log(slow_mixture(MEMORY, own, [np.exp(log_p)])[0])


def log_normalizer(found, of_towers):
    """Returns log Z by user, from the memory's part of the score."""
    return of_towers[s.SCORE] - (found[s.SCORE] - found[s.MEMORY_CONTRIBUTION])


def test_a_list_of_the_profile_is_explained_in_the_units_of_the_score(signatures, towers, users):
    found, of_towers = explain(signatures, users), explain(towers, users)

    log_z = log_normalizer(found, of_towers)
    name = s.contributions_of("hobbies")
    for row, (_, hobbies, tags, weights) in enumerate(users):
        whole = log_mixture(of_towers[s.SCORE][row] - log_z[row], tags, weights)
        assert found[s.SCORE][row] == pytest.approx(whole, abs=1e-4)
        for place in range(len(hobbies)):
            # The history stays, and the logit is the towers' without the value.
            logit = of_towers[s.SCORE][row] - of_towers[name][row, place]
            expected = whole - log_mixture(logit - log_z[row], tags, weights)
            assert found[name][row, place] == pytest.approx(expected, abs=1e-4)
        np.testing.assert_array_equal(found[name][row, len(hobbies) :], 0)
    # Memory takes its part of the shares: they differ from the towers' own.
    is_value = tensors(users)["hobbies"].numpy() != b""
    ratio = np.abs(found[name][is_value]).sum() / np.abs(of_towers[name][is_value]).sum()
    assert 0 < ratio < 0.5


def test_a_list_of_the_profile_is_among_the_top_values(signatures, users):
    found = explain(signatures, users)

    num_hobbies = 0
    for row, (_, hobbies, tags, _) in enumerate(users):
        values = [("hobbies", value) for value in hobbies] + [("clicked", tag) for tag in tags]
        contributions = [
            *found[s.contributions_of("hobbies")][row, : len(hobbies)],
            *found[s.contributions_of("clicked")][row, : len(tags)],
        ]
        expected = {
            (*value, float(contribution))
            for value, contribution in zip(values, contributions, strict=True)
            if abs(contribution) >= sorted(map(abs, contributions))[-10:][0]
        }
        top = {
            (domain.decode(), value.decode(), float(contribution))
            for domain, value, contribution in zip(
                *(found[n][row] for n in (s.TOP_DOMAINS, s.TOP_VALUES, s.TOP_CONTRIBUTIONS)),
                strict=True,
            )
            if value
        }
        assert top == expected
        num_hobbies += sum(domain == "hobbies" for domain, _, _ in top)
    assert num_hobbies > NUM_USERS


@pytest.mark.parametrize("weight", [2e7, 2e38])
def test_values_of_a_heavy_history_are_explained_by_exact_numbers(
    signatures, towers, users, weight
):
    heavy = [
        ("F", ["a"], ["tag 02", "tag 03"], [weight, weight]),
        ("F", ["a"], [TAG, "tag 03"], [weight, weight]),
        ("F", ["a"], [TAG, "tag 03", "tag 04"], [1.0, weight, 2.0]),
        ("M", [], [TAG], [weight]),
    ]

    found, of_towers = explain(signatures, heavy), explain(towers, heavy)

    queries = signatures[s.EMBED_USERS](**tensors(heavy))[s.QUERY_EMBEDDINGS]
    asked = {s.QUERY_EMBEDDINGS: queries, s.CANDIDATE_TAGS: tf.constant([[TAG]] * len(heavy))}
    logits = towers[s.SCORE_TAGS_BY_EMBEDDING](**asked)[s.SCORES].numpy()[:, 0]
    np.testing.assert_allclose(of_towers[s.SCORE], logits, rtol=1e-4)
    log_z = log_normalizer(found, of_towers)
    names = [name.decode() for name in found[s.FEATURES][0]]
    for row, (_, _, tags, weights) in enumerate(heavy):
        logit = of_towers[s.SCORE][row]
        whole = log_mixture(logit - log_z[row], tags, weights)
        assert found[s.SCORE][row] == pytest.approx(whole, abs=1e-3)
        for place in range(len(tags)):
            without = log_mixture(
                logit - of_towers[s.contributions_of("clicked")][row, place] - log_z[row],
                tags[:place] + tags[place + 1 :],
                weights[:place] + weights[place + 1 :],
            )
            contribution = found[s.contributions_of("clicked")][row, place]
            assert contribution == pytest.approx(whole - without, abs=1e-3)
        place = names.index("clicked")
        without = logit - of_towers[s.CONTRIBUTIONS_BY_FEATURE][row, place] - log_z[row]
        contribution = found[s.CONTRIBUTIONS_BY_FEATURE][row, place]
        assert contribution == pytest.approx(whole - without, abs=1e-3)
