import numpy as np

from tests.trainer.evaluation.figures_test import lists
from trainer.contract import features as f
from trainer.data.snapshots import Snapshots
from trainer.evaluation import baselines

NUM_TAGS = 5


def make(users, times, history, labels, impressions=None):
    """Makes snapshots from `history` and `labels`: for each snapshot, counts by tag."""
    columns = {
        f.HISTORY_TAGS: lists([list(row) for row in history], np.int32),
        f.HISTORY_TAG_COUNTS: lists([list(row.values()) for row in history], np.float32),
        f.LABEL_TAGS: lists([list(row) for row in labels], np.int32),
        f.LABEL_TAG_WEIGHTS: lists([list(row.values()) for row in labels], np.float32),
    }
    if impressions is not None:
        columns[f.IMPRESSION_TAGS] = lists([sum(row, []) for row in impressions], np.int32)
        columns[f.IMPRESSION_NUM_TAGS] = lists(
            [[len(tags) for tags in row] for row in impressions], np.int32
        )
    scalars = {f.USER_ID: np.array(users), f.SNAPSHOT_TIME: np.array(times)}
    return Snapshots(scalars, columns)


def train():
    return make(
        [b"a", b"a", b"b"],
        [1, 2, 1],
        [{0: 1}, {0: 3, 2: 1, -1: 8}, {}],
        [{0: 3, 2: 3}, {0: 1, 2: 2}, {3: 4, -1: 5}],
    )


def test_popularity_is_the_same_list_for_everyone():
    clicks = np.array([4, 0, 3, 4, 0])
    np.testing.assert_array_equal(baselines.popularity(clicks)(train()), [clicks] * 3)


def test_own_history_scores_earlier_clicks():
    expected = [[1, 0, 0, 0, 0], [3, 0, 1, 0, 0], [0] * 5]
    np.testing.assert_array_equal(baselines.own_history(NUM_TAGS)(train()), expected)


def test_blend_adds_the_weighted_share():
    clicks = np.array([1.0, 3.0, 0.0, 0.0, 0.0])
    result = baselines.blend(clicks, 8.0)(train())
    np.testing.assert_allclose(result[1], [3 + 2, 6, 1, 0, 0])


def test_blend_weight_is_the_best_on_validation():
    # The users come back to their own rare tag; only a small weight ranks it above the popular one.
    clicks = np.array([100.0, 60, 60, 60, 60])
    validation = make([b"x", b"y"], [1, 1], [{3: 2}, {4: 2}], [{3: 1}, {4: 1}])
    weight, scorer = baselines.choose_blend(
        clicks, validation, (1000.0, 1.0, 0.1), "precision_at_1"
    )
    assert weight == 0.1
    assert np.argmax(scorer(validation), axis=1).tolist() == [3, 4]


def test_random_depends_on_user_and_seed_alone():
    data = train()
    scores = baselines.random(NUM_TAGS, seed=1)(data)
    np.testing.assert_array_equal(scores[0], scores[1])  # the same user
    assert (scores[0] != scores[2]).all()
    np.testing.assert_array_equal(baselines.random(NUM_TAGS, seed=1)(data.take([2])), scores[2:])
    assert (baselines.random(NUM_TAGS, seed=2)(data) != scores).all()


def test_items_score_the_sum_of_their_tags_earlier_clicks():
    data = make(
        [b"a", b"b"], [1, 1], [{0: 3, 2: 1}, {1: 2}], [{}, {}], [[[0, 2], [1], []], [[1, -1]]]
    )
    np.testing.assert_array_equal(baselines.history_item_scorer(NUM_TAGS)(data), [4, 0, 0, 2])
