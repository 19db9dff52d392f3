"""Distances between distributions by hand, and the checks on them."""

import math

import pyarrow as pa
import pytest
import tensorflow_data_validation as tfdv
from tensorflow_data_validation.statistics import stats_impl

from tfx_pipeline.config.gate import DistributionThreshold
from tfx_pipeline.evaluation.distributions import Comparison, compare_requests, violations


def statistics(**columns):
    """Returns statistics of lists of strings or of numbers, one list for each example."""
    arrays = []
    for values in columns.values():
        is_text = any(isinstance(value, str) for row in values for value in row)
        kind = pa.list_(pa.binary() if is_text else pa.float32())
        rows = [[v.encode() if is_text else v for v in row] for row in values]
        arrays.append(pa.array(rows, kind))
    batch = pa.RecordBatch.from_arrays(arrays, list(columns))
    return stats_impl.generate_statistics_in_memory(batch, tfdv.StatsOptions())


TRAINING = statistics(
    tags=[["jazz", "rock"], ["jazz"], [], ["pop"]],
    segment=[["a"], ["b"], ["a"], ["b"]],
    weights=[[1.0, 2.0], [1.0], [], [3.0]],
)
REQUESTS = statistics(
    tags=[["jazz"], ["jazz"], ["rock"], []],
    segment=[["a"]] * 4,
    weights=[[1.0], [1.0], [2.0], []],
)


def distances(requests, **thresholds):
    return {
        (c.feature, c.measure): c.value for c in compare_requests(requests, TRAINING, thresholds)
    }


def test_distances_are_those_of_the_shares_of_values():
    both = DistributionThreshold(l_infinity=0.1, jensen_shannon=0.1)

    found = distances(REQUESTS, tags=both, segment=both)

    # Shares of tags: jazz 2/4, rock 1/4, pop 1/4 beside jazz 2/3, rock 1/3.
    assert found["tags", "l_infinity"] == pytest.approx(1 / 4)
    assert found["segment", "l_infinity"] == pytest.approx(1 / 2)
    # In bits, of (1/2, 1/2) and (1, 0) with their mean (3/4, 1/4).
    divergence = 0.5 * (
        0.5 * math.log2(0.5 / 0.75) + 0.5 * math.log2(0.5 / 0.25)
    ) + 0.5 * math.log2(1 / 0.75)
    assert found["segment", "jensen_shannon"] == pytest.approx(divergence)


def test_equal_distributions_have_no_distance():
    both = DistributionThreshold(l_infinity=0.0, jensen_shannon=0.0)
    number = DistributionThreshold(jensen_shannon=0.0)

    compared = compare_requests(TRAINING, TRAINING, {"tags": both, "weights": number})

    assert [c.value for c in compared] == pytest.approx([0, 0, 0], abs=1e-9)
    assert not any(c.is_violated for c in compared)


def test_numbers_are_compared_by_their_histograms():
    far = statistics(weights=[[100.0]] * 4)
    number = DistributionThreshold(jensen_shannon=0.5)

    ((_, near), (_, apart)) = [
        next(iter(distances(requests, weights=number).items())) for requests in (REQUESTS, far)
    ]

    assert near < 0.5 < apart <= 1


def test_feature_without_values_on_one_side_is_no_pass():
    number = DistributionThreshold(jensen_shannon=1.0)
    nothing = statistics(weights=[[], [], [], []], segment=[["a"]] * 4)

    (compared,) = compare_requests(nothing, TRAINING, {"weights": number})
    (unknown,) = compare_requests(TRAINING, TRAINING, {"age": number})

    for comparison in (compared, unknown):
        assert comparison.value is None and comparison.is_failed
        assert "not comparable, as one side has no value" in str(comparison)


def test_violations_are_told_apart_by_what_they_do():
    comparisons = [
        Comparison("a", "l_infinity", 0.25, 0.1, "fail"),
        Comparison("b", "jensen_shannon", 0.3, 0.2, "warn"),
        Comparison("c", "l_infinity", 0.1, 0.1, "fail"),
    ]

    assert violations(comparisons, "validation.drift", failed=True) == [
        "feature `a`: L-infinity distance 0.2500, at most 0.1 is accepted "
        "(`validation.drift.a.l_infinity`)"
    ]
    assert violations(comparisons, "validation.skew", failed=False) == [
        "feature `b`: Jensen-Shannon divergence 0.3000, at most 0.2 is accepted "
        "(`validation.skew.b.jensen_shannon`)"
    ]
