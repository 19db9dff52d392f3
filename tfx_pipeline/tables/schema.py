"""Schemas of the three tables: their columns, and the reasons for which a row is rejected.

`interactions` states which user was shown which item and when, and whether they clicked; `items`
states which tags an item has; `users` holds any number of profile columns, of which the
configuration declares those that a model reads (`users_table`). An undeclared column is ignored: it
is not read, not converted, and rejects nothing.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

from tfx_pipeline.tables.read_limits import ReadLimits
from trainer.contract.features import ProfileFeature

# Kinds of values in a column, see `tfx_pipeline.tables.cells`.
ID = "id"
TEXT = "text"
NUMBER = "number"
TIMESTAMP = "timestamp"
LIST = "list"


@dataclasses.dataclass(frozen=True)
class Column:
    """One column of an input table.

    Attributes:
      name: Name of the column in the files.
      kind: `ID`, `TEXT`, `NUMBER`, `TIMESTAMP` or `LIST`.
      is_required: Whether the table must have the column.
      description: Description in one line for messages and documents, with the unit.
      is_nullable: Whether a cell may be empty; then one of several files may lack the column.
      separator: Separator between the values of a text in a `LIST` column of `users`, or a notation
        of `list_notation`; None: none is declared.
    """

    name: str
    kind: str
    is_required: bool
    description: str
    is_nullable: bool = False
    separator: str | None = None


@dataclasses.dataclass(frozen=True)
class TableSchema:
    """The columns of one input table.

    Attributes:
      name: Name of the table: `interactions`, `items` or `users`.
      columns: Columns that are read.
      limits: Limits on the memory that its files may use.
    """

    name: str
    columns: tuple[Column, ...]
    limits: ReadLimits = ReadLimits()

    @property
    def required_columns(self) -> tuple[str, ...]:
        """Names of the columns that the table must have."""
        return tuple(column.name for column in self.columns if column.is_required)

    def kind_of(self, name: str) -> str | None:
        """Returns the kind of the column `name`; None for a column that is ignored."""
        for column in self.columns:
            if column.name == name:
                return column.kind
        return None


INTERACTIONS = TableSchema(
    "interactions",
    (
        Column("user_id", ID, True, "user who was shown the item"),
        Column("item_id", ID, True, "item that was shown; a row of `items`"),
        Column("timestamp", TIMESTAMP, True, "time when it was shown, UTC"),
        Column("clicked", NUMBER, True, "1 clicked, 0 shown and skipped"),
        Column(
            "weight",
            NUMBER,
            False,
            "weight in the click loss and in domains by recency, 1 if absent",
            True,
        ),
    ),
)
ITEMS = TableSchema(
    "items",
    (
        Column("item_id", ID, True, "unique in the table"),
        Column("tags", LIST, True, "list of tags, or one string that holds one", True),
        Column("category", TEXT, False, "one category; empty or no column: unknown", True),
        Column("title", TEXT, False, "for people to read", True),
    ),
)
USERS = TableSchema("users", (Column("user_id", ID, True, "unique in the table"),))
TABLES: dict[str, TableSchema] = {table.name: table for table in (INTERACTIONS, ITEMS, USERS)}


def users_table(profile: Iterable[str | ProfileFeature]) -> TableSchema:
    """Returns the schema of `users` with the profile features; a feature given by name is text."""
    features = (ProfileFeature(each) if isinstance(each, str) else each for each in profile)
    kinds = {"text": TEXT, "number": NUMBER, "list": LIST}
    columns = (
        Column(
            feature.name,
            kinds[feature.type],
            True,
            "profile feature",
            True,
            feature.effective_separator if feature.is_list else None,
        )
        for feature in features
    )
    return dataclasses.replace(USERS, columns=(*USERS.columns, *columns))


# Reasons, in the order in which a row is checked: the first that applies is the row's reason.
MALFORMED_ROW = "malformed_row"
MISSING_USER_ID = "missing_user_id"
MISSING_ITEM_ID = "missing_item_id"
UNPARSABLE_TIMESTAMP = "unparsable_timestamp"
TIMESTAMP_IN_FUTURE = "timestamp_in_future"
TIMESTAMP_NOT_POSITIVE = "timestamp_not_positive"
CLICKED_NOT_0_OR_1 = "clicked_not_0_or_1"
WRONG_TYPE = "wrong_type"
MALFORMED_LIST = "malformed_list"
NO_TAGS = "no_tags"
UNTAGGED_ITEM = "untagged_item"
UNKNOWN_ITEM = "unknown_item"
DUPLICATE_ITEM = "duplicate_item"
DUPLICATE_USER = "duplicate_user"

REJECT_REASONS: tuple[str, ...] = (
    MALFORMED_ROW,
    MISSING_USER_ID,
    MISSING_ITEM_ID,
    UNPARSABLE_TIMESTAMP,
    TIMESTAMP_IN_FUTURE,
    TIMESTAMP_NOT_POSITIVE,
    CLICKED_NOT_0_OR_1,
    WRONG_TYPE,
    MALFORMED_LIST,
    NO_TAGS,
    UNTAGGED_ITEM,
    UNKNOWN_ITEM,
    DUPLICATE_ITEM,
    DUPLICATE_USER,
)

# Catalogues have items without tags, which is no mistake, but teaches nothing about tags. Such rows
# are rejected, and `data.max_rejected_fraction` does not limit them.
ORDINARY_REASONS: tuple[str, ...] = (NO_TAGS, UNTAGGED_ITEM)
