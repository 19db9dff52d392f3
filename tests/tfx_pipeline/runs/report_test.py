"""Parts of the report that need no pipeline run."""

import dataclasses
import json

import pytest

from tests.report_keys import undocumented_keys
from tfx_pipeline.runs.report import budget_rows, warm_start_rows
from tfx_pipeline.terminal.tables import budget_lines
from trainer.fitting.budget import Budget
from trainer.fitting.loop import FitResult


@pytest.mark.parametrize("is_improving", [True, False])
def test_budget_of_a_training_and_how_it_ended(is_improving):
    fit = FitResult(
        steps=500,
        best_step=450,
        budget=Budget(90, 34, 500, 200, 50),
        epochs=500 / 34,
        is_improving=is_improving,
        examples_per_second=1_000.0,
        evaluated_steps=tuple(range(0, 501, 50)),
        validation=(),
        seconds_per_epoch=2.0,
        seconds_per_evaluation=0.5,
    )

    # The form of `training.json`.
    report = budget_rows(json.loads(json.dumps(dataclasses.asdict(fit))))

    assert report == {
        "train.steps": 500,
        "train.best_step": 450,
        "train.budget_steps": 500,
        "train.batch_size": 90,
        "train.steps_per_epoch": 34,
        "train.evaluation_steps": 50,
        "train.num_evaluations": 11,
        "train.epochs": 500 / 34,
        "train.is_improving": is_improving,
        "train.examples_per_second": 1_000.0,
        "train.seconds_per_epoch": 2.0,
        "train.seconds_per_evaluation": 0.5,
    }
    assert undocumented_keys(report) == []
    lines = budget_lines(report)
    assert len(lines) == is_improving
    assert all("still improved when the budget ended" in line for line in lines)


def test_rows_of_a_warm_start_are_summed_and_given_by_vocabulary():
    report = warm_start_rows(
        {
            "tags": {"kept": 90, "new": 7, "retired": 3},
            "profile_age": {"kept": 5, "new": 0, "retired": 1},
        }
    )

    assert report == {
        "train.warm_start.kept_rows": 95,
        "train.warm_start.new_rows": 7,
        "train.warm_start.retired_rows": 4,
        "train.warm_start.tags.kept_rows": 90,
        "train.warm_start.tags.new_rows": 7,
        "train.warm_start.tags.retired_rows": 3,
        "train.warm_start.profile_age.kept_rows": 5,
        "train.warm_start.profile_age.new_rows": 0,
        "train.warm_start.profile_age.retired_rows": 1,
    }
    assert undocumented_keys(report) == []


def test_training_from_fresh_values_has_no_such_rows():
    assert warm_start_rows({}) == {}
