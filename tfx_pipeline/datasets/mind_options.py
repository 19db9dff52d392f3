"""Options of `tagtower prepare mind`, without the reader, which the command line loads later."""

import dataclasses
import typing
from typing import Literal

from trainer.contract.config_loader import require

History = Literal["before_log", "leave_out"]


@dataclasses.dataclass(frozen=True)
class MindOptions:
    """Options for the choices that MIND leaves open.

    Attributes:
      history: clicks of the history column, which have an order and no time: `before_log`, placed
        one second apart before the log's first impression, or `leave_out`.
      min_tag_items: smallest number of news with an entity for it to be a tag; category and
        subcategory always are.
    """

    history: History = "before_log"
    min_tag_items: int = 5

    def __post_init__(self) -> None:
        choices = typing.get_args(History)
        require(self.history in choices, "history", f"be one of {', '.join(choices)}", self.history)
        require(self.min_tag_items >= 1, "min_tag_items", "be at least 1", self.min_tag_items)
