"""Other answers count as differences; other last digits and swapped near-ties do not."""

import numpy as np
import pytest
from tensorflow_serving.apis import predict_pb2

from serving.wire.recorded_answers import difference
from tagtower_client.tensor_proto import write_numpy

NUM_TAGS = 20
TAGS = np.array([[b"t%02d" % i for i in range(NUM_TAGS)]] * 2, object)
SCORES = np.linspace([4.0, -1.0], [-4.0, -9.0], NUM_TAGS, axis=1, dtype=np.float32)


def response(**outputs):
    message = predict_pb2.PredictResponse()
    for name, array in outputs.items():
        write_numpy(message.outputs[name], array)
    return message


def lists(tags=TAGS, scores=SCORES, **others):
    probabilities = 1 / (1 + np.exp(-scores))
    return response(tags=tags, scores=scores, probabilities=probabilities, **others)


def exchanged(array, i, j):
    changed = array.copy()
    changed[..., [i, j]] = changed[..., [j, i]]
    return changed


@pytest.mark.parametrize("is_approximate", [False, True])
def test_last_digits_are_no_difference(is_approximate):
    noise = np.random.default_rng(0).normal(scale=1e-3, size=SCORES.shape).astype(np.float32)
    assert difference(lists(), lists(scores=SCORES + noise), is_approximate) is None


def test_near_ties_may_change_places_and_others_not():
    scores = SCORES.copy()
    scores[:, 4] = scores[:, 5] + 0.004
    assert difference(lists(scores=scores), lists(exchanged(TAGS, 4, 5), scores), False) is None
    for i, j in ((0, 1), (3, 4), (2, 17)):
        found = difference(lists(scores=scores), lists(exchanged(TAGS, i, j), scores), False)
        assert found == "`tags` differs in 2 of 2 values"
        assert difference(lists(scores=scores), lists(exchanged(TAGS, i, j), scores), True)


def test_tag_at_the_end_of_a_list_may_be_the_one_after_it():
    tags, scores = TAGS.copy(), SCORES.copy()
    tags[0, -1], scores[0, -1] = b"next", scores[0, -1] - 0.01
    assert difference(lists(), lists(tags, scores), False) is None
    tags, scores = TAGS.copy(), SCORES.copy()
    tags[0, 3] = b"other"
    assert "`tags` differs in 1 of 2" in difference(lists(), lists(tags, scores), False)


def test_approximate_index_may_lose_a_tenth_of_a_list_and_no_more():
    def without(*places):
        kept = [i for i in range(NUM_TAGS) if i not in places]
        new = np.array([[b"new%d" % i for i in range(len(places))]] * 2, object)
        after = SCORES[:, -1:] - 0.3 * np.arange(1, len(places) + 1, dtype=np.float32)
        tags = np.concatenate([TAGS[:, kept], new], axis=1)
        return lists(tags, np.concatenate([SCORES[:, kept], after], axis=1))

    assert difference(lists(), without(3, 8), is_approximate=True) is None
    assert difference(lists(), without(3, 8), is_approximate=False)
    assert difference(lists(), without(3, 8, 11), is_approximate=True)


@pytest.mark.parametrize("is_approximate", [False, True])
@pytest.mark.parametrize(
    ("recorded", "answered", "output"),
    [
        ({"count": np.array([3], np.int32)}, {"count": np.array([4], np.int32)}, "count"),
        ({"count": np.array([3], np.int32)}, {"count": np.array([3], np.int64)}, "count"),
        ({"v": np.ones([2, 3], np.float32)}, {"v": np.ones([2, 4], np.float32)}, "v"),
        ({"v": np.ones([2, 3], np.float32)}, {}, "v"),
        ({"v": np.float32([1, 100])}, {"v": np.float32([1, 102])}, "v"),
        ({"v": np.float32([1, 100])}, {"v": np.float32([1, np.nan])}, "v"),
        ({"v": np.float32([1, np.inf])}, {"v": np.float32([1, -np.inf])}, "v"),
        (
            {"features": np.array([b"a"], object)},
            {"features": np.array([b"b"], object)},
            "features",
        ),
    ],
)
def test_difference_names_the_output(recorded, answered, output, is_approximate):
    found = difference(response(**recorded), response(**answered), is_approximate)
    assert f"`{output}`" in found


def test_numbers_that_are_none_and_places_that_are_empty_are_equal_to_themselves():
    values = {
        "v": np.float32([np.nan, np.inf, -np.inf]),
        "empty": np.zeros([2, 0], np.float32),
        "texts": np.zeros([2, 0], object),
        "top": np.array([[b"a", b"a", b"", b""]], object),
        "contributions": np.float32([[-2.0, 0.5, 0.0, 0.0]]),
    }
    assert difference(response(**values), response(**values), False) is None
