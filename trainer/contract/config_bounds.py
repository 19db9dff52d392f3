"""Bounds of configuration keys, written into their types: `embedding_dim: PositiveInteger = 32`.

pydantic checks them where a dataclass is read from a file and, with `checked`, where a program
makes one. What several keys must fulfil together is checked in `__post_init__`.
"""

import dataclasses
import functools
import inspect
from collections.abc import Callable
from typing import Annotated, Any, TypeVar

T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class Bound:
    """A condition on a value, for `typing.Annotated`.

    Attributes:
      demand: The requirement, completing "`key` must ...".
      is_met: Function that returns whether a value fulfils it; it is not asked of null where the
        annotation has `| None` outside.
    """

    demand: str
    is_met: Callable[[Any], bool]

    def __get_pydantic_core_schema__(self, source: Any, handler: Callable[[Any], Any]) -> Any:
        """Returns pydantic's schema of the annotated type with this condition after it."""
        # Here, so that a module with annotations does not import pydantic.
        from pydantic_core import PydanticCustomError, core_schema

        def check(value: Any) -> Any:
            if self.is_met(value):
                return value
            context = {"demand": self.demand, "value": value}
            raise PydanticCustomError("bound", "bound", context)

        return core_schema.no_info_after_validator_function(check, handler(source))


def checked(cls: type[T]) -> type[T]:
    """Makes the constructor of a dataclass check types and bounds as reading a file does.

    Args:
      cls: The dataclass, which is changed.

    Returns:
      The same class.
    """
    signature = inspect.signature(cls)
    unchecked = cls.__init__

    @functools.wraps(unchecked)
    def init(self: Any, *args: Any, **kwargs: Any) -> None:
        if not args and not kwargs:  # the defaults, for which no schema has to be made
            return unchecked(self)
        from trainer.contract.config_validator import initialize

        return initialize(self, signature.bind(*args, **kwargs).arguments)

    cls.__init__ = init  # type: ignore[method-assign]
    return cls


def _from(least: float) -> Callable[[float], bool]:
    return lambda value: value >= least  # false for NaN


# A key that may be null, too, has `| None`; names with `OrNull` say so in the demand.
AtLeastOne = Annotated[int, Bound("be at least 1", _from(1))]
AtLeastTwo = Annotated[int, Bound("be at least 2", _from(2))]
AtLeastZero = Annotated[int, Bound("be at least 0", _from(0))]
NonNegative = Annotated[float, Bound("be 0 or positive", _from(0))]
NonNegativeInteger = Annotated[int, Bound("be 0 or positive", _from(0))]
NonNegativeIntegerOrNull = Annotated[int, Bound("be 0 or positive, or null", _from(0))] | None
NotEmpty = Annotated[str, Bound("not be empty", bool)]
Positive = Annotated[float, Bound("be positive", lambda value: value > 0)]
PositiveInteger = Annotated[int, Bound("be a positive integer", _from(1))]
PositiveIntegerOrNull = Annotated[int, Bound("be a positive integer or null", _from(1))] | None
PositiveOrNull = Annotated[float, Bound("be positive or null", lambda value: value > 0)] | None
Rate = Annotated[float, Bound("be at least 0 and below 1", lambda value: 0 <= value < 1)]
Share = Annotated[float, Bound("be between 0 and 1", lambda value: 0 <= value <= 1)]
ShareAboveZero = Annotated[float, Bound("be above 0 and at most 1", lambda value: 0 < value <= 1)]
ShareBetween = Annotated[float, Bound("be above 0 and below 1", lambda value: 0 < value < 1)]
ShareOrNull = (
    Annotated[float, Bound("be between 0 and 1, or null", lambda value: 0 <= value <= 1)] | None
)
