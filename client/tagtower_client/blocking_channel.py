"""The connection of the blocking client: runs dialogues with calls that wait."""

from __future__ import annotations

import functools
import time
from typing import Any, TypeVar

import grpc

from tagtower_client.channel_security import ChannelSecurity, SecuredTarget
from tagtower_client.dialogues import Dialogue, RemoteCall, remote_methods
from tagtower_client.errors import TagClientError, with_advice
from tagtower_client.settings import ClientSettings
from tagtower_client.transport import Attempts, channel_options, deadline_after

_Answer = TypeVar("_Answer")


class BlockingChannel:
    """A connection that runs dialogues; threads may share it.

    Args:
      settings: Settings of the client.
      credentials: Ready-made TLS credentials; None: the credentials that `security` describes.
      security: Certificate files and a token; None: neither.

    Raises:
      ValueError: If a file of `security` cannot be read or has the wrong content.
    """

    def __init__(
        self,
        settings: ClientSettings,
        credentials: grpc.ChannelCredentials | None,
        security: ChannelSecurity | None,
    ):
        target = settings.target
        self._settings = settings
        self._secured = SecuredTarget(target, credentials, security)
        options = channel_options(target) + self._secured.options
        self._channel = (
            grpc.insecure_channel(target, options)
            if self._secured.credentials is None
            else grpc.secure_channel(target, self._secured.credentials, options)
        )
        self._methods = remote_methods(self._channel)

    def run(self, dialogue: Dialogue[_Answer], timeout_s: float | None) -> _Answer:
        """Runs a dialogue.

        Args:
          dialogue: The dialogue, not yet begun.
          timeout_s: Deadline in seconds of all its calls together; None: the client's deadline.

        Returns:
          Its answer.

        Raises:
          ValueError: If an argument of the dialogue is wrong, or the deadline not positive.
          TagClientError: If a call failed.
        """
        deadline = deadline_after(self._settings.timeout_s if timeout_s is None else timeout_s)
        step = functools.partial(next, dialogue)
        while True:
            try:
                call = step()
            except StopIteration as end:
                return end.value
            try:
                step = functools.partial(dialogue.send, self._call(call, deadline))
            except TagClientError as error:
                step = functools.partial(dialogue.throw, error)

    def close(self) -> None:
        """Closes the connection to the server."""
        self._channel.close()

    def _call(self, call: RemoteCall, deadline: float) -> Any:
        method = self._methods[call.method]
        attempts = Attempts(self._settings.max_attempts, deadline)
        while True:
            try:
                return method(
                    call.request,
                    timeout=attempts.timeout_s,
                    metadata=call.metadata + self._secured.metadata(),
                )
            except grpc.RpcError as error:
                pause = attempts.pause_after(error)
                if pause is None:
                    settings = self._settings
                    raise with_advice(error, settings.target, settings.model_name) from error
            time.sleep(pause)
