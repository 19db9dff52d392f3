"""Scores of named tags and items, and lists of one width, from a real server."""

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.framework import types_pb2
from tensorflow_serving.apis import get_model_metadata_pb2

from serving.client import TagClient
from tagtower_client.dialogues import Dialogues
from tests.serving.client.listening_towers import CLICKS, TAGS, VECTORS
from trainer.contract import signatures as s

AUSTRIAN = {"country": "at", "clicked_tags": ["jazz", "folk"], "clicked_tags_weights": [2.0, 0.5]}
NOBODY: dict = {}
# [0, 2, 0] + 2 * [3, 1, 0] + 0.5 * [1, -1, 2], and the vector of an unknown country.
AUSTRIAN_VECTOR, NOBODY_VECTOR = np.array([6.5, 3.5, 1.0]), np.array([1.0, 0.0, 0.0])


def vector(tag):
    return VECTORS[TAGS.index(tag)]


def clicks(*tags):
    return sum((CLICKS[TAGS.index(tag)] for tag in tags), np.zeros(3))


@pytest.fixture(scope="module")
def signatures(version_dir):
    """Yields signatures; keeps the model alive, because they hold its variables weakly."""
    model = tf.saved_model.load(str(version_dir))
    yield model.signatures


@pytest.fixture
def client(target):
    with TagClient(target, timeout_s=60) as client:
        yield client


# score_tags.


def test_named_tags_get_the_scores_and_probabilities_of_the_signature(client, signatures):
    asked = [["folk", "jazz", "metal"], ["blues"]]

    answer = client.score_tags([AUSTRIAN, NOBODY], asked)

    assert answer.model_version == 1
    first, second = answer.users
    assert (first.tags, second.tags) == (("folk", "jazz", "metal"), ("blues",))
    assert first.scores == tuple(AUSTRIAN_VECTOR @ vector(tag) for tag in asked[0])
    assert second.scores == (NOBODY_VECTOR @ vector("blues"),)
    in_process = signatures[s.SCORE_TAGS](
        country=tf.constant(["at", ""]),
        clicked_tags=tf.constant([["jazz", "folk"], ["", ""]]),
        clicked_tags_weights=tf.constant([[2.0, 0.5], [0.0, 0.0]]),
        candidate_tags=tf.constant([asked[0], ["blues", "", ""]]),
    )[s.PROBABILITIES].numpy()
    np.testing.assert_allclose(first.probabilities, in_process[0], rtol=1e-6)
    np.testing.assert_allclose(second.probabilities, in_process[1, :1], rtol=1e-6)
    assert 0 < min(first.probabilities) < max(first.probabilities) < 1


def test_scores_of_named_tags_are_those_of_their_profile(client):
    (profile,) = client.retrieve([AUSTRIAN]).profiles

    (scored,) = client.score_tags([AUSTRIAN], [profile.tags]).users

    assert scored.tags == profile.tags and len(scored.tags) == 3
    assert scored.scores == profile.scores
    np.testing.assert_allclose(scored.probabilities, profile.probabilities, rtol=1e-6)


def test_unknown_tag_is_nan_in_its_place(client):
    (scored,) = client.score_tags([AUSTRIAN], [["jazz", "no tag", "jazz"]]).users

    assert np.isnan(scored.scores).tolist() == [False, True, False]
    assert np.isnan(scored.probabilities).tolist() == [False, True, False]
    assert scored.scores[0] == scored.scores[2] == AUSTRIAN_VECTOR @ vector("jazz")


def test_user_may_ask_for_no_tag(client):
    answer = client.score_tags([AUSTRIAN, NOBODY], [[], ["jazz"]])
    nothing = client.score_tags([AUSTRIAN], [[]])

    assert [user.scores for user in answer.users] == [(), (3.0,)]
    assert nothing.users[0].probabilities == ()


@pytest.mark.parametrize(
    ("tags", "message"),
    [
        (["jazz"], "`candidate_tags` must be a list of lists of strings"),
        ([["jazz"], []], "one list for each of the 1 instances. Received: 2 lists"),
        ([[b"jazz"]], "`candidate_tags` must be a list of lists of strings"),
    ],
)
def test_tags_that_are_no_lists_of_each_user_are_refused(client, tags, message):
    with pytest.raises(ValueError, match=message):
        client.score_tags([AUSTRIAN], tags)


# score_items.


def test_items_get_the_logits_and_probabilities_of_the_signature(client):
    items = [[["jazz", "folk"], ["metal"], []], [["blues", "techno", "folk"]]]

    answer = client.score_items([AUSTRIAN, NOBODY], items)

    first, second = answer.users
    expected = [AUSTRIAN_VECTOR @ clicks(*tags) for tags in items[0]]
    assert first.logits == tuple(expected) == (11.0, 3.0, 0.0)
    assert second.logits == (NOBODY_VECTOR @ clicks(*items[1][0]),) == (1.0,)
    np.testing.assert_allclose(first.probabilities, 1 / (1 + np.exp([-11.0, -3.0, 0])), rtol=1e-6)
    assert answer.model_version == 1


def test_user_may_have_no_item(client):
    answer = client.score_items([AUSTRIAN, NOBODY], [[], [["jazz"]]])
    nothing = client.score_items([AUSTRIAN], [[]])

    assert [user.logits for user in answer.users] == [(), (1.0,)]
    assert nothing.users[0].logits == nothing.users[0].probabilities == ()


@pytest.mark.parametrize(
    ("items", "message"),
    [
        ([["jazz"]], "`item_tags` must be, for each instance, a list of lists of strings"),
        (["jazz"], "`item_tags` must be, for each instance, a list of lists of strings"),
        ([[["jazz"]], [["jazz"]]], "one list for each of the 1 instances. Received: 2 lists"),
    ],
)
def test_items_that_are_no_lists_of_tags_are_refused(client, items, message):
    with pytest.raises(ValueError, match=message):
        client.score_items([AUSTRIAN], items)


# list_width.


def answers(client):
    users = [AUSTRIAN, {"clicked_tags": ["metal"]}, NOBODY]
    return [
        client.retrieve(users),
        client.retrieve_filtered(users, exclude_tags=[["jazz"], [], ["folk", "blues"]]),
        client.score_tags(users, [["jazz"], ["folk", "no", "blues"], []]).users[0],
        client.score_items(users, [[["jazz"], []], [["folk", "jazz"]], []]),
        client.explain(users, ["jazz", "metal", "folk"]),
    ]


def test_answers_are_the_same_whatever_the_width(target, client):
    with TagClient(target, timeout_s=60, list_width=9) as wide:
        assert answers(wide) == answers(client)


def test_requests_of_one_width_have_tensors_of_one_shape():
    def shapes(features, tags, items):
        slots = {
            "clicked_tags": (True, True),
            "clicked_tags_weights": (False, True),
            "country": (True, False),
        }
        found = {}
        for name, arguments in (
            ("score_tags", (features, tags)),
            ("score_items", (features, items)),
        ):
            dialogue = getattr(Dialogues("default", 4), name)(*arguments)
            next(dialogue)
            request = dialogue.send(metadata(name, slots)).request
            found[name] = {
                key: [dim.size for dim in tensor.tensor_shape.dim]
                for key, tensor in request.inputs.items()
            }
        return found

    expected = {"clicked_tags": [1, 4], "clicked_tags_weights": [1, 4], "country": [1]}
    for features, tags, items in (
        ([AUSTRIAN], [["jazz"]], [[["jazz", "folk"], []]]),
        ([NOBODY], [[]], [[]]),
    ):
        assert shapes(features, tags, items) == {
            "score_tags": expected | {"candidate_tags": [1, 4]},
            "score_items": expected | {"item_tags": [1, 4, 4]},
        }


def metadata(signature_name, slots):
    """Returns a server's description of a signature."""
    signatures = get_model_metadata_pb2.SignatureDefMap()
    for name, (is_text, is_list) in slots.items():
        tensor = signatures.signature_def[signature_name].inputs[name]
        tensor.dtype = types_pb2.DT_STRING if is_text else types_pb2.DT_FLOAT
        for _ in range(1 + is_list):
            tensor.tensor_shape.dim.add(size=-1)
    response = get_model_metadata_pb2.GetModelMetadataResponse()
    response.metadata["signature_def"].Pack(signatures)
    return response


@pytest.mark.parametrize(
    ("call", "name", "received"),
    [
        (lambda c: c.retrieve([AUSTRIAN]), "clicked_tags", 2),
        (lambda c: c.retrieve_filtered([NOBODY], exclude_tags=[["a", "b"]]), "exclude_tags", 2),
        (lambda c: c.score_tags([NOBODY], [["a", "b", "c"]]), "candidate_tags", 3),
        (lambda c: c.score_items([NOBODY], [[["a"], ["b"]]]), "item_tags", 2),
        (lambda c: c.score_items([NOBODY], [[["a", "b"]]]), "item_tags", 2),
    ],
)
def test_list_beyond_the_width_is_refused_with_its_name(target, call, name, received):
    message = f"`{name}` must have at most `list_width`=1 values. Received: {received}."
    with TagClient(target, timeout_s=60, list_width=1) as client:
        with pytest.raises(ValueError, match=message):
            call(client)
