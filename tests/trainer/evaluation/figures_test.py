import numpy as np
import pytest

from trainer.contract import features as f
from trainer.contract.list_column import ListValues
from trainer.contract.metric_registry import CUTS
from trainer.data.snapshots import Snapshots
from trainer.evaluation import figures as evaluation
from trainer.evaluation.figures import (
    GAUC_WEIGHT,
    evaluate,
    evaluate_users,
    head_tags,
    users_at_once,
)

NUM_TAGS = 60


def lists(rows, dtype):
    values = np.array([value for row in rows for value in row], dtype)
    return ListValues(values, np.cumsum([0] + [len(row) for row in rows]).astype(np.int64))


def snapshots(labels, history, impressions=None):
    """`impressions`: for each user, (tags, clicked) pairs."""
    num_users = len(labels)
    columns = {
        f.LABEL_TAGS: lists(labels, np.int32),
        f.LABEL_TAG_WEIGHTS: lists([[1.0] * len(row) for row in labels], np.float32),
        f.HISTORY_TAGS: lists(history, np.int32),
        f.HISTORY_TAG_COUNTS: lists([[2.0] * len(row) for row in history], np.float32),
    }
    if impressions is not None:
        columns[f.IMPRESSION_TAGS] = lists(
            [sum((t for t, _ in row), []) for row in impressions], np.int32
        )
        columns[f.IMPRESSION_NUM_TAGS] = lists(
            [[len(t) for t, _ in row] for row in impressions], np.int32
        )
        columns[f.IMPRESSION_CLICKED] = lists(
            [[c for _, c in row] for row in impressions], np.float32
        )
        columns[f.IMPRESSION_WEIGHTS] = lists([[1.0] * len(row) for row in impressions], np.float32)
    scalars = {
        f.USER_ID: np.array([f"{i}".encode() for i in range(num_users)]),
        f.SNAPSHOT_TIME: np.zeros(num_users, np.int64),
        f.HISTORY_NUM_EVENTS: np.array([len(row) for row in history], np.int64),
    }
    return Snapshots(scalars, columns)


def slow_ranking(scores, labels, history, novel):
    """Every ranking metric with plain lists: the mean over users with a truth."""
    collected = {}
    for row, label, seen in zip(scores, labels, history, strict=True):
        known = {t for t in label if t >= 0} - (set(seen) if novel else set())
        num_relevant = len(known) + sum(t < 0 for t in label)
        if not num_relevant:
            continue
        order = sorted(range(NUM_TAGS), key=lambda t, row=row: (-row[t], t))
        if novel:
            order = [t for t in order if t not in seen]
        for k in CUTS:
            hits = [t in known for t in order[:k]]
            dcg = sum(hit / np.log2(rank + 2) for rank, hit in enumerate(hits))
            ideal = sum(1 / np.log2(rank + 2) for rank in range(min(k, num_relevant)))
            for name, value in (
                ("precision", sum(hits) / k),
                ("recall", sum(hits) / num_relevant),
                ("ndcg", dcg / ideal),
            ):
                collected.setdefault(f"{'novel_' * novel}{name}_at_{k}", []).append(value)
    return {name: np.mean(values) for name, values in collected.items()}


def make_case():
    rng = np.random.default_rng(0)
    labels = [rng.choice(NUM_TAGS, rng.integers(0, 15), replace=False).tolist() for _ in range(23)]
    history = [rng.choice(NUM_TAGS, rng.integers(0, 20), replace=False).tolist() for _ in range(23)]
    labels[3], labels[4], history[5] = [], [7, -1, -1], []
    scores = rng.integers(0, 12, (23, NUM_TAGS)).astype(float)  # many ties
    return scores, labels, history


def by_id(scores):
    return lambda chunk: scores[chunk.scalars[f.USER_ID].astype(int)]


@pytest.mark.parametrize("chunk_size", [4, 100])
def test_ranking_metrics_equal_the_loops(chunk_size):
    scores, labels, history = make_case()
    result = evaluate(by_id(scores), snapshots(labels, history), NUM_TAGS, chunk_size=chunk_size)
    for novel in (False, True):
        for name, value in slow_ranking(scores, labels, history, novel).items():
            assert result[name] == pytest.approx(value), name
    empty = sum(not label for label in labels)
    assert result["num_users_without_truth"] == empty
    assert result["num_users"] == 23 - empty


def test_slices_are_the_metrics_of_their_users():
    scores, labels, history = make_case()
    result = evaluate(by_id(scores), snapshots(labels, history), NUM_TAGS)
    for name, inside in (
        ("known_users", [bool(h) for h in history]),
        ("new_users", [not h for h in history]),
    ):
        rows = np.flatnonzero(inside)
        expected = slow_ranking(
            scores[rows], [labels[i] for i in rows], [history[i] for i in rows], False
        )
        assert result[f"{name}.precision_at_10"] == pytest.approx(expected["precision_at_10"])
    assert result["history_200_or_more.precision_at_10"] is None
    assert result["history_200_or_more.num_users"] == 0


def test_head_and_tail_restrict_the_truth():
    scores, labels, history = make_case()
    is_head = np.arange(NUM_TAGS) < 20
    result = evaluate(by_id(scores), snapshots(labels, history), NUM_TAGS, is_head=is_head)
    head = slow_ranking(scores, [[t for t in row if 0 <= t < 20] for row in labels], history, False)
    tail = slow_ranking(
        scores, [[t for t in row if not 0 <= t < 20] for row in labels], history, False
    )
    assert result["head_tags.recall_at_10"] == pytest.approx(head["recall_at_10"])
    assert result["tail_tags.recall_at_10"] == pytest.approx(tail["recall_at_10"])


def test_without_novel_lists_novel_metrics_are_none():
    scores, labels, history = make_case()
    result = evaluate(by_id(scores), snapshots(labels, history), NUM_TAGS, with_novel=False)
    assert result["novel_precision_at_10"] is None
    assert result["precision_at_10"] is not None


def test_collapse_shows_in_distinct_lists_and_coverage():
    _, labels, history = make_case()
    same = np.tile(np.arange(NUM_TAGS, 0, -1.0), (23, 1))
    result = evaluate(by_id(same), snapshots(labels, history), NUM_TAGS, chunk_size=5)
    assert result["distinct_top10"] == 1
    assert result["coverage_at_10"] == pytest.approx(10 / NUM_TAGS)
    same[4, 59] = 100
    result = evaluate(by_id(same), snapshots(labels, history), NUM_TAGS, chunk_size=5)
    assert result["distinct_top10"] == 2
    assert result["coverage_at_10"] == pytest.approx(11 / NUM_TAGS)


# Tag 0 ranks first, tag 1 second, and so on.
IMPRESSIONS = [
    [([0, 9], 1), ([2], 0), ([40], 0), ([], 1)],
    [([1], 1), ([0], 0)],
    [],
]


def click_case(chunk_size, item_scorer):
    data = snapshots([[0], [1], [2]], [[], [5], []], IMPRESSIONS)
    scores = np.tile(np.arange(NUM_TAGS, 0, -1.0), (3, 1))
    return evaluate(by_id(scores), data, NUM_TAGS, item_scorer, chunk_size=chunk_size)


@pytest.mark.parametrize("chunk_size", [1, 10])
def test_online_figures_match_hand_counts(chunk_size):
    result = click_case(chunk_size, None)
    assert result["num_impressions"] == 6
    assert result["plain_ctr"] == pytest.approx(3 / 6)
    assert result["tagged_impressions_at_1"] == pytest.approx(2 / 6)
    assert result["tag_ctr_at_1"] == pytest.approx(1 / 2)
    assert result["tagged_impressions_at_3"] == pytest.approx(4 / 6)
    assert result["tag_ctr_at_3"] == pytest.approx(2 / 4)
    assert result["click_gauc"] is None
    assert result["known_users.tagged_impressions_at_1"] == pytest.approx(1 / 2)


@pytest.mark.parametrize("chunk_size", [1, 10])
def test_click_scores_give_auc_over_all_and_within_users(chunk_size):
    by_user = {b"0": [0.9, 0.4, 0.9, 0.1], b"1": [0.3, 0.5], b"2": []}

    def item_scorer(chunk):
        return np.array(sum((by_user[user] for user in chunk.scalars[f.USER_ID]), []))

    result = click_case(chunk_size, item_scorer)
    # User 0: pairs (.9: .4 won, .9 tied), (.1: both lost) = 1.5 of 4; user 1: lost.
    assert result["click_gauc"] == pytest.approx((4 * 1.5 / 4 + 2 * 0) / 6)
    # All: clicked .9, .1, .3 against .4, .9, .5: 2.5 of 9.
    assert result["click_auc"] == pytest.approx(2.5 / 9)


def test_head_tags_are_the_fewest_that_reach_the_share():
    clicks = np.array([1.0, 50.0, 30.0, 9.0, 10.0])
    np.testing.assert_array_equal(head_tags(clicks, 0.8), [False, True, True, False, False])
    np.testing.assert_array_equal(head_tags(clicks, 0.81), [False, True, True, False, True])


def test_scores_of_another_shape_are_refused():
    with pytest.raises(ValueError, match="`tag_scorer` must return"):
        evaluate(lambda chunk: np.zeros((1, 2)), snapshots([[0]], [[]]), NUM_TAGS)


def test_no_example_is_refused():
    with pytest.raises(ValueError, match="`snapshots` must contain"):
        evaluate(lambda chunk: np.zeros((0, NUM_TAGS)), snapshots([], []), NUM_TAGS)


def test_figures_of_users_have_the_metrics_as_their_means():
    scores, labels, history = make_case()
    rng = np.random.default_rng(1)
    # A user without impressions, one with a single class, and others with 2 to 7.
    sizes = [0, 1, *rng.integers(2, 8, 21)]
    impressions = [
        [([int(rng.integers(NUM_TAGS))], int(rng.integers(2))) for _ in range(size)]
        for size in sizes
    ]
    part = snapshots(labels, history, impressions)
    item_scores = rng.integers(0, 3, sum(sizes)).astype(float)
    first = np.cumsum([0, *sizes])

    def score_items(chunk):
        users = chunk.scalars[f.USER_ID].astype(int)
        return np.concatenate([item_scores[first[u] : first[u + 1]] for u in users])

    by_user = evaluate_users(by_id(scores), part, NUM_TAGS, score_items, chunk_size=7)

    metrics = evaluate(by_id(scores), part, NUM_TAGS, score_items, with_slices=False)
    assert {"precision_at_10", "novel_ndcg_at_50", "recall_at_1", "click_gauc"} <= by_user.keys()
    assert np.nanmean(by_user.pop(GAUC_WEIGHT)) == pytest.approx(1)
    for name, values in by_user.items():
        assert values.shape == (23,)
        assert np.nanmean(values) == pytest.approx(metrics[name], rel=1e-12), name
    # Users without a truth or without both classes have no part.
    assert np.isnan(by_user["precision_at_10"][3])
    assert np.isnan(by_user["click_gauc"][:2]).all()


def test_figures_of_users_without_clicks_or_novelty_have_neither():
    scores, labels, history = make_case()

    by_user = evaluate_users(by_id(scores), snapshots(labels, history), NUM_TAGS, with_novel=False)

    assert "click_gauc" not in by_user
    assert np.isnan(by_user["novel_precision_at_10"]).all()


@pytest.mark.parametrize(
    ("num_tags", "users"), [(50, 512), (30_000, 512), (1_000_000, 16), (10**9, 1)]
)
def test_users_scored_at_once_are_fewer_where_there_are_many_tags(num_tags, users):
    assert users_at_once(num_tags) == users


def test_no_more_users_are_scored_at_once_than_fit(monkeypatch):
    monkeypatch.setattr(evaluation, "_MAX_SCORES", 7 * NUM_TAGS)
    scores, labels, history = make_case()
    sizes = []

    def scorer(chunk):
        sizes.append(chunk.num_examples)
        return by_id(scores)(chunk)

    found = evaluate(scorer, snapshots(labels, history), NUM_TAGS)

    assert sizes == [7, 7, 7, 2]
    expected = evaluate(by_id(scores), snapshots(labels, history), NUM_TAGS, chunk_size=100)
    assert found == pytest.approx(expected, nan_ok=True)
