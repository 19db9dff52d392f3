"""The one form of the errors of a caller: `name` must ..., with the value received."""

from __future__ import annotations

from typing import Any


def require(condition: bool, name: str, demand: str, value: Any) -> None:
    """Raises the project's one form of `ValueError` unless `condition` holds.

    Args:
      condition: Whether the value is valid.
      name: Name of the argument or key.
      demand: The requirement, completing "`name` must ...".
      value: The value received.

    Raises:
      ValueError: `condition` is false.
    """
    if not condition:
        raise ValueError(f"`{name}` must {demand}. Received: {name}={value!r}.")
