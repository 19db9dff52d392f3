"""All baselines of a log at once: which exist, their choices, and which are left out and why."""

import dataclasses

import numpy as np
import pytest

from tests.trainer.evaluation.baselines_test import make
from tests.trainer.evaluation.figures_test import lists
from trainer.contract.features import Domain, FeatureSpec
from trainer.data.snapshots import Snapshots
from trainer.evaluation import baselines
from trainer.evaluation.baselines_config import BASELINES, BaselinesConfig
from trainer.evaluation.figures import evaluate
from trainer.evaluation.fitted_baselines import columns_of_training, fit_baselines

NUM_TAGS, NUM_GROUPS = 60, 6
SPEC = FeatureSpec(domains=(Domain("clicked"), Domain("skipped", events="skipped")))


def planted(num_users, seed, prefix):
    """Makes users who click ten tags of a group, half before the cut; all of them were shown."""
    rng = np.random.default_rng(seed)
    histories, labels, skips = [], [], []
    for group in rng.integers(0, NUM_GROUPS, num_users):
        tags = 10 * group + rng.permutation(10)
        histories.append({int(tag): int(rng.integers(1, 4)) for tag in tags[:5]})
        labels.append({int(tag): 1 for tag in tags[3:]} | {int(rng.integers(NUM_TAGS)): 1})
        skips.append({int(tag): 2.0 for tag in rng.permutation(NUM_TAGS)[:3]})
    ids = [b"%s%04d" % (prefix, user) for user in range(num_users)]
    made = make(ids, [1] * num_users, histories, labels)
    columns = {
        "clicked": made.lists["history_tags"],
        "clicked_weights": made.lists["history_tags_counts"],
        "skipped": lists([list(row) for row in skips], np.int32),
        "skipped_weights": lists([list(row.values()) for row in skips], np.float32),
    }
    return Snapshots(made.scalars, {**made.lists, **columns})


@pytest.fixture(scope="module")
def log():
    clicks = np.arange(NUM_TAGS, dtype=float)
    return clicks, planted(120, 0, b"t"), planted(60, 1, b"v")


@pytest.fixture(scope="module")
def fitted(log):
    return fit_baselines(*log, SPEC, BaselinesConfig())


def figure(baseline, users, metric="precision_at_10"):
    return evaluate(baseline.tag_scorer, users, NUM_TAGS, with_novel=baseline.has_novel)[metric]


def test_there_are_all_in_the_order_of_tables(fitted):
    assert tuple(fitted.by_name) == BASELINES
    assert not fitted.skipped


def test_those_that_know_groups_find_what_is_novel(fitted):
    test = planted(60, 2, b"x")

    novel = {
        who: figure(baseline, test, "novel_precision_at_10")
        for who, baseline in fitted.by_name.items()
    }

    assert novel["ease"] > 2 * novel["popularity"]
    assert novel["neighbours"] > 2 * novel["popularity"]
    # Own history, and baselines that mix it in, rank no tags that were never clicked.
    assert {who for who, value in novel.items() if value is None} == {
        "own_history",
        "blend",
        "ease_own_history",
    }


@pytest.mark.parametrize(
    ("who", "setting"),
    [("blend", "blend_weight"), ("ease_own_history", "ease_own_history_weight")],
)
def test_mix_is_the_best_on_validation_users(fitted, log, who, setting):
    clicks, _, validation = log
    ease = fitted.by_name["ease"].tag_scorer
    own = baselines.own_history(NUM_TAGS)

    def mix(weight):
        if who == "blend":
            return baselines.blend(clicks, weight)
        return lambda chunk: ease(chunk) + weight * np.log1p(own(chunk))

    def quality(weight):
        return evaluate(mix(weight), validation, NUM_TAGS)["precision_at_10"]

    weights = {"blend": baselines.BLEND_WEIGHTS}.get(who, baselines.EASE_WEIGHTS)
    qualities = {weight: quality(weight) for weight in weights}
    assert qualities[fitted.settings[setting]] == max(qualities.values())
    assert figure(fitted.by_name[who], validation) == max(qualities.values())


def test_a_tags_own_clicks_are_added_as_logarithms(fitted, log):
    _, _, validation = log
    ease = fitted.by_name["ease"].tag_scorer(validation)
    own = np.log1p(baselines.own_history(NUM_TAGS)(validation))
    weight = fitted.settings["ease_own_history_weight"]
    np.testing.assert_allclose(
        fitted.by_name["ease_own_history"].tag_scorer(validation), ease + weight * own, rtol=1e-6
    )


def test_shown_counts_clicked_and_skipped(fitted, log):
    _, _, validation = log
    scores = fitted.by_name["shown"].tag_scorer(validation.take(np.array([0])))[0]
    clicked, skipped = np.zeros(NUM_TAGS), np.zeros(NUM_TAGS)
    for name, counts in (("clicked", clicked), ("skipped", skipped)):
        row = validation.take(np.array([0])).lists
        counts[row[name].values] = row[f"{name}_weights"].values
    np.testing.assert_array_equal(scores, clicked + skipped)


def test_training_columns_are_enough(fitted, log):
    clicks, train, validation = log
    names = columns_of_training(SPEC)
    part = Snapshots(
        {name: column for name, column in train.scalars.items() if name in names},
        {name: column for name, column in train.lists.items() if name in names},
    )

    again = fit_baselines(clicks, part, validation, SPEC, BaselinesConfig())

    assert again.settings == fitted.settings


def test_ease_beyond_its_memory_is_left_out_and_says_the_key(log):
    fitted = fit_baselines(*log, SPEC, BaselinesConfig(max_ease_memory_mb=0))

    assert set(BASELINES) - set(fitted.by_name) == {"ease", "ease_own_history"}
    assert set(fitted.skipped) == {"ease", "ease_own_history"}
    for reason in fitted.skipped.values():
        assert reason.startswith("120 training users by 60 tags would take about ")
        assert reason.endswith("MB (`baselines.max_ease_memory_mb` is 0)")


def test_neighbours_are_looked_for_among_no_more_users_than_wanted(log, fitted):
    few = fit_baselines(*log, SPEC, BaselinesConfig(max_neighbour_users=7))

    assert few.settings["neighbours_num_users"] == 7
    assert fitted.settings["neighbours_num_users"] == 120
    assert few.settings["ease_regularization"] == fitted.settings["ease_regularization"]


def test_without_skipped_tags_there_is_no_shown(log):
    spec = FeatureSpec(domains=(Domain("clicked"),))

    fitted = fit_baselines(*log, spec, BaselinesConfig())

    assert "shown" not in fitted.by_name
    assert "no domain of `features` counts" in fitted.skipped["shown"]


def test_log_without_training_clicks_has_what_needs_none(log):
    clicks, train, validation = log

    fitted = fit_baselines(clicks, train.take(np.arange(0)), validation, SPEC, BaselinesConfig())

    assert set(fitted.by_name) == {"blend", "own_history", "shown", "popularity", "random"}
    assert set(fitted.skipped.values()) == {"no training user clicked a known tag"}


def test_fit_is_the_same_again(log, fitted):
    again = fit_baselines(*log, SPEC, BaselinesConfig())

    _, _, validation = log
    assert dataclasses.replace(again, by_name={}) == dataclasses.replace(fitted, by_name={})
    for who, baseline in fitted.by_name.items():
        np.testing.assert_array_equal(
            baseline.tag_scorer(validation), again.by_name[who].tag_scorer(validation)
        )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"max_ease_memory_mb": -1}, "`max_ease_memory_mb` must be 0 or positive"),
        ({"max_neighbour_users": 0}, "`max_neighbour_users` must be a positive integer"),
    ],
)
def test_bounds_are_checked(changes, message):
    with pytest.raises(ValueError, match=message):
        BaselinesConfig(**changes)
