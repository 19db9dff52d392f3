"""Where the tables are, how they are read, and which days of them."""

import dataclasses
import os

from tfx_pipeline.config.utc_times import is_day
from trainer.contract.config_loader import require

DEFAULT_SEPARATOR = "|"
DATE = "{date}"  # in a path: the day, as 2024-05-03
LATEST_DAY = "latest"
# A batch is made of several rows, and Arrow's texts of one are 2 GB at most.
MOST_ROW_MB = 256


@dataclasses.dataclass(frozen=True)
class TagNormalizationConfig:
    """How the tags of items are normalised.

    Attributes:
      trim: Remove blanks at both ends.
      lowercase: Turn into lower case.
      nfc: Put letters and their accents together (Unicode's form NFC), so that `café` is one tag
        however it was typed.
    """

    trim: bool = True
    lowercase: bool = True
    nfc: bool = True


@dataclasses.dataclass(frozen=True)
class WindowConfig:
    """The days that are read of a log partitioned by date (docs/daily.md).

    Attributes:
      days: How many days, the last one included.
      day: The last day, `2024-05-03`, or `latest`: the newest that is complete. `tagtower run
        --day` stands above it.
      marker: Name of a file, such as `_SUCCESS`, that makes the folder of a day complete; null: any
        file with rows does.
      max_missing_days: Days that may be missing or incomplete between the first and the last; more
        fail the run. Before the log's first day none is missing.
    """

    days: int
    day: str = LATEST_DAY
    marker: str | None = None
    max_missing_days: int = 0

    def __post_init__(self):
        require(self.days >= 1, "days", "be a positive integer", self.days)
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
        require(
            self.max_missing_days >= 0,
            "max_missing_days",
            "be 0 or positive",
            self.max_missing_days,
        )


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """The three tables, and what is done with bad rows.

    Attributes:
      interactions: File, folder or glob of the interactions; relative to the working directory.
        With a `window`, `{date}` in it stands for a day: `log/interactions/date={date}`.
      items: The same of the items. With a `window`, a `{date}` in it is the newest there is that is
        not after the window's last day.
      users: The same of the users.
      max_rejected_fraction: Share of a table's rows that may be set aside; more fails the run. Rows
        of items without tags do not count.
      max_users_without_profile: Share of the users with events who may have no row in `users`; more
        fails the run. null: any, as the table may be of some users only; but those who have a row
        under an id of another form (`123.0` and `123`) may be `max_rejected_fraction` of them. 1:
        any, and these too.
      list_separator: What stands between the tags of an item where they are one text, as in CSV:
        any text, or `json` for `["a", "b"]`, or `python` for `['a', 'b']`. null: it is not
        declared; then it is `|`, and tags most of which look like other lists are refused.
      tag_normalization: How tags are normalised.
      planted: File of planted interests (`tagtower prepare demo` writes it); null: none are known.
      tag_vectors: File, folder or glob of a table with the columns `tag` and `vector` (a list of
        numbers, of one length), for the view `vectors` of `model.tag_views`; a tag without a row
        has zeros; null: none.
      window: Which days are read; null: all there is.
      max_row_mb: Largest row of a table, or value in it, unpacked, in MB (2^20 bytes). A longer one
        fails the run with its place, before it is in memory.
      max_unpacked_ratio: Bytes that a compressed CSV or JSON lines file may unpack to for each of
        its own, from 256 MB on; more fails the run. Logs unpack to some 10 times their size, a
        file made to fill memory or time to 1,000 times and more.
    """

    interactions: str
    items: str
    users: str
    max_rejected_fraction: float = 0.01
    max_users_without_profile: float | None = None
    list_separator: str | None = None
    tag_normalization: TagNormalizationConfig = dataclasses.field(
        default_factory=TagNormalizationConfig
    )
    planted: str | None = None
    tag_vectors: str | None = None
    window: WindowConfig | None = None
    max_row_mb: int = 4
    max_unpacked_ratio: float = 300.0

    def __post_init__(self):
        for name in ("interactions", "items", "users"):
            require(
                self.window is not None or DATE not in getattr(self, name),
                "window",
                f"say which days are read where `{name}` has {DATE} in it",
                self.window,
            )
        require(
            self.window is None or DATE in self.interactions,
            "interactions",
            f"have {DATE} in it where there is a `window`",
            self.interactions,
        )
        require(
            0 <= self.max_rejected_fraction <= 1,
            "max_rejected_fraction",
            "be between 0 and 1",
            self.max_rejected_fraction,
        )
        share = self.max_users_without_profile
        require(
            share is None or 0 <= share <= 1,
            "max_users_without_profile",
            "be between 0 and 1, or null",
            share,
        )
        require(
            1 <= self.max_row_mb <= MOST_ROW_MB,
            "max_row_mb",
            f"be from 1 to {MOST_ROW_MB}",
            self.max_row_mb,
        )
        require(
            self.max_unpacked_ratio >= 1,
            "max_unpacked_ratio",
            "be 1 or more",
            self.max_unpacked_ratio,
        )
        require(self.list_separator != "", "list_separator", "not be empty", self.list_separator)

    @property
    def list_notation(self) -> str:
        """How a list in a text is written, after the default."""
        return DEFAULT_SEPARATOR if self.list_separator is None else self.list_separator
