"""The days of a log that is partitioned by date: the existing ones, and those that a run reads.

`{date}` in a path stands for a day, as a folder (`log/date={date}/*.parquet`) or in the name of a
file (`log/{date}.jsonl.gz`). All names of partitions are listed, but only files of the window's
days are examined. The module is light: it imports neither Beam nor TFX.
"""

import dataclasses
import datetime
import os
import re

from tfx_pipeline.config.data import DATE, LATEST_DAY, DataConfig, WindowConfig
from tfx_pipeline.config.examples import ExamplesConfig
from tfx_pipeline.config.utc_times import is_day, utc_seconds
from tfx_pipeline.tables.table_files import list_files
from trainer.contract.config_loader import require
from trainer.contract.file_system import is_file, is_folder, matching, names_in

SECONDS_PER_DAY = 86_400
_DATE_PATTERN = r"\d{4}-\d{2}-\d{2}"
_NUM_NAMED = 5


@dataclasses.dataclass(frozen=True)
class Window:
    """The days of the log that a run reads.

    Attributes:
      days: Days that are read, e.g. `2024-05-03`, first to last.
      missing: Days between the first and the last that are missing or incomplete.
    """

    days: tuple[str, ...]
    missing: tuple[str, ...] = ()

    @property
    def day(self) -> str:
        """The last day of the window."""
        return self.days[-1]

    @property
    def end(self) -> int:
        """The first second after the last day, UTC."""
        return utc_seconds(self.day) + SECONDS_PER_DAY

    @property
    def span(self) -> int:
        """The last day as TFX numbers the spans of dates: days since 1970-01-01."""
        return utc_seconds(self.day) // SECONDS_PER_DAY

    def facts(self) -> dict[str, str | int]:
        """Returns the window's facts for the report."""
        return {
            "window.first_day": self.days[0],
            "window.day": self.day,
            "window.num_days": len(self.days),
            "window.num_missing_days": len(self.missing),
        }


def find_window(data: DataConfig) -> Window | None:
    """Finds the days of the configured window.

    Args:
      data: Paths of the tables, and the configuration of the window.

    Returns:
      The window; None where none is configured.

    Raises:
      ValueError: The last day is not complete, or more days are missing than the limit allows.
    """
    if data.window is None:
        return None
    pattern = data.interactions
    days = _partition_days(pattern)
    last = _last_day(pattern, days, data.window)
    # Days before the log's first day do not count as missing.
    first = max(shift_day(last, 1 - data.window.days), days[0])
    wanted = [shift_day(first, n) for n in range(days_between(first, last) + 1)]
    found = [day for day in wanted if _is_complete(pattern, day, data.window)]
    missing = [day for day in wanted if day not in found]
    limit = data.window.max_missing_days
    if len(missing) > limit:
        named = ", ".join(missing[:_NUM_NAMED]) + (", ..." if len(missing) > _NUM_NAMED else "")
        raise ValueError(
            f"`data.window.max_missing_days` must not be exceeded: {len(missing)} of the "
            f"{len(wanted)} days from {first} to {last} are missing or incomplete at {pattern}, "
            f"at most {limit} may be ({named}). Write them, or raise the number."
        )
    return Window(tuple(found), tuple(missing))


def with_day(data: DataConfig, day: str) -> DataConfig:
    """Returns the configuration with another last day of the window.

    Args:
      data: Paths of the tables, and the configuration of the window.
      day: Date, or `latest`.

    Returns:
      The same configuration with that day.

    Raises:
      ValueError: There is no window, or `day` is not a date.
    """
    if data.window is None:
        raise ValueError(
            "`data.window` must be given where a day is asked for: it says how many days are "
            f"read. Received: day={day!r} and no window."
        )
    return dataclasses.replace(data, window=dataclasses.replace(data.window, day=day))


def table_patterns(data: DataConfig, window: Window | None) -> dict[str, list[str]]:
    """Returns the patterns of each table's files: for interactions, one for each day of the window.

    Args:
      data: Paths of the tables.
      window: Result of `find_window`.

    Returns:
      Files, folders or globs without `{date}`, by name of the table. For items and users, `{date}`
      is the newest day that is not after the window.

    Raises:
      ValueError: Items or users have no day up to the window's last day.
    """
    patterns = {name: [getattr(data, name)] for name in ("interactions", "items", "users")}
    if window is None:
        return patterns
    patterns["interactions"] = [_on_day(data.interactions, day) for day in window.days]
    for name in ("items", "users"):
        pattern = getattr(data, name)
        if DATE in pattern:
            days = [day for day in _partition_days(pattern) if day <= window.day]
            require(bool(days), f"data.{name}", f"have a day not later than {window.day}", pattern)
            patterns[name] = [_on_day(pattern, days[-1])]
    return patterns


def with_cut_days(config: ExamplesConfig, window: Window | None) -> ExamplesConfig:
    """Returns the examples' configuration with start times in place of numbers of days.

    Args:
      config: Configuration of how tables become examples.
      window: Result of `find_window`.

    Returns:
      The configuration with `validation_start` and `test_start` if it has numbers of days for both.
    """
    if window is None or config.validation_days is None or config.test_days is None:
        return config
    test_start = shift_day(window.day, 1 - config.test_days)
    return dataclasses.replace(
        config,
        validation_days=None,
        test_days=None,
        validation_start=shift_day(test_start, -config.validation_days),
        test_start=test_start,
    )


def shift_day(day: str, days: int) -> str:
    """Returns the date that is some days later, or earlier if negative."""
    return (datetime.date.fromisoformat(day) + datetime.timedelta(days=days)).isoformat()


def days_between(first: str, last: str) -> int:
    """Returns the number of days from `first` to `last`."""
    return (datetime.date.fromisoformat(last) - datetime.date.fromisoformat(first)).days


def _last_day(pattern: str, days: list[str], window: WindowConfig) -> str:
    is_marked = window.marker is not None
    marked = (
        f"; a day is complete when it has `data.window.marker`, {window.marker}"
        if is_marked
        else ""
    )
    if window.day != LATEST_DAY:
        require(
            _is_complete(pattern, window.day, window),
            "data.window.day",
            f"be a complete day of {pattern} (newest: {days[-1] if days else 'none'}{marked})",
            window.day,
        )
        return window.day
    for day in reversed(days):
        if _is_complete(pattern, day, window):
            return day
    raise ValueError(
        f"`data.interactions` must have a complete day. Received: {pattern} with "
        f"{len(days)} days, none of them complete{marked}."
    )


def _on_day(pattern: str, day: str) -> str:
    return pattern.replace(DATE, day)


def _partition_pattern(pattern: str) -> str:
    """Returns the part of a path up to the end of the first name with the date in it."""
    before, _, after = pattern.partition(DATE)
    return before + DATE + after.partition(os.sep)[0]


def _partition_days(pattern: str) -> list[str]:
    """Returns the days that have a folder or file, in order; folders are not opened."""
    folder, name = os.path.split(_partition_pattern(pattern))
    # Other wildcards of the name may stand for any text, and the whole name may be literal.
    dated = re.escape(name).replace(re.escape(DATE), f"({_DATE_PATTERN})", 1)
    dated = dated.replace(re.escape(DATE), r"\1")
    forms = (re.compile(dated), re.compile(dated.replace(r"\*", ".*").replace(r"\?", ".")))
    # The folder alone is globbed: in the name `log [x] {date}.csv` the brackets would be a pattern.
    parents = matching(folder) if folder else [os.curdir]
    found = set()
    for parent in filter(is_folder, parents):
        for entry in names_in(parent):
            match = next(filter(None, (form.fullmatch(entry) for form in forms)), None)
            if match is not None and is_day(match[1]):
                found.add(match[1])
    return sorted(found)


def _is_complete(pattern: str, day: str, window: WindowConfig) -> bool:
    partitions = matching(_on_day(_partition_pattern(pattern), day))
    if window.marker is not None and not all(
        is_file(os.path.join(partition, window.marker)) for partition in partitions
    ):
        return False
    try:
        return bool(partitions) and bool(list_files(_on_day(pattern, day)))
    except ValueError:  # a folder without a file
        return False
