"""A run reads the newest complete day and those before it, and no file of another day."""

import dataclasses
import json
import uuid
from pathlib import Path

import pytest

from tests.tfx_pipeline.examples.random_users import item_rows, write_jsonl
from tfx_pipeline.config.data import DataConfig, WindowConfig
from tfx_pipeline.config.examples import ExamplesConfig
from tfx_pipeline.tables.daily_window import (
    Window,
    find_window,
    table_patterns,
    with_cut_days,
    with_day,
)
from tfx_pipeline.tables.inputs import find_tables
from trainer.contract.features import Domain, FeatureSpec
from trainer.contract.file_system import make_folders, open_file

SPEC = FeatureSpec(domains=(Domain("clicked"),))
EVENT = {"user_id": "u", "item_id": "i0", "timestamp": 1_000_000_000, "clicked": 1}


def day_of(number: int) -> str:
    return f"2024-02-{number:02d}"


def add_days(folder: Path, numbers, marker: str | None = None) -> None:
    for number in numbers:
        partition = folder / f"date={day_of(number)}"
        write_jsonl(partition / "part-0.jsonl", [EVENT])
        if marker:
            (partition / marker).touch()


@pytest.fixture
def data(tmp_path):
    """Writes a log of 27 February to 2 March (2024 has a 29th) and a window of three days."""
    add_days(tmp_path / "log", [27, 28, 29])
    for name in ("2024-03-01", "2024-03-02"):
        write_jsonl(tmp_path / "log" / f"date={name}" / "part-0.jsonl", [EVENT])
    return DataConfig(
        interactions=str(tmp_path / "log" / "date={date}"),
        items=write_jsonl(tmp_path / "items.jsonl", item_rows()),
        users=write_jsonl(tmp_path / "users.jsonl", [{"user_id": "u"}]),
        window=WindowConfig(days=3),
    )


def test_latest_is_the_newest_day_and_the_window_goes_back_over_months(data):
    window = find_window(data)

    assert window == Window(("2024-02-29", "2024-03-01", "2024-03-02"))
    assert window.day == "2024-03-02"
    assert window.end == 1_709_337_600 + 86_400  # 2024-03-03T00:00:00Z
    assert window.span == 19_784
    assert window.facts() == {
        "window.first_day": "2024-02-29",
        "window.day": "2024-03-02",
        "window.num_days": 3,
        "window.num_missing_days": 0,
    }


def test_day_asked_for_ends_the_window(data):
    assert find_window(with_day(data, "2024-02-29")).days == tuple(map(day_of, (27, 28, 29)))


def test_log_that_has_only_begun_lacks_nothing_before_its_first_day(data):
    assert find_window(with_day(data, day_of(28))) == Window((day_of(27), day_of(28)))


@pytest.mark.parametrize("day", ["2024-03-03", "2024-02-26"])
def test_day_that_is_not_there_is_one_line_with_the_newest(data, day):
    with pytest.raises(ValueError, match=r"`data.window.day` must be a complete day") as error:
        find_window(with_day(data, day))
    assert "newest: 2024-03-02" in str(error.value) and day in str(error.value)
    assert "\n" not in str(error.value)


def test_day_without_a_window_is_refused(data):
    without = DataConfig("i.csv", data.items, data.users)
    assert find_window(without) is None
    with pytest.raises(ValueError, match="`data.window` must be given where a day"):
        with_day(without, "latest")


def test_folder_without_a_file_is_no_complete_day(data, tmp_path):
    folder = tmp_path / "log" / "date=2024-03-03"
    folder.mkdir()
    assert find_window(data).day == "2024-03-02"

    (folder / "_part-0.jsonl").write_text("not yet")
    assert find_window(data).day == "2024-03-02"

    write_jsonl(folder / "part-0.jsonl", [EVENT])
    assert find_window(data).day == "2024-03-03"


def test_day_is_complete_once_its_marker_is_there(data, tmp_path):
    marked = dataclasses.replace(data, window=WindowConfig(days=2, marker="_SUCCESS"))
    with pytest.raises(ValueError, match="`data.interactions` must have a complete day"):
        find_window(marked)

    for name in ("2024-02-29", "2024-03-01"):
        (tmp_path / "log" / f"date={name}" / "_SUCCESS").touch()
    assert find_window(marked) == Window(("2024-02-29", "2024-03-01"))


def test_missing_days_are_named_and_counted_up_to_what_may_be(data, tmp_path):
    add_days(tmp_path / "log", [22, 23])
    wide = dataclasses.replace(data, window=WindowConfig(days=9))

    message = (
        "3 of the 9 days from 2024-02-23 to 2024-03-02 are missing or incomplete at "
        f"{data.interactions}, at most 0 may be (2024-02-24, 2024-02-25, 2024-02-26)"
    )
    with pytest.raises(ValueError) as error:
        find_window(wide)
    assert message in str(error.value)
    assert "\n" not in str(error.value)

    window = find_window(dataclasses.replace(data, window=WindowConfig(9, max_missing_days=3)))
    assert window.missing == tuple(map(day_of, (24, 25, 26)))
    assert window.days[0] == day_of(23) and len(window.days) == 6


def test_only_files_of_the_window_are_opened(data, tmp_path):
    (tmp_path / "log" / f"date={day_of(28)}" / "part-0.parquet").write_bytes(b"no Parquet file")

    found = find_tables(data, SPEC)

    assert [Path(path).parent.name for path in found["interactions"]] == [
        "date=2024-02-29",
        "date=2024-03-01",
        "date=2024-03-02",
    ]
    with pytest.raises(ValueError, match="is not a readable Parquet file"):
        find_tables(with_day(data, "2024-03-01"), SPEC)


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("{date}.jsonl", ["2024-02-28.jsonl", "2024-02-29.jsonl"]),
        ("{date}/*.jsonl", ["2024-02-28/a.jsonl", "2024-02-29/a.jsonl", "2024-02-29/b.jsonl"]),
        (
            "day={date}/events-{date}.jsonl",
            ["day=2024-02-28/events-2024-02-28.jsonl", "day=2024-02-29/events-2024-02-29.jsonl"],
        ),
        ("part-*-{date}.jsonl", ["part-0-2024-02-28.jsonl", "part-1-2024-02-29.jsonl"]),
    ],
)
def test_date_may_stand_anywhere_in_the_path(data, tmp_path, pattern, names):
    folder = tmp_path / "other"
    # These are not days, although they look like days.
    for name in [*names, "2024-02-30.jsonl", "2024-02-30/a.jsonl", "readme.jsonl"]:
        write_jsonl(folder / name, [EVENT])
    data = dataclasses.replace(data, interactions=str(folder / pattern))

    window = find_window(data)

    assert window.days == (day_of(28), day_of(29))
    assert find_tables(data, SPEC)["interactions"] == [str(folder / name) for name in names]


def test_items_and_users_by_day_are_the_newest_not_after_the_window(data, tmp_path):
    for number in (20, 28, 29):
        write_jsonl(tmp_path / f"users-{day_of(number)}.jsonl", [{"user_id": "u"}])
    by_day = dataclasses.replace(data, users=str(tmp_path / "users-{date}.jsonl"))

    def users(day: str) -> list[str]:
        of_day = with_day(by_day, day)
        return table_patterns(of_day, find_window(of_day))["users"]

    assert users("latest") == [str(tmp_path / f"users-{day_of(29)}.jsonl")]
    assert users(day_of(28)) == [str(tmp_path / f"users-{day_of(28)}.jsonl")]
    assert users(day_of(27)) == [str(tmp_path / f"users-{day_of(20)}.jsonl")]
    (tmp_path / f"users-{day_of(20)}.jsonl").unlink()
    with pytest.raises(ValueError, match="`data.users` must have a day not later than 2024-02-27"):
        users(day_of(27))


def test_cut_days_move_with_the_window():
    window = Window(("2024-02-29", "2024-03-01", "2024-03-02"))
    by_days = ExamplesConfig(split="temporal", validation_days=2, test_days=1)

    cut = with_cut_days(by_days, window)

    assert (cut.validation_start, cut.test_start) == ("2024-02-29", "2024-03-02")
    assert (cut.validation_days, cut.test_days) == (None, None)
    fractions = ExamplesConfig(split="temporal")
    assert with_cut_days(fractions, window) == fractions
    assert with_cut_days(fractions, None) == fractions


def test_window_of_a_remote_log_is_the_same(data):
    folder = f"ram://{uuid.uuid4().hex}/log"
    for day in ("2024-02-28", "2024-03-01", "2024-03-02"):
        partition = f"{folder}/date={day}"
        make_folders(partition)
        for name in ("part-0.jsonl", "_SUCCESS"):
            if (day, name) != ("2024-03-02", "_SUCCESS"):
                with open_file(f"{partition}/{name}", "w") as file:
                    file.write(json.dumps(EVENT) + "\n")
    window = WindowConfig(days=3, marker="_SUCCESS", max_missing_days=1)
    remote = dataclasses.replace(data, interactions=f"{folder}/date={{date}}", window=window)

    assert find_window(remote) == Window(("2024-02-28", "2024-03-01"), ("2024-02-29",))
    assert find_tables(remote, SPEC)["interactions"] == [
        f"{folder}/date={day}/part-0.jsonl" for day in ("2024-02-28", "2024-03-01")
    ]
