"""Tags held out of training are really absent, and views bring them back."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from tfx_pipeline.study.trials import hidden_tags as new_tags
from tfx_pipeline.study.trials.examples import StudyExamples
from tfx_pipeline.study.trials.hidden_tags import (
    choose_new_tags,
    evaluate_new_tags,
    held_out_tags_experiment,
    hide_tags,
    popularity_of_category,
)
from trainer.config import ModelConfig, TrainingConfig
from trainer.contract import features as f
from trainer.contract.list_column import ListValues
from trainer.data.snapshots import Snapshots
from trainer.towers.tag_views import TagAttributes


def snapshots(users, lists):
    """Makes one snapshot for each user; `lists` by name: rows."""
    columns = {
        f.USER_ID: tf.constant([f"u{user:04d}" for user in users]),
        f.SNAPSHOT_TIME: np.ones(len(users), np.int64),
        f.HISTORY_NUM_EVENTS: np.ones(len(users), np.int64),
    }
    for name, rows in lists.items():
        is_float = any(isinstance(value, float) for row in rows for value in row)
        dtype = tf.float32 if is_float else tf.int64
        columns[name] = tf.ragged.constant(rows, dtype, ragged_rank=1)
    return Snapshots.from_batches([columns])


# --- the choice ---


def test_choice_depends_on_names_alone():
    tags = [f"tag {i}" for i in range(500)]
    chosen = {tags[i] for i in choose_new_tags(tags, 0.1, seed=3)}
    assert {tags[::-1][i] for i in choose_new_tags(tags[::-1], 0.1, seed=3)} == chosen
    # A part of the vocabulary has its part of the choice.
    assert {tags[i] for i in choose_new_tags(tags[:200], 0.1, seed=3)} == chosen & set(tags[:200])
    assert {tags[i] for i in choose_new_tags(tags, 0.1, seed=4)} != chosen
    assert 25 < len(chosen) < 75
    # More tags are chosen on top, not instead.
    assert chosen < {tags[i] for i in choose_new_tags(tags, 0.3, seed=3)}


def test_ids_come_in_ascending_order():
    chosen = choose_new_tags([f"tag {i}" for i in range(500)])
    assert (np.diff(chosen) > 0).all()


@pytest.mark.parametrize("fraction", [0.0, 1.0, 1e-9, 1 - 1e-9])
def test_choice_that_leaves_one_side_empty_is_refused(fraction):
    with pytest.raises(ValueError, match="fraction` must"):
        choose_new_tags(["a", "b", "c"], fraction)


# --- hiding ---

TAGS = ["a", "b", "c", "d", "e", "f"]
HIDDEN = [1, 4]
BUCKETS = 2
HIDING_SPEC = f.FeatureSpec(
    domains=(
        f.Domain("clicked_tags"),
        f.Domain("skipped_tags", events="skipped"),
        f.Domain("other_tags", vocabulary="own_tags"),
        f.Domain("items", attribute="item_id"),
    )
)


def random_snapshots(num_users=40):
    rng = np.random.default_rng(0)

    def rows(low, high, dtype=int):
        return [rng.integers(low, high, rng.integers(0, 7)).astype(dtype).tolist() for _ in users]

    users = range(num_users)
    lists = {}
    for name, low, high in (
        ("clicked_tags", 0, len(TAGS) + BUCKETS),
        ("skipped_tags", 0, len(TAGS) + BUCKETS),
        ("other_tags", 0, len(TAGS)),
        ("items", 0, 9),
        (f.LABEL_TAGS, -1, len(TAGS)),
        (f.HISTORY_TAGS, -1, len(TAGS)),
    ):
        lists[name] = rows(low, high)
    for name, weights in (
        *((domain.name, f.weights_name(domain.name)) for domain in HIDING_SPEC.domains),
        (f.LABEL_TAGS, f.LABEL_TAG_WEIGHTS),
        (f.HISTORY_TAGS, f.HISTORY_TAG_COUNTS),
    ):
        lists[weights] = [rng.random(len(row)).tolist() for row in lists[name]]
    lists[f.IMPRESSION_NUM_TAGS] = rows(0, 4)
    lists[f.IMPRESSION_TAGS] = [
        rng.integers(-1, len(TAGS), sum(row)).tolist() for row in lists[f.IMPRESSION_NUM_TAGS]
    ]
    lists[f.IMPRESSION_CLICKED] = [[1.0] * len(row) for row in lists[f.IMPRESSION_NUM_TAGS]]
    lists[f.IMPRESSION_WEIGHTS] = [[0.5] * len(row) for row in lists[f.IMPRESSION_NUM_TAGS]]
    return snapshots(users, lists)


def as_rows(snapshots, name):
    column = snapshots.lists[name]
    return [row.tolist() for row in np.split(column.values, column.offsets[1:-1])]


def as_strings(rows, tags):
    names = [*tags, *(f"bucket {i}" for i in range(BUCKETS)), "unknown"]
    return [[names[i] for i in row] for row in rows]


def test_hidden_tags_leave_every_list_with_their_weights_and_others_keep_their_names():
    before = random_snapshots()
    after = hide_tags(before, HIDING_SPEC, np.array(HIDDEN), len(TAGS))
    left = [tag for i, tag in enumerate(TAGS) if i not in HIDDEN]
    for name, weights in (
        ("clicked_tags", "clicked_tags_weights"),
        ("skipped_tags", "skipped_tags_weights"),
        (f.LABEL_TAGS, f.LABEL_TAG_WEIGHTS),
        (f.HISTORY_TAGS, f.HISTORY_TAG_COUNTS),
    ):
        pairs = [
            [(tag, weight) for tag, weight in zip(*row, strict=True) if tag not in ("b", "e")]
            for row in zip(
                as_strings(as_rows(before, name), TAGS), as_rows(before, weights), strict=True
            )
        ]
        found = zip(as_strings(as_rows(after, name), left), as_rows(after, weights), strict=True)
        assert [list(zip(*row, strict=True)) for row in found] == pairs
        assert any(len(row) < 3 for row in pairs)


def items_of(tags, counts):
    """Returns the impressions of a user as lists of tags."""
    ends = np.cumsum([0, *counts])
    return [tags[start:end] for start, end in zip(ends[:-1], ends[1:], strict=True)]


def test_impressions_keep_their_other_tags():
    before = random_snapshots()
    after = hide_tags(before, HIDING_SPEC, np.array(HIDDEN), len(TAGS))
    found = [
        items_of(*row)
        for row in zip(
            as_strings(as_rows(after, f.IMPRESSION_TAGS), ["a", "c", "d", "f"]),
            as_rows(after, f.IMPRESSION_NUM_TAGS),
            strict=True,
        )
    ]
    expected = [
        [[tag for tag in item if tag not in ("b", "e")] for item in items_of(*row)]
        for row in zip(
            as_strings(as_rows(before, f.IMPRESSION_TAGS), TAGS),
            as_rows(before, f.IMPRESSION_NUM_TAGS),
            strict=True,
        )
    ]
    assert found == expected


def test_what_is_not_of_the_vocabulary_of_tags_stays():
    before = random_snapshots()
    after = hide_tags(before, HIDING_SPEC, np.array(HIDDEN), len(TAGS))
    for name in ("other_tags", "other_tags_weights", "items", f.IMPRESSION_CLICKED):
        assert as_rows(after, name) == as_rows(before, name)
    np.testing.assert_array_equal(after.scalars[f.USER_ID], before.scalars[f.USER_ID])
    assert set(after.lists) == set(before.lists)


# --- figures ---


def slow_figures(scores, truth, new_tags):
    """Returns mean recall and reciprocal rank, user by user; scores must be distinct."""
    figures = {}
    for row, labels in zip(scores, truth, strict=True):
        wanted = set(labels) & set(new_tags)
        if not wanted:
            continue
        for prefix, among in (("", range(len(row))), ("among_new.", new_tags)):
            order = sorted(among, key=lambda t, row=row: -row[t])
            places = [order.index(t) + 1 for t in wanted]
            for k in (10, 50, 100):
                recall = sum(place <= k for place in places) / len(wanted)
                figures.setdefault(f"{prefix}recall_at_{k}", []).append(recall)
            figures.setdefault(f"{prefix}mrr", []).append(1 / min(places))
    return {name: np.mean(values) for name, values in figures.items()}


def label_lists(rows):
    offsets = np.cumsum([0] + [len(row) for row in rows]).astype(np.int64)
    return ListValues(np.array([tag for row in rows for tag in row], np.int32), offsets)


def scored(scores):
    return lambda chunk: scores[[int(user[1:]) for user in chunk.scalars[f.USER_ID].astype(str)]]


def test_figures_equal_the_loop(monkeypatch):
    monkeypatch.setattr("tfx_pipeline.study.trials.hidden_tags.users_at_once", lambda num_tags: 4)
    rng = np.random.default_rng(0)
    num_tags, new_tags = 150, np.sort(rng.choice(150, 30, replace=False))
    truth = [rng.choice(num_tags, rng.integers(0, 12), replace=False).tolist() for _ in range(30)]
    truth[3], truth[5] = [], [int(new_tags[0]), -1, -1]
    scores = rng.normal(size=(30, num_tags))
    users = snapshots(range(30), {"x": [[1]] * 30})
    found = evaluate_new_tags(scored(scores), users, label_lists(truth), new_tags, num_tags)
    expected = slow_figures(scores, truth, new_tags.tolist())
    assert {name: found[name] for name in expected} == pytest.approx(expected)
    num_users = sum(bool(set(row) & set(new_tags.tolist())) for row in truth)
    assert found["num_users"] == num_users
    assert found["num_users_without_truth"] == 30 - num_users
    assert (found["num_new_tags"], found["num_tags"]) == (30, 150)


def test_equal_scores_are_in_random_order_not_in_that_of_the_ids():
    # Ids go by frequency: their order would tell how often a new tag will be clicked.
    num_tags, num_users = 200, 400
    users = snapshots(range(num_users), {"x": [[1]] * num_users})
    truth = label_lists([[0, 3]] * num_users)
    found = evaluate_new_tags(
        scored(np.zeros((num_users, num_tags))), users, truth, np.arange(5), num_tags
    )
    # A recall of 1 in order of the ids; by chance 10 of 200, and 2/3 is 7 standard deviations off.
    assert found["recall_at_10"] == pytest.approx(10 / 200, abs=0.03)
    assert found["recall_at_100"] == pytest.approx(100 / 200, abs=0.08)


def test_without_any_truth_figures_are_none():
    users = snapshots([0], {"x": [[1]]})
    found = evaluate_new_tags(scored(np.zeros((1, 3))), users, label_lists([[0]]), np.array([2]), 3)
    assert found["recall_at_10"] is None
    assert found["among_new.mrr"] is None
    assert found["num_users"] == 0


def test_scores_of_another_shape_are_refused():
    users = snapshots([0], {"x": [[1]]})
    with pytest.raises(ValueError, match="`tag_scorer` must return"):
        evaluate_new_tags(scored(np.zeros((1, 2))), users, label_lists([[0]]), np.array([2]), 3)


def test_popularity_of_a_new_tag_is_the_mean_of_its_category():
    known = TagAttributes(("a", "b", "c", "d"), ("x", "x", "y", ""))
    new = TagAttributes(("e", "f", "g", "h"), ("x", "y", "", "z"))
    clicks = np.array([1.0, 3.0, 10.0, 6.0])
    np.testing.assert_allclose(popularity_of_category(clicks, known, new), [2, 10, 6, 5])


# --- the experiment ---

NUM_WORDS, PER_WORD = 16, 6
WORD_TAGS = [f"word{i % NUM_WORDS} number{i // NUM_WORDS}" for i in range(NUM_WORDS * PER_WORD)]
WORD_CLICKS = np.arange(float(len(WORD_TAGS)))
SPEC = f.FeatureSpec(domains=(f.Domain("clicked_tags"),))
SIZES = {"tags": len(WORD_TAGS) + 1}
MODEL = ModelConfig(
    interaction="youtube_dnn",
    embedding_dim=8,
    hidden_dim=16,
    output_dim=8,
    dropout=0.0,
    domain_dropout=0.0,
    num_word_buckets=500,
    id_dropout=0.3,
    tag_views=("words",),
)
TRAINING = TrainingConfig(
    joint_weight=0.0,
    batch_size=32,
    max_epochs=30,
    budget_steps=0,
    min_steps=0,
    patience=30,
    learning_rate=0.03,
    early_stopping_metric="ndcg_at_10",
)


def word_log(num_users, seed):
    """Makes users who like one word: their past and future tags have it in their names."""
    rng = np.random.default_rng(seed)
    history, labels = [], []
    for user in range(num_users):
        tags = user % NUM_WORDS + NUM_WORDS * rng.permutation(PER_WORD)
        history.append(tags[:2].tolist())
        labels.append(tags[2:].tolist())
    lists = {
        "clicked_tags": history,
        "clicked_tags_weights": [[1.0] * len(row) for row in history],
        f.HISTORY_TAGS: history,
        f.HISTORY_TAG_COUNTS: [[1.0] * len(row) for row in history],
        f.LABEL_TAGS: labels,
        f.LABEL_TAG_WEIGHTS: [[1.0] * len(row) for row in labels],
        f.IMPRESSION_TAGS: labels,
        f.IMPRESSION_NUM_TAGS: [[1] * len(row) for row in labels],
        f.IMPRESSION_CLICKED: [[1.0] * len(row) for row in labels],
        f.IMPRESSION_WEIGHTS: [[1.0] * len(row) for row in labels],
    }
    return snapshots(range(num_users), lists)


def word_parts():
    return [word_log(num_users, seed) for num_users, seed in ((320, 1), (32, 2), (128, 3))]


def hide_labels(part, tags):
    """Returns the same users without these tags in their labels."""
    labels = part.lists[f.LABEL_TAGS]
    keep = ~np.isin(labels.values, tags)
    offsets = np.concatenate([[0], np.cumsum(keep)])[labels.offsets]
    left = {
        name: ListValues(part.lists[name].values[keep], offsets)
        for name in (f.LABEL_TAGS, f.LABEL_TAG_WEIGHTS)
    }
    return Snapshots(part.scalars, {**part.lists, **left})


def experiment(seed, model=MODEL, training=TRAINING, parts=None, clicks=WORD_CLICKS):
    attributes = TagAttributes(tuple(WORD_TAGS), ("",) * len(WORD_TAGS))
    parts = parts or [
        word_log(num_users, seed) for num_users, seed in ((320, 1), (32, 2), (128, 3))
    ]
    splits = dict(zip(("train", "validation", "test"), parts, strict=True))
    frequencies = np.ones(len(WORD_TAGS))
    examples = StudyExamples(SPEC, SIZES, attributes, frequencies, splits, clicks)
    return held_out_tags_experiment(examples, model, training, seed=seed, fraction=0.15)


WITHOUT_VIEWS = dataclasses.replace(MODEL, tag_views=())


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_words_bring_held_out_tags_back_and_ids_do_not(seed):
    figures = {
        **experiment(seed, WITHOUT_VIEWS).figures["test"],
        **experiment(seed).figures["test"],
    }
    assert set(figures) == {"views", "id_only", "popularity_of_category", "random"}
    assert len({figure["num_users"] for figure in figures.values()}) == 1
    recall = {who: figure["recall_at_10"] for who, figure in figures.items()}
    # By chance 10 of 96. The tags of a user's word are six: all of them fit among the first ten.
    assert recall["views"] > 0.7
    for who in ("id_only", "popularity_of_category", "random"):
        assert recall[who] < 0.35
    among_new = {who: figure["among_new.mrr"] for who, figure in figures.items()}
    assert among_new["views"] > max(among_new[who] for who in among_new if who != "views") + 0.2


def test_model_without_views_is_reported_as_ids_alone():
    result = experiment(0, WITHOUT_VIEWS, dataclasses.replace(TRAINING, max_epochs=1))
    for figures in result.figures.values():
        assert set(figures) == {"id_only", "popularity_of_category", "random"}
    assert result.fit.epochs == 1.0


@pytest.mark.parametrize("model", [MODEL, WITHOUT_VIEWS], ids=["views", "id_only"])
def test_model_has_the_linear_path_and_new_tags_no_part_in_it(model):
    result = experiment(0, model, dataclasses.replace(TRAINING, max_epochs=1))

    assert result.model.history_path is not None
    new = TagAttributes(("word1 number9", "word2 number9"), ("", ""))
    rows = new_tags._candidate_embeddings_of_new(result.model, new, seed=0)
    assert rows.shape == (2, result.model.query_dim)
    np.testing.assert_array_equal(rows[:, MODEL.output_dim : -1], 0.0)
    assert np.abs(rows[:, : MODEL.output_dim]).min() > 0.0


def test_popularity_of_category_is_of_the_clicks_given_and_not_of_the_labels():
    # One known tag has all clicks, so that the mean puts the new ones right behind it.
    (first,) = np.setdiff1d(np.arange(len(WORD_TAGS)), choose_new_tags(WORD_TAGS, 0.15, 0))[:1]
    clicks = np.where(np.arange(len(WORD_TAGS)) == first, 1e6, 0.0)
    training = dataclasses.replace(TRAINING, max_epochs=1)
    figures = experiment(0, WITHOUT_VIEWS, training, clicks=clicks).figures["test"]
    assert figures["popularity_of_category"]["recall_at_50"] == 1.0


@pytest.mark.parametrize("clicks", [np.ones(3), np.ones((2, len(WORD_TAGS)))])
def test_clicks_of_other_tags_are_refused(clicks):
    with pytest.raises(ValueError, match="`tag_clicks` must be 96 values"):
        experiment(0, clicks=clicks)


def test_validation_users_have_figures_of_their_own():
    figures = experiment(0, training=dataclasses.replace(TRAINING, max_epochs=1)).figures
    assert set(figures) == {"validation", "test"}
    for split, num_users in {"validation": 32, "test": 128}.items():
        for one in figures[split].values():
            assert one["num_users"] + one["num_users_without_truth"] == num_users


def test_neither_epoch_nor_weights_depend_on_what_is_held_out_or_on_test_users():
    # Labels of held-out tags, and everything of test users: no training sees them.
    training = dataclasses.replace(TRAINING, max_epochs=2)
    held_out = choose_new_tags(WORD_TAGS, 0.15, 0)
    parts = word_parts()
    blind = [hide_labels(part, held_out) for part in parts[:2]] + [word_log(64, 9)]

    first, second = (experiment(0, training=training, parts=some) for some in (parts, blind))

    assert first.fit.validation == second.fit.validation
    assert first.fit.best_step == second.fit.best_step
    for one, other in zip(first.model.get_weights(), second.model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
