from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.trainer.evaluation.figures_test import lists
from trainer.contract.features import Domain, FeatureSpec, ProfileFeature
from trainer.contract.history import MIN_WEIGHT
from trainer.contract.memory import DomainMemory, domain_shares, memory_domains, remember

NUM_TAGS = 7


def columns(**domains):
    """Returns lists of domains, each given as rows of (tag, weight) pairs."""
    found = {}
    for name, rows in domains.items():
        found[name] = lists([[tag for tag, _ in row] for row in rows], np.int32)
        found[f"{name}_weights"] = lists([[w for _, w in row] for row in rows], np.float32)
    return found


def slow_mixture(memory, histories, p):
    """Returns p' of one user, a domain and a tag at a time; `histories` by domain, pairs."""
    p = list(p)
    for part in memory:
        pairs = [(tag, max(weight, MIN_WEIGHT)) for tag, weight in histories[part.domain]]
        total = sum(weight for _, weight in pairs)
        if not total:
            continue
        # Exactly: 1 - lambda of a heavy history is less than a float can tell from 1.
        share = Fraction(part.limit) * Fraction(total)
        share /= Fraction(total) + Fraction(part.half_weight)
        for tag in range(len(p)):
            own = sum(weight for t, weight in pairs if t == tag) / total
            p[tag] = float(1 - share) * p[tag] + float(share) * own
    return p


def test_lambda_of_a_history_by_hand():
    np.testing.assert_allclose(
        DomainMemory("a", 0.8, 4.0).share([0.0, 1.0, 4.0, 36.0, 1e12]), [0, 0.16, 0.4, 0.72, 0.8]
    )
    # The same for every history but the empty one.
    np.testing.assert_allclose(DomainMemory("a", 0.3).share([0.0, 1e-6, 5.0]), [0, 0.3, 0.3])


def test_what_a_history_leaves_to_the_model_by_hand():
    totals = [0.0, 1.0, 4.0, 36.0, 4e7, 4e38]
    np.testing.assert_allclose(
        DomainMemory("a", 0.8, 4.0).rest(totals), [1, 0.84, 0.6, 0.28, 0.2 + 8e-8, 0.2]
    )
    np.testing.assert_allclose(DomainMemory("a", 0.3).rest(totals), [1, *[0.7] * 5])
    # However long it is, something is left.
    np.testing.assert_allclose(
        DomainMemory("a", 1.0, 1.0).rest(totals), [1, 1 / 2, 1 / 5, 1 / 37, 1 / (4e7 + 1), 1 / 4e38]
    )


def test_beside_the_heaviest_history_the_models_own_order_is_left():
    memory = [DomainMemory("a", 1.0, 1.0), DomainMemory("b", 1.0, 1.0)]
    heavy = [[(1, 2e38), (2, 2e38)]]
    own = remember(memory, columns(a=heavy, b=heavy), NUM_TAGS)
    rows, tags, shares = own.unite(np.array([[4, 5]]), NUM_TAGS)

    found = own.log_mixture(np.log([0.5, 0.3, 0.1, 0.1]), rows, shares)

    assert tags.tolist() == [4, 5, 1, 2]
    left = 2 * np.log(4e38)
    expected = [np.log(0.5) - left, np.log(0.3) - left, np.log(0.5), np.log(0.5)]
    np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0.0, 1.0), "`limit` must be above 0 and at most 1."),
        ((1.1, 1.0), "`limit` must be above 0 and at most 1."),
        ((0.5, -1.0), "`half_weight` must be 0 or positive."),
        ((1.0, 0.0), "`half_weight` must be positive where `limit` is 1."),
    ],
)
def test_memory_that_could_leave_nothing_to_the_model_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        DomainMemory("a", *arguments)


def test_domains_that_are_remembered_list_clicked_tags_in_the_tags_own_vocabulary():
    spec = FeatureSpec(
        profile=(ProfileFeature("age"),),
        domains=(
            Domain("clicked"),
            Domain("skipped", events="skipped"),
            Domain("recent", window_days=7.0),
            Domain("fading", weighting="recency"),
            Domain("other_words", vocabulary="words"),
            Domain("categories", attribute="category"),
        ),
    )

    assert memory_domains(spec) == ("clicked", "recent", "fading")


def test_unknown_tags_count_in_the_total_alone_and_repeated_ones_add_up():
    # -1 is unknown, and so is a bucket behind the last tag.
    rows = [[(2, 1.0), (-1, 3.0), (2, 2.0), (NUM_TAGS, 1.0), (0, 1.0)], [], [(-1, 5.0)]]

    found = domain_shares(columns(a=rows), "a", NUM_TAGS)

    assert found.row_ids.tolist() == [0, 0]
    assert found.tags.tolist() == [0, 2]
    np.testing.assert_allclose(found.shares, [1 / 8, 3 / 8])
    np.testing.assert_allclose(found.totals, [8, 0, 5])


HISTORIES = st.lists(
    st.tuples(st.integers(-1, NUM_TAGS + 1), st.sampled_from([0.0, 0.5, 1.0, 3.0, 40.0])),
    max_size=12,
)
MEMORY = st.lists(
    st.tuples(
        st.sampled_from("ab"),
        st.sampled_from([(0.3, 0.0), (0.95, 0.0), (1.0, 3.0), (0.5, 100.0)]),
    ),
    min_size=1,
    max_size=2,
    unique_by=lambda pair: pair[0],
)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(MEMORY, st.lists(st.tuples(HISTORIES, HISTORIES), min_size=1, max_size=4), st.data())
def test_the_mixture_over_candidates_and_history_is_that_of_the_loop(memory, users, data):
    memory = [DomainMemory(name, *numbers) for name, numbers in memory]
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    num_proposed = data.draw(st.integers(1, NUM_TAGS))
    p = rng.dirichlet(np.ones(NUM_TAGS), len(users))
    proposed = np.array([rng.permutation(NUM_TAGS)[:num_proposed] for _ in users])

    own = remember(memory, columns(a=[a for a, _ in users], b=[b for _, b in users]), NUM_TAGS)
    rows, tags, shares = own.unite(proposed, NUM_TAGS)
    found = np.exp(own.log_mixture(np.log(p[rows, tags]), rows, shares))

    pairs = list(zip(rows.tolist(), tags.tolist(), strict=True))
    assert len(set(pairs)) == len(pairs)
    assert pairs[: proposed.size] == [(i, t) for i, row in enumerate(proposed) for t in row]
    for i, (a, b) in enumerate(users):
        histories = {"a": a, "b": b}
        listed = {t for part in memory for t, _ in histories[part.domain] if 0 <= t < NUM_TAGS}
        assert {t for row, t in pairs if row == i} == listed | set(proposed[i].tolist())
        expected = slow_mixture(memory, histories, p[i])
        assert sum(expected) <= 1 + 1e-9
        np.testing.assert_allclose(found[rows == i], np.array(expected)[tags[rows == i]])


def test_a_user_without_a_history_has_the_models_shares():
    own = remember([DomainMemory("a", 0.9)], columns(a=[[], [(1, 1.0)]]), NUM_TAGS)
    log_p = np.log([0.5, 0.3])

    rows, _, shares = own.unite(np.array([[4, 5], [4, 5]]), NUM_TAGS)

    assert own.rest.tolist() == [1.0, pytest.approx(0.1)]
    np.testing.assert_array_equal(
        own.log_mixture(np.tile(log_p, 3)[: len(rows)], rows, shares)[:2], log_p
    )


def test_a_share_that_is_nothing_in_a_float_is_still_a_number():
    own = remember([DomainMemory("a", 0.5)], columns(a=[[(1, 1.0)]]), NUM_TAGS)

    found = own.log_mixture(np.array([-2000.0, -1000.0]), np.zeros(2, int), np.array([0.0, 0.5]))

    np.testing.assert_allclose(found, [-2000 + np.log(0.5), np.log(0.5)])
