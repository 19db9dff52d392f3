"""Options of `tagtower prepare mind`, apart from the reader: the command line starts without it."""

import dataclasses
import typing
from typing import Literal

from trainer.contract.config_loader import require

History = Literal["before_log", "leave_out"]


@dataclasses.dataclass(frozen=True)
class MindOptions:
    """What is made of MIND where it leaves a choice.

    Attributes:
      history: Clicks of the history column, which have an order and no time: `before_log`, placed a
        second apart before the log's first impression, or `leave_out`.
      min_tag_items: An entity is a tag when at least that many news have it; category and
        subcategory always are.
    """

    history: History = "before_log"
    min_tag_items: int = 5

    def __post_init__(self):
        choices = typing.get_args(History)
        require(self.history in choices, "history", f"be one of {', '.join(choices)}", self.history)
        require(self.min_tag_items >= 1, "min_tag_items", "be at least 1", self.min_tag_items)
