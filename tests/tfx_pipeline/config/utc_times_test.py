"""Times as people write them, and their values."""

import pytest

from tfx_pipeline.config.utc_times import is_day, utc_seconds, utc_text


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1970-01-01", 0),
        ("2019-11-13", 1_573_603_200),
        ("2019-11-13T00:00:01", 1_573_603_201),
        ("2019-11-13 00:00:01", 1_573_603_201),
        ("2019-11-13T00:00:01Z", 1_573_603_201),
        ("2019-11-13T01:00:00+01:00", 1_573_603_200),
        ("2019-11-13T00:00:00.500", 1_573_603_201),  # the first second that is not before it
    ],
)
def test_text_is_utc_unless_it_has_a_zone(text, seconds):
    assert utc_seconds(text) == seconds


@pytest.mark.parametrize("text", ["", "soon", "2019-13-01", "13.11.2019", "1573603200", "Z"])
def test_text_that_is_no_moment_is_refused(text):
    with pytest.raises(ValueError, match="isoformat|month"):
        utc_seconds(text)


def test_text_for_people_is_read_back():
    assert utc_text(1_573_603_201) == "2019-11-13T00:00:01Z"
    assert utc_seconds(utc_text(1_573_603_201)) == 1_573_603_201


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2024-02-29", True),
        ("2023-02-29", False),
        ("2024-2-29", False),
        ("20240229", False),
        ("2024-02-29T00:00", False),
        ("latest", False),
        ("", False),
    ],
)
def test_day_is_a_date_that_there_is_in_one_form(text, expected):
    assert is_day(text) == expected
