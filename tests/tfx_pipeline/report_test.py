"""Parts of the report that need no run of a pipeline."""

from tests.report_keys import undocumented_keys
from tfx_pipeline.report import warm_start_rows


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
