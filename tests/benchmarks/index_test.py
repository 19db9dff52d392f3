import pytest

from benchmarks import index
from benchmarks.index import BRUTE_FORCE, SCANN, IndexMeasurement, flatten, table
from tests.report_keys import undocumented_keys

EXACT = IndexMeasurement(0.1, None, 1.0, 4.0, 100.0, None, None, None, 600.0)
APPROXIMATE = IndexMeasurement(2.0, 5.0, 0.985, 0.5, 2000.0, 141, 20, 400, 650.0)


def test_keys_name_size_and_index_and_compare_with_brute_force():
    figures = flatten(20_000, {BRUTE_FORCE: EXACT, SCANN: APPROXIMATE})

    assert figures["index.20000.scann.recall_at_100"] == 0.985
    assert figures["index.20000.brute_force.queries_per_second_batch_64"] == 100
    assert figures["index.20000.scann.speedup_batch_1"] == 8
    assert figures["index.20000.scann.speedup_batch_64"] == 20
    assert undocumented_keys(figures) == []


def test_table_has_a_row_for_each_size_and_index():
    figures = flatten(20_000, {BRUTE_FORCE: EXACT, SCANN: APPROXIMATE})
    figures |= flatten(100_000, {BRUTE_FORCE: EXACT, SCANN: APPROXIMATE})

    rows = [line.split() for line in table(figures).splitlines()[2:]]

    assert [row[:3] for row in rows] == [
        ["20,000", "brute", "force"],
        ["20,000", "scann", "0.985"],
        ["100,000", "brute", "force"],
        ["100,000", "scann", "0.985"],
    ]


def test_size_too_small_to_mean_anything_is_refused(monkeypatch):
    monkeypatch.setenv("SIZE", "999")
    with pytest.raises(ValueError, match="`SIZE` must be at least 1000 tags. Received: SIZE=999"):
        index.run(print)
