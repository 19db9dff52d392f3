"""Exact and ScaNN indexes, their composition, and recall by hand."""

import numpy as np
import pytest
import tensorflow as tf

from serving.index.scann_index import ScannIndex, SearchParameters, default_num_leaves
from serving.index.top_k import NOT_FOUND, BruteForceIndex, recall
from serving.index.tuning import search_all, tune
from serving.servable.retrieval import TagRetrieval
from tests.toy_towers import ToyTowers


@pytest.fixture(scope="module")
def vectors():
    rng = np.random.default_rng(0)
    return (
        rng.normal(size=(500, 8)).astype(np.float32),
        rng.normal(size=(40, 8)).astype(np.float32),
    )


def exact_positions(candidates, queries, k):
    return np.argsort(-(queries @ candidates.T), axis=1, kind="stable")[:, :k]


def test_brute_force_equals_numpy(vectors):
    candidates, queries = vectors

    scores, positions = BruteForceIndex(candidates).search(tf.constant(queries), 7)

    expected = exact_positions(candidates, queries, 7)
    np.testing.assert_array_equal(positions, expected)
    np.testing.assert_allclose(
        scores, np.take_along_axis(queries @ candidates.T, expected, 1), rtol=1e-5
    )


def test_scann_that_searches_and_reorders_everything_is_exact(vectors):
    candidates, queries = vectors
    index = ScannIndex(candidates, 5, SearchParameters(5, len(candidates)))

    _, positions = index.search(tf.constant(queries), 7)

    np.testing.assert_array_equal(positions, exact_positions(candidates, queries, 7))


def test_scann_with_too_few_leaves_fills_up_with_not_found(vectors):
    candidates, queries = vectors
    index = ScannIndex(candidates, 50, SearchParameters(1, 100))

    scores, positions = index.search(tf.constant(queries), 100)

    assert positions.shape == (40, 100)
    missing = positions.numpy() == NOT_FOUND
    assert missing.any()
    np.testing.assert_array_equal(np.isnan(scores.numpy()), missing)


@pytest.mark.parametrize("batch_size", [1, 2, 9, 15])
def test_scann_finds_the_same_alone_as_in_a_batch(vectors, batch_size):
    candidates, queries = vectors
    index = ScannIndex(candidates, 20, SearchParameters(5, 30))

    _, together = index.search(tf.constant(queries), 20)

    parts = [
        index.search(tf.constant(queries[first : first + batch_size]), 20)[1]
        for first in range(0, len(queries), batch_size)
    ]
    np.testing.assert_array_equal(np.concatenate(parts), together)


def test_two_scann_indexes_in_one_process_do_not_share_a_searcher(vectors):
    candidates, queries = vectors
    parameters = SearchParameters(5, len(candidates))
    first = ScannIndex(candidates, 5, parameters)
    second = ScannIndex(candidates[::-1].copy(), 5, parameters)

    _, from_first = first.search(tf.constant(queries), 5)
    _, from_second = second.search(tf.constant(queries), 5)

    np.testing.assert_array_equal(from_first, len(candidates) - 1 - from_second.numpy())


def test_tuning_reaches_the_target_and_marks_its_choice(vectors):
    candidates, queries = vectors
    index = ScannIndex(candidates, default_num_leaves(500), SearchParameters(1, 10))

    curve = tune(index, candidates, queries, 10, 0.98, num_candidates=20)

    chosen = [point for point in curve if point.is_chosen]
    assert len(chosen) == 1 and min(chosen[0].recall, chosen[0].recall_below_head) >= 0.98
    # Nothing that looks less far would do.
    assert all(
        point.recall < 0.99 or point.recall_below_head < 0.985
        for point in curve
        if point.num_leaves_to_search < chosen[0].num_leaves_to_search
        and point.num_reordering_candidates <= chosen[0].num_reordering_candidates
    )
    # The gate and filtered retrieval ask as tuning has asked.
    found = search_all(lambda batch: index.search(batch, 20)[1], queries)
    exact = exact_positions(candidates, queries, 15)
    assert recall(found[:, :10], exact[:, :10]) == pytest.approx(chosen[0].recall)
    assert recall(found[:, :15], exact[:, 5:]) == pytest.approx(chosen[0].recall_below_head)


def test_recall_counts_positions_whatever_their_order():
    exact = np.array([[1, 2, 3, 4], [5, 6, 7, 8]])
    found = np.array([[4, 3, 9, -1], [8, 7, 6, 5]])

    # Two of four, and four of four.
    assert recall(found, exact) == pytest.approx(0.75)


@pytest.mark.parametrize("num_leaves", [0, 17])
def test_leaves_out_of_range_are_refused(num_leaves):
    with pytest.raises(ValueError, match="num_leaves.*Received"):
        ScannIndex(np.zeros((16, 2), np.float32), num_leaves, SearchParameters(1, 1))


def test_too_few_candidates_are_refused_with_the_remedy():
    with pytest.raises(ValueError, match="use the exact index"):
        ScannIndex(np.zeros((15, 2), np.float32), 1, SearchParameters(1, 1))


def test_retrieval_scores_are_exact_and_ordered_whatever_the_index_says(vectors, tmp_path):
    candidates, queries = vectors
    ToyTowers(queries, candidates).save(tmp_path / "towers")
    towers = tf.saved_model.load(str(tmp_path / "towers"))
    index = ScannIndex(candidates, 50, SearchParameters(2, 30))

    answer = TagRetrieval(towers, index, k=20).search(tf.constant(queries))

    tags, scores = answer["tags"].numpy(), answer["scores"].numpy()
    assert tags.shape == scores.shape == (40, 20)
    assert (scores[:, 1:] <= scores[:, :-1]).all()
    for row_tags, row_scores, query in zip(tags, scores, queries, strict=True):
        for tag, score in zip(row_tags, row_scores, strict=True):
            if tag:
                assert score == pytest.approx(query @ candidates[int(tag[1:])], rel=1e-4, abs=1e-5)
            else:
                assert score == -np.inf


def test_empty_batch_has_k_columns(vectors, tmp_path):
    candidates, queries = vectors
    ToyTowers(queries, candidates).save(tmp_path / "towers")
    towers = tf.saved_model.load(str(tmp_path / "towers"))
    index = ScannIndex(candidates, 5, SearchParameters(5, 100))

    answer = TagRetrieval(towers, index, k=20).search(tf.zeros([0, 8]))

    assert answer["tags"].shape == (0, 20)
