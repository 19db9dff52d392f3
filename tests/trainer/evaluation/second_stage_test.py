import dataclasses

import numpy as np
import pytest

from tests.trainer.evaluation.figures_test import snapshots as label_snapshots
from tests.trainer.towers.user_tower_test import CONFIG
from trainer.config import RankingConfig, TrainingConfig
from trainer.contract import features as f
from trainer.data.snapshots import Snapshots
from trainer.evaluation.figures import evaluate
from trainer.evaluation.second_stage import (
    CLICK_WEIGHTS,
    SecondStage,
    WeightTrial,
    _scorer,
    best_weight,
    choose_second_stage,
    mixed,
    spread_users,
    two_stage_scores,
)
from trainer.evaluation.shortlists import shortlists
from trainer.model import InterestModel

SPEC = f.FeatureSpec(profile=(f.ProfileFeature("gender"),))


def snapshots(labels, history, impressions=None):
    """Those of the evaluation, of users with a feature of the model."""
    made = label_snapshots(labels, history, impressions)
    genders = np.arange(len(labels)) % 3
    return Snapshots({**made.scalars, "gender": genders}, made.lists)


def model_of_constants(bias, click_bias, **training):
    """Logits that do not depend on the user: biases alone."""
    config = dataclasses.replace(CONFIG, embedding_dim=2, click_projection=False)
    model = InterestModel(
        SPEC, {"profile_gender": 3}, len(bias), config, TrainingConfig(**training), seed=0
    )
    tower = model.tag_tower
    tower.embeddings.assign(np.zeros(tower.embeddings.shape))
    tower.bias.assign(bias)
    tower.click_bias.assign(click_bias)
    return model


def slow_order(multi_class, ranking, num_candidates):
    """Tags of one user in the order of two stages."""
    first = sorted(range(len(multi_class)), key=lambda tag: (-multi_class[tag], tag))
    proposed, rest = first[:num_candidates], first[num_candidates:]
    return sorted(proposed, key=lambda tag: (-ranking[tag], proposed.index(tag))) + rest


@pytest.mark.parametrize("num_candidates", [1, 5, 12, 40])
@pytest.mark.parametrize("click_weight", [0.0, 0.25, 1.0])
def test_scores_order_tags_as_two_stages_do(num_candidates, click_weight):
    rng = np.random.default_rng(0)
    # Small whole numbers: many ties in both stages, and no rounding.
    queries = rng.integers(-2, 3, (30, 3)).astype(float)
    tags, clicks = (rng.integers(-2, 3, (12, 3)).astype(float) for _ in range(2))
    ranking = mixed(tags, clicks, click_weight)

    scores = two_stage_scores(queries @ tags.T, queries, ranking, num_candidates)

    for row, query in zip(scores, queries, strict=True):
        expected = slow_order(
            [float(query @ tag) for tag in tags],
            [float(query @ tag) for tag in ranking],
            num_candidates,
        )
        assert np.argsort(-row, kind="stable").tolist() == expected


def test_logits_of_any_size_leave_room_for_every_candidate():
    multi_class = np.array([[1e9, 2e9, -1e30, 0.0]], np.float32)
    scores = two_stage_scores(multi_class, np.ones((1, 1)), np.array([[3.0], [2], [9], [4]]), 3)

    assert np.argsort(-scores[0]).tolist() == [3, 0, 1, 2]


def test_mix_is_linear_and_exact_at_its_ends():
    multi_class, click = np.array([0.1, 2.0], np.float32), np.array([5.0, -3.0], np.float32)

    np.testing.assert_array_equal(mixed(multi_class, click, 0.0), multi_class)
    np.testing.assert_array_equal(mixed(multi_class, click, 1.0), click)
    np.testing.assert_allclose(mixed(multi_class, click, 0.25), [1.325, 0.75], rtol=1e-6)


def test_best_weight_is_the_smallest_of_equally_good_ones():
    trials = [WeightTrial(0.5, 0.7), WeightTrial(0.1, 0.8), WeightTrial(0.0, None)]

    assert best_weight(trials) == 0.1
    assert best_weight([*trials, WeightTrial(0.05, 0.8)]) == 0.05
    assert best_weight([WeightTrial(0.5, None)]) is None


# Clicks fall on tags 3 and 4, which the click head puts first and the multi-class score last.
BIAS = np.array([1.0, 0.9, 0.8, 0.1, 0.0, -5.0])
CLICK_BIAS = np.array([0.0, 0.0, 0.0, 3.0, 2.0, 9.0])
LABELS = [[3, 4], [3], [4], [], [3, 4, 5]]


def slow_ndcg(order, label):
    gains = [1 / np.log2(place + 2) for place, tag in enumerate(order[:10]) if tag in label]
    return sum(gains) / sum(1 / np.log2(place + 2) for place in range(min(10, len(label))))


@pytest.mark.parametrize("num_candidates", [5, 6])
def test_validation_takes_the_weight_with_the_best_metric(num_candidates):
    users = snapshots(LABELS, [[]] * len(LABELS))

    stage = choose_second_stage(
        model_of_constants(BIAS, CLICK_BIAS), users, RankingConfig(num_candidates=num_candidates)
    )

    qualities = {}
    for weight in CLICK_WEIGHTS:
        order = slow_order(BIAS, (1 - weight) * BIAS + weight * CLICK_BIAS, num_candidates)
        qualities[weight] = np.mean([slow_ndcg(order, label) for label in LABELS if label])
    assert {t.click_weight: pytest.approx(t.quality) for t in stage.trials} == qualities
    best = max(qualities.values())
    assert stage.click_weight == min(w for w in CLICK_WEIGHTS if qualities[w] == best)
    assert 0 < stage.click_weight < 1
    assert stage.mix_weight == stage.click_weight
    assert stage.metric == "mean_ndcg_at_10"
    assert stage.num_candidates == num_candidates


def test_no_weight_is_taken_where_the_click_head_does_not_help():
    users = snapshots([[0], [0, 1]], [[], []])

    stage = choose_second_stage(model_of_constants(BIAS, CLICK_BIAS), users, RankingConfig())

    assert stage.click_weight == 0.0
    # What the report shows beside it: the best that mixes.
    assert stage.mix_weight == min(w for w in CLICK_WEIGHTS if w > 0)


def test_novel_metric_looks_at_lists_without_known_tags():
    # All but the last of 12 tags are known: only lists without them show it.
    bias = np.r_[np.arange(12.0, 1.0, -1.0), 0.0]
    users = snapshots([[11]], [list(range(11))])
    model = model_of_constants(bias, -bias, early_stopping_metric="novel_precision_at_10")

    stage = choose_second_stage(model, users, RankingConfig(num_candidates=3))

    assert [trial.quality for trial in stage.trials] == [pytest.approx(0.1)] * len(CLICK_WEIGHTS)
    assert stage.click_weight == 0.0


@pytest.mark.parametrize(
    ("score", "expected"), [("multi_class", 0.0), ("click", 1.0), ("mix", 0.5)]
)
def test_configured_score_is_kept_and_the_trials_reported(score, expected):
    users = snapshots(LABELS, [[]] * len(LABELS))
    config = RankingConfig(score=score)

    stage = choose_second_stage(model_of_constants(BIAS, CLICK_BIAS), users, config)

    assert stage.click_weight == expected
    assert 0 < stage.mix_weight < 1
    assert [trial.click_weight for trial in stage.trials] == list(CLICK_WEIGHTS)


@pytest.mark.parametrize("score", ["validation", "mix"])
def test_without_a_click_loss_there_is_nothing_to_mix(score):
    users = snapshots(LABELS, [[]] * len(LABELS))
    model = model_of_constants(BIAS, CLICK_BIAS, joint_weight=0.0)

    stage = choose_second_stage(model, users, RankingConfig(score=score))

    assert (stage.click_weight, stage.mix_weight, stage.trials) == (0.0, None, ())


def test_without_a_truth_validation_keeps_the_multi_class_score():
    stage = choose_second_stage(
        model_of_constants(BIAS, CLICK_BIAS), snapshots([[], []], [[], []]), RankingConfig()
    )

    assert (stage.click_weight, stage.mix_weight) == (0.0, None)
    assert {trial.quality for trial in stage.trials} == {None}


def test_spread_users_are_at_even_distances():
    users = snapshots([[i] for i in range(10)], [[]] * 10)

    assert spread_users(users, 10) is users
    picked = spread_users(users, 4)
    assert picked.lists[f.LABEL_TAGS].values.tolist() == [0, 2, 5, 7]


def test_training_stopped_by_clicks_keeps_the_multi_class_order():
    model = model_of_constants(
        [3.0, 2.0, 1.0], [0.0, 5.0, 0.0], joint_weight=1.0, early_stopping_metric="click_gauc"
    )
    validation = snapshots([[0], [1]], [[], []], [[([0], 1), ([1], 0)]] * 2)

    stage = choose_second_stage(model, validation, RankingConfig())

    assert (stage.click_weight, stage.mix_weight) == (0.0, None)
    assert {trial.quality for trial in stage.trials} == {None}


@pytest.mark.parametrize("with_novel", [False, True])
def test_short_lists_have_the_metrics_of_all_tags(with_novel):
    rng = np.random.default_rng(1)
    num_tags, num_users, num_candidates = 400, 40, 7
    queries, candidates, clicks = (
        rng.standard_normal((n, 5)).astype(np.float32) for n in (num_users, num_tags, num_tags)
    )
    # Some have clicked nothing, some nearly everything that they would be shown; -1 is unknown.
    best = np.argsort(-queries @ candidates.T, axis=1)
    history = [best[i, : [0, 3, 90][i % 3]].tolist() for i in range(num_users)]
    labels = [
        [*rng.choice(best[i, :120], i % 5, replace=False), -1, int(rng.integers(num_tags))]
        for i in range(num_users)
    ]
    users = label_snapshots(labels, history)
    lists = shortlists(queries, candidates, clicks, users, num_candidates, with_novel)

    num_listed = lists.scalars["multi_class_logits"].shape[1]
    assert num_listed < num_tags / 2
    for weight in (0.0, 0.3, 1.0):
        ranking = mixed(candidates, clicks, weight)

        def score_all(chunk, ranking=ranking):
            own = queries[chunk.scalars[f.USER_ID].astype(int)]
            return two_stage_scores(own @ candidates.T, own, ranking, num_candidates)

        options = {"with_novel": with_novel, "with_slices": False}
        expected = evaluate(score_all, users, num_tags, **options)
        found = evaluate(_scorer(weight, num_candidates), lists, num_listed, **options)
        names = [n for n in expected if "_at_" in n and n != "coverage_at_10"]
        assert len(names) == 30
        for name in names:
            assert found[name] == pytest.approx(expected[name]), (weight, name)


@pytest.mark.parametrize(
    ("num_tags", "k", "expected"),
    [(40, 5, 25), (40, 30, 30), (20, 5, 20), (20, 20, 20), (0, 1, 0)],
)
def test_number_of_candidates_is_at_least_k_and_at_most_all_tags(num_tags, k, expected):
    assert SecondStage(num_candidates=25).candidates_among(num_tags, k) == expected
