"""Packed events and the attributes of their items mean what records mean."""

import hypothesis
import numpy as np

from tests.tfx_pipeline.examples.random_users import COLUMNS, IDS, canonical, with_attributes
from tests.trainer.random_logs import ITEMS, PROPERTY, SPEC, moments, records
from tfx_pipeline.examples.packed_events import EVENT_DTYPE, to_user_events
from trainer.contract.history import UserEvents, feature_values


def test_event_is_17_bytes():
    assert EVENT_DTYPE.itemsize == 17


def test_item_columns_list_what_the_items_have():
    for name, expected in (
        ("tags", {item: sorted(tags) for item, (tags, _) in ITEMS.items()}),
        ("category", {item: [category] * bool(category) for item, (_, category) in ITEMS.items()}),
        ("item_id", {item: [item] for item in ITEMS}),
    ):
        column = COLUMNS[name]
        assert list(column.vocabulary) == sorted(column.vocabulary)
        for position, item in enumerate(IDS):
            codes, _ = column.select(np.array([position]))
            assert column.vocabulary[codes].tolist() == expected[item]


def test_user_without_events_unpacks_to_nothing():
    events = to_user_events(canonical([]), COLUMNS)
    assert len(events) == 0
    assert feature_values(events, None, 10, SPEC)["clicked_tags"] == []


@PROPERTY
@hypothesis.given(records(), moments())
def test_packed_events_and_records_mean_the_same(rows, at):
    """The pipeline and a live caller reach the common function in these two ways."""
    packed = to_user_events(canonical(rows), COLUMNS)
    live = UserEvents.from_records([with_attributes(row) for row in rows])
    np.testing.assert_array_equal(packed.timestamp, live.timestamp)
    np.testing.assert_array_equal(packed.clicked, live.clicked)
    np.testing.assert_array_equal(packed.weight, live.weight)
    profile = {"gender": "M"}
    assert feature_values(packed, profile, at, SPEC) == feature_values(live, profile, at, SPEC)
