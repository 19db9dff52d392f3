"""Retrieval under rules, against loops over the allowed tags."""

import numpy as np
import pytest
import tensorflow as tf

from serving.index.scann_index import ScannIndex, SearchParameters, default_num_leaves
from serving.index.top_k import BruteForceIndex
from serving.index.tuning import tune
from serving.servable import filtered_retrieval
from serving.servable.export import export_servable
from serving.servable.filtered_retrieval import EXACT_UP_TO, FilteredRetrieval
from serving.servable.retrieval import TagRetrieval
from tests.toy_towers import ToyTowers
from trainer.contract import signatures as s

NUM_USERS, NUM_TAGS, SIZE, K, NUM_CANDIDATES = 12, 60, 3, 5, 12
CLICK_WEIGHT, SLOPE, INTERCEPT = 0.25, 0.8, 0.3
# A large category, three tags of another, and tags without one.
CATEGORIES = ["" if j % 7 == 0 else "rare" if j % 20 == 1 else "common" for j in range(NUM_TAGS)]
NAMES = [f"t{j}" for j in range(NUM_TAGS)]


class UnsavedTowers:
    """Toy towers with signatures as a loaded SavedModel has them."""

    def __init__(self, towers):
        self.signatures = {name: function for name, (function, _) in towers.functions().items()}


def make_vectors(draw):
    return [draw((num, SIZE)).astype(np.float32) for num in (NUM_USERS, NUM_TAGS, NUM_TAGS)]


def make(vectors, kind="exact", k=K):
    towers = UnsavedTowers(ToyTowers(*vectors, click_weight=CLICK_WEIGHT))
    if kind == "exact":
        index = BruteForceIndex(vectors[1])
    else:
        # It looks at everything: what it finds is what exact search finds.
        index = ScannIndex(vectors[1], 4, SearchParameters(4, NUM_TAGS))
    return TagRetrieval(
        towers,
        index,
        k,
        num_candidates=min(max(k, NUM_CANDIDATES), NUM_TAGS),
        tag_slope=SLOPE,
        tag_intercept=INTERCEPT,
        tag_categories=CATEGORIES,
    )


@pytest.fixture(scope="module")
def whole():
    """Small whole numbers: products without rounding, and many ties in both stages."""
    rng = np.random.default_rng(0)
    return make_vectors(lambda shape: rng.integers(-2, 3, shape))


@pytest.fixture(scope="module")
def real():
    """No ties: among equal tags ScaNN may propose any."""
    rng = np.random.default_rng(1)
    return make_vectors(lambda shape: rng.normal(size=shape))


def padded(rows):
    width = max(map(len, rows))
    return tf.constant([[*row, *[""] * (width - len(row))] for row in rows], tf.string)


def search(module, queries, excluded, categories):
    if not len(queries):
        rules = [tf.zeros([0, 0], tf.string)] * 2
    else:
        rules = [tf.reshape(padded(rows), [len(queries), -1]) for rows in (excluded, categories)]
    answer = FilteredRetrieval(module).search(tf.constant(queries), *rules)
    return {name: column.numpy() for name, column in answer.items()}


def slow_search(vectors, query, excluded, categories, k):
    """Tag, score and probability of one user's tags, with plain lists."""
    _, tags, clicks = vectors
    size = max(k, NUM_CANDIDATES)
    logits = [float(query @ tag) for tag in tags]
    order = sorted(range(NUM_TAGS), key=lambda j: (-logits[j], j))
    total = sum(np.exp(logits[j]) for j in order[:size])
    wanted = {category for category in categories if category}
    allowed = [
        j for j in order if NAMES[j] not in excluded and (not wanted or CATEGORIES[j] in wanted)
    ]
    own = [j for j in order[:size] if j in allowed]
    if len(own) < min(k, len(allowed)):
        own = allowed[:size]
    rows = []
    for place, j in enumerate(own):
        score = (1 - CLICK_WEIGHT) * logits[j] + CLICK_WEIGHT * float(query @ clicks[j])
        log_share = logits[j] - np.log(total)
        probability = 1 / (1 + np.exp(-(SLOPE * log_share + INTERCEPT)))
        rows.append((-score, place, NAMES[j], probability))
    return [(tag, -score, probability) for score, _, tag, probability in sorted(rows)[:k]]


def assert_rows(answer, expected, k):
    counts = [len(rows) for rows in expected]
    assert answer[s.COUNT].tolist() == counts
    fill = (b"", -np.inf, 0.0)
    full = [
        [*((tag.encode(), *rest) for tag, *rest in rows), *[fill] * (k - len(rows))]
        for rows in expected
    ]
    assert answer[s.TAGS].tolist() == [[tag for tag, _, _ in rows] for rows in full]
    for name, place in ((s.SCORES, 1), (s.PROBABILITIES, 2)):
        values = [[row[place] for row in rows] for rows in full]
        np.testing.assert_allclose(answer[name], values, rtol=1e-4, atol=1e-6)


def random_rules(num_users, seed):
    """Few and many exclusions, known, unknown, repeated and empty; lists of every kind."""
    rng = np.random.default_rng(seed)
    lists = [[], ["common"], ["rare"], ["rare", "common", "rare"], ["no such"], ["", "rare"], [""]]
    excluded = [
        [
            *rng.choice([*NAMES, "unknown", ""], rng.integers(0, 40)).tolist(),
            *["t3", "t3"][: rng.integers(0, 3)],
        ]
        for _ in range(num_users)
    ]
    categories = [lists[i] for i in rng.integers(0, len(lists), num_users)]
    return excluded, categories


@pytest.mark.parametrize("k", [1, K, 30, 1_000])
@pytest.mark.parametrize("kind", ["exact", "scann"])
def test_rules_of_every_kind_equal_the_loops(whole, real, kind, k):
    vectors = whole if kind == "exact" else real
    module, num_places = make(vectors, kind, k), min(k, NUM_TAGS)
    queries = np.concatenate([vectors[0]] * 3)
    excluded, categories = random_rules(len(queries), seed=k)

    answer = search(module, queries, excluded, categories)

    if kind == "scann":
        # So few tags are always searched exactly, by the rule's best N and not by the user's.
        expected = [
            exact_row(vectors, *row_of, num_places)
            for row_of in zip(queries, excluded, categories, strict=True)
        ]
    else:
        expected = [
            slow_search(vectors, *row_of, num_places)
            for row_of in zip(queries, excluded, categories, strict=True)
        ]
    assert_rows(answer, expected, num_places)
    assert len({len(rows) for rows in expected}) > (1 if k == 1 else 2)


def exact_row(vectors, query, excluded, categories, k):
    """`slow_search` with the N best allowed tags for candidates, where there is a rule."""
    if not set(excluded) & set(NAMES) and not any(categories):
        return slow_search(vectors, query, excluded, categories, k)
    wanted = {category for category in categories if category}
    logits = vectors[1] @ query
    order = np.argsort(-logits, kind="stable")
    size = max(k, NUM_CANDIDATES)
    total = np.exp(logits[order[:size]]).sum()
    own = [
        j for j in order if NAMES[j] not in excluded and (not wanted or CATEGORIES[j] in wanted)
    ][:size]
    scores = (1 - CLICK_WEIGHT) * logits + CLICK_WEIGHT * (vectors[2] @ query)
    own = sorted(own, key=lambda j: -scores[j])[:k]
    shares = np.log(np.exp(logits) / total)
    return [(NAMES[j], scores[j], 1 / (1 + np.exp(-(SLOPE * shares[j] + INTERCEPT)))) for j in own]


@pytest.mark.parametrize("kind", ["exact", "scann"])
def test_without_rules_it_is_retrieval_bit_for_bit(real, kind):
    module = make(real, kind)
    no_rules = [["", "unknown"], *[[]] * (NUM_USERS - 1)]

    answer = search(module, real[0], no_rules, [[""]] * NUM_USERS)

    expected = module.search(tf.constant(real[0]))
    assert answer.pop(s.COUNT).tolist() == [K] * NUM_USERS
    assert {name: column.tobytes() for name, column in answer.items() if name != s.TAGS} == {
        name: column.numpy().tobytes() for name, column in expected.items() if name != s.TAGS
    }
    assert answer[s.TAGS].tolist() == expected[s.TAGS].numpy().tolist()


@pytest.mark.parametrize("kind", ["exact", "scann"])
def test_user_gets_the_same_alone_as_in_a_batch(real, kind):
    module = make(real, kind)
    excluded, categories = random_rules(NUM_USERS, seed=7)

    together = search(module, real[0], excluded, categories)

    for i, query in enumerate(real[0]):
        alone = search(module, query[np.newaxis], excluded[i : i + 1], categories[i : i + 1])
        assert alone[s.TAGS].tolist() == together[s.TAGS][i : i + 1].tolist()
        assert alone[s.COUNT] == together[s.COUNT][i]
        np.testing.assert_allclose(alone[s.SCORES], together[s.SCORES][i : i + 1], rtol=1e-5)


@pytest.mark.parametrize("kind", ["exact", "scann"])
def test_nothing_is_left_where_everything_is_excluded(real, kind):
    answer = search(make(real, kind), real[0][:2], [NAMES, NAMES[:-1]], [[], []])

    assert answer[s.COUNT].tolist() == [0, 1]
    assert answer[s.TAGS].tolist() == [[b""] * K, [NAMES[-1].encode(), *[b""] * (K - 1)]]
    assert (answer[s.SCORES][0] == -np.inf).all() and (answer[s.PROBABILITIES][0] == 0).all()


def test_probability_is_that_of_retrieval_whatever_is_excluded(real):
    module = make(real)
    everything = module.search_candidates(tf.constant(real[0]))
    known = [
        dict(zip(tags, row, strict=True))
        for tags, row in zip(
            everything[s.TAGS].numpy().tolist(),
            everything[s.PROBABILITIES].numpy().tolist(),
            strict=True,
        )
    ]

    answer = search(module, real[0], [NAMES[:20]] * NUM_USERS, [[]] * NUM_USERS)

    compared = 0
    for own, tags, row in zip(known, answer[s.TAGS], answer[s.PROBABILITIES], strict=True):
        for tag, probability in zip(tags, row, strict=True):
            if tag in own:
                assert probability == pytest.approx(own[tag], rel=1e-5)
                compared += 1
    assert compared > NUM_USERS


def test_empty_batch_has_k_columns(real):
    answer = search(make(real, "scann"), np.zeros((0, SIZE), np.float32), [], [])

    shapes = {name: column.shape for name, column in answer.items()}
    assert shapes == {s.COUNT: (0,)} | dict.fromkeys((s.TAGS, s.SCORES, s.PROBABILITIES), (0, K))


def test_tags_without_categories_are_allowed_by_no_list(real):
    towers = UnsavedTowers(ToyTowers(*real))
    module = TagRetrieval(towers, BruteForceIndex(real[1]), K)

    answer = search(module, real[0][:2], [[], []], [["common"], []])

    assert answer[s.COUNT].tolist() == [0, K]


def test_a_category_for_each_tag_is_asked_for(real):
    towers = UnsavedTowers(ToyTowers(*real))
    index = BruteForceIndex(real[1])
    with pytest.raises(ValueError, match="`categories` must name one for each of the 60 tags"):
        TagRetrieval(towers, index, K, tag_categories=["common"])


def test_saved_servable_answers_by_name(whole, tmp_path):
    ToyTowers(*whole, click_weight=CLICK_WEIGHT).save(tmp_path / "towers")
    towers = tf.saved_model.load(str(tmp_path / "towers"))
    module = TagRetrieval(
        towers,
        BruteForceIndex(whole[1]),
        K,
        num_candidates=NUM_CANDIDATES,
        tag_slope=SLOPE,
        tag_intercept=INTERCEPT,
        tag_categories=CATEGORIES,
    )
    export_servable(module, str(tmp_path / "1"), {})
    served = tf.saved_model.load(str(tmp_path / "1")).signatures[s.RETRIEVE_FILTERED]
    excluded, categories = random_rules(NUM_USERS, seed=3)

    answer = served(
        name=tf.constant([f"u{i}" for i in range(NUM_USERS)]),
        exclude_tags=padded(excluded),
        allow_categories=padded(categories),
    )

    expected = [
        slow_search(whole, *row_of, K)
        for row_of in zip(whole[0], excluded, categories, strict=True)
    ]
    assert_rows({name: column.numpy() for name, column in answer.items()}, expected, K)


# A real ScaNN index.

LARGE = 24_000  # tags
SHARES = {"large": 0.55, "middle": 0.35, "small": 0.098, "few": 0.002}
LARGE_K = 50


@pytest.fixture(scope="module")
def large():
    """Module with an index tuned on clusters, queries, tag vectors, category of each tag."""
    rng = np.random.default_rng(5)
    centers = rng.normal(size=(60, 16))
    tags, tuning, queries = (
        (centers[rng.integers(0, 60, num)] + 0.7 * rng.normal(size=(num, 16))).astype(np.float32)
        for num in (LARGE, 64, 40)
    )
    categories = rng.choice(list(SHARES), LARGE, p=list(SHARES.values()))
    index = ScannIndex(tags, default_num_leaves(LARGE), SearchParameters(1, LARGE_K))
    tune(index, tags, tuning, LARGE_K, 0.98, 2 * LARGE_K)
    towers = UnsavedTowers(ToyTowers(queries, tags))
    module = TagRetrieval(
        towers, index, LARGE_K, num_candidates=2 * LARGE_K, tag_categories=categories.tolist()
    )
    return module, queries, tags, categories


def best(tags, query, is_allowed, k):
    logits = np.where(is_allowed, tags @ query, -np.inf)
    return np.argsort(-logits, kind="stable")[:k]


def recall_under(large, excluded_of, allowed):
    """Mean recall@k, and whether everybody got k."""
    module, queries, tags, categories = large
    excluded = [excluded_of(query) for query in queries]
    answer = search(
        module, queries, [[f"t{j}" for j in row] for row in excluded], [allowed] * len(queries)
    )
    hits, is_full = [], []
    for query, row, found, count in zip(
        queries, excluded, answer[s.TAGS], answer[s.COUNT], strict=True
    ):
        is_allowed = np.isin(categories, allowed) if allowed else np.ones(LARGE, bool)
        is_allowed[row] = False
        expected = best(tags, query, is_allowed, LARGE_K)[: is_allowed.sum()]
        got = [int(tag[1:]) for tag in found[:count]]
        assert is_allowed[got].all() and len(set(got)) == count
        hits.append(len(np.intersect1d(got, expected)) / len(expected))
        is_full.append(count == min(LARGE_K, is_allowed.sum()))
    return float(np.mean(hits)), all(is_full)


@pytest.mark.parametrize("num_excluded", [10, 25, 150, 200, 350, 3_000])
@pytest.mark.parametrize("which", ["random", "best"])
def test_scann_under_exclusions_finds_k_and_nearly_the_best(large, num_excluded, which):
    rng = np.random.default_rng(num_excluded)
    everything = np.ones(LARGE, bool)

    def excluded_of(query):
        if which == "random":
            return rng.choice(LARGE, num_excluded, replace=False)
        return best(large[2], query, everything, num_excluded)

    recall, is_full = recall_under(large, excluded_of, [])

    assert is_full
    assert recall >= 0.98


@pytest.mark.parametrize(
    ("allowed", "is_exact"),
    [(["large"], False), (["large", "small"], False), (["middle"], True), (["few"], True)],
)
def test_scann_under_allow_lists_finds_k_and_nearly_the_best(large, allowed, is_exact):
    assert is_exact == (np.isin(large[3], allowed).sum() <= EXACT_UP_TO)

    recall, is_full = recall_under(large, lambda query: [1, 2, 3], allowed)

    assert is_full
    assert recall == 1 if is_exact else recall >= 0.98


@pytest.mark.parametrize("allowed", ["middle", "small"])
def test_wider_search_alone_finds_nearly_the_best(large, allowed, monkeypatch):
    # So that this size of corpus does without the exact search of small categories.
    monkeypatch.setattr(filtered_retrieval, "EXACT_UP_TO", 100)

    recall, is_full = recall_under(large, lambda query: [], [allowed])

    assert is_full
    assert recall >= 0.98


def test_searched_wider_at_once_a_user_gets_the_same_alone_as_in_a_mixed_batch(large):
    module, queries, tags, _ = large
    everything = np.ones(LARGE, bool)
    excluded = [
        [f"t{j}" for j in best(tags, query, everything, num)]
        for query, num in zip(queries[:8], [0, 5, 60, 200] * 2, strict=True)
    ]
    categories = [[], [], [], [], ["large"], [], ["large", "few"], ["middle"]]

    together = search(module, queries[:8], excluded, categories)

    for i, query in enumerate(queries[:8]):
        alone = search(module, query[np.newaxis], excluded[i : i + 1], categories[i : i + 1])
        assert alone[s.TAGS].tolist() == together[s.TAGS][i : i + 1].tolist()
        for name in (s.SCORES, s.PROBABILITIES):
            np.testing.assert_allclose(alone[name], together[name][i : i + 1], rtol=1e-4)
        # And it is the probability of `score_tags`, but for what the narrower search misses: a
        # sum over more candidates makes it smaller.
        scored = module.score_tags(query[np.newaxis], alone[s.TAGS])
        ratios = alone[s.PROBABILITIES] / scored[s.PROBABILITIES].numpy()
        assert ((ratios > 0.92) & (ratios < 1 + 1e-4)).all()
