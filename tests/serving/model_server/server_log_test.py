"""The log's times and escapes, and its bounds under a flood."""

import io
import logging
import re

import pytest

from serving.model_server.server_log import WINDOW_S, one_line, server_log

_logger = logging.getLogger("tagtower.model_server")


@pytest.fixture
def lines():
    """Returns the lines so far, without the times; `clock` is moved by hand."""
    stream = io.StringIO()

    class Lines:
        now = 0.0

        def __call__(self):
            return [re.sub(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ ", "", line) for line in self.raw()]

        def raw(self):
            return stream.getvalue().splitlines()

    lines = Lines()
    with server_log(stream, lambda: lines.now):
        yield lines


def test_line_has_the_time_in_utc(lines):
    _logger.info("Loading %s ...", "x")
    (line,) = lines.raw()
    assert re.fullmatch(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ Loading x \.\.\.", line)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a\n2026-11-30T00:00:00Z all is well", "a\\n2026-11-30T00:00:00Z all is well"),
        ("\x1b[2J\x1b]0;owned\x07", "\\x1b[2J\\x1b]0;owned\\x07"),
        ("a\rb\tc\x00\x7f\x9b", "a\\rb\\tc\\x00\\x7f\\x9b"),
        ("user\u202egnp.exe \u2028", "user\\u202egnp.exe \\u2028"),
        ("grüße 標籤 😀", "grüße 標籤 😀"),
        ("x" * 5000, "x" * 4000 + "...TRUNCATED"),
    ],
)
def test_what_callers_send_stays_text_of_one_line(lines, text, expected):
    _logger.error("%s", text)
    assert lines() == [expected]
    assert one_line(text) == expected


def test_lone_surrogate_is_escaped():
    # Not by way of the log: pytest's worker ends where it is to send one that it captured.
    assert one_line("\udcff") == "\\udcff"


def test_traceback_is_indented_and_forges_no_line(lines):
    try:
        raise ValueError("bad\n2026-11-30T00:00:00Z Loaded version 1")
    except ValueError:
        _logger.exception("Answering %s failed.", "/v1\n")
    assert lines()[0] == "Answering /v1\\n failed."
    assert lines()[1] == "  Traceback (most recent call last):"
    assert all(line.startswith("  ") for line in lines.raw()[1:])


def test_same_line_comes_once_in_a_while_then_with_a_count(lines):
    for _ in range(10_000):
        _logger.error("No connection: %s.", "Too many open files")
    assert lines() == ["No connection: Too many open files."]
    lines.now = WINDOW_S
    _logger.error("No connection: %s.", "Too many open files")
    assert lines()[1:] == [
        "... 9999 more lines like: No connection: Too many open files.",
        "No connection: Too many open files.",
    ]


def test_lines_that_differ_by_what_callers_send_are_bounded(lines):
    for number in range(1000):
        _logger.warning("SSL Error on %s", number)
    assert len(lines()) == 20
    lines.now = WINDOW_S
    _logger.warning("another")
    assert lines()[20:] == ["... 980 more lines like: SSL Error on 0", "another"]


@pytest.mark.parametrize("name", ["asyncio", "tagtower.model_server"])
def test_lines_with_the_values_in_them_are_bounded_by_their_place(lines, name):
    """asyncio logs such lines: `Task exception was never retrieved ... at 0x7f...`."""
    for number in range(20_000):
        logging.getLogger(name).error(f"Task exception was never retrieved at {number:#x}")  # noqa: G004
    assert len(lines()) == 20
    logging.getLogger(name).error("another place")
    assert lines()[20:] == ["another place"]


def test_kinds_are_bounded(lines):
    for number in range(5_000):
        _logger.error(f"kind {number} of %s", "line")  # noqa: G004
    assert len(lines()) == 220
    lines.now = WINDOW_S
    _logger.error("after")
    assert lines()[220:] == ["... 4780 more lines like: kind 200 of line", "after"]


def test_windows_end_in_the_order_in_which_they_began(lines):
    for number in range(4):
        lines.now = number * WINDOW_S / 2
        for _ in range(2):
            _logger.error("kind %d", number)
    ends = ["... 1 more lines like: kind 0", "... 1 more lines like: kind 1"]
    assert lines() == ["kind 0", "kind 1", ends[0], "kind 2", ends[1], "kind 3"]


def test_end_says_what_was_counted():
    stream = io.StringIO()
    with server_log(stream, lambda: 0.0):
        for _ in range(3):
            _logger.warning("again")
    assert [line.partition(" ")[2] for line in stream.getvalue().splitlines()] == [
        "again",
        "... 2 more lines like: again",
    ]


@pytest.mark.parametrize("name", ["tornado.general", "asyncio", "grpc._server"])
def test_libraries_write_in_the_same_form(lines, name):
    logging.getLogger(name).error("uncaught\n%s", "\x1b")
    assert lines() == ["uncaught\\n\\x1b"]


def test_steps_that_are_no_problem_are_all_written(lines):
    for _ in range(30):
        _logger.info("Loading version 1")
    assert len(lines()) == 30
