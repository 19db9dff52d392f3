"""Events with weights: which features use them, in the examples and for a caller."""

import pytest

from tests.tfx_pipeline.examples.example_runs import run_examples, write_tables
from tests.tfx_pipeline.examples.random_users import with_attributes
from tests.trainer.random_logs import DAY, ITEMS, START
from tfx_pipeline.config.examples import ExamplesConfig
from trainer.contract.features import Domain, FeatureSpec
from trainer.contract.history import UserEvents, feature_values

SPEC = FeatureSpec(
    domains=(
        Domain("counted", attribute="item_id"),
        Domain("recent", attribute="item_id", weighting="recency", half_life_days=1.0),
    )
)
FIRST, SECOND = sorted(ITEMS)[:2]
# Two events on the first item, one on the second, each a day apart.
EVENTS = ((FIRST, 2 * DAY), (SECOND, DAY), (FIRST, 0))


@pytest.mark.parametrize(
    ("weights", "recent"),
    [
        # Half-lives of 2, 1 and 0 days before *now*, which is a second after the last event.
        ((None, None, None), {FIRST: 1.25, SECOND: 0.5}),
        ((4.0, 0.5, 2.0), {FIRST: 3.0, SECOND: 0.25}),
        ((0.0, 8.0, 0.0), {FIRST: 1e-6, SECOND: 4.0}),
    ],
)
def test_weight_enters_recency_and_no_count(tmp_path, weights, recent):
    rows = [
        {"user_id": "u", "item_id": item, "timestamp": int(START) + 2 * DAY - before, "clicked": 1}
        | ({} if weight is None else {"weight": weight})
        for (item, before), weight in zip(EVENTS, weights, strict=True)
    ]
    data = write_tables(tmp_path, rows, [{"user_id": "u"}])

    run = run_examples(tmp_path / "out", data, SPEC, ExamplesConfig(num_shards=1))

    (instance,) = run.instances
    assert dict(zip(instance["counted"], instance["counted_weights"], strict=True)) == {
        FIRST: 2.0,
        SECOND: 1.0,
    }
    found = dict(zip(instance["recent"], instance["recent_weights"], strict=True))
    assert found == pytest.approx(recent, rel=1e-4)
    events = UserEvents.from_records(map(with_attributes, rows))
    now = int(START) + 2 * DAY + 1
    assert {"user_id": "u", **feature_values(events, None, now, SPEC)} == instance
