"""Feature values by hand and against an oracle, without anything of the future."""

import re

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest

from tests.trainer.random_logs import (
    DAY,
    ITEMS,
    PROPERTY,
    SPEC,
    START,
    distinct_events,
    item_values,
    moments,
    naive_feature_values,
    record,
    records,
)
from trainer.contract.features import Domain, FeatureSpec, ProfileFeature
from trainer.contract.history import (
    HistoryValues,
    ListColumn,
    Moments,
    UserEvents,
    check_profile,
    feature_values,
)

AT = 1_000 * DAY


def event(seconds_before, tags, clicked=1, item_id=None, **others):
    """Returns an event `seconds_before` AT; items are told apart by their tags unless named."""
    return {
        "item_id": item_id or "+".join(tags),
        "timestamp": AT - seconds_before,
        "clicked": clicked,
        "tags": tags,
        **others,
    }


def values_of(rows, at=AT, history_window_days=None, **domain):
    """Returns values and weights of one domain."""
    spec = FeatureSpec(history_window_days=history_window_days, domains=(Domain("d", **domain),))
    values = feature_values(UserEvents.from_records(rows), None, at, spec)
    return list(zip(values["d"], values["d_weights"], strict=True))


# --- weighting ---


def test_count_adds_the_events_of_a_value():
    rows = [event(30, ["a", "b"]), event(20, ["b"]), event(10, ["b", "c"], item_id="other")]
    assert values_of(rows) == [("b", 3.0), ("a", 1.0), ("c", 1.0)]


@pytest.mark.parametrize("weight", [0.0, 0.25, 2.5, None])
def test_count_is_the_number_of_events_whatever_their_weight(weight):
    rows = [
        event(30, ["a"], weight=weight),
        event(20, ["a", "b"], weight=weight),
        event(10, ["b", "c"], weight=7.0),
    ]
    assert values_of(rows) == [("a", 2.0), ("b", 2.0), ("c", 1.0)]


def test_recency_halves_an_event_every_half_life():
    rows = [
        event(10 * DAY, ["old", "both"]),  # one half-life: 0.5
        event(20 * DAY, ["older"], weight=4.0),  # two: 4 / 4
        event(30 * DAY, ["both"]),  # three: 0.125
    ]
    assert values_of(rows, weighting="recency", half_life_days=10.0) == [
        ("older", 1.0),
        ("both", 0.625),
        ("old", 0.5),
    ]


def test_recency_counts_seconds_and_not_whole_days():
    (value,) = values_of([event(DAY // 2, ["a"])], weighting="recency", half_life_days=1.0)
    assert value == ("a", pytest.approx(2**-0.5, rel=1e-6))


def test_decayed_value_keeps_the_smallest_weight_and_its_place():
    rows = [event(900 * DAY, ["gone"]), event(90 * DAY, ["a"]), event(60 * DAY, ["b"])]
    found = values_of(rows, weighting="recency", half_life_days=1.0)
    floor = float(np.float32(1e-6))
    assert found == [("b", floor), ("a", floor), ("gone", floor)]


def test_weight_zero_stays_nothing_and_does_not_become_one():
    rows = [event(DAY, ["a"], weight=0.0), event(DAY, ["b"], weight=0.5)]
    found = values_of(rows, weighting="recency", half_life_days=1.0)
    assert found == [("b", 0.25), ("a", float(np.float32(1e-6)))]


def test_weights_are_float32_numbers():
    rows = [event(DAY, ["a"], item_id=f"i{k}", weight=0.1) for k in (1, 2, 3)]
    ((_, weight),) = values_of(rows, weighting="recency", half_life_days=1.0)
    assert weight == float(np.float32(weight))
    # Three times the half of the float32 nearest to 0.1, as events travel in float32.
    assert weight == float(np.float32(1.5 * float(np.float32(0.1))))


# --- order and caps ---


def test_ties_come_in_order_of_the_strings():
    rows = [event(30, ["é"]), event(20, ["b"]), event(10, ["Z", "a"]), event(5, ["𝄞"])]
    assert [value for value, _ in values_of(rows)] == ["Z", "a", "b", "é", "𝄞"]


def test_max_values_keeps_the_heaviest():
    rows = [event(k, ["a", "b", "c"][: 1 + k % 3], item_id=f"i{k}") for k in range(1, 7)]
    assert values_of(rows, max_values=2) == [("a", 6.0), ("b", 4.0)]


def test_max_values_cuts_ties_in_order_of_the_strings():
    rows = [event(30, ["c"]), event(20, ["a"]), event(10, ["b"])]
    assert values_of(rows, max_values=2) == [("a", 1.0), ("b", 1.0)]


def test_tag_named_twice_by_an_item_counts_once():
    assert values_of([event(10, ["a", "a"], item_id="i")]) == [("a", 1.0)]


# --- what a domain lists ---


def test_clicked_and_skipped_events_are_kept_apart():
    rows = [event(30, ["a"], clicked=1), event(20, ["b"], clicked=0), event(10, ["b"], clicked=1)]
    assert values_of(rows, events="clicked") == [("a", 1.0), ("b", 1.0)]
    assert values_of(rows, events="skipped") == [("b", 1.0)]


def test_attributes_list_tags_categories_or_items():
    rows = [
        event(30, ["a", "b"], item_id="i2", category="x"),
        event(20, ["b"], item_id="i10", category="x"),
        event(10, ["c"], item_id="i3", category=""),
    ]
    assert values_of(rows, attribute="tags") == [("b", 2.0), ("a", 1.0), ("c", 1.0)]
    assert values_of(rows, attribute="category") == [("x", 2.0)]
    assert values_of(rows, attribute="item_id") == [("i10", 1.0), ("i2", 1.0), ("i3", 1.0)]


def test_records_without_tags_or_category_list_nothing():
    rows = [{"item_id": "i", "timestamp": AT - 5, "clicked": 1}]
    assert values_of(rows, attribute="tags") == []
    assert values_of(rows, attribute="category") == []


# --- time ---


def test_event_at_the_moment_itself_is_the_future():
    rows = [event(1, ["before"]), event(0, ["at"]), event(-1, ["after"])]
    assert values_of(rows) == [("before", 1.0)]
    assert values_of(rows, at=AT + 1) == [("at", 1.0), ("before", 1.0)]


def test_fractional_moment_sees_the_second_before_it():
    assert values_of([event(0, ["a"])], at=AT + 0.5) == [("a", 1.0)]
    assert values_of([event(0, ["a"])], at=AT - 0.5) == []


def test_window_includes_its_first_moment():
    rows = [event(2 * DAY + 1, ["too old"]), event(2 * DAY, ["first"]), event(1, ["last"])]
    assert values_of(rows, window_days=2.0) == [("first", 1.0), ("last", 1.0)]
    assert len(values_of(rows)) == 3


@pytest.mark.parametrize(
    ("window_days", "history_window_days", "expected"),
    [
        (None, None, ["d1", "d2", "d3"]),
        (None, 2.0, ["d1", "d2"]),
        (1.0, 2.0, ["d1"]),
        (3.0, 2.0, ["d1", "d2"]),
        (2.0, None, ["d1", "d2"]),
        (0.5, 3.0, []),
    ],
)
def test_history_window_bounds_every_domain(window_days, history_window_days, expected):
    rows = [event(days * DAY, [f"d{days}"]) for days in (1, 2, 3)]
    found = values_of(rows, window_days=window_days, history_window_days=history_window_days)
    assert [value for value, _ in found] == expected


def test_short_and_long_term_are_two_entries_of_one_attribute():
    spec = FeatureSpec(domains=(Domain("long"), Domain("short", window_days=1.0)))
    events = UserEvents.from_records([event(3 * DAY, ["a"]), event(60, ["b"])])
    values = feature_values(events, None, AT, spec)
    assert (values["long"], values["short"]) == (["a", "b"], ["b"])


@pytest.mark.parametrize(
    ("last_events", "window_days", "expected"),
    [
        (1, None, ["d1"]),
        (2, None, ["d1", "d2"]),
        (9, None, ["d1", "d2", "d3"]),
        (2, 1.0, ["d1"]),
    ],
)
def test_last_events_are_those_of_the_domain_within_its_window(last_events, window_days, expected):
    rows = [event(days * DAY, [f"d{days}"]) for days in (1, 2, 3)]
    # Neither counts: one is of no click, the other comes after the moment.
    rows += [event(60, ["skipped"], clicked=0), event(-60, ["later"])]
    found = values_of(rows, last_events=last_events, window_days=window_days)
    assert [value for value, _ in found] == expected


def test_last_events_of_one_second_are_in_order_of_their_items():
    rows = [event(60, [tag], item_id=tag) for tag in "cab"]
    assert [value for value, _ in values_of(rows, last_events=2)] == ["b", "c"]


# --- profile and cold users ---


def test_profile_is_looked_up_by_name_and_unknown_is_empty():
    spec = FeatureSpec(profile=(ProfileFeature("gender"), ProfileFeature("age")))
    nothing = UserEvents.from_records([])
    assert feature_values(nothing, {"gender": "F", "zip": "1"}, AT, spec) == {
        "gender": "F",
        "age": "",
    }
    assert feature_values(nothing, None, AT, spec) == {"gender": "", "age": ""}


def test_user_without_events_has_empty_domains():
    values = feature_values(UserEvents.from_records([]), None, AT, SPEC)
    assert set(values) == set(SPEC.raw_names)
    assert all(values[domain.name] == [] for domain in SPEC.domains)
    assert all(values[f"{domain.name}_weights"] == [] for domain in SPEC.domains)


# --- records ---


def test_records_come_in_canonical_order():
    rows = [
        event(5, ["t"], item_id="b", clicked=1),
        event(5, ["t"], item_id="b", clicked=0),
        event(5, ["t"], item_id="a", clicked=1),
        event(9, ["t"], item_id="z", clicked=0),
    ]
    events = UserEvents.from_records(rows)
    ids = events.attributes["item_id"]
    found = [
        (int(time), ids.vocabulary[ids.codes[item]], bool(clicked))
        for time, item, clicked in zip(events.timestamp, events.item, events.clicked, strict=True)
    ]
    assert found == [
        (AT - 9, "z", False),
        (AT - 5, "a", True),
        (AT - 5, "b", False),
        (AT - 5, "b", True),
    ]


def test_exact_duplicates_count_once_and_another_weight_is_another_event():
    row = event(5, ["a"], weight=2.0)
    assert len(UserEvents.from_records([row, dict(row)])) == 1
    assert len(UserEvents.from_records([row, {**row, "weight": 3.0}])) == 2
    assert len(UserEvents.from_records([event(5, ["a"]), event(5, ["a"], weight=1.0)])) == 1


@pytest.mark.parametrize("missing", ["item_id", "timestamp", "clicked"])
def test_record_without_a_key_is_refused(missing):
    row = event(5, ["a"])
    del row[missing]
    with pytest.raises(ValueError, match="`events` must have item_id, timestamp and clicked"):
        UserEvents.from_records([row])


def test_clicked_other_than_0_or_1_is_refused():
    row = event(5, ["a"], clicked=2)
    with pytest.raises(ValueError, match="`clicked` must be 0 or 1. Received: clicked=2."):
        UserEvents.from_records([row])


@pytest.mark.parametrize("timestamp", ["soon", None, float("nan"), float("inf")])
def test_timestamp_that_is_no_time_is_refused(timestamp):
    row = {**event(5, ["a"]), "timestamp": timestamp}
    message = (
        "`timestamp` must be seconds since 1970, UTC (or ms, us, ns, or ISO 8601). "
        f"Received: timestamp={timestamp!r}."
    )
    with pytest.raises(ValueError, match=re.escape(message)):
        UserEvents.from_records([row])


def test_timestamp_in_milliseconds_is_not_taken_for_the_far_future():
    row = {**event(5, ["a"]), "timestamp": 1_700_000_000_000}
    assert UserEvents.from_records([row]).timestamp.tolist() == [1_700_000_000]
    in_no_unit = {**row, "timestamp": 300_000_000_000}
    with pytest.raises(ValueError, match="`timestamp` must be seconds since 1970, UTC"):
        UserEvents.from_records([in_no_unit])


@pytest.mark.parametrize("weight", [-1, float("nan"), float("inf"), 1e39, "2"])
def test_weight_that_is_no_weight_is_refused(weight):
    with pytest.raises(ValueError, match="`weight` must be a number, 0 or more. Received: weight="):
        UserEvents.from_records([event(5, ["a"], weight=weight)])


# --- columns ---


def test_list_column_is_sorted_and_selects_rows_in_any_order():
    column = ListColumn.from_lists([["b", "a", "b"], [], ["c"]])
    assert column.vocabulary.tolist() == ["a", "b", "c"]
    assert column.codes.tolist() == [0, 1, 2]
    assert column.offsets.tolist() == [0, 2, 2, 3]
    codes, position = column.select(np.array([2, 0, 1, 0]))
    assert codes.tolist() == [2, 0, 1, 0, 1]
    assert position.tolist() == [0, 1, 1, 3, 3]


def test_num_before_excludes_the_moment():
    events = UserEvents.from_records([event(s, ["a"], item_id=f"i{s}") for s in (3, 2, 2, 1)])
    assert [events.num_before(AT - s) for s in (4, 3, 2, 1, 0)] == [0, 0, 1, 2, 3]


# --- properties over random logs ---


@PROPERTY
@hypothesis.given(records(), moments())
def test_values_equal_the_oracle(rows, at):
    events = UserEvents.from_records(rows)
    profile = {"gender": "F"}
    assert feature_values(events, profile, at, SPEC) == naive_feature_values(
        rows, profile, at, SPEC
    )


@PROPERTY
@hypothesis.given(st.lists(st.tuples(records(), st.lists(moments(), max_size=3)), max_size=4))
def test_many_users_at_many_moments_equal_each_alone(users):
    """The example pipeline passes all users' events in a row, and all moments at once."""
    attributes = {
        name: ListColumn.from_lists([item_values(item, name) for item in sorted(ITEMS)])
        for name in ("tags", "category", "item_id")
    }
    alone = [UserEvents.from_records(rows) for rows, _ in users]
    everyone = [event for rows, _ in users for event in distinct_events(rows)]
    events = UserEvents(
        timestamp=np.array([event[0] for event in everyone], np.int64),
        clicked=np.array([event[2] for event in everyone], bool),
        weight=np.array([event[3] for event in everyone], np.float32),
        item=np.array([sorted(ITEMS).index(event[1]) for event in everyone], np.int32),
        attributes=attributes,
    )
    first = np.cumsum([0] + [len(one) for one in alone])
    asked = [(user, at) for user, (_, times) in enumerate(users) for at in times]
    at_once = Moments(
        first=np.array([first[user] for user, _ in asked], np.int64),
        end=np.array([first[user] + alone[user].num_before(at) for user, at in asked], np.int64),
        at=np.array([at for _, at in asked], np.int64),
    )
    history = HistoryValues(events)
    for domain in SPEC.domains:
        found = history.domain_values(at_once, domain, SPEC.history_window_days)
        names = attributes[domain.attribute].vocabulary[found.codes].tolist()
        for place, (user, at) in enumerate(asked):
            values = feature_values(alone[user], None, at, SPEC)
            part = slice(found.offsets[place], found.offsets[place + 1])
            assert names[part] == values[domain.name]
            assert found.sums[part].tolist() == values[f"{domain.name}_weights"]


@PROPERTY
@hypothesis.given(records(), records(max_size=8), moments(), st.randoms(use_true_random=False))
def test_no_event_at_or_after_the_moment_changes_a_value(rows, others, at, random):
    past = [row for row in rows if row["timestamp"] < at]
    future = [row for row in rows if row["timestamp"] >= at]
    expected = feature_values(UserEvents.from_records(past), None, at, SPEC)
    changed = [{**row, "clicked": 1 - row["clicked"], "weight": 9.0} for row in future]
    moved = [{**row, "timestamp": at + random.randrange(DAY)} for row in others]
    for later in (future, changed, moved, [{**record("i0", 0, 1), "timestamp": at}]):
        rows = [*past, *later]
        random.shuffle(rows)
        assert feature_values(UserEvents.from_records(rows), None, at, SPEC) == expected


@PROPERTY
@hypothesis.given(records(), moments(), st.randoms(use_true_random=False))
def test_order_and_repetition_of_records_do_not_matter(rows, at, random):
    expected = feature_values(UserEvents.from_records(rows), None, at, SPEC)
    shuffled = [*rows, *random.choices(rows, k=3)] if rows else []
    random.shuffle(shuffled)
    assert feature_values(UserEvents.from_records(shuffled), None, at, SPEC) == expected


@PROPERTY
@hypothesis.given(records(), moments())
def test_caps_hold_and_weights_descend(rows, at):
    values = feature_values(UserEvents.from_records(rows), None, at, SPEC)
    for domain in SPEC.domains:
        names, weights = values[domain.name], values[f"{domain.name}_weights"]
        assert len(names) == len(weights) == len(set(names)) <= domain.max_values
        assert weights == sorted(weights, reverse=True)
        assert all(weight > 0 for weight in weights)
        known = {value for tags, category in ITEMS.values() for value in (*tags, category)}
        assert set(names) <= known | set(ITEMS)


def test_oracle_sees_borders_and_future():
    """Property tests need logs with events on both borders and in the future."""
    rows = [record("i0", 0, 1), record("i1", 24, 1)]
    at = START + 6 * DAY
    values = naive_feature_values(rows, None, at, SPEC)
    assert values["clicked_tags"] == ["a", "b"]  # the border of six days is in, `at` is not


@pytest.mark.parametrize(
    ("profile", "message"),
    [
        ({"age": 25}, r"`age` must be a string, .* Received: age=25"),
        ({"agee": "25"}, r"`profile` must name profile features \(age\)"),
    ],
)
def test_profile_of_a_caller_that_is_no_text_is_refused(profile, message):
    spec = FeatureSpec(profile=(ProfileFeature("age"),))
    with pytest.raises(ValueError, match=message):
        check_profile(profile, spec)


def test_category_that_is_no_text_is_refused():
    event = {"item_id": "i", "timestamp": 100, "clicked": 1, "category": 5}
    with pytest.raises(ValueError, match="`category` must be a string"):
        UserEvents.from_records([event])
