"""Neighbours of tags equal those by cosines in numpy."""

import numpy as np
import pytest
import tensorflow as tf

from serving.index.scann_index import ScannIndex, SearchParameters
from serving.index.top_k import BruteForceIndex
from serving.servable.export import export_servable
from serving.servable.retrieval import TagRetrieval
from serving.servable.tag_filter import TagFilter
from serving.servable.tag_neighbours import TagNeighbours
from tests.toy_towers import ToyTowers
from trainer.contract import signatures as s

NUM_TAGS, SIZE, K = 40, 5, 7
NO_DIRECTION = 11  # a tag whose vector is its bias alone


@pytest.fixture(scope="module")
def vectors():
    """Returns vectors whose last column, the bias, would decide alone if it were used."""
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(NUM_TAGS, SIZE)).astype(np.float32)
    vectors[:, -1] = 30 * rng.normal(size=NUM_TAGS)
    vectors[NO_DIRECTION, :-1] = 0
    # Lengths of all sizes.
    vectors[:, :-1] *= 10 ** rng.uniform(-3, 3, (NUM_TAGS, 1)).astype(np.float32)
    return vectors


def names(numbers):
    return [f"t{j}".encode() for j in numbers]


def make(vectors, k=K, **arguments):
    tags = names(range(len(vectors)))
    return TagNeighbours(
        tf.Variable(tags), tf.Variable(vectors), TagFilter(np.array(tags, object)), k, **arguments
    )


def slow_neighbours(vectors, number, k, blocked=()):
    """Returns tags and cosines of one tag's neighbours, with plain lists."""
    found = []
    own = [float(x) for x in vectors[number][:-1]]
    for j, vector in enumerate(vectors):
        other = [float(x) for x in vector[:-1]]
        lengths = sum(x * x for x in own) ** 0.5 * sum(x * x for x in other) ** 0.5
        if j != number and j not in blocked and lengths > 0:
            product = sum(x * y for x, y in zip(own, other, strict=True))
            found.append((-product / lengths, j))
    return [(f"t{j}".encode(), -cosine) for cosine, j in sorted(found)[:k]]


def assert_neighbours(answer, expected, k):
    assert answer[s.COUNT].numpy().tolist() == [len(rows) for rows in expected]
    full = [[*rows, *[(b"", -np.inf)] * (k - len(rows))] for rows in expected]
    assert answer[s.TAGS].numpy().tolist() == [[tag for tag, _ in rows] for rows in full]
    cosines = [[cosine for _, cosine in rows] for rows in full]
    np.testing.assert_allclose(answer[s.SCORES], cosines, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("max_cosines", [1, 3 * NUM_TAGS, 2**24])
def test_neighbours_of_every_tag_equal_the_loops_whatever_fits_in_memory(vectors, max_cosines):
    asked = [j for j in range(NUM_TAGS) if j != NO_DIRECTION]

    answer = make(vectors, max_cosines=max_cosines).search(tf.constant(names(asked)))

    expected = [slow_neighbours(vectors, j, K) for j in asked]
    assert_neighbours(answer, expected, K)
    # The inner product, which includes the bias, would give other tags.
    products = vectors @ vectors[0]
    products[0] = -np.inf
    assert expected[0][0][0] != names([np.argmax(products)])[0]


def test_tags_without_a_direction_have_no_neighbours_and_are_nobodys(vectors):
    everything = make(vectors, k=NUM_TAGS)

    answer = everything.search(tf.constant(names([NO_DIRECTION, 0])))

    assert_neighbours(answer, [[], slow_neighbours(vectors, 0, NUM_TAGS)], NUM_TAGS)
    assert answer[s.COUNT].numpy().tolist() == [0, NUM_TAGS - 2]
    assert f"t{NO_DIRECTION}".encode() not in answer[s.TAGS].numpy()[1]


def test_unknown_and_empty_tags_have_no_neighbours(vectors):
    answer = make(vectors).search(tf.constant(["", "t3", "never seen"]))

    assert_neighbours(answer, [[], slow_neighbours(vectors, 3, K), []], K)


def test_tag_twice_and_a_tag_with_the_same_vector(vectors):
    twins = np.concatenate([vectors, vectors[3:4]])
    twins[-1, -1] = -5  # but for the bias

    answer = make(twins).search(tf.constant(["t3", "t3", f"t{NUM_TAGS}"]))

    tags, scores = answer[s.TAGS].numpy(), answer[s.SCORES].numpy()
    assert tags[0].tolist() == tags[1].tolist()
    assert tags[:, 0].tolist() == names([NUM_TAGS, NUM_TAGS, 3])
    np.testing.assert_allclose(scores[:, 0], 1, rtol=1e-6)
    assert tags[2, 1:].tolist() == tags[0, 1:].tolist()


def test_single_tag_has_no_neighbour(vectors):
    answer = make(vectors[:1], k=1).search(tf.constant(["t0"]))

    assert_neighbours(answer, [[]], 1)


def test_no_tag_asked_about_is_an_empty_answer(vectors):
    answer = make(vectors).search(tf.zeros([0], tf.string))

    assert {name: column.shape.as_list() for name, column in answer.items()} == {
        s.TAGS: [0, K],
        s.SCORES: [0, K],
        s.COUNT: [0],
    }


@pytest.mark.parametrize("kind", ["exact", "scann"])
def test_saved_servable_answers_with_served_tags_alone(vectors, kind, tmp_path):
    blocked = {2, 3, 17}
    served_rows = np.array([j for j in range(NUM_TAGS) if j not in blocked])
    ToyTowers(np.ones((1, SIZE)), vectors).save(tmp_path / "towers")
    index = (
        BruteForceIndex(vectors[served_rows])
        if kind == "exact"
        else ScannIndex(vectors[served_rows], 4, SearchParameters(4, NUM_TAGS))
    )
    towers = tf.saved_model.load(str(tmp_path / "towers"))
    module = TagRetrieval(towers, index, K, served_rows=served_rows)
    export_servable(module, str(tmp_path / "1"), {})
    served = tf.saved_model.load(str(tmp_path / "1")).signatures[s.SIMILAR_TAGS]
    asked = range(NUM_TAGS)

    answer = served(similar_to=tf.constant(names(asked)))

    expected = [
        [] if j in blocked | {NO_DIRECTION} else slow_neighbours(vectors, j, K, blocked)
        for j in asked
    ]
    assert_neighbours(answer, expected, K)
    assert not set(names(blocked)) & set(answer[s.TAGS].numpy().ravel())
