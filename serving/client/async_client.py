"""The client for asyncio: the calls of `TagClient`, to be awaited."""

import asyncio
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import grpc
import grpc.aio
import numpy as np

from serving.client.answers import (
    Explanations,
    ItemScores,
    ModelVersion,
    Prediction,
    Retrieval,
    SimilarTags,
    TagScores,
)
from serving.client.channel_security import ChannelSecurity, SecuredTarget
from serving.client.dialogues import (
    Dialogue,
    Dialogues,
    Instances,
    RemoteCall,
    remote_methods,
)
from serving.client.errors import TagClientError, with_advice
from serving.client.settings import ClientSettings
from serving.client.transport import Attempts, channel_options, deadline_after
from trainer.contract.signatures import SERVING_DEFAULT

_Answer = TypeVar("_Answer")


class AsyncTagClient:
    """`TagClient` for one event loop: any number of calls may be under way; `async with` closes it.

    The connection is made by the first call, and belongs to the loop that awaits it; a call from
    another loop is a RuntimeError. A cancelled call is cancelled at the server as well.

    Args:
      target: As for `TagClient`, and so are all others.

    Raises:
      ValueError: If an argument is out of its range.
    """

    def __init__(
        self,
        target: str,
        *,
        model_name: str = "default",
        timeout_s: float = 5.0,
        max_attempts: int = 3,
        list_width: int | None = None,
        credentials: grpc.ChannelCredentials | None = None,
        security: ChannelSecurity | None = None,
    ):
        self.settings = ClientSettings(target, model_name, timeout_s, max_attempts, list_width)
        self._dialogues = Dialogues(model_name, list_width)
        self._secured = SecuredTarget(target, credentials, security)
        self._channel: grpc.aio.Channel | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._is_closed = False
        self._methods: dict[str, Callable[..., Any]] = {}

    async def retrieve(
        self, features: Instances, *, num_tags: int | None = None, timeout_s: float | None = None
    ) -> Retrieval:
        """See `TagClient.retrieve`."""
        return await self._run(self._dialogues.retrieve(features, num_tags), timeout_s)

    async def retrieve_filtered(
        self,
        features: Instances,
        *,
        exclude_tags: Sequence[Sequence[str]] | None = None,
        allow_categories: Sequence[Sequence[str]] | None = None,
        num_tags: int | None = None,
        timeout_s: float | None = None,
    ) -> Retrieval:
        """See `TagClient.retrieve_filtered`."""
        dialogue = self._dialogues.retrieve_filtered(
            features, exclude_tags, allow_categories, num_tags
        )
        return await self._run(dialogue, timeout_s)

    async def score_tags(
        self,
        features: Instances,
        tags: Sequence[Sequence[str]],
        *,
        timeout_s: float | None = None,
    ) -> TagScores:
        """See `TagClient.score_tags`."""
        return await self._run(self._dialogues.score_tags(features, tags), timeout_s)

    async def score_items(
        self,
        features: Instances,
        item_tags: Sequence[Sequence[Sequence[str]]],
        *,
        timeout_s: float | None = None,
    ) -> ItemScores:
        """See `TagClient.score_items`."""
        return await self._run(self._dialogues.score_items(features, item_tags), timeout_s)

    async def explain(
        self, features: Instances, tags: Sequence[str], *, timeout_s: float | None = None
    ) -> Explanations:
        """See `TagClient.explain`."""
        return await self._run(self._dialogues.explain(features, tags), timeout_s)

    async def similar_tags(
        self, tags: Sequence[str], *, num_tags: int | None = None, timeout_s: float | None = None
    ) -> SimilarTags:
        """See `TagClient.similar_tags`."""
        return await self._run(self._dialogues.similar_tags(tags, num_tags), timeout_s)

    async def predict(
        self,
        inputs: Mapping[str, np.ndarray],
        signature_name: str = SERVING_DEFAULT,
        output_filter: Sequence[str] = (),
        *,
        timeout_s: float | None = None,
    ) -> Prediction:
        """See `TagClient.predict`."""
        dialogue = self._dialogues.predict(inputs, signature_name, output_filter)
        return await self._run(dialogue, timeout_s)

    async def model_status(self, *, timeout_s: float | None = None) -> tuple[ModelVersion, ...]:
        """See `TagClient.model_status`."""
        return await self._run(self._dialogues.model_status(), timeout_s)

    async def close(self) -> None:
        """Closes the connection; calls under way are cancelled."""
        self._is_closed = True
        if self._channel is not None:
            await self._channel.close()

    async def __aenter__(self) -> "AsyncTagClient":
        return self

    async def __aexit__(self, *exception) -> None:
        await self.close()

    def _connect(self) -> None:
        loop = asyncio.get_running_loop()
        if self._is_closed:
            raise RuntimeError("The `AsyncTagClient` is closed. Make another one.")
        if self._loop not in (None, loop):
            raise RuntimeError(
                "An `AsyncTagClient` belongs to one event loop, that of its first call. Make one "
                "in each loop."
            )
        if self._channel is not None:
            return
        # A channel of grpc.aio belongs to the loop it is made in, so not to the constructor's.
        self._loop = loop
        target = self.settings.target
        options = channel_options(target) + self._secured.options
        self._channel = (
            grpc.aio.insecure_channel(target, options)
            if self._secured.credentials is None
            else grpc.aio.secure_channel(target, self._secured.credentials, options)
        )
        self._methods = remote_methods(self._channel)

    async def _run(self, dialogue: Dialogue[_Answer], timeout_s: float | None) -> _Answer:
        deadline = deadline_after(self.settings.timeout_s if timeout_s is None else timeout_s)
        self._connect()
        step = functools.partial(next, dialogue)
        while True:
            try:
                call = step()
            except StopIteration as end:
                return end.value
            try:
                step = functools.partial(dialogue.send, await self._call(call, deadline))
            except TagClientError as error:
                step = functools.partial(dialogue.throw, error)

    async def _call(self, call: RemoteCall, deadline: float):
        method = self._methods[call.method]
        attempts = Attempts(self.settings.max_attempts, deadline)
        while True:
            try:
                return await method(
                    call.request,
                    timeout=attempts.timeout_s,
                    metadata=call.metadata + self._secured.metadata(),
                )
            except grpc.RpcError as error:
                pause = attempts.pause_after(error)
                if pause is None:
                    settings = self.settings
                    raise with_advice(error, settings.target, settings.model_name) from error
            await asyncio.sleep(pause)
