"""Logs without skips or clicks are refused before the training, with the keys to set."""

import pytest

from tests.tfx_pipeline.examples.example_runs import run_examples, write_tables
from tfx_pipeline.config.data import DataConfig
from tfx_pipeline.config.examples import ExamplesConfig
from tfx_pipeline.tables.inputs import check_counts, check_skips
from trainer.config import TrainingConfig
from trainer.contract.features import Domain, FeatureSpec

DATA = DataConfig("log.csv", "items.csv", "users.csv")
ONE_EACH = dict.fromkeys(("examples.train", "examples.validation", "examples.test"), 1)


@pytest.mark.parametrize(
    ("training", "keys"),
    [
        ({}, "`training.joint_weight`"),
        ({"split_weight": 0.1}, "`training.joint_weight` and `training.split_weight`"),
        ({"joint_weight": 0.0, "attention_weight": 1.0}, "`training.attention_weight`"),
    ],
)
def test_click_head_needs_skips(training, keys):
    with pytest.raises(ValueError) as error:
        check_skips({"rows.clicks": 12}, TrainingConfig(**training))
    assert str(error.value) == (
        "`data.interactions` must have skips (`clicked` 0) where a click head is trained: from "
        "clicks alone it learns nothing, and click GAUC, which the gate asks for, is undefined. "
        "Received: 12 clicks and no skip. Add what was shown and skipped, or set "
        f"{keys} to 0."
    )


@pytest.mark.parametrize(
    ("counts", "training"),
    [
        ({"rows.clicks": 12, "rows.skips": 1}, {}),
        ({"rows.clicks": 12}, {"joint_weight": 0.0}),
        # A summary of an earlier release does not count them.
        ({}, {}),
    ],
)
def test_skips_or_no_click_head_are_enough(counts, training):
    check_skips(counts, TrainingConfig(**training))


def test_log_of_skips_alone_is_refused():
    with pytest.raises(ValueError) as error:
        check_counts({"rows.skips": 7, **ONE_EACH}, DATA, "aside")
    assert str(error.value) == (
        "`data.interactions` must have clicks (`clicked` 1), which are what is learned. Received: "
        "7 skips and no click."
    )


@pytest.mark.parametrize("clicked", [0, 1])
def test_clicks_and_skips_that_are_used_are_counted(tmp_path, clicked):
    row = {"user_id": "u", "item_id": "i0", "timestamp": 9, "clicked": clicked}
    # A duplicate, a bad row: neither is used.
    rows = [row, row, {**row, "timestamp": 10}, {**row, "clicked": 1 - clicked, "user_id": ""}]
    data = write_tables(tmp_path, rows, [{"user_id": "u"}])
    spec = FeatureSpec(domains=(Domain("clicked_tags"),))

    counts = run_examples(tmp_path / "out", data, spec, ExamplesConfig(num_shards=1)).counts

    found = {name: counts.get(f"rows.{name}", 0) for name in ("clicks", "skips")}
    assert found == {"clicks": 2 * clicked, "skips": 2 * (1 - clicked)}
