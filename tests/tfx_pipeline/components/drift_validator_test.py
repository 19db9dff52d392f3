"""A day is compared with the last accepted one before it, and is accepted or refused."""

import json
import logging

import pytest
from tfx.types import artifact_utils, standard_artifacts

from tests.tfx_pipeline.evaluation.distributions_test import statistics
from tfx_pipeline.components.drift_validator import (
    Executor,
    drift_rows,
    last_baseline,
    statistics_file,
)
from tfx_pipeline.terminal.refusals import NotPushed

FIRST_SPAN = 19_844  # 2024-05-01
EVEN = [["a"], ["b"]] * 10
SHIFTED = [["a"]] * 12 + [["b"]] * 8  # a: 0.6, b: 0.4
BROKEN = [["a"]] * 20


class Days:
    """The days of one output folder, and their validation."""

    def __init__(self, folder):
        self.folder = folder
        self.accepted = str(folder / "accepted")

    def validate(self, number, segments, **threshold):
        """Validates the `number`th day; returns what the report says."""
        made = standard_artifacts.ExampleStatistics()
        made.uri = str(self.folder / f"statistics-{number}")
        made.span = FIRST_SPAN + number - 1
        made.split_names = artifact_utils.encode_split_names(["train", "validation"])
        for split in ("train", "validation"):
            path = self.folder / f"statistics-{number}" / f"Split-{split}" / "FeatureStats.pb"
            path.parent.mkdir(parents=True, exist_ok=True)
            # Validation examples are not compared.
            found = statistics(segment=segments if split == "train" else BROKEN)
            path.write_bytes(found.SerializeToString())
        anomalies = standard_artifacts.ExampleAnomalies()
        anomalies.uri = str(self.folder / f"anomalies-{number}")
        (self.folder / f"anomalies-{number}").mkdir(exist_ok=True)
        Executor().Do(
            {"statistics": [made]},
            {"anomalies": [anomalies]},
            {
                "thresholds": json.dumps({"segment": threshold or {"l_infinity": 0.15}}),
                "baselines_dir": self.accepted,
                "baseline": "",
                "code": "",
            },
        )
        return drift_rows(anomalies)


@pytest.fixture
def days(tmp_path):
    return Days(tmp_path)


def test_first_day_is_accepted_without_a_comparison(days):
    assert days.validate(1, EVEN) == {"drift.baseline_day": None, "drift.num_violations": 0}
    assert last_baseline(days.accepted, "2024-05-02") == "2024-05-01"


def test_day_is_compared_with_the_day_before(days):
    days.validate(1, EVEN)

    rows = days.validate(2, SHIFTED)

    assert rows.pop("drift.segment.l_infinity") == pytest.approx(0.1)
    assert rows == {"drift.baseline_day": "2024-05-01", "drift.num_violations": 0}


def test_broken_day_is_refused_by_name_and_is_nobodys_baseline(days):
    days.validate(1, EVEN)
    days.validate(2, SHIFTED)

    with pytest.raises(NotPushed) as error:
        days.validate(3, BROKEN)

    text = str(error.value)
    assert "of 2024-05-03 have drifted from those of 2024-05-02: feature `segment`: " in text
    key = "`validation.drift.segment.l_infinity`"
    assert f"L-infinity distance 0.4000, at most 0.15 is accepted ({key})" in text
    assert "\n" not in text
    rows = days.validate(4, EVEN)
    assert rows["drift.baseline_day"] == "2024-05-02"
    assert rows["drift.segment.l_infinity"] == pytest.approx(0.1)


def test_warning_accepts_the_day_and_says_so(days, caplog):
    days.validate(1, EVEN)

    with caplog.at_level(logging.INFO, logger="tagtower"):
        rows = days.validate(2, BROKEN, l_infinity=0.15, on_violation="warn")

    assert rows["drift.num_violations"] == 1
    assert rows["drift.segment.l_infinity"] == pytest.approx(0.5)
    assert "drift from 2024-05-01: feature `segment`: L-infinity distance 0.5000" in caplog.text
    assert days.validate(3, BROKEN)["drift.segment.l_infinity"] == 0


def test_day_run_again_is_compared_with_the_day_before_and_not_with_itself(days):
    days.validate(1, EVEN)
    days.validate(3, SHIFTED)

    # Corrected since, and another day has been added in between.
    rows = days.validate(2, SHIFTED)
    again = days.validate(3, EVEN)

    assert rows["drift.baseline_day"] == "2024-05-01"
    assert again["drift.baseline_day"] == "2024-05-02"
    assert again["drift.segment.l_infinity"] == pytest.approx(0.1)


def test_folders_that_are_no_days_are_no_baselines(tmp_path):
    assert last_baseline(str(tmp_path / "nothing"), "2024-05-01") is None
    for name in ("2024-13-01", "notes", "2024-05-02"):
        (tmp_path / name).mkdir()
    assert last_baseline(str(tmp_path), "2024-05-02") is None
    assert last_baseline(str(tmp_path), "2024-05-03") == "2024-05-02"
    assert statistics_file("x", "2024-05-02") == "x/2024-05-02/Split-train/FeatureStats.pb"


@pytest.mark.parametrize("content", [b"", b"\0" * 100, b"\xff not statistics"])
def test_damaged_statistics_of_an_accepted_day_are_named(days, content):
    days.validate(1, EVEN)
    path = statistics_file(days.accepted, "2024-05-01")
    with open(path, "wb") as file:
        file.write(content)

    with pytest.raises(ValueError, match=f"{path} is damaged: it is .*; remove .*2024-05-01,"):
        days.validate(2, EVEN)
