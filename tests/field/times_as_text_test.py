"""Times as people write them, as text or as numbers in any unit: read, or refused in one line."""

import csv
import datetime
import decimal
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tagtower_client.event_times import event_seconds
from tfx_pipeline.tables import schema, times
from tfx_pipeline.tables.arrow_files import check_table, read_table
from tfx_pipeline.tables.validate import validate_interactions
from trainer.contract.history import UserEvents

AT = 1_792_654_024  # 2026-10-22 07:27:04
UTC = datetime.timezone.utc
D = decimal.Decimal
TEXTS = [
    ("2026-10-22 07:27:04", AT),
    ("2026-10-22T07:27:04", AT),
    ("2026-10-22t07:27:04", AT),
    ("2026-10-22 07:27:04Z", AT),
    ("2026-10-22T07:27:04z", AT),
    ("2026-10-22 07:27:04 UTC", AT),
    ("2026-10-22T07:27:04+00:00", AT),
    ("2026-10-22T09:27:04+02:00", AT),
    ("2026-10-22 09:27:04 +0200", AT),
    ("2026-10-22 09:27:04+02", AT),
    ("2026-10-21T21:57:04-09:30", AT),
    ("2026-10-22 07:27:04.9", AT),
    ("2026-10-22 07:27:04,999999", AT),
    ("2026-10-22T07:27:04.999999999Z", AT),
    ("2026-10-22T09:27:04.1234567+02:00", AT),
    (" 2026-10-22  07:27:04 ", AT),
    ("2026-10-22 07:27", AT - 4),
    ("2026-10-22T09:27+02:00", AT - 4),
    ("2026-10-22", AT - 4 - 27 * 60 - 7 * 3600),
    ("2024-02-29", 1_709_164_800),
    ("1969-12-31 23:59:59", -1),
    ("9999-12-31 23:59:59", 253_402_300_799),
    (f"{AT}", AT),
    (f"{AT}.75", AT),
    ("1.792654024e9", AT),
    (f"{AT}999", AT),
    (f"{AT}999999", AT),
    (f"{AT}999999999", AT),
]
NO_TIMES = [
    "soon",
    "22.10.2026 07:27",
    "10/22/2026",
    "2026-10-22 7:27",
    "2026-02-29",
    "2026-13-01",
    "2026-10-00",
    "0000-10-22",
    "2026-10-22 24:00:00",
    "2026-10-22 07:60:00",
    "2026-10-22 07:27:60",
    "2026-10-22 07:27:04 CET",
    "2026-10-22 07:27:04+24:00",
    "2026-10-22+02:00",
    "Thu, 22 Oct 2026 07:27:04 GMT",
    "300000000000",
    "1e30",
    "inf",
]


def _seconds(column):
    found = times.as_seconds(column)
    assert np.isnan(found.values).tolist() == (found.is_missing | found.is_invalid).tolist()
    return [None if np.isnan(value) else int(value) for value in found.values]


@pytest.mark.parametrize(("text", "expected"), TEXTS)
def test_text_that_is_a_time(text, expected):
    assert _seconds(pa.array([text])) == [expected]
    assert _seconds(pa.array([text.encode(), None])) == [expected, None]
    assert event_seconds(text) == expected


@pytest.mark.parametrize("text", NO_TIMES)
def test_text_that_is_no_time(text):
    assert times.as_seconds(pa.array([text, "", None])).is_invalid.tolist() == [True, False, False]
    assert event_seconds(text) is None


@given(st.lists(st.sampled_from([*TEXTS, *((text, None) for text in NO_TIMES)]), min_size=1))
@settings(max_examples=100, deadline=None)
def test_text_is_the_same_time_among_any_others(pairs):
    assert _seconds(pa.array([text for text, _ in pairs])) == [at for _, at in pairs]


@given(st.datetimes(datetime.datetime(1970, 1, 1)), st.integers(-1439, 1439))
@example(datetime.datetime(3059, 1, 1, 0, 0, 0, 999_997), 0)
@settings(max_examples=200, deadline=None)
def test_any_moment_in_any_zone(moment, minutes):
    zone = datetime.timezone(datetime.timedelta(minutes=minutes))
    expected = int(np.datetime64(moment, "s").astype(int)) - 60 * minutes
    text = moment.replace(tzinfo=zone).isoformat()
    assert _seconds(pa.array([text])) == [expected] == [event_seconds(text)]
    assert event_seconds(moment.replace(tzinfo=UTC)) == expected + 60 * minutes


# --- numbers ---

UNITS = (1, 10**3, 10**6, 10**9)


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("at", [AT, 315_532_800, 2_000_000_000, 253_402_300_799])
def test_unit_of_a_number_is_told_by_its_size(unit, at):
    last = at * unit + unit - 1  # the last moment of the second
    if last >= 2**63:
        assert event_seconds(last) is None
        assert _seconds(pa.array([str(last)])) == [None]
        return
    for column in (
        pa.array([last, None]),
        pa.array([last, 2**64 - 1], pa.uint64()),
        pa.array([str(last), "soon"]),
        pa.array([D(last), D(10**37)], pa.decimal128(38, 0)),
        pa.array([D(last), D("0.1").scaleb(-8)], pa.decimal128(38, 9)),
    ):
        assert _seconds(column)[0] == at, column.type
    assert _seconds(pa.array([float(at * unit)])) == [at]
    assert event_seconds(last) == event_seconds(str(last)) == event_seconds(D(last)) == at
    assert event_seconds(np.int64(last)) == event_seconds(float(at * unit)) == at


@pytest.mark.parametrize("number", [253_402_300_800, 315_532_799_999, 300_000_000_000_000, 10**19])
def test_number_between_two_units_is_no_time(number):
    assert event_seconds(number) is None
    assert _seconds(pa.array([float(number)])) == [None]
    assert _seconds(pa.array([str(number)])) == [None]


@given(st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1))
@settings(max_examples=100, deadline=None)
def test_number_is_the_same_time_alone_among_others_and_as_text(numbers):
    expected = [event_seconds(number) for number in numbers]
    assert _seconds(pa.array(numbers)) == expected
    if all(abs(number) < 9 * 10**18 for number in numbers):
        assert _seconds(pa.array([str(number) for number in numbers])) == expected


def test_boolean_and_time_of_day_are_no_time():
    assert _seconds(pa.array([True])) == [None]
    assert _seconds(pa.array([datetime.time(7)])) == [None]
    assert event_seconds(True) is None
    assert event_seconds(datetime.time(7)) is None


# --- whole tables ---

FORMS = [
    AT,
    AT * 1000,
    AT * 10**6,
    AT * 10**9,
    str(AT),
    str(AT * 1000),
    "2026-10-22 07:27:04",
    "2026-10-22T09:27:04.5+0200",
]


def _write(folder, suffix, values):
    path = folder / f"log{suffix}"
    rows = [{"user_id": "u", "item_id": "i", "timestamp": v, "clicked": 1} for v in values]
    if suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif suffix == ".csv":
        with open(path, "w", newline="", encoding="utf-8") as stream:
            writer = csv.DictWriter(stream, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".jsonl"])
@pytest.mark.parametrize("form", FORMS)
def test_log_in_any_form_of_time_and_any_format(tmp_path, suffix, form):
    (batch,) = read_table(_write(tmp_path, suffix, [form, form]), schema.INTERACTIONS)
    checked = validate_interactions(batch, now=AT)
    assert checked.rejected.num_rows == 0
    assert checked.rows.column("timestamp").to_pylist() == [AT, AT]


def test_forms_may_be_mixed_in_one_column(tmp_path):
    (batch,) = read_table(_write(tmp_path, ".jsonl", [*FORMS, "soon", AT + 1]), schema.INTERACTIONS)
    checked = validate_interactions(batch, now=AT)
    assert checked.rows.column("timestamp").to_pylist() == [AT] * len(FORMS)
    assert [(row["row"], row["reason"]) for row in checked.rejected.to_pylist()] == [
        (9, "unparsable_timestamp"),
        (10, "timestamp_in_future"),
    ]


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".jsonl"])
def test_column_of_which_no_time_can_be_read_is_one_line_with_an_example(tmp_path, suffix):
    path = _write(tmp_path, suffix, ["", "22.10.2026 07:27", "23.10.2026"] * 1000)
    with pytest.raises(ValueError) as error:
        check_table(path, schema.INTERACTIONS)
    assert str(error.value) == (
        "`timestamp` of interactions must be seconds (or ms, us, ns) since 1970, or ISO 8601 such "
        "as 2026-10-22 07:27:04, UTC. Received: '22.10.2026 07:27' "
        f"({path}, row 2), and no row of {path} that can be read."
    )


def test_one_time_that_can_be_read_leaves_the_others_to_their_rows(tmp_path):
    path = _write(tmp_path, ".csv", ["22.10.2026"] * 1500 + [AT])
    assert check_table(path, schema.INTERACTIONS) == [path]


def test_caller_with_fresh_events_may_write_times_as_the_log_does():
    records = [
        {"item_id": str(i), "timestamp": form, "clicked": 1, "tags": ["a"]}
        for i, form in enumerate(FORMS)
    ]
    assert UserEvents.from_records(records).timestamp.tolist() == [AT] * len(FORMS)


def test_date_of_a_caller_is_a_time_as_in_a_column_of_dates():
    day = datetime.date(2024, 1, 1)
    assert _seconds(pa.array([day])) == [event_seconds(day)] == [1_704_067_200]
