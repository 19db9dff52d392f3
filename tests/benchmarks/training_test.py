import pytest

from benchmarks import training
from benchmarks.training import CASES, RATIOS, flatten, fractions, table
from benchmarks.training_cases import Products, Work
from tests.report_keys import undocumented_keys, unwritten_keys


def figures(dimension: int = 16) -> training.Figures:
    """Three rounds of work; the second one is the median of each."""

    def rounds(snapshots: int, labels: int, values: int) -> list[Work]:
        return [Work(s, 10, snapshots, labels, values) for s in (1.0, 2.0, 8.0)]

    work = {
        "training": rounds(4_000, 800_000, 1_200_000),
        "step_only": rounds(5_000, 1_000_000, 1_500_000),
        "input_only": rounds(50_000, 10_000_000, 15_000_000),
        "peer.tfrs_two_tower": rounds(80_000, 80_000, 8_000_000),
        "peer.direct_utpm": rounds(40_000, 40_000, 4_000_000),
    }
    products = [Products(20 * 10**9, seconds, 10e9) for seconds in (0.04, 0.05, 0.5)]
    found = flatten(dimension, work, products, dict.fromkeys(CASES, 1_000.0))
    found |= {"training.log": "movielens-1m", "machine.matmul_gflops": 400.0}
    return found | fractions(dimension, found)


def test_rates_are_medians_over_rounds_and_ratios_those_of_the_medians():
    found = figures()

    assert found["training.examples_per_second.e16"] == 400_000
    assert found["training.snapshots_per_second.e16"] == 2_000
    assert found["peer.direct_utpm.history_values_per_second.e16"] == 2_000_000
    assert found["step_only.ms_per_step.e16"] == 200
    assert found["input_only.peak_mb.e16"] == 1_000
    assert found["ratio.training_over_direct_utpm.e16"] == 20
    assert found["ratio.training_over_tfrs_two_tower.e16"] == 10
    assert found["ratio.input_over_step.e16"] == 10
    assert found["ratio.snapshots_over_direct_utpm.e16"] == 0.1
    assert found["ratio.values_over_direct_utpm.e16"] == pytest.approx(0.3)


def test_fraction_is_of_the_machines_rate_and_time_share_of_the_step():
    found = figures()

    # 20 GFLOP in 0.2 s are 100 GFLOP/s of 400; alone they took 50 of the step's 200 ms.
    assert found["step_only.matmul_gflop.e16"] == 20
    assert found["step_only.matmul_fraction.e16"] == pytest.approx(0.25)
    assert found["step_only.matmul_time_share.e16"] == pytest.approx(0.25)


def test_every_key_is_documented():
    found = figures() | {
        "training.num_snapshots": 1,
        "training.num_cores": 2,
        "training.batch_size": 256,
    }

    assert {f"ratio.{key}.e16" for key, _, _ in RATIOS} <= set(found)
    assert undocumented_keys(found) == []
    assert unwritten_keys(found, "benchmarks/training.py") == []


def test_table_has_every_case_and_says_which_target_is_met():
    found = figures(16) | figures(64)
    found["ratio.training_over_direct_utpm.e64"] = 2.9
    lines = table(found).splitlines()

    for dimension in (16, 64):
        for case in CASES:
            assert sum(line.startswith(f"{case}, E={dimension} ") for line in lines) == 1
    (met,) = [
        line
        for line in lines
        if line.startswith("training / direct UTPM, label") and "E=16" in line
    ]
    (missed,) = [
        line
        for line in lines
        if line.startswith("training / direct UTPM, label") and "E=64" in line
    ]
    assert met.split()[-4:] == ["20.000", ">=", "3", "met"]
    assert missed.split()[-5:] == ["2.900", ">=", "3", "NOT", "MET"]


def test_table_says_that_a_synthetic_log_is_one():
    assert "SYNTHETIC" not in table(figures())
    assert "SYNTHETIC" in table(figures() | {"training.log": "demo"})
