"""Retrieval with memory in the graph equals exact scoring of every tag."""

import functools

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.index.scann_index import ScannIndex, SearchParameters
from serving.index.top_k import BruteForceIndex
from serving.servable.export import build_signatures
from serving.servable.filtered_retrieval import FilteredRetrieval
from serving.servable.retagged_towers import RetaggedTowers, TagChanges, changed_tables
from serving.servable.retrieval import TagRetrieval
from serving.servable.tag_memory import log_mixture
from tests.serving.real_exports import MEMORY as REAL_MEMORY
from tests.serving.real_exports import NUM_TAGS as NUM_REAL_TAGS
from tests.serving.real_exports import K as REAL_K
from tests.toy_towers import ToyTowers
from tests.trainer.contract.memory_test import columns, slow_mixture
from trainer.contract import features as f
from trainer.contract import signatures as s
from trainer.contract.history import MAX_WEIGHT
from trainer.contract.memory import DomainMemory, remember

NUM_USERS, NUM_TAGS, SIZE = 6, 40, 3
SLOPE, INTERCEPT = 0.8, 0.3
CATEGORIES = ["" if j % 7 == 0 else "rare" if j % 13 == 1 else "common" for j in range(NUM_TAGS)]
NAMES = [f"t{j}" for j in range(NUM_TAGS)]
BLOCKED = (3, 11, 20)
MEMORIES = {
    "constant": (DomainMemory("clicked", 0.5),),
    "growing": (DomainMemory("clicked", 1.0, 20.0),),
    "both": (DomainMemory("clicked", 1.0, 20.0), DomainMemory("recent", 0.3)),
}
# And two with which a heavy history leaves next to nothing to the model.
WITH_WHOLE = MEMORIES | {
    "whole": (DomainMemory("clicked", 1.0, 1.0),),
    "whole twice": (DomainMemory("clicked", 1.0, 1.0), DomainMemory("recent", 1.0, 1.0)),
}


class HistoryTowers(ToyTowers):
    """Towers for users with two domains, which the towers ignore."""

    def functions(self):
        functions = super().functions()
        features = [
            tf.TensorSpec([None, None], dtype, name)
            for domain in ("clicked", "recent")
            for name, dtype in ((domain, tf.string), (f.weights_name(domain), tf.float32))
        ]
        for name in (s.EMBED_USERS, s.SCORE_TAGS, s.SCORE_ITEMS):
            function, specs = functions[name]
            functions[name] = function, [*specs, *features]
        return functions


class UnsavedTowers:
    """Toy towers with signatures as a loaded SavedModel has them."""

    def __init__(self, towers):
        self.signatures = {name: function for name, (function, _) in towers.functions().items()}


@functools.cache
def vectors():
    """Returns vectors without ties: among equal tags ScaNN may propose any."""
    rng = np.random.default_rng(0)
    return [
        rng.normal(size=(num, SIZE)).astype(np.float32) for num in (NUM_USERS, NUM_TAGS, NUM_TAGS)
    ]


@functools.cache
def make(kind, memory, click_weight, k=5, num_candidates=8, blocked=(), min_probability=0.0):
    users, tags, clicks = vectors()
    towers = UnsavedTowers(HistoryTowers(users, tags, clicks, click_weight=click_weight))
    rows = np.array([j for j in range(NUM_TAGS) if j not in blocked])
    # ScaNN searches everything, so it finds what exact search finds.
    index = (
        BruteForceIndex(tags[rows])
        if kind == "exact"
        else ScannIndex(tags[rows], 4, SearchParameters(4, NUM_TAGS))
    )
    return TagRetrieval(
        towers,
        index,
        k,
        num_candidates=min(num_candidates, len(rows)),
        tag_slope=SLOPE,
        tag_intercept=INTERCEPT,
        tag_categories=[CATEGORIES[j] for j in rows],
        served_rows=rows if blocked else None,
        min_probability=min_probability,
        memory=WITH_WHOLE[memory],
    )


def features_of(histories):
    """Returns raw features of users whose domains are given as rows of (tag, weight)."""
    found = {}
    for domain in ("clicked", "recent"):
        rows = [history.get(domain, []) for history in histories]
        width = max(map(len, rows), default=0)
        for name, place, fill, dtype in (
            (domain, 0, "", tf.string),
            (f.weights_name(domain), 1, 1.0, tf.float32),
        ):
            padded = [[pair[place] for pair in row] + [fill] * (width - len(row)) for row in rows]
            found[name] = tf.reshape(tf.constant(padded, dtype), [len(rows), width])
    return found


def slow_scores(user, history, memory, click_weight, num_candidates, blocked=()):
    """Returns log p' of the ranking and of the multi-class score, by servable tag."""
    users, tags, clicks = vectors()
    served = [j for j in range(NUM_TAGS) if j not in blocked]
    multi_class = (tags @ users[user]).astype(float)
    first = sorted(served, key=lambda j: -multi_class[j])
    ranking = (1 - click_weight) * multi_class + click_weight * (clicks @ users[user])
    by_number = {
        domain: [(NAMES.index(tag) if tag in NAMES else -1, weight) for tag, weight in pairs if tag]
        for domain, pairs in history.items()
    }
    pairs = []
    for logits in (ranking, multi_class):
        p = np.exp(logits) / np.exp(logits[first[:num_candidates]]).sum()
        pairs.append(np.log(slow_mixture(memory, by_number, p)))
    own = {j for part in memory for j, _ in by_number[part.domain] if j in served}
    return first, own, *pairs


def probability(log_share):
    return 1 / (1 + np.exp(-(SLOPE * log_share + INTERCEPT)))


def assert_row(answer, row, expected, k):
    """Checks one user's tags, scores and probabilities; `expected` is (tag, score, log p')."""
    expected = expected[:k]
    num_empty = k - len(expected)
    tags = [tag.decode() for tag in answer[s.TAGS][row]]
    scores = [score for _, score, _ in expected] + [-np.inf] * num_empty
    np.testing.assert_allclose(answer[s.SCORES][row], scores, rtol=1e-4, atol=1e-4)
    assert tags == [NAMES[j] for j, _, _ in expected] + [""] * num_empty
    np.testing.assert_allclose(
        answer[s.PROBABILITIES][row],
        [probability(log_share) for _, _, log_share in expected] + [0.0] * num_empty,
        rtol=1e-4,
    )


def numpy_of(answer):
    return {name: column.numpy() for name, column in answer.items()}


def retrieve(module, histories):
    queries = tf.constant(vectors()[0][: len(histories)])
    return numpy_of(module.search(queries, module.read_history(features_of(histories))))


VALUES = st.tuples(
    st.one_of(
        st.sampled_from([*NAMES, "unknown"]), st.sampled_from([*NAMES[:4], "never seen", ""])
    ),
    # No two tags have the same score by chance.
    st.floats(0.25, 9.0, width=32),
)
HISTORY = st.fixed_dictionaries(
    {"clicked": st.lists(VALUES, max_size=25), "recent": st.lists(VALUES, max_size=8)}
)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    st.lists(HISTORY, min_size=1, max_size=NUM_USERS),
    st.sampled_from(["exact", "scann"]),
    st.sampled_from(sorted(MEMORIES)),
    st.sampled_from([(5, 8), (1, 1), (12, 12), (40, 40)]),
    st.sampled_from([(), BLOCKED]),
)
def test_the_answer_is_that_of_exact_scoring_of_all_tags(histories, kind, name, sizes, blocked):
    k, num_candidates = sizes
    module = make(kind, name, 0.0, k, num_candidates, blocked)

    answer = retrieve(module, histories)

    num_served = NUM_TAGS - len(blocked)
    for row, history in enumerate(histories):
        served, _, scores, _ = slow_scores(
            row, history, MEMORIES[name], 0.0, min(num_candidates, num_served), blocked
        )
        order = sorted(served, key=lambda j, x=scores: -x[j])
        assert_row(answer, row, [(j, scores[j], scores[j]) for j in order], min(k, num_served))


@settings(max_examples=30, deadline=None, derandomize=True)
@given(
    st.lists(HISTORY, min_size=1, max_size=NUM_USERS),
    st.sampled_from(["exact", "scann"]),
    st.sampled_from(sorted(MEMORIES)),
    st.sampled_from([0.25, 1.0]),
)
def test_the_click_head_orders_candidates_and_history_by_its_own_shares(
    histories, kind, name, click_weight
):
    module = make(kind, name, click_weight)

    answer = retrieve(module, histories)

    for row, history in enumerate(histories):
        first, own, scores, log_shares = slow_scores(row, history, MEMORIES[name], click_weight, 8)
        order = sorted(own | set(first[:8]), key=lambda j, x=scores: -x[j])
        assert_row(answer, row, [(j, scores[j], log_shares[j]) for j in order], 5)


def test_a_history_longer_than_the_vocabulary_and_a_batch_of_nobody():
    rng = np.random.default_rng(3)
    pairs = [(NAMES[j], float(rng.random()) + 1) for j in rng.integers(0, NUM_TAGS, 1200)]
    module = make("exact", "both", 0.0)

    answer = retrieve(module, [{"clicked": pairs, "recent": pairs[:7]}])

    served, _, scores, _ = slow_scores(
        0, {"clicked": pairs, "recent": pairs[:7]}, MEMORIES["both"], 0.0, 8
    )
    order = sorted(served, key=lambda j: -scores[j])
    assert_row(answer, 0, [(j, scores[j], scores[j]) for j in order], 5)
    nobody = retrieve(module, [])
    assert nobody[s.TAGS].shape == (0, 5)


def test_without_a_history_scores_are_the_models_log_shares():
    module = make("exact", "both", 0.25)
    queries = tf.constant(vectors()[0])

    answer = retrieve(module, [{}] * NUM_USERS)

    plain = numpy_of(module.search(queries))
    assert answer[s.TAGS].tolist() == plain[s.TAGS].tolist()
    np.testing.assert_allclose(answer[s.PROBABILITIES], plain[s.PROBABILITIES], rtol=1e-5)
    normalizer = module.propose(queries).log_normalizer[:, 1:].numpy()
    np.testing.assert_allclose(answer[s.SCORES], plain[s.SCORES] - normalizer, atol=1e-5)


def test_users_of_a_batch_are_answered_as_if_each_were_alone():
    rng = np.random.default_rng(1)
    histories = [
        {"clicked": [(NAMES[j], float(j % 5 + 1)) for j in rng.integers(0, NUM_TAGS, 4 * i)]}
        for i in range(NUM_USERS)
    ]
    module = make("scann", "growing", 0.25)
    together = retrieve(module, histories)

    for row, history in enumerate(histories):
        features = features_of([history])
        alone = numpy_of(
            module.search(tf.constant(vectors()[0][row : row + 1]), module.read_history(features))
        )
        assert alone[s.TAGS][0].tolist() == together[s.TAGS][row].tolist()
        np.testing.assert_allclose(alone[s.SCORES][0], together[s.SCORES][row], rtol=1e-5)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    st.lists(HISTORY, min_size=2, max_size=NUM_USERS),
    st.sampled_from(["exact", "scann"]),
    st.sampled_from([0.0, 0.25]),
    st.data(),
)
def test_rules_hold_for_the_history_as_well(histories, kind, click_weight, data):
    module = make(kind, "both", click_weight, blocked=BLOCKED)
    num_users = len(histories)
    excluded = data.draw(
        st.lists(
            st.lists(st.sampled_from([*NAMES, "unknown"]), max_size=30),
            min_size=num_users,
            max_size=num_users,
        )
    )
    categories = data.draw(
        st.lists(
            st.sampled_from([[], ["rare"], ["common"], ["rare", "common"], ["no such"]]),
            min_size=num_users,
            max_size=num_users,
        )
    )

    def padded(rows):
        width = max(map(len, rows))
        return tf.reshape(
            tf.constant([[*row, *[""] * (width - len(row))] for row in rows], tf.string),
            [num_users, width],
        )

    answer = numpy_of(
        FilteredRetrieval(module).search(
            tf.constant(vectors()[0][:num_users]),
            padded(excluded),
            padded(categories),
            module.read_history(features_of(histories)),
        )
    )

    for row, history in enumerate(histories):
        first, own, scores, log_shares = slow_scores(
            row, history, MEMORIES["both"], click_weight, 8, BLOCKED
        )
        allowed = [
            j
            for j in first
            if NAMES[j] not in excluded[row]
            and (not categories[row] or CATEGORIES[j] in categories[row])
        ]
        found = [j for j in first[:8] if j in allowed]
        if len(found) < min(5, len(allowed)) or (kind == "scann" and len(allowed) < len(first)):
            found = allowed[:8]
        order = sorted((own & set(allowed)) | set(found), key=lambda j, x=scores: -x[j])
        assert_row(answer, row, [(j, scores[j], log_shares[j]) for j in order], 5)
        assert answer[s.COUNT][row] == min(5, len(order))


def test_without_a_rule_filtered_retrieval_is_retrieval():
    histories = [{"clicked": [("t7", 2.0), ("t9", 1.0)], "recent": [("t30", 1.0)]}] * 3
    module = make("scann", "both", 0.25)
    queries, nothing = tf.constant(vectors()[0][:3]), tf.zeros([3, 0], tf.string)

    history = module.read_history(features_of(histories))
    answer = numpy_of(FilteredRetrieval(module).search(queries, nothing, nothing, history))

    for name, column in retrieve(module, histories).items():
        np.testing.assert_array_equal(answer[name], column)


def test_a_tag_below_the_least_probability_is_not_remembered_either():
    # t5 and t6 are much of a history, t7 is little of one.
    histories = [
        {"clicked": [("t5", 9.0)]},
        {"clicked": [("t6", 4.0), ("t7", 0.5), ("unknown", 5.0)]},
    ]
    limit = 0.2
    module = make("exact", "constant", 0.0, 40, 40, min_probability=limit)

    answer = retrieve(module, histories)

    for row, history in enumerate(histories):
        history = {"recent": [], **history}
        served, _, scores, _ = slow_scores(row, history, MEMORIES["constant"], 0.0, 40)
        order = sorted(served, key=lambda j, x=scores: -x[j])
        expected = [(j, scores[j], scores[j]) for j in order if probability(scores[j]) >= limit]
        assert 0 < len(expected) < 40
        assert_row(answer, row, expected, 40)


@pytest.mark.parametrize("kind", ["exact", "scann"])
@pytest.mark.parametrize("click_weight", [0.0, 0.25])
def test_given_tags_have_the_scores_that_retrieval_gives(kind, click_weight):
    rng = np.random.default_rng(5)
    histories = [
        {
            "clicked": [(NAMES[j], float(j % 5 + 1)) for j in rng.integers(0, NUM_TAGS, 3 * i)],
            "recent": [("t1", 1.0), ("unknown", 2.0)],
        }
        for i in range(NUM_USERS)
    ]
    module = make(kind, "both", click_weight, blocked=BLOCKED)
    queries = tf.constant(vectors()[0])
    history = module.read_history(features_of(histories))
    answer = module.search(queries, history)
    # Asked twice for one of them, and for all others.
    asked = tf.concat([answer[s.TAGS], answer[s.TAGS][:, :1], [NAMES] * NUM_USERS], axis=1)

    found = numpy_of(module.score_tags(queries, asked, history))

    for name in (s.SCORES, s.PROBABILITIES):
        np.testing.assert_allclose(found[name][:, :5], answer[name], rtol=1e-5, atol=1e-6)
        np.testing.assert_array_equal(found[name][:, 5], found[name][:, 0])
    for row, one in enumerate(histories):
        # Tags that the policy blocks as well: they are scored and never retrieved.
        _, _, scores, log_shares = slow_scores(row, one, MEMORIES["both"], click_weight, 8, BLOCKED)
        np.testing.assert_allclose(found[s.SCORES][row, 6:], scores, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(
            found[s.PROBABILITIES][row, 6:], probability(np.array(log_shares)), rtol=1e-4
        )
        retrieved = {tag.decode() for tag in answer[s.TAGS].numpy()[row]}
        assert not retrieved & {NAMES[j] for j in BLOCKED}


def test_a_share_beyond_a_floats_reach_is_a_number():
    rest, shares = tf.constant(0.5, tf.float64), tf.constant([[0.0, 0.25, 0.1]], tf.float64)

    found = log_mixture(tf.constant([[-500.0, -500.0, -0.5]]), rest, shares)

    expected = [[-500 + np.log(0.5), np.log(0.25), np.log(0.5 * np.exp(-0.5) + 0.1)]]
    np.testing.assert_allclose(found, expected, rtol=1e-5)


HEAVY = {
    "beyond a float's precision": [("t5", 2e7), ("t6", 2e7)],
    "beyond a float's reach": [("t5", 2e38), ("t6", 2e38)],
    "the heaviest": [("t5", MAX_WEIGHT), ("t6", 1.0), ("t5", MAX_WEIGHT), ("unknown", 3e38)],
}


@pytest.mark.parametrize("click_weight", [0.0, 0.25])
@pytest.mark.parametrize("name", sorted(WITH_WHOLE))
@pytest.mark.parametrize("heavy", sorted(HEAVY))
def test_scores_beside_a_heavy_history_are_those_of_exact_numbers(heavy, name, click_weight):
    # The first user has one long domain, the second the other, the third both.
    light = [("t7", 1.0), ("t5", 2.0)]
    histories = [
        {"clicked": clicked, "recent": recent}
        for clicked, recent in ((HEAVY[heavy], light), (light, HEAVY[heavy]), (HEAVY[heavy],) * 2)
    ]
    module = make("exact", name, click_weight, 40, 40)

    answer = retrieve(module, histories)
    given = numpy_of(
        module.score_tags(
            tf.constant(vectors()[0][:3]),
            tf.constant([NAMES] * 3),
            module.read_history(features_of(histories)),
        )
    )

    for row, history in enumerate(histories):
        _, _, scores, log_shares = slow_scores(row, history, WITH_WHOLE[name], click_weight, 40)
        assert np.isfinite(scores).all()
        order = sorted(range(NUM_TAGS), key=lambda j, x=scores: -x[j])
        np.testing.assert_allclose(given[s.SCORES][row], scores, rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(answer[s.SCORES][row], scores[order], rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(
            given[s.PROBABILITIES][row], probability(log_shares), rtol=1e-4, atol=1e-30
        )
        own = in_numpy(row, history, WITH_WHOLE[name], click_weight)
        np.testing.assert_allclose(given[s.SCORES][row], own, rtol=1e-5, atol=1e-5)


def in_numpy(user, history, memory, click_weight):
    """Returns log p' of every tag, as the Evaluator computes it."""
    users, tags, clicks = vectors()
    logits = ((1 - click_weight) * tags + click_weight * clicks) @ users[user]
    lists = columns(
        **{
            domain: [[(NAMES.index(t) if t in NAMES else -1, w) for t, w in pairs]]
            for domain, pairs in history.items()
        }
    )
    remembered = remember(memory, lists, NUM_TAGS)
    rows, found, shares = remembered.unite(np.arange(NUM_TAGS)[np.newaxis], NUM_TAGS)
    assert found.tolist() == list(range(NUM_TAGS))
    return remembered.log_mixture(logits - np.log(np.exp(logits).sum()), rows, shares)


def test_without_memory_no_history_is_read_and_answers_are_logits():
    users, tags, clicks = vectors()
    towers = UnsavedTowers(HistoryTowers(users, tags, clicks, click_weight=0.25))
    module = TagRetrieval(towers, BruteForceIndex(tags), 5, num_candidates=8)
    features = features_of([{"clicked": [("t1", 1.0)]}])

    assert module.memory is None
    assert module.read_history(features) is None
    query = tf.constant(users[:1])
    proposed = np.argsort(-(tags @ users[0]))[:8]
    scores = np.sort(((0.75 * tags + 0.25 * clicks) @ users[0])[proposed])[::-1]
    np.testing.assert_allclose(module.search(query)[s.SCORES], [scores[:5]], rtol=1e-5)


# Real towers, saved and loaded.


@pytest.fixture(scope="module")
def exports(real_exports):
    return real_exports


@pytest.fixture(scope="module")
def signatures(exports):
    return tf.saved_model.load(str(exports.exact)).signatures


@pytest.fixture(scope="module")
def raw(exports):
    """Returns raw features of all users, as strings and weights."""
    rows = []
    for example in exports.examples:
        feature = tf.train.Example.FromString(example).features.feature
        rows.append(
            (
                feature["gender"].bytes_list.value[0],
                list(feature["clicked"].bytes_list.value),
                list(feature["clicked_weights"].float_list.value),
            )
        )
    return rows


def tensors(rows):
    width = max(len(tags) for _, tags, _ in rows)
    return {
        "gender": tf.constant([gender for gender, _, _ in rows]),
        "clicked": tf.constant(
            [tags + [b""] * (width - len(tags)) for _, tags, _ in rows], tf.string
        ),
        "clicked_weights": tf.constant(
            [list(w) + [1.0] * (width - len(w)) for _, _, w in rows], tf.float32
        ),
    }


def test_examples_are_answered_as_features(signatures, exports, raw):
    by_examples = numpy_of(signatures[s.SERVING_DEFAULT](examples=tf.constant(exports.examples)))

    for name, column in numpy_of(signatures[s.RETRIEVE](**tensors(raw))).items():
        np.testing.assert_array_equal(by_examples[name], column)


def test_values_of_an_example_without_weights_count_once(signatures, exports):
    example = tf.train.Example.FromString(exports.examples[5])
    tags = example.features.feature["clicked"].bytes_list.value
    assert len(tags) > 1
    example.features.feature["clicked_weights"].float_list.value[:] = []
    unweighted = signatures[s.SERVING_DEFAULT](examples=tf.constant([example.SerializeToString()]))
    example.features.feature["clicked_weights"].float_list.value[:] = [1.0] * len(tags)
    ones = signatures[s.SERVING_DEFAULT](examples=tf.constant([example.SerializeToString()]))

    np.testing.assert_array_equal(unweighted[s.SCORES], ones[s.SCORES])


def test_a_clicked_tag_that_the_first_stage_misses_is_found(signatures, raw):
    queries = signatures[s.EMBED_USERS](**tensors(raw))[s.QUERY_EMBEDDINGS]
    candidates = numpy_of(signatures[s.RETRIEVE_CANDIDATES](query_embeddings=queries))[s.TAGS]
    answer = numpy_of(signatures[s.RETRIEVE](**tensors(raw)))[s.TAGS]

    missed = [set(tags) - set(candidates[row].tolist()) for row, (_, tags, _) in enumerate(raw)]
    found = [set(answer[row].tolist()) & one for row, one in enumerate(missed)]
    assert sum(map(bool, missed)) > 20
    assert sum(map(bool, found)) > 15


def test_an_embedding_alone_is_answered_without_memory(signatures, raw):
    queries = signatures[s.EMBED_USERS](**tensors(raw))[s.QUERY_EMBEDDINGS]
    answer = numpy_of(signatures[s.RETRIEVE_BY_EMBEDDING](query_embeddings=queries))
    tables = numpy_of(signatures[s.CANDIDATES]())
    first = tables[s.CANDIDATE_EMBEDDINGS] @ queries.numpy().T
    ranking = tables[s.RANKING_EMBEDDINGS] @ queries.numpy().T

    for row in range(len(raw)):
        proposed = np.argsort(-first[:, row])[:20]
        best = proposed[np.argsort(-ranking[proposed, row])][:REAL_K]
        assert answer[s.TAGS][row].tolist() == tables[s.TAGS][best].tolist()
        np.testing.assert_allclose(answer[s.SCORES][row], ranking[best, row], rtol=1e-4)


@pytest.fixture(scope="module")
def explained(signatures, raw):
    """Returns a tag, clicked where there is one, and its explanation."""
    asked = [tags[0] if tags else b"tag 01" for _, tags, _ in raw]
    inputs = tensors(raw) | {s.EXPLAINED_TAG: tf.constant(asked)}
    return asked, numpy_of(signatures[s.EXPLAIN](**inputs))


def test_an_explanation_has_the_score_of_the_tag_and_what_of_it_is_memory(
    signatures, raw, explained
):
    asked, found = explained
    inputs = tensors(raw) | {s.CANDIDATE_TAGS: tf.constant(asked)[:, tf.newaxis]}
    scores = numpy_of(signatures[s.SCORE_TAGS](**inputs))[s.SCORES][:, 0]
    np.testing.assert_allclose(found[s.SCORE], scores, rtol=1e-4, atol=1e-5)

    log_p = model_log_shares(signatures, raw, asked)
    np.testing.assert_allclose(found[s.MEMORY_CONTRIBUTION], scores - log_p, rtol=1e-3, atol=1e-4)
    has_history = np.array([bool(tags) for _, tags, _ in raw])
    np.testing.assert_allclose(found[s.MEMORY_CONTRIBUTION][~has_history], 0, atol=1e-5)
    assert np.abs(found[s.MEMORY_CONTRIBUTION][has_history]).min() > 1e-3


def model_log_shares(signatures, raw, asked, queries=None):
    """Returns log shares in the ranking score's sum over the user's own candidates."""
    own = signatures[s.EMBED_USERS](**tensors(raw))[s.QUERY_EMBEDDINGS].numpy()
    queries = own if queries is None else queries
    tables = numpy_of(signatures[s.CANDIDATES]())
    place = {tag: i for i, tag in enumerate(tables[s.TAGS])}
    found = []
    for query, user, tag in zip(queries, own, asked, strict=True):
        proposed = np.argsort(-tables[s.CANDIDATE_EMBEDDINGS] @ user)[:20]
        ranking = tables[s.RANKING_EMBEDDINGS].astype(float)
        total = np.log(np.exp(ranking[proposed] @ user).sum())
        found.append(ranking[place[tag]] @ query - total)
    return np.array(found)


def slow_score(log_p, tag, tags, weights):
    own = {"clicked": [(0 if t == tag else -1, w) for t, w in zip(tags, weights, strict=True)]}
    return np.log(slow_mixture(REAL_MEMORY, own, [np.exp(log_p)])[0])


def test_contributions_are_scores_less_those_without_the_thing(signatures, raw, explained):
    asked, found = explained
    everybody = model_log_shares(signatures, raw, asked)
    width = found[s.contributions_of("clicked")].shape[1]
    for place in range(width):
        lacking = [
            (gender, tags[:place] + tags[place + 1 :], weights[:place] + weights[place + 1 :])
            for gender, tags, weights in raw
        ]
        queries = signatures[s.EMBED_USERS](**tensors(lacking))[s.QUERY_EMBEDDINGS].numpy()
        without = model_log_shares(signatures, raw, asked, queries)
        for row, (_, tags, weights) in enumerate(raw):
            expected = 0.0
            if place < len(tags):
                expected = slow_score(everybody[row], asked[row], tags, weights) - slow_score(
                    without[row], asked[row], *lacking[row][1:]
                )
            contribution = found[s.contributions_of("clicked")][row, place]
            assert contribution == pytest.approx(expected, rel=2e-3, abs=2e-3)
    features = [name.decode() for name in found[s.FEATURES][0]]
    for name, lacking in (
        ("gender", [(b"", tags, weights) for _, tags, weights in raw]),
        ("clicked", [(gender, [], []) for gender, _, _ in raw]),
    ):
        queries = signatures[s.EMBED_USERS](**tensors(lacking))[s.QUERY_EMBEDDINGS].numpy()
        without = model_log_shares(signatures, raw, asked, queries)
        for row, (_, tags, weights) in enumerate(raw):
            expected = slow_score(everybody[row], asked[row], tags, weights)
            expected -= slow_score(without[row], asked[row], *lacking[row][1:])
            contribution = found[s.CONTRIBUTIONS_BY_FEATURE][row, features.index(name)]
            assert contribution == pytest.approx(expected, rel=2e-3, abs=2e-3)


def test_the_values_that_move_the_score_most_come_first(raw, explained):
    _, found = explained
    for row, (_, tags, _) in enumerate(raw):
        contributions = found[s.contributions_of("clicked")][row, : len(tags)]
        order = np.argsort(-np.abs(contributions), kind="stable")[:10]
        num_empty = 10 - len(order)
        expected = [tags[i] for i in order] + [b""] * num_empty
        assert found[s.TOP_VALUES][row].tolist() == expected
        np.testing.assert_array_equal(
            found[s.TOP_CONTRIBUTIONS][row], [*contributions[order], *[0.0] * num_empty]
        )
        domains = [b"clicked"] * len(order) + [b""] * num_empty
        assert found[s.TOP_DOMAINS][row].tolist() == domains


def test_an_unknown_tag_is_explained_by_nothing(signatures, raw):
    inputs = tensors(raw[:2]) | {s.EXPLAINED_TAG: tf.constant(["no tag", "tag 01"])}

    found = numpy_of(signatures[s.EXPLAIN](**inputs))

    assert np.isnan(found[s.SCORE]).tolist() == [True, False]
    assert np.isnan(found[s.MEMORY_CONTRIBUTION]).tolist() == [True, False]


def test_a_reindexed_servable_remembers_new_tags_and_forgets_retired_ones(exports, raw):
    towers = tf.saved_model.load(str(exports.exact.parents[1] / "towers"))
    retired = "tag 01"
    changes = TagChanges(retired=frozenset([retired]), weights={"tag 02": 3.0})
    tables = changed_tables(towers, changes)
    module = TagRetrieval(
        RetaggedTowers(towers, tables),
        BruteForceIndex(tables[s.CANDIDATE_EMBEDDINGS]),
        NUM_REAL_TAGS,
        memory=REAL_MEMORY,
    )
    signatures = build_signatures(module)
    # Padded, as it comes from a caller.
    users = [(b"F", [b"tag 01", b"tag 02"], [3.0, 1.0]), (b"F", [b"tag 02"], [1.0])]

    answer = numpy_of(signatures[s.RETRIEVE](**tensors(users)))

    assert retired.encode() not in answer[s.TAGS]
    # Of the first user's 4 clicks one is on a tag that is known: lambda is 4 / 14, and s 1 / 4.
    queries = module.embed_users(tensors(users))
    found = module.propose(queries)
    rows = {tag: i for i, tag in enumerate(tables[s.TAGS])}
    ranking = tables[s.RANKING_EMBEDDINGS][rows[b"tag 02"]] @ queries.numpy().T
    p = np.exp(ranking - found.log_normalizer[:, -1].numpy())
    expected = np.log([4 / 14 / 4 + 10 / 14 * p[0], 1 / 11 + 10 / 11 * p[1]])
    places = [row.tolist().index(b"tag 02") for row in answer[s.TAGS]]
    np.testing.assert_allclose(answer[s.SCORES][[0, 1], places], expected, rtol=1e-4)
