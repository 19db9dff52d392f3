"""The three tables as data: their columns, and the reasons for which a row is rejected.

`interactions` says who was shown what and when, and whether they clicked; `items` says which tags
an item carries; `users` holds any number of profile columns. Which of the columns a model reads is
declared in the configuration, not here.
"""

from __future__ import annotations

import dataclasses

# What a column may hold, see `tfx_pipeline.tables.cells`.
ID = "id"
TEXT = "text"
NUMBER = "number"
TIMESTAMP = "timestamp"
LIST = "list"


@dataclasses.dataclass(frozen=True)
class Column:
    """One column of an input table.

    Attributes:
      name: the column's name in the files.
      kind: `ID`, `TEXT`, `NUMBER`, `TIMESTAMP` or `LIST`.
      is_required: whether every file of the table must have the column.
      description: one line for messages and documents, with the unit.
    """

    name: str
    kind: str
    is_required: bool
    description: str


@dataclasses.dataclass(frozen=True)
class TableSchema:
    """The columns of one input table.

    Attributes:
      name: `interactions`, `items` or `users`.
      columns: the columns with a meaning of their own.
      other_columns_kind: the kind of every further column (the users' profile), or None where
        further columns are kept as they are and ignored.
    """

    name: str
    columns: tuple[Column, ...]
    other_columns_kind: str | None = None

    @property
    def required_columns(self) -> tuple[str, ...]:
        """Names of the columns that every file must have."""
        return tuple(column.name for column in self.columns if column.is_required)

    def kind_of(self, name: str) -> str | None:
        """Kind of the column `name`; None for a column that this table ignores."""
        for column in self.columns:
            if column.name == name:
                return column.kind
        return self.other_columns_kind


INTERACTIONS = TableSchema(
    "interactions",
    (
        Column("user_id", ID, True, "who was shown the item"),
        Column("item_id", ID, True, "what was shown; a row of `items`"),
        Column("timestamp", TIMESTAMP, True, "when it was shown, seconds since 1970, UTC"),
        Column("clicked", NUMBER, True, "1 clicked, 0 shown and skipped"),
        Column("weight", NUMBER, False, "how much the interaction counts, 1 when absent"),
    ),
)
ITEMS = TableSchema(
    "items",
    (
        Column("item_id", ID, True, "unique in the table"),
        Column("tags", LIST, True, "list of tags, or one string that holds one"),
        Column("category", TEXT, True, "one category; empty: unknown"),
        Column("title", TEXT, False, "for people to read"),
    ),
)
USERS = TableSchema(
    "users",
    (Column("user_id", ID, True, "unique in the table"),),
    other_columns_kind=TEXT,
)
TABLES: dict[str, TableSchema] = {table.name: table for table in (INTERACTIONS, ITEMS, USERS)}

# Reasons, in the order in which a row is judged: the first that fits is the row's reason.
MALFORMED_ROW = "malformed_row"
MISSING_USER_ID = "missing_user_id"
MISSING_ITEM_ID = "missing_item_id"
UNPARSABLE_TIMESTAMP = "unparsable_timestamp"
TIMESTAMP_IN_MILLISECONDS = "timestamp_in_milliseconds"
TIMESTAMP_IN_FUTURE = "timestamp_in_future"
TIMESTAMP_NOT_POSITIVE = "timestamp_not_positive"
CLICKED_NOT_0_OR_1 = "clicked_not_0_or_1"
WRONG_TYPE = "wrong_type"
MALFORMED_LIST = "malformed_list"
NO_TAGS = "no_tags"
UNKNOWN_ITEM = "unknown_item"
DUPLICATE_ITEM = "duplicate_item"
DUPLICATE_USER = "duplicate_user"

REJECT_REASONS: tuple[str, ...] = (
    MALFORMED_ROW,
    MISSING_USER_ID,
    MISSING_ITEM_ID,
    UNPARSABLE_TIMESTAMP,
    TIMESTAMP_IN_MILLISECONDS,
    TIMESTAMP_IN_FUTURE,
    TIMESTAMP_NOT_POSITIVE,
    CLICKED_NOT_0_OR_1,
    WRONG_TYPE,
    MALFORMED_LIST,
    NO_TAGS,
    UNKNOWN_ITEM,
    DUPLICATE_ITEM,
    DUPLICATE_USER,
)
