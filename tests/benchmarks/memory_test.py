import pytest

from benchmarks.memory import (
    HISTORIES,
    NUM_CALLS,
    WITH,
    WITHOUT,
    MemoryMeasurement,
    faults,
    flatten,
    instances,
    summarize,
    table,
)
from tests.report_keys import undocumented_keys, unwritten_keys


def test_median_of_each_and_their_ratio():
    measured = summarize({WITHOUT: [0.002, 0.004, 0.002], WITH: [0.003, 0.003, 0.009]})

    assert measured == MemoryMeasurement(pytest.approx(2), pytest.approx(3), pytest.approx(1.5))


def test_keys_are_documented_and_the_table_has_every_case():
    found = {(h, b): MemoryMeasurement(2.0, 2.2, 1.1) for h in HISTORIES for b in NUM_CALLS}
    figures = {"tag_memory.num_tags": 9} | flatten(found)

    assert undocumented_keys(figures) == []
    assert unwritten_keys(figures, "benchmarks/memory.py") == []
    assert figures["tag_memory.long.batch_64.over_without"] == 1.1
    assert len(table(figures).splitlines()) == 2 + len(found)
    assert faults(figures) == []


def test_made_up_users_have_histories_of_the_length_asked_for():
    users = instances(50, 30)

    assert {len(user["clicked_tags"]) for user in users} == {30}
    assert {len(user["clicked_tags_weights"]) for user in users} == {30}
    assert len({tag for tag in users[0]["clicked_tags"]}) < 30
    assert users == instances(50, 30)
