import re

import pytest

from benchmarks.size_option import one_size, sizes


@pytest.mark.parametrize(
    ("text", "expected"),
    [(None, [7, 8]), ("", [7, 8]), ("1000", [1000]), ("20_000, 100000", [20_000, 100_000])],
)
def test_sizes_are_those_of_the_environment_or_the_default(monkeypatch, text, expected):
    monkeypatch.delenv("SIZE", raising=False)
    if text is not None:
        monkeypatch.setenv("SIZE", text)

    assert sizes([7, 8]) == expected


@pytest.mark.parametrize("text", ["0", "-1", "1e6", "many", "1000,"])
def test_size_that_is_no_positive_integer_is_refused(monkeypatch, text):
    monkeypatch.setenv("SIZE", text)
    with pytest.raises(ValueError, match=rf"^`SIZE` must .*Received: SIZE='{re.escape(text)}'"):
        sizes([7])


def test_several_sizes_are_refused_where_one_is_meant(monkeypatch):
    monkeypatch.setenv("SIZE", "10,20")
    with pytest.raises(ValueError, match=r"one positive integer here\. Received: SIZE='10,20'"):
        one_size(7)
