import dataclasses

import numpy as np
import pytest

from tests.trainer.contract.memory_test import slow_mixture
from tests.trainer.evaluation.figures_test import lists
from tests.trainer.towers.user_tower_test import CONFIG
from trainer.config import RankingConfig, TrainingConfig
from trainer.contract import features as f
from trainer.contract.memory import DomainMemory, remember
from trainer.data.snapshots import Snapshots
from trainer.evaluation.figures import evaluate
from trainer.evaluation.memory_choice import (
    HALF_WEIGHTS,
    LIMITS,
    MemoryUsers,
    choose_memory,
    memory_metric,
)
from trainer.evaluation.second_stage import (
    _memory_users,
    choose_second_stage,
    mixed,
    two_stage_scores,
)
from trainer.evaluation.shortlists import shortlists
from trainer.model import InterestModel

NUM_TAGS = 60
POPULARITY = np.arange(1.0, NUM_TAGS + 1) ** -0.7
POPULARITY /= POPULARITY.sum()
SPEC = f.FeatureSpec(
    profile=(f.ProfileFeature("gender"),), domains=(f.Domain("clicked"), f.Domain("recent"))
)


def snapshots(histories, labels, recent=None, num_tags=NUM_TAGS):
    """Makes users from their histories, rows of (tag, weight), and the tags they click later."""
    recent = recent or [[] for _ in histories]
    columns = {
        f.LABEL_TAGS: lists(labels, np.int32),
        f.HISTORY_TAGS: lists(
            [[t if t < num_tags else -1 for t, _ in row] for row in histories], np.int32
        ),
    }
    for name, rows in (("clicked", histories), ("recent", recent)):
        columns[name] = lists([[t for t, _ in row] for row in rows], np.int32)
        columns[f.weights_name(name)] = lists([[w for _, w in row] for row in rows], np.float32)
    scalars = {
        f.USER_ID: np.array([b"%d" % i for i in range(len(histories))]),
        "gender": np.zeros(len(histories), np.int64),
    }
    return Snapshots(scalars, columns)


def popularity_model(click_bias=None, **training):
    """Makes a model whose p is that of popularity for every user."""
    config = dataclasses.replace(CONFIG, embedding_dim=2, click_projection=False)
    sizes = {"profile_gender": 3, "tags": NUM_TAGS + 1}
    model = InterestModel(SPEC, sizes, NUM_TAGS, config, TrainingConfig(**training), seed=0)
    tower = model.tag_tower
    tower.embeddings.assign(np.zeros(tower.embeddings.shape))
    tower.bias.assign(np.log(POPULARITY))
    tower.click_bias.assign(np.zeros(NUM_TAGS) if click_bias is None else click_bias)
    return model


def planted(next_clicks, num_users=400, seed=0):
    """Makes users with 3 to 100 clicks; `next_clicks(rng, counts)` draws later ones, [num_tags]."""
    rng = np.random.default_rng(seed)
    histories, labels = [], []
    for _ in range(num_users):
        counts, later = next_clicks(rng, rng.choice([3, 10, 30, 100]))
        histories.append([(int(t), float(counts[t])) for t in np.flatnonzero(counts)])
        labels.append(np.flatnonzero(later).tolist())
    return snapshots(histories, labels)


def repeating(rate):
    """Draws a share `rate` of the later clicks from the user's own, the rest by popularity."""

    def draw(rng, size):
        counts = rng.multinomial(size, POPULARITY)
        return counts, rng.multinomial(12, rate * counts / size + (1 - rate) * POPULARITY)

    return draw


def choose(users, **options):
    model = popularity_model(joint_weight=0.0, **options.pop("training", {}))
    return choose_second_stage(model, users, RankingConfig(num_candidates=20, **options))


@pytest.mark.parametrize(
    ("rate", "metric"),
    [(0.2, "ndcg_at_10"), (0.5, "ndcg_at_10"), (0.8, "ndcg_at_10"), (0.5, "precision_at_10")],
)
def test_lambda_is_the_rate_at_which_users_repeat(rate, metric):
    stage = choose(planted(repeating(rate)), training={"early_stopping_metric": metric})

    assert [part.domain for part in stage.memory] == ["clicked"]
    share = stage.memory[0].share(np.array([3.0, 10, 30, 100])).mean()
    # Ten places of so many users do not tell two neighbours of the grid apart.
    assert share == pytest.approx(rate, abs=0.21)
    assert stage.memory_metric == metric
    qualities = {trial.memory: trial.quality for trial in stage.memory_trials}
    assert qualities[stage.memory] == max(qualities.values()) > qualities[()] + 0.01


@pytest.mark.parametrize("concentration", [30.0, 100.0])
def test_lambda_grows_with_the_history_where_tastes_are_drawn_around_popularity(concentration):
    def draw(rng, size):
        taste = rng.dirichlet(concentration * POPULARITY)
        return rng.multinomial(size, taste), rng.multinomial(12, taste)

    stage = choose(planted(draw))

    # Expected of such a user: (counts + concentration * popularity) / (n + concentration).
    assert stage.memory == (DomainMemory("clicked", 1.0, concentration),)


def test_users_who_never_repeat_have_no_memory():
    def draw(rng, size):
        counts = rng.multinomial(size, POPULARITY)
        return counts, np.where(counts, 0, rng.multinomial(12, POPULARITY))

    stage = choose(planted(draw))

    assert stage.memory == ()
    assert len(stage.memory_trials) == 1 + 2 * (len(LIMITS) + len(HALF_WEIGHTS))
    assert stage.memory_trials[0].memory == ()


def test_a_second_domain_is_mixed_in_where_it_helps():
    rng = np.random.default_rng(3)
    histories, recent, labels = [], [], []
    for _ in range(400):
        old, new = (rng.choice(NUM_TAGS, 3, replace=False) for _ in range(2))
        p = 0.3 * POPULARITY
        p[old] += 0.3 / 3
        p[new] += 0.4 / 3
        histories.append([(int(t), 1.0) for t in old])
        recent.append([(int(t), 1.0) for t in new])
        labels.append(np.flatnonzero(rng.multinomial(12, p)).tolist())

    stage = choose(snapshots(histories, labels, recent))

    assert {part.domain for part in stage.memory} == {"clicked", "recent"}
    assert len(stage.memory_trials) == 1 + 3 * (len(LIMITS) + len(HALF_WEIGHTS))


def test_none_is_configured():
    stage = choose(planted(repeating(0.8), num_users=50), memory="none")

    assert (stage.memory, stage.memory_metric, stage.memory_trials) == ((), "", ())


@pytest.mark.parametrize(
    ("metric", "expected"),
    [
        ("mean_ndcg_at_10", "ndcg_at_10"),
        ("ndcg_at_10", "ndcg_at_10"),
        ("precision_at_10", "precision_at_10"),
        ("novel_precision_at_10", "precision_at_10"),
        ("click_gauc", "precision_at_10"),
    ],
)
def test_what_memory_does_not_change_does_not_decide_about_it(metric, expected):
    assert memory_metric(metric) == expected


def test_memory_is_chosen_where_novel_tags_choose_the_epoch():
    training = {"early_stopping_metric": "novel_precision_at_10"}
    stage = choose(planted(repeating(0.8), num_users=200), training=training)

    assert stage.memory
    assert (stage.metric, stage.memory_metric) == ("novel_precision_at_10", "precision_at_10")


def test_without_a_truth_there_is_no_memory():
    stage = choose(snapshots([[(1, 1.0)], []], [[], []]))

    assert stage.memory == ()
    assert [(trial.memory, trial.quality) for trial in stage.memory_trials] == [((), None)]


def test_users_without_histories_have_no_memory():
    stage = choose(snapshots([[], []], [[1, 2], [3]]))

    assert stage.memory == ()


def few_users():
    """Makes one user who repeats their only click, on the tag that the model ranks last."""
    return MemoryUsers(
        shares=np.array([[0.4, 0.3, 0.2, 0.1]]),
        is_proposed=np.array([[True, True, False, False]]),
        rest_order=np.array([[4.0, 3.0, 2.0, 1.0]]),
        domain_shares={"a": np.array([[0.0, 0.0, 0.0, 1.0]])},
        totals={"a": np.array([9.0])},
        truth=np.array([[False, False, False, True]]),
        num_relevant=np.array([1]),
    )


def test_of_equally_good_memories_the_least_is_taken():
    # Above 3/13 the tag is first: 0.1 (1 - x) + x > 0.4 (1 - x).
    memory, trials = choose_memory(few_users(), ["a"], "ndcg_at_10")

    assert {t.quality for t in trials if t.memory and t.memory[0].limit in (0.3, 0.95)} == {1.0}
    # 9 / (9 + 30) is 3/13: equal to the first tag, and behind it.
    assert memory == (DomainMemory("a", 0.3, 0.0),)


def test_what_neither_is_proposed_nor_remembered_follows_in_the_order_of_the_first_stage():
    users = few_users()

    # Discounts of the first four places; the tag is last, first behind two, and first of all.
    for memory, place in (((), 3), ((DomainMemory("a", 0.1),), 2), ((DomainMemory("a", 0.9),), 0)):
        assert users.quality(memory, "ndcg_at_10") == pytest.approx(1 / np.log2(place + 2))


@pytest.mark.parametrize("click_weight", [0.0, 0.5])
def test_short_lists_have_the_quality_of_all_tags(click_weight):
    rng = np.random.default_rng(1)
    num_tags, num_users, num_candidates = 300, 40, 7
    queries, candidates, clicks = (
        rng.standard_normal((n, 5)).astype(np.float32) for n in (num_users, num_tags, num_tags)
    )
    # -1 and ids after the last tag are unknown.
    histories = [
        [(int(t), float(rng.integers(1, 5))) for t in rng.integers(-1, num_tags + 1, i)]
        for i in range(num_users)
    ]
    labels = [
        sorted({int(t) for t, _ in histories[i][::2] if t < num_tags})
        + rng.integers(0, num_tags, 3).tolist()
        for i in range(num_users)
    ]
    users = snapshots(histories, labels, recent=[row[:3] for row in histories], num_tags=num_tags)
    domains = ("clicked", "recent")
    found = shortlists(queries, candidates, clicks, users, num_candidates, False, domains)
    assert found.scalars["multi_class_logits"].shape[1] < num_tags / 2
    memory = (DomainMemory("clicked", 0.3), DomainMemory("recent", 1.0, 5.0))
    ranking = mixed(candidates, clicks, click_weight)
    for part in ((), memory[:1], memory):

        def score_all(chunk, part=part):
            own = queries[chunk.scalars[f.USER_ID].astype(int)]
            remembered = remember(part, chunk.lists, num_tags) if part else None
            return two_stage_scores(own @ candidates.T, own, ranking, num_candidates, remembered)

        expected = evaluate(score_all, users, num_tags, with_novel=False, with_slices=False)
        lists_of_users = _memory_users(found, num_candidates, click_weight, domains)
        for metric in ("ndcg_at_10", "precision_at_10"):
            quality = lists_of_users.quality(part, metric)
            assert quality == pytest.approx(expected[metric]), (part, metric)


@pytest.mark.parametrize("click_weight", [0.0, 0.5])
def test_scores_with_memory_order_tags_as_the_mixture_does(click_weight):
    rng = np.random.default_rng(2)
    num_tags, num_candidates = 12, 5
    queries, candidates, clicks = (rng.standard_normal((n, 3)) for n in (30, num_tags, num_tags))
    ranking = mixed(candidates, clicks, click_weight)
    histories = [
        [(int(t), float(rng.integers(1, 9))) for t in rng.integers(-1, num_tags + 1, i % 8)]
        for i in range(30)
    ]
    memory = (DomainMemory("clicked", 1.0, 6.0),)
    remembered = remember(memory, snapshots(histories, [[]] * 30).lists, num_tags)

    scores = two_stage_scores(queries @ candidates.T, queries, ranking, num_candidates, remembered)

    for i, query in enumerate(queries):
        first = np.argsort(-(candidates @ query), kind="stable").tolist()
        logits = ranking @ query
        p = np.exp(logits) / np.exp(logits[first[:num_candidates]]).sum()
        mixture = slow_mixture(memory, {"clicked": histories[i]}, p)
        own = {t for t, _ in histories[i] if 0 <= t < num_tags}
        ordered = sorted(own | set(first[:num_candidates]), key=lambda t, m=mixture: -m[t])
        expected = ordered + [t for t in first if t not in ordered]
        assert np.argsort(-scores[i], kind="stable").tolist() == expected


def test_w_is_chosen_again_where_memory_makes_another_one_better():
    # Users click tags 0 to 8 and repeat their own, 20 or 21. With w = 0.1 the click head brings
    # tag 20 up to the ninth place, for those as well whose own is 21.
    click_bias = np.where(np.isin(np.arange(NUM_TAGS), [20, 21]), 5.5, 0.0)
    own = [20, 21] * 10
    users = snapshots([[(tag, 1.0)] for tag in own], [[tag, *range(9)] for tag in own])
    model = popularity_model(click_bias, joint_weight=0.3, early_stopping_metric="ndcg_at_10")

    without = choose_second_stage(model, users, RankingConfig(num_candidates=40, memory="none"))
    stage = choose_second_stage(model, users, RankingConfig(num_candidates=40))

    assert (without.click_weight, without.memory) == (0.1, ())
    assert stage.click_weight == 0.0
    assert stage.trials == without.trials
    assert max(t.quality for t in stage.memory_trials) == pytest.approx(1.0)
    # A weight that is configured stays.
    configured = RankingConfig(num_candidates=40, score="mix")
    assert choose_second_stage(model, users, configured).click_weight == 0.5


def test_novel_lists_are_the_same_with_memory():
    rng = np.random.default_rng(4)
    num_tags, num_users, num_candidates = 40, 60, 15
    queries, candidates = (rng.standard_normal((n, 4)) for n in (num_users, num_tags))
    histories = [
        [(int(t), 1.0) for t in rng.choice(num_tags, i % 20, replace=False)]
        for i in range(num_users)
    ]
    labels = [rng.choice(num_tags, 6, replace=False).tolist() for _ in range(num_users)]
    users = snapshots(histories, labels)
    memory = (DomainMemory("clicked", 0.7),)

    def figures(ranking, has_memory):
        def score(chunk):
            own = queries[chunk.scalars[f.USER_ID].astype(int)]
            remembered = remember(memory, chunk.lists, num_tags) if has_memory else None
            return two_stage_scores(own @ candidates.T, own, ranking, num_candidates, remembered)

        found = evaluate(score, users, num_tags, with_slices=False)
        return {name: value for name, value in found.items() if name.startswith("novel_")}, found

    for ranking in (candidates, rng.standard_normal((num_tags, 4))):
        (with_memory, all_with), (without, all_without) = (
            figures(ranking, x) for x in (True, False)
        )
        assert with_memory == without
        assert all_with["precision_at_10"] != all_without["precision_at_10"]
