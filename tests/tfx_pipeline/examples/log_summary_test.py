"""Clicks by tag and item equal plain loops; the category of a tag by hand."""

import collections
import json

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest

from tests.tfx_pipeline.examples.random_users import CATALOGUE, COLUMNS, canonical, catalogue
from tests.trainer.random_logs import ITEMS, PROPERTY, distinct_events, records
from tfx_pipeline.examples import log_summary
from tfx_pipeline.examples.log_summary import (
    CountsOfShard,
    TrainingCounts,
    item_lines,
    sum_counts,
    tag_categories,
    tag_lines,
)
from tfx_pipeline.examples.packed_events import to_user_events

NUM_TAGS = len(CATALOGUE.tags.vocabulary)


def rows(lines):
    return [json.loads(line) for line in lines]


def counts_of(users):
    shard = CountsOfShard(NUM_TAGS, len(CATALOGUE))
    for events in users:
        shard.add(to_user_events(canonical(events), COLUMNS))
    return shard.total()


def naive_counts(users):
    """Returns clicks by item, clicks by tag and impressions by tag."""
    items, clicks, shown = (collections.Counter() for _ in range(3))
    for events in users:
        for _, item, clicked, _ in distinct_events(events):
            items[item] += int(clicked)
            for tag in set(ITEMS[item][0]):
                clicks[tag] += int(clicked)
                shown[tag] += 1
    return items, clicks, shown


@PROPERTY
@hypothesis.given(st.lists(records(), max_size=4), st.integers(0, 4))
def test_counts_are_those_of_plain_loops_however_users_are_sharded(users, num_first):
    total = sum_counts([counts_of(users[:num_first]), counts_of(users[num_first:])])
    items, clicks, shown = naive_counts(users)
    for row in rows(tag_lines(total, CATALOGUE)):
        assert (row["clicks"], row["impressions"]) == (clicks[row["tag"]], shown[row["tag"]])
        assert row["items"] == sum(row["tag"] in tags for tags, _ in ITEMS.values())
    found = rows(item_lines(total, CATALOGUE))
    assert [row["item_id"] for row in found] == sorted(ITEMS)
    for row in found:
        assert row["clicks"] == items[row["item_id"]]
        assert row["tags"] == sorted(set(ITEMS[row["item_id"]][0]))


@PROPERTY
@hypothesis.given(st.lists(records(), max_size=4))
def test_sums_of_sums_are_the_sum(users):
    """An engine adds earlier sums and empty ones, in any grouping."""
    parts = [counts_of([user]) for user in users]
    whole = sum_counts(parts)
    grouped = sum_counts([sum_counts(parts[:1]), sum_counts([]), sum_counts(parts[1:])])
    for one, other in zip(
        (whole.tags, whole.items, whole.item_clicks),
        (grouped.tags, grouped.items, grouped.item_clicks),
        strict=True,
    ):
        np.testing.assert_array_equal(one, other)


def test_category_of_a_tag_is_its_items_most_frequent_one():
    found = catalogue(
        {
            "i1": (["often", "tie", "none"], "z"),
            "i2": (["often", "tie"], "b"),
            "i3": (["often"], "z"),
            "i4": (["tie", "mixed", "unknown"], ""),
            "i5": (["mixed"], "a"),
            "i6": (["mixed", "unknown"], ""),
        }
    )
    nothing = sum_counts([CountsOfShard(len(found.tags.vocabulary), len(found)).total()])
    categories = {row["tag"]: row["category"] for row in rows(tag_lines(nothing, found))}
    assert categories == {
        "often": "z",
        "tie": "b",  # one b, one z: the first by name
        "none": "z",
        "mixed": "a",  # two of its items have no category, which is not one
        "unknown": None,
    }


def test_category_is_null_where_no_item_has_one():
    found = catalogue({"i1": (["a"], ""), "i2": (["b"], "")})
    assert tag_categories(found).tolist() == [-1, -1]
    nothing = CountsOfShard(2, 2).total()
    assert [row["category"] for row in rows(tag_lines(nothing, found))] == [None, None]


@pytest.mark.parametrize("chunk_size", [1, 2, 3, 100])
def test_files_do_not_depend_on_how_many_rows_are_held_at_once(monkeypatch, chunk_size):
    counts = TrainingCounts(
        np.arange(2 * NUM_TAGS).reshape(2, NUM_TAGS),
        np.arange(len(CATALOGUE), dtype=np.int32),
        np.arange(len(CATALOGUE)),
    )
    expected = [*tag_lines(counts, CATALOGUE), *item_lines(counts, CATALOGUE)]
    monkeypatch.setattr(log_summary, "_ROWS_PER_CHUNK", chunk_size)
    assert [*tag_lines(counts, CATALOGUE), *item_lines(counts, CATALOGUE)] == expected
