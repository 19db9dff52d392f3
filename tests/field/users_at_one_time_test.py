"""Users whose events all have one time, as in logs whose times are dates."""

import pytest

from tests.tfx_pipeline.examples.example_runs import run_examples, write_tables
from tfx_pipeline.config.examples import ExamplesConfig
from tfx_pipeline.terminal.row_summary import row_lines
from trainer.contract.features import Domain, FeatureSpec

SPEC = FeatureSpec(domains=(Domain("clicked"),))
TIMES = {
    "two": (7, 7),
    "three": (9, 9, 9),
    "lone": (7,),
    "apart": (7, 8),
    "back": (7, 8, 7),
    # With a cap of three events, those kept have one time, and an older event is known.
    "older": (1, 7, 7, 7),
}
ITEMS = [{"item_id": f"i{number}", "tags": ["x"]} for number in range(4)]


@pytest.mark.parametrize("num_shards", [1, 3])
def test_users_with_several_events_of_one_second_are_counted(tmp_path, num_shards):
    log = [
        {"user_id": user, "item_id": f"i{i}", "timestamp": time, "clicked": i % 2}
        for user, times in TIMES.items()
        for i, time in enumerate(times)
    ]
    data = write_tables(tmp_path, log, [{"user_id": user} for user in (*TIMES, "cold")], ITEMS)
    config = ExamplesConfig(num_shards=num_shards, max_events_per_user=3)

    counts = run_examples(tmp_path / "out", data, SPEC, config).counts

    assert counts["users.at_one_time"] == 2
    assert counts["users.without_events"] == 1
    assert row_lines(counts)[-1] == (
        "one time   2 users have several events, all in one second: none is history of another, "
        "and no cut in time separates them"
    )
