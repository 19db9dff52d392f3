"""Two stages: what the index proposes, what orders it, and what a client gets of it."""

import json

import numpy as np
import pytest
import tensorflow as tf

from serving.batch.servable_caller import ServableCaller
from serving.index.scann_index import ScannIndex, SearchParameters
from serving.index.top_k import BruteForceIndex
from serving.servable.export import build_signatures, export_servable
from serving.servable.retrieval import TagRetrieval
from tests.toy_towers import ToyTowers
from trainer.contract import signatures as s

NUM_USERS, NUM_TAGS, SIZE = 25, 40, 3
SLOPE, INTERCEPT = 0.8, 0.3


@pytest.fixture(scope="module")
def vectors():
    """Small whole numbers: products without rounding, and many ties in both stages."""
    rng = np.random.default_rng(0)
    return [
        rng.integers(-2, 3, (num, SIZE)).astype(np.float32)
        for num in (NUM_USERS, NUM_TAGS, NUM_TAGS)
    ]


@pytest.fixture(scope="module")
def towers_of(vectors, tmp_path_factory):
    """By w, saved and loaded towers."""
    loaded = {}

    def get(click_weight):
        if click_weight not in loaded:
            folder = tmp_path_factory.mktemp("towers")
            ToyTowers(*vectors, click_weight=click_weight).save(folder)
            loaded[click_weight] = tf.saved_model.load(str(folder))
        return loaded[click_weight]

    return get


class UnsavedTowers:
    """Toy towers with signatures as a loaded SavedModel has them."""

    def __init__(self, towers):
        self.signatures = {name: function for name, (function, _) in towers.functions().items()}


def make(towers, vectors, k, num_candidates, index=None):
    return TagRetrieval(
        towers,
        index or BruteForceIndex(vectors[1]),
        k,
        num_candidates=num_candidates,
        tag_slope=SLOPE,
        tag_intercept=INTERCEPT,
    )


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def slow_search(query, tags, clicks, click_weight, k, num_candidates):
    """Tag, score and probability of one user's k tags, with plain lists."""
    logits = [float(query @ tag) for tag in tags]
    first = sorted(range(len(tags)), key=lambda j: (-logits[j], j))
    proposed = first[: max(num_candidates, k)]
    total = sum(np.exp(logits[j]) for j in proposed)
    rows = []
    for place, j in enumerate(proposed):
        score = (1 - click_weight) * logits[j] + click_weight * float(query @ clicks[j])
        probability = sigmoid(SLOPE * np.log(np.exp(logits[j]) / total) + INTERCEPT)
        rows.append((-score, place, f"t{j}", probability))
    return [(tag, -score, probability) for score, _, tag, probability in sorted(rows)[:k]]


def assert_rows(answer, expected):
    tags = [[tag.decode() for tag in row] for row in answer[s.TAGS].numpy()]
    assert tags == [[tag for tag, _, _ in rows] for rows in expected]
    for name, place in ((s.SCORES, 1), (s.PROBABILITIES, 2)):
        np.testing.assert_allclose(
            answer[name], [[row[place] for row in rows] for rows in expected], rtol=1e-5
        )


@pytest.mark.parametrize("click_weight", [0.0, 0.25, 1.0])
@pytest.mark.parametrize(
    ("k", "num_candidates"), [(5, 12), (5, 5), (5, NUM_TAGS), (1_000, NUM_TAGS)]
)
def test_search_equals_the_loops(vectors, towers_of, click_weight, k, num_candidates):
    queries, tags, clicks = vectors

    answer = make(towers_of(click_weight), vectors, k, num_candidates).search(tf.constant(queries))

    assert_rows(
        answer,
        [slow_search(query, tags, clicks, click_weight, k, num_candidates) for query in queries],
    )


def test_click_order_is_not_the_order_of_the_first_stage(vectors, towers_of):
    # What the other tests rely on.
    queries = tf.constant(vectors[0])
    first = make(towers_of(0.0), vectors, 5, 12).search(queries)[s.TAGS].numpy()
    mixed = make(towers_of(0.25), vectors, 5, 12).search(queries)[s.TAGS].numpy()

    assert (first != mixed).any(axis=1).sum() > NUM_USERS / 2


@pytest.mark.parametrize("click_weight", [0.0, 0.25])
def test_candidates_are_the_first_stage_alone(vectors, towers_of, click_weight):
    queries, tags, clicks = vectors
    module = make(towers_of(click_weight), vectors, 5, 12)

    answer = module.search_candidates(tf.constant(queries))

    assert_rows(answer, [slow_search(query, tags, clicks, 0.0, 12, 12) for query in queries])


@pytest.mark.parametrize("click_weight", [0.0, 0.25])
def test_scann_that_looks_at_everything_answers_as_exact_search(towers_of, click_weight):
    # No ties: among equal tags ScaNN may propose any.
    rng = np.random.default_rng(1)
    vectors = [rng.normal(size=(n, SIZE)).astype(np.float32) for n in (NUM_USERS, NUM_TAGS)]
    vectors.append(rng.normal(size=(NUM_TAGS, SIZE)).astype(np.float32))
    towers = ToyTowers(*vectors, click_weight=click_weight)
    index = ScannIndex(vectors[1], 4, SearchParameters(4, NUM_TAGS))

    answer = make(UnsavedTowers(towers), vectors, 5, 12, index).search(tf.constant(vectors[0]))

    assert_rows(
        answer, [slow_search(q, vectors[1], vectors[2], click_weight, 5, 12) for q in vectors[0]]
    )


@pytest.mark.parametrize("click_weight", [0.0, 0.5])
def test_places_that_scann_cannot_fill_are_empty_and_last(click_weight):
    rng = np.random.default_rng(2)
    vectors = [rng.normal(size=(n, SIZE)).astype(np.float32) for n in (NUM_USERS, 200, 200)]
    towers = UnsavedTowers(ToyTowers(*vectors, click_weight=click_weight))
    module = make(towers, vectors, 30, 60, ScannIndex(vectors[1], 20, SearchParameters(2, 60)))

    answer = {name: value.numpy() for name, value in module.search(tf.constant(vectors[0])).items()}
    candidates = module.search_candidates(tf.constant(vectors[0]))

    is_empty = answer[s.TAGS] == b""
    assert is_empty.any() and not is_empty.all()
    assert (answer[s.SCORES][is_empty] == -np.inf).all()
    assert (answer[s.PROBABILITIES][is_empty] == 0).all()
    assert (np.diff(is_empty.astype(int), axis=1) >= 0).all()
    for row, query in enumerate(vectors[0]):
        found = [int(tag[1:]) for tag in answer[s.TAGS][row] if tag]
        # The softmax runs over what was proposed.
        proposed = [int(tag[1:]) for tag in candidates[s.TAGS].numpy()[row] if tag]
        logits = vectors[1] @ query
        shares = np.exp(logits) / np.exp(logits[proposed]).sum()
        scores = (1 - click_weight) * logits + click_weight * (vectors[2] @ query)
        assert set(found) <= set(proposed)
        np.testing.assert_allclose(
            answer[s.SCORES][row, : len(found)], scores[found], rtol=1e-4, atol=1e-5
        )
        np.testing.assert_allclose(
            answer[s.PROBABILITIES][row, : len(found)],
            sigmoid(SLOPE * np.log(shares[found]) + INTERCEPT),
            rtol=1e-4,
        )
        best = sorted(proposed, key=lambda j, scores=scores: -scores[j])[: len(found)]
        assert found == best


def test_an_index_that_finds_nothing_answers_with_empty_places(vectors, towers_of):
    class FindsNothing(BruteForceIndex):
        is_exact = False

        def search(self, queries, k):
            shape = [tf.shape(queries)[0], k]
            return tf.fill(shape, float("nan")), tf.fill(shape, -1)

    module = make(towers_of(0.25), vectors, 5, 12, FindsNothing(vectors[1]))

    answer = module.search(tf.constant(vectors[0]))

    assert set(answer[s.TAGS].numpy().ravel()) == {b""}
    assert (answer[s.PROBABILITIES].numpy() == 0).all()


def test_empty_batch_has_k_columns(vectors, towers_of):
    answer = make(towers_of(0.25), vectors, 5, 12).search(tf.zeros([0, SIZE]))

    assert {name: value.shape.as_list() for name, value in answer.items()} == {
        name: [0, 5] for name in (s.TAGS, s.SCORES, s.PROBABILITIES)
    }


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"k": 0}, "`k` must be a positive integer"),
        ({"num_candidates": 4}, f"`num_candidates` must be between k, 5, .* {NUM_TAGS}. .*=4"),
        ({"num_candidates": NUM_TAGS + 1}, "`num_candidates` must be between k, 5, and the number"),
        ({"tag_slope": 0.0}, "`tag_slope` must be positive"),
    ],
)
def test_arguments_out_of_range_are_refused(vectors, towers_of, arguments, message):
    with pytest.raises(ValueError, match=message):
        TagRetrieval(towers_of(0.0), BruteForceIndex(vectors[1]), **{"k": 5, **arguments})


@pytest.fixture(scope="module")
def version_dir(vectors, towers_of, tmp_path_factory):
    folder = tmp_path_factory.mktemp("servable") / "1"
    module = make(towers_of(0.25), vectors, 5, 12)
    export_servable(module, str(folder), {"index": {"num_tags": NUM_TAGS}})
    return folder


@pytest.fixture(scope="module")
def served(version_dir):
    return tf.saved_model.load(str(version_dir)).signatures


def example(name):
    message = tf.train.Example()
    message.features.feature["name"].bytes_list.value.append(name.encode())
    return message.SerializeToString()


def test_every_way_to_ask_has_the_same_answer(vectors, served):
    queries, tags, clicks = vectors
    names = [f"u{i}" for i in range(NUM_USERS)]
    expected = [slow_search(query, tags, clicks, 0.25, 5, 12) for query in queries]

    assert_rows(served[s.RETRIEVE](name=tf.constant(names)), expected)
    assert_rows(served[s.RETRIEVE_BY_EMBEDDING](query_embeddings=tf.constant(queries)), expected)
    examples = tf.constant([example(name) for name in names])
    assert_rows(served[s.SERVING_DEFAULT](examples=examples), expected)


def test_score_tags_says_of_a_tag_what_retrieval_says(vectors, served):
    queries, tags, clicks = vectors
    names = tf.constant([f"u{i}" for i in range(NUM_USERS)])
    every_tag = [f"t{j}" for j in range(NUM_TAGS)]

    scored = served[s.SCORE_TAGS](name=names, candidate_tags=tf.constant([every_tag] * NUM_USERS))

    retrieved = served[s.RETRIEVE](name=names)
    places = [[int(tag[1:]) for tag in row] for row in retrieved[s.TAGS].numpy()]
    for name in (s.SCORES, s.PROBABILITIES):
        same = np.take_along_axis(scored[name].numpy(), np.array(places), axis=1)
        np.testing.assert_allclose(same, retrieved[name], rtol=1e-5)
    # And of those that the index does not propose, over the same sum.
    logits = queries @ tags.T
    total = np.exp(-np.sort(-logits, axis=1)[:, :12]).sum(axis=1, keepdims=True)
    expected = sigmoid(SLOPE * np.log(np.exp(logits) / total) + INTERCEPT)
    np.testing.assert_allclose(scored[s.PROBABILITIES], expected, rtol=1e-5)
    np.testing.assert_allclose(scored[s.SCORES], 0.75 * logits + 0.25 * queries @ clicks.T)


def test_description_and_caller_know_the_version(version_dir, vectors):
    queries, tags, clicks = vectors
    caller = ServableCaller(str(version_dir))

    retrieved = caller.retrieve([{"name": "u3"}])

    expected = slow_search(queries[3], tags, clicks, 0.25, 5, 12)
    assert retrieved.tags == [[tag for tag, _, _ in expected]]
    assert retrieved.probabilities[0] == pytest.approx([p for _, _, p in expected], rel=1e-5)
    description = json.loads((version_dir / s.DESCRIPTION_FILE).read_text())
    assert caller.num_tags == description["index"]["num_tags"] == NUM_TAGS


class ExplainingToyTowers(ToyTowers):
    """With an explanation that names the tag."""

    def functions(self):
        name, tag = (tf.TensorSpec([None], tf.string, n) for n in ("name", s.EXPLAINED_TAG))
        return super().functions() | {s.EXPLAIN: (self.explain, [name, tag])}

    def explain(self, **inputs):
        tags = inputs[s.EXPLAINED_TAG]
        batch = tf.shape(tags)[0]
        return {
            s.SCORE: tf.zeros([batch]),
            s.FEATURES: tf.fill([batch, 1], "name"),
            s.ATTENTION_BY_FEATURE: tf.ones([batch, 1]),
            s.CONTRIBUTIONS_BY_FEATURE: tf.zeros([batch, 1]),
            s.TOP_DOMAINS: tf.fill([batch, 10], ""),
            s.TOP_VALUES: tf.repeat(tags[:, tf.newaxis], 10, axis=1),
            s.TOP_CONTRIBUTIONS: tf.zeros([batch, 10]),
        }


@pytest.mark.parametrize("kind", ["exact", "scann"])
def test_servable_explains_where_its_towers_do(vectors, towers_of, kind, tmp_path):
    ExplainingToyTowers(*vectors).save(tmp_path)
    index = ScannIndex(vectors[1], 4, SearchParameters(4, 12)) if kind == "scann" else None

    served = build_signatures(make(tf.saved_model.load(str(tmp_path)), vectors, 5, 12, index))
    older = build_signatures(make(towers_of(0.0), vectors, 5, 12, index))

    answer = served[s.EXPLAIN](name=tf.constant(["u1"]), explained_tag=tf.constant(["t2"]))
    assert answer[s.TOP_VALUES].numpy().tolist() == [[b"t2"] * 10]
    assert set(served) - set(older) == {s.EXPLAIN}
