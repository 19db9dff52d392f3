import argparse

from tfx_pipeline.commands.prepare import add_demo_arguments
from tfx_pipeline.config.option_help import option_help


class Documented:
    """A class with options.

    Attributes:
      first: a text of
        two lines: with a colon, and 50 % of something.
      second: another one.

    Raises:
      ValueError: nobody does.
    """


class Undocumented:
    """A class without options."""


def test_texts_come_in_one_line_each_and_end_with_their_section():
    assert option_help(Documented) == {
        "first": "a text of two lines: with a colon, and 50 % of something.",
        "second": "another one.",
    }


def test_class_without_attributes_has_no_text():
    assert option_help(Undocumented) == {}


def test_help_of_prepare_demo_shows_texts_and_defaults():
    parser = argparse.ArgumentParser(prog="x")
    add_demo_arguments(parser)

    words = " ".join(parser.format_help().split())

    assert "--num_users NUM_USERS users, cold ones included. (default: 4000)" in words
