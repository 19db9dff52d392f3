"""The clicks of a training user, from snapshots that each know a part of them."""

import numpy as np
import pytest

from tests.trainer.evaluation.figures_test import lists
from trainer.contract import features as f
from trainer.contract.features import Domain, FeatureSpec
from trainer.data.snapshots import Snapshots
from trainer.evaluation.tag_rows import (
    columns_of_rows,
    counting_domain,
    domain_rows,
    history_rows,
    log_counts,
    user_rows,
)

CLICKED = Domain("clicked", max_values=50)


def snapshots(rows):
    """Makes snapshots from (user, time, counts before, counts after), without other history."""

    def pairs(index):
        keys = [list(row[index]) for row in rows]
        values = [list(row[index].values()) for row in rows]
        return lists(keys, np.int32), lists(values, np.float32)

    (before, before_counts), (after, after_counts) = pairs(2), pairs(3)
    scalars = {
        f.USER_ID: np.array([row[0] for row in rows]),
        f.SNAPSHOT_TIME: np.array([row[1] for row in rows]),
    }
    columns = {
        "clicked": before,
        "clicked_weights": before_counts,
        f.LABEL_TAGS: after,
        f.LABEL_TAG_WEIGHTS: after_counts,
        f.HISTORY_TAGS: before,
        f.HISTORY_TAG_COUNTS: before_counts,
    }
    return Snapshots(scalars, columns).sorted()


def train():
    # "a" clicked tag 0 five times and tag 1 once; id 4 is a bucket of the domain, -1 is unknown.
    return snapshots(
        [
            (b"a", 9, {0: 4, 4: 1}, {0: 1, 1: 1}),
            (b"a", 3, {0: 1}, {0: 4, 1: 1, -1: 2}),
            (b"b", 5, {}, {3: 2}),
            (b"c", 5, {2: 1, 4: 7}, {}),
        ]
    )


def test_a_row_is_all_that_the_user_clicked():
    expected = [[5, 1, 0, 0], [0, 0, 0, 2], [0, 0, 1, 0]]
    np.testing.assert_array_equal(user_rows(train(), 4, "clicked").toarray(), expected)


def test_without_a_domain_the_earliest_snapshots_labels_are_the_row():
    expected = [[4, 1, 0, 0], [0, 0, 0, 2], [0, 0, 0, 0]]
    np.testing.assert_array_equal(user_rows(train(), 4).toarray(), expected)


def test_bounded_rows_are_those_of_users_at_even_distances():
    np.testing.assert_array_equal(
        user_rows(train(), 4, "clicked", max_users=2).toarray(), [[5, 1, 0, 0], [0, 0, 1, 0]]
    )


def test_histories_are_rows_of_every_snapshot():
    rows = history_rows(train(), 4)
    np.testing.assert_array_equal(
        rows.toarray(), [[1, 0, 0, 0], [4, 0, 0, 0], [0] * 4, [0, 0, 1, 0]]
    )
    np.testing.assert_array_equal(domain_rows(train(), "clicked", 4).toarray(), rows.toarray())


def test_log_counts_are_natural_logarithms():
    logs = log_counts(user_rows(train(), 4, "clicked"))
    np.testing.assert_allclose(logs.toarray()[0], [np.log(6), np.log(2), 0, 0])


def test_no_snapshot_gives_no_row():
    assert user_rows(train().take(np.arange(0)), 4, "clicked").shape == (0, 4)


@pytest.mark.parametrize(
    ("domains", "expected"),
    [
        ((CLICKED,), "clicked"),
        ((CLICKED, Domain("long", max_values=60)), "long"),
        ((CLICKED, Domain("recent", max_values=60, window_days=7)), "clicked"),
        ((CLICKED, Domain("latest", max_values=60, last_events=10)), "clicked"),
        ((Domain("week", window_days=7), Domain("latest", last_events=10)), "week"),
        ((Domain("week", window_days=7), Domain("month", window_days=30)), "month"),
        ((CLICKED, Domain("faded", max_values=60, weighting="recency")), "clicked"),
        ((Domain("own", vocabulary="own"),), None),
        ((Domain("category", attribute="category"),), None),
        ((Domain("skipped", events="skipped"),), None),
    ],
)
def test_domain_is_the_one_that_counts_most(domains, expected):
    assert counting_domain(FeatureSpec(domains=domains)) == expected


def test_skipped_tags_have_a_domain_of_their_own():
    spec = FeatureSpec(domains=(CLICKED, Domain("skipped", events="skipped")))
    assert counting_domain(spec, "skipped") == "skipped"


@pytest.mark.parametrize("domain", [None, "clicked"])
def test_columns_are_those_that_are_read(domain):
    names = columns_of_rows(domain)
    full = train()
    part = Snapshots(
        {name: column for name, column in full.scalars.items() if name in names},
        {name: column for name, column in full.lists.items() if name in names},
    )
    np.testing.assert_array_equal(
        user_rows(part, 4, domain).toarray(), user_rows(full, 4, domain).toarray()
    )
