"""Features in the graph are those of `trainer.contract.history`, value by value."""

import re
from itertools import product

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.client.fresh_events import EventFeatures as PythonFeatures
from serving.servable.event_features import EventFeatures
from tests.serving.event_requests import SPEC, event_lists, features_of, flat_events
from trainer.contract import signatures as s
from trainer.contract.tag_normalization import TagNormalization

DAY = 86_400
NOW = 1_700_000_000
PYTHON = PythonFeatures(SPEC, TagNormalization())
FORMS = {"lists": event_lists, "flat": flat_events}

# Times at the edges of windows, equal ones, and any; of every unit.
_AGES = st.one_of(
    st.sampled_from([0, 1, DAY, 7 * DAY, 7 * DAY + 1, 40 * DAY, 40 * DAY + 1, -1]),
    st.integers(-DAY, 60 * DAY),
)
_UNITS = st.sampled_from([1, 10**3, 10**6, 10**9])
_TIMES = st.builds(lambda age, unit: (NOW - age) * unit + unit // 2, _AGES, _UNITS)
# Tags that are equal once normalised, in other orders than by bytes, empty and with line breaks.
_TAGS = ["a", "B ", " b", "é", "É", "x y", "", " ", "zz", "a\r\nb", "\u3000q", "İ", "ΑΣ", "中"]
_EVENTS = st.fixed_dictionaries(
    {
        "item_id": st.sampled_from(["i1", "i2", "é", " 3", "i10\n"]),
        "timestamp": _TIMES,
        "clicked": st.integers(0, 1),
        # Sums that tie, vanish, overflow float32, and that depend on the order of additions.
        "weight": st.sampled_from([1.0, 1.0, 0.0, 0.3, 2.5, 1e-33, 1e30, 3e38]),
        "category": st.sampled_from(["", "A", "B\n", "a"]),
        "tags": st.lists(st.sampled_from(_TAGS), max_size=4),
    }
)
_PROFILES = st.fixed_dictionaries(
    {
        "city": st.sampled_from(["", "x\ny", "é"]),
        "age": st.sampled_from([float("nan"), 0.1, -3.0]),
        "languages": st.lists(st.sampled_from(["a", " a", "b", "", "c\n", "d"]), max_size=6),
    }
)
_USERS = st.tuples(
    # Repeated events count once.
    st.lists(_EVENTS, max_size=25).flatmap(
        lambda events: st.just(events + events[: len(events) // 4])
    ),
    _PROFILES,
    st.sampled_from([NOW, NOW + 0.5]),
)


GOOD = (
    [
        {"item_id": "i", "timestamp": NOW - 5, "clicked": 1, "weight": 1.0, "category": ""}
        | {"tags": ["a", "b"]}
    ],
    {"city": "", "age": 1.0, "languages": []},
    NOW,
)


def traced(form):
    """Returns the graph of a form of the events, with inputs of any size."""
    features = EventFeatures(SPEC, TagNormalization())
    function = features.of_flat if form == "flat" else features.of_lists
    specs = {
        name: tf.TensorSpec([None] * column.ndim, as_type(column), name)
        for name, column in FORMS[form]([GOOD]).items()
    }
    return tf.function(lambda **inputs: function(inputs), autograph=False).get_concrete_function(
        **specs
    )


def as_type(column):
    return tf.string if column.dtype == object else tf.as_dtype(column.dtype)


def tensors(columns):
    return {
        name: tf.constant(column.tolist(), as_type(column), column.shape)
        for name, column in columns.items()
    }


@pytest.fixture(scope="module")
def graphs():
    return {form: traced(form) for form in FORMS}


def computed(graphs, form, users):
    found = graphs[form](**tensors(FORMS[form](users)))
    return {name: column.numpy() for name, column in found.items()}


@settings(max_examples=150, deadline=None)
@given(st.lists(_USERS, min_size=1, max_size=4))
def test_features_of_users_are_those_of_the_training_examples(graphs, users):
    expected = [PYTHON.instance(events, profile, now) for events, profile, now in users]

    for form in FORMS:
        columns = computed(graphs, form, users)
        for row, instance in enumerate(expected):
            found = features_of(columns, row)
            # NaN, an unknown number, equals itself here.
            np.testing.assert_equal(found, instance)


def test_outputs_are_the_raw_features_without_more_padding_than_the_longest_list(graphs):
    events = [
        {"item_id": f"i{i}", "timestamp": NOW - i - 1, "clicked": 1, "weight": 1.0}
        | {"category": "", "tags": [f"t{i}"]}
        for i in range(5)
    ]
    profile = {"city": "", "age": 1.0, "languages": []}
    columns = computed(graphs, "flat", [(events, profile, NOW), ([], profile, NOW)])

    assert set(columns) == set(SPEC.raw_names)
    assert columns["clicked"].shape == columns["clicked_weights"].shape == (2, 5)
    assert columns["latest"].tolist() == [[b"t0", b"t1", b"t2"], [b""] * 3]
    assert columns["categories"].shape == (2, 0)
    assert columns["city"].shape == (2,)


def test_an_event_without_an_item_id_is_never_a_repeated_one(graphs):
    event = {"item_id": "", "timestamp": NOW - 9, "clicked": 1, "weight": 1.0, "category": ""}
    users = [([{**event, "tags": ["a"]}, {**event, "tags": ["a", "b"]}], {}, NOW)]
    users = [(events, {"city": "", "age": 0.0, "languages": []}, now) for events, _, now in users]

    for form in FORMS:
        found = features_of(computed(graphs, form, users), 0)
        assert (found["clicked"], found["clicked_weights"]) == (["a", "b"], [2.0, 1.0])
        assert found["items"] == []


@pytest.mark.parametrize("form", FORMS)
def test_no_users_and_no_events_have_no_values(graphs, form):
    users = [([], {"city": "x", "age": 2.0, "languages": ["a"]}, NOW)]
    columns = FORMS[form](users)
    found = graphs[form](**tensors({name: column[:0] for name, column in columns.items()}))

    assert {column.shape[0] for column in found.values()} == {0}
    assert features_of(computed(graphs, form, users), 0)["clicked"] == []


BAD_VALUES = [
    (s.EVENT_CLICKED, 2, "`event_clicked` must be 0 or 1. Received:] ["),
    (
        s.EVENT_TAGS,
        b"a" * 1025,
        "`event_tags` must hold texts of at most 1024 bytes. Received:] [1025]",
    ),
    (s.EVENT_ITEM_ID, b"a" * 1025, "`event_item_id` must hold texts of at most 1024 bytes"),
    (s.EVENT_CATEGORY, b"a" * 1025, "`event_category` must hold texts of at most 1024 bytes"),
    (s.EVENT_WEIGHT, -1.0, "`event_weight` must be finite numbers, 0 or more. Received:] ["),
    (s.EVENT_WEIGHT, float("inf"), "`event_weight` must be finite numbers, 0 or more"),
    (s.EVENT_WEIGHT, float("nan"), "`event_weight` must be finite numbers, 0 or more"),
    (s.EVENT_TIME, 300_000_000_000, "`event_time` must be seconds since 1970, UTC (or ms, us"),
    (s.NOW, 1.7e12, "`now` must be a time in seconds since 1970, UTC, not milliseconds"),
    (s.NOW, float("nan"), "`now` must be a time in seconds"),
]


@pytest.mark.parametrize(("form", "case"), product(FORMS, BAD_VALUES), ids=lambda v: str(v)[:40])
def test_a_bad_value_is_refused_and_named(graphs, form, case):
    name, value, message = case
    columns = FORMS[form]([GOOD, GOOD])
    columns[name].flat[0] = value

    with pytest.raises(tf.errors.InvalidArgumentError, match=re.escape(message)):
        graphs[form](**tensors(columns))


def test_few_events_do_not_become_values_without_number(graphs):
    event = {"timestamp": NOW - 1, "clicked": 1, "weight": 1.0, "category": ""}
    events = [{**event, "item_id": f"i{i}", "tags": [f"t{i}"]} for i in range(400)]
    profile = {"city": "", "age": 1.0, "languages": []}
    users = [(events, profile, NOW), *[([], profile, NOW)] * 1000]

    # 7 domains of 1,001 users, padded to 400 values.
    message = (
        "Features must not have more than 2097152 values, padding included. Received:] [2802800]"
    )
    with pytest.raises(tf.errors.InvalidArgumentError, match=re.escape(message)):
        graphs["flat"](**tensors(flat_events(users)))


@pytest.mark.parametrize(
    ("form", "name", "value", "message"),
    [
        ("flat", s.NUM_EVENTS, [1, 2], "the sum of `num_events` must be the length of `event_num"),
        ("flat", s.NUM_EVENTS, [3, -1], "`num_events` must be from 0 to the length of `event_num"),
        # Their sum is 2 again, in 64 bits.
        ("flat", s.NUM_EVENTS, [2**63 - 1, 2**63 - 1, 4], "`num_events` must be from 0 to the"),
        ("flat", s.EVENT_NUM_TAGS, [1, 2], "the sum of `event_num_tags` must be the length of"),
        ("flat", s.EVENT_TIME, [NOW], "`event_time` must have one value for each event"),
        ("flat", s.NOW, [float(NOW)], "`now` must have one value for each user"),
        ("lists", s.EVENT_TIME, [[NOW]], "`event_time` must have one value for each event"),
        ("lists", s.EVENT_ITEM_ID, [["a", "b"]], "`event_item_id` must have one value for each"),
        ("lists", s.NOW, [float(NOW)] * 3, "`now` must have one value for each user"),
    ],
)
def test_lengths_that_do_not_fit_are_refused_and_named(graphs, form, name, value, message):
    columns = FORMS[form]([GOOD, GOOD])
    bad = tf.constant(value, as_type(columns[name]))

    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        graphs[form](**tensors(columns) | {name: bad})
