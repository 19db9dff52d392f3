"""User neighbours equal loops in plain numpy."""

import numpy as np
import pytest
from scipy import sparse

from tests.trainer.evaluation.baselines_test import make
from trainer.evaluation import neighbours as neighbours_module
from trainer.evaluation.neighbours import Neighbours

IDS = np.array([b"a", b"b", b"c", b"d"])
COUNTS = np.array([[3.0, 1, 0, 0, 0], [2, 2, 0, 0, 0], [0, 0, 5, 1, 0], [0, 0, 0, 0, 0]])


def slow_scores(train, ids, rows, own_ids, num):
    """Returns each user's scores from the cosines, the `num` best of them, and their shares."""
    logs, scores = np.log1p(train), []
    for row, own in zip(np.log1p(rows), own_ids, strict=True):
        cosines = []
        for other, user in zip(logs, ids, strict=True):
            length = np.linalg.norm(row) * np.linalg.norm(other)
            cosines.append(row @ other / length if length and user != own else 0.0)
        nearest = np.argsort(-np.array(cosines), kind="stable")[:num]
        shares = [train[i] / max(train[i].sum(), 1) for i in nearest]
        scores.append(sum(cosines[i] * share for i, share in zip(nearest, shares, strict=True)))
    return np.array(scores)


def random_counts(num_users, seed, density=0.3, num_tags=12):
    rng = np.random.default_rng(seed)
    counts = rng.integers(1, 9, (num_users, num_tags)).astype(np.float64)
    return counts * (rng.random(counts.shape) < density)


def test_score_is_the_neighbours_shares_times_their_likeness():
    neighbours = Neighbours(sparse.csr_matrix(COUNTS), IDS, num_neighbours=1)

    scores = neighbours.scores(sparse.csr_matrix([[1.0, 1, 0, 0, 0]]), np.array([b"x"]))

    # "b" has the same direction: a cosine of 1, and half of the clicks on each tag.
    np.testing.assert_allclose(scores, [[0.5, 0.5, 0, 0, 0]])


@pytest.mark.parametrize("density", [0.005, 0.4])
@pytest.mark.parametrize("num", [1, 7, 99])
def test_scores_are_those_of_loops(density, num):
    train, rows = random_counts(40, 0, density, 60), random_counts(9, 1, 0.2, 60)
    ids, own_ids = np.arange(40), np.array([*range(5), *range(100, 104)])

    scores = Neighbours(sparse.csr_matrix(train), ids, num).scores(sparse.csr_matrix(rows), own_ids)

    np.testing.assert_allclose(scores, slow_scores(train, ids, rows, own_ids, num), atol=1e-12)


def test_chunks_and_blocks_are_no_borders(monkeypatch):
    monkeypatch.setattr(neighbours_module, "_MAX_LIKENESSES", 90)
    monkeypatch.setattr(neighbours_module, "_BLOCK", 7)
    train, rows = random_counts(40, 0), random_counts(9, 1)
    ids, own_ids = np.arange(40), np.arange(100, 109)

    scores = Neighbours(sparse.csr_matrix(train), ids, 5).scores(sparse.csr_matrix(rows), own_ids)

    np.testing.assert_allclose(scores, slow_scores(train, ids, rows, own_ids, 5), atol=1e-12)


def test_nobody_is_a_neighbour_of_themselves():
    neighbours = Neighbours(sparse.csr_matrix(COUNTS), IDS, num_neighbours=1)

    scores = neighbours.scores(sparse.csr_matrix(COUNTS[1:2]), np.array([b"b"]))

    assert np.argmax(scores) == 0
    np.testing.assert_allclose(scores[0, 0] / scores[0, 1], 3)  # the shares of "a"


def test_user_without_a_history_gets_zeros():
    neighbours = Neighbours(sparse.csr_matrix(COUNTS), IDS)

    assert not neighbours.scores(sparse.csr_matrix((1, 5)), np.array([b"x"])).any()


def test_scorer_reads_the_uncapped_history():
    scorer = Neighbours(sparse.csr_matrix(COUNTS), IDS, num_neighbours=1).scorer()

    np.testing.assert_allclose(
        scorer(make([b"x", b"y"], [1, 1], [{0: 1, 1: 1}, {-1: 3}], [{}, {}])),
        [[0.5, 0.5, 0, 0, 0], [0, 0, 0, 0, 0]],
    )
