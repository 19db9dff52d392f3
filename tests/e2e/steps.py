"""Steps in the life of a project that the tests of a module share.

A test asks for the step that it is about. A step takes first those that it follows, is taken once,
and records what it printed and left. So every test passes alone, and all of them in any order.
"""

import functools
from collections.abc import Callable
from typing import Any, TypeVar

Recorded = TypeVar("Recorded")


def step(take: Callable[[Any], Recorded]) -> Callable[[Any], Recorded]:
    """Makes a method a step: the first call takes it, every call returns what it recorded then.

    A step that failed is not taken again: later calls fail as well.

    Args:
      take: Method without arguments, which returns what its callers need to know.

    Returns:
      The method that replaces it.
    """
    attribute = f"_{take.__name__}_recorded"

    @functools.wraps(take)
    def recorded(self: Any) -> Recorded:
        if attribute not in vars(self):
            try:
                setattr(self, attribute, (take(self), None))
            except Exception as error:
                setattr(self, attribute, (None, error))
                raise
        result, error = getattr(self, attribute)
        if error is not None:
            raise RuntimeError(f"the step `{take.__name__}` has failed before") from error
        return result

    return recorded
