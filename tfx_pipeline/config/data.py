"""Where the tables are, how they are read, and which days of them are read."""

import dataclasses
import os
from typing import Annotated

from tfx_pipeline.config.utc_times import is_day
from trainer.contract import config_bounds as bounds
from trainer.contract.config_loader import require
from trainer.contract.tag_normalization import TagNormalization

DEFAULT_SEPARATOR = "|"
DATE = "{date}"  # in a path: the day, as 2024-05-03
LATEST_DAY = "latest"
# A batch has several rows, and the texts of one Arrow array are 2 GB at most.
MOST_ROW_MB = 256
_RowSize = Annotated[
    int, bounds.Bound(f"be from 1 to {MOST_ROW_MB}", lambda mb: 1 <= mb <= MOST_ROW_MB)
]
_Ratio = Annotated[float, bounds.Bound("be 1 or more", lambda ratio: ratio >= 1)]


@bounds.checked
@dataclasses.dataclass(frozen=True)
class WindowConfig:
    """The days of a log partitioned by date that are read (docs/daily.md).

    Attributes:
      days: Number of days, the last one included.
      day: The last day, e.g. `2024-05-03`, or `latest`: the newest complete day. `tagtower run
        --day` overrides it.
      marker: Name of a file, e.g. `_SUCCESS`, that marks the folder of a day as complete; null: any
        file with rows does.
      max_missing_days: Number of days between the first and the last that may be missing or
        incomplete; more fail the run. Days before the log's first day do not count as missing.
    """

    days: bounds.PositiveInteger
    day: str = LATEST_DAY
    marker: str | None = None
    max_missing_days: bounds.NonNegativeInteger = 0

    def __post_init__(self) -> None:
        require(
            self.day == LATEST_DAY or is_day(self.day),
            "day",
            f"be {LATEST_DAY} or a date as 2024-05-03",
            self.day,
        )
        require(
            self.marker is None or (bool(self.marker) and os.sep not in self.marker),
            "marker",
            "be the name of a file, without a folder",
            self.marker,
        )


@bounds.checked
@dataclasses.dataclass(frozen=True)
class DataConfig:
    """The three tables, and the limits for bad rows.

    Attributes:
      interactions: File, folder or glob of the interactions, relative to the working directory.
        With a `window`, `{date}` in it stands for a day: `log/interactions/date={date}`.
      items: File, folder or glob of the items. With a `window`, `{date}` in it stands for the
        newest day with items that is not after the window's last day.
      users: File, folder or glob of the users. With a `window`, `{date}` in it is read as that of
        `items`.
      max_rejected_fraction: Share of a table's rows that may be set aside; more fails the run. Rows
        of items without tags do not count.
      max_users_without_profile: Share of the users with events who may have no row in `users`; more
        fails the run. null: any share, as the table may hold some users only; but at most
        `max_rejected_fraction` of the users with events may have a row under an id of another form
        (`123.0` and `123`). 1: any share, without that limit.
      list_separator: Text between the tags of an item where they are one text, as in CSV: any text,
        or `json` for `["a", "b"]`, or `python` for `['a', 'b']`. null: it is not declared; then it
        is `|`, and the run fails if most tags look like lists of another notation.
      tag_normalization: Normalisation of the tags.
      planted: File of planted interests (`tagtower prepare demo` writes it); null: none are known.
      tag_vectors: File, folder or glob of a table with the columns `tag` and `vector` (a list of
        numbers, all lists of one length), for the view `vectors` of `model.tag_views`; a tag
        without a row gets zeros; null: none.
      window: Days of the log that are read; null: all days.
      max_row_mb: Size of the largest row of a table, or value in it, that is read, unpacked, in MB
        (2^20 bytes). A larger one fails the run with its place, before it is in memory.
      max_unpacked_ratio: Number of bytes that a compressed CSV or JSON lines file may unpack to for
        each byte of the file, checked from 256 MB on; more fails the run. Logs unpack to some 10
        times their size, a file made to fill memory or time to 1,000 times and more.
    """

    interactions: str
    items: str
    users: str
    max_rejected_fraction: bounds.Share = 0.01
    max_users_without_profile: bounds.ShareOrNull = None
    list_separator: bounds.NotEmpty | None = None
    tag_normalization: TagNormalization = dataclasses.field(default_factory=TagNormalization)
    planted: str | None = None
    tag_vectors: str | None = None
    window: WindowConfig | None = None
    max_row_mb: _RowSize = 4
    max_unpacked_ratio: _Ratio = 300.0

    def __post_init__(self) -> None:
        for name in ("interactions", "items", "users"):
            require(
                self.window is not None or DATE not in getattr(self, name),
                "window",
                f"be given where `{name}` has {DATE} in it: it says which days are read",
                self.window,
            )
        require(
            self.window is None or DATE in self.interactions,
            "interactions",
            f"have {DATE} in it where there is a `window`",
            self.interactions,
        )

    @property
    def list_notation(self) -> str:
        """Notation of a list in a text: the declared separator, or else the default."""
        return DEFAULT_SEPARATOR if self.list_separator is None else self.list_separator
