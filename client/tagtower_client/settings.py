"""The checked arguments of a client."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class ClientSettings:
    """The arguments of a client, checked.

    Attributes:
      target: `host:port` of the gRPC interface.
      model_name: Name of the model, as the server's `--model_name` says.
      timeout_s: Deadline of a call in seconds, all attempts together.
      max_attempts: Maximum number of attempts of a call.
      list_width: Width to which lists are padded, see `TagClient`.

    Raises:
      ValueError: If an argument is out of its range.
    """

    target: str
    model_name: str
    timeout_s: float
    max_attempts: int
    list_width: int | None

    def __post_init__(self) -> None:
        if not self.target:
            raise ValueError(
                "`target` must be host:port of the gRPC interface. Received: target=''."
            )
        if not self.model_name:
            raise ValueError("`model_name` must not be empty. Received: model_name=''.")
        if not self.timeout_s > 0:
            raise ValueError(f"`timeout_s` must be positive. Received: timeout_s={self.timeout_s}.")
        for name in ("max_attempts", "list_width"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"`{name}` must be a positive integer. Received: {name}={value}.")
