"""Where TFX's stock resolver finds an unsuitable model, another one is found."""

import json

import pytest

from tfx_pipeline.versions.ancestry import (
    ANCESTRY_FILE,
    model_of_other_examples,
    other_model,
    write_ancestry,
)


@pytest.fixture
def folder(tmp_path):
    return tmp_path


def model(folder, name, examples, base_model=None) -> str:
    uri = folder / name
    write_ancestry(str(uri), examples, base_model)
    return str(uri)


def version(folder, number, towers, is_withdrawn=False) -> None:
    base = folder / "serving" / ("withdrawn" if is_withdrawn else "") / str(number)
    (base / "assets.extra").mkdir(parents=True)
    (base / "assets.extra" / "version.json").write_text(json.dumps({"towers": towers}))


def test_model_of_other_examples_is_begun_with(folder):
    monday = model(folder, "monday", "examples-1")

    assert model_of_other_examples(monday, "examples-2", "") == monday


def test_repeated_run_begins_where_the_first_one_began(folder):
    monday = model(folder, "monday", "examples-1")
    tuesday = model(folder, "tuesday", "examples-2", base_model=monday)
    again = model(folder, "again", "examples-2", base_model=monday)

    assert model_of_other_examples(tuesday, "examples-2", "") == monday
    assert model_of_other_examples(again, "examples-2", "") == monday
    # The first day has no model to start from.
    assert model_of_other_examples(monday, "examples-1", "") is None


def test_model_that_was_rolled_back_is_nobodys_beginning(folder):
    monday = model(folder, "monday", "examples-1")
    tuesday = model(folder, "tuesday", "examples-2", base_model=monday)
    version(folder, 1, monday)
    version(folder, 2, tuesday, is_withdrawn=True)
    base_path = str(folder / "serving")

    assert model_of_other_examples(tuesday, "examples-3", base_path) == monday
    assert model_of_other_examples(tuesday, "examples-3", "") == tuesday


def test_model_without_a_note_is_taken_as_it_is_and_a_lost_one_is_not(folder):
    older = folder / "older"
    older.mkdir()
    newer = model(folder, "newer", "examples-2", base_model=str(folder / "lost"))

    assert model_of_other_examples(str(older), "examples-2", "") == str(older)
    assert model_of_other_examples(newer, "examples-2", "") is None
    assert json.loads((folder / "newer" / ANCESTRY_FILE).read_text()) == {
        "examples": "examples-2",
        "base_model": str(folder / "lost"),
    }


def test_resolved_model_is_compared_with_where_it_is_another_one(folder):
    current, last = model(folder, "current", "e"), model(folder, "last", "e")

    assert other_model(last, current, str(folder / "serving")) == last


def test_model_is_not_compared_with_itself_but_with_the_last_one_pushed(folder):
    current = model(folder, "current", "e")
    names = ("first", "second", "undone")
    first, second, undone = (model(folder, name, "e") for name in names)
    assert other_model(current, current, str(folder / "serving")) is None
    version(folder, 1, first)
    version(folder, 2, second)
    version(folder, 3, undone, is_withdrawn=True)
    version(folder, 4, current)

    assert other_model(current, current, str(folder / "serving")) == second
    assert other_model(undone, current, str(folder / "serving")) == second


def test_towers_that_are_gone_are_no_comparison(folder):
    current = model(folder, "current", "e")
    version(folder, 1, str(folder / "gone"))

    assert other_model(current, current, str(folder / "serving")) is None
