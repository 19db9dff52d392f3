"""The summary that a `tagtower prepare` command prints at its end."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping
from typing import Any


@dataclasses.dataclass(frozen=True)
class PreparedSummary:
    """Counts of the tables that were written.

    Attributes:
      output: Folder of the tables.
      num_interactions: Number of rows of `interactions`.
      num_clicks: Number of these rows with `clicked` 1.
      num_users: Number of rows of `users`.
      num_items: Number of rows of `items`.
      num_tags: Number of distinct tags over all items.
      tags_per_item: Mean number of tags of an item.
      rejected: Number of source lines in `rejected.jsonl`, by reason.
      notes: Further lines for people.
    """

    output: str
    num_interactions: int
    num_clicks: int
    num_users: int
    num_items: int
    num_tags: int
    tags_per_item: float
    rejected: Mapping[str, int] = dataclasses.field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @classmethod
    def of_items(
        cls, output: str, tags_of_items: Collection[Collection[str]], **rest: Any
    ) -> PreparedSummary:
        """Counts items and tags.

        Args:
          output: folder of the tables.
          tags_of_items: the tags of each item.
          **rest: the other attributes.
        """
        num_pairs = sum(map(len, tags_of_items))
        return cls(
            output=output,
            num_items=len(tags_of_items),
            num_tags=len({tag for own in tags_of_items for tag in own}),
            tags_per_item=num_pairs / len(tags_of_items) if tags_of_items else 0.0,
            **rest,
        )

    def lines(self) -> list[str]:
        """Returns the summary for a terminal, one fact per line."""
        num_rejected = sum(self.rejected.values())
        reasons = ", ".join(f"{reason} {n:,}" for reason, n in sorted(self.rejected.items()))
        return [
            f"interactions {self.num_interactions:,} ({self.num_clicks:,} clicks)",
            f"users        {self.num_users:,}",
            f"items        {self.num_items:,}, {self.tags_per_item:.1f} tags each",
            f"tags         {self.num_tags:,}",
            f"rejected     {num_rejected:,}" + (f": {reasons}" if reasons else ""),
            *self.notes,
            f"written to   {self.output}",
        ]
