"""Collects interactions one at a time and writes them many at a time."""

from __future__ import annotations

from typing import Any, Protocol

from tfx_pipeline.datasets.interactions_schema import INTERACTIONS_SCHEMA
from trainer.contract.arrow import pa

_ROWS_PER_GROUP = 200_000


class InteractionWriter(Protocol):
    """A `TableWriter`, or the `PartFiles` of one part."""

    def write_interactions(self, rows: pa.Table) -> None:
        """Appends rows with the columns `INTERACTIONS_SCHEMA`."""


class InteractionBuffer:
    """Rows of `interactions` between a reader and the files.

    Attributes:
      num_clicks: Number of clicks added so far.
    """

    def __init__(self, writer: InteractionWriter):
        """Initializes without any row.

        Args:
          writer: Open writer of the tables or of one part.
        """
        self.num_clicks = 0
        self._writer = writer
        self._columns: tuple[list[Any], ...] = ([], [], [], [])

    def add(self, user_id: str, item_id: str, timestamp: int, clicked: int) -> None:
        """Adds one row: `timestamp` in seconds, UTC; `clicked` 0 or 1."""
        users, items, timestamps, clicks = self._columns
        users.append(user_id)
        items.append(item_id)
        timestamps.append(timestamp)
        clicks.append(clicked)
        self.num_clicks += clicked
        if len(users) == _ROWS_PER_GROUP:
            self.flush()

    def flush(self) -> None:
        """Writes the collected rows; to be called after the last row."""
        arrays = [
            pa.array(column, field.type)
            for column, field in zip(self._columns, INTERACTIONS_SCHEMA, strict=True)
        ]
        self._writer.write_interactions(pa.Table.from_arrays(arrays, schema=INTERACTIONS_SCHEMA))
        for column in self._columns:
            column.clear()
