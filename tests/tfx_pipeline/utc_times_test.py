"""Moments as people write them, by value."""

import pytest

from tfx_pipeline.utc_times import utc_seconds, utc_text


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
