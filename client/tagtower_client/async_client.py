"""The asyncio client: the calls of `TagClient` as coroutines."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import grpc
import grpc.aio
import numpy as np

from tagtower_client.answers import (
    EventInstances,
    Explanations,
    ItemScores,
    ModelVersion,
    Prediction,
    Retrieval,
    SimilarTags,
    TagScores,
)
from tagtower_client.channel_security import ChannelSecurity, SecuredTarget
from tagtower_client.dialogues import (
    Dialogue,
    Dialogues,
    Instances,
    RemoteCall,
    remote_methods,
)
from tagtower_client.errors import TagClientError, with_advice
from tagtower_client.event_tensors import EventsOfUsers, Profiles, Time
from tagtower_client.settings import ClientSettings
from tagtower_client.signatures import SERVING_DEFAULT
from tagtower_client.transport import Attempts, channel_options, deadline_after

_Answer = TypeVar("_Answer")


class AsyncTagClient:
    """A client of one model for one event loop: the calls of `TagClient` as coroutines.

    Any number of calls may run at once; `async with` closes the client. The first call opens the
    connection, which belongs to the event loop of that call; a call from another loop raises a
    RuntimeError. A call that is cancelled is cancelled at the server as well.

    Args:
      target: `host:port` of the gRPC interface; this and all others are arguments of `TagClient`.

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
        self,
        features: Instances,
        *,
        num_tags: int | None = None,
        version: int | None = None,
        label: str | None = None,
        timeout_s: float | None = None,
    ) -> Retrieval:
        """Asks for the tags of users, as `TagClient.retrieve` does."""
        return await self._run(
            self._dialogues.of(version, label).retrieve(features, num_tags), timeout_s
        )

    async def retrieve_filtered(
        self,
        features: Instances,
        *,
        exclude_tags: Sequence[Sequence[str]] | None = None,
        allow_categories: Sequence[Sequence[str]] | None = None,
        num_tags: int | None = None,
        version: int | None = None,
        label: str | None = None,
        timeout_s: float | None = None,
    ) -> Retrieval:
        """Asks for the tags of users among allowed ones, as `TagClient.retrieve_filtered` does."""
        dialogue = self._dialogues.of(version, label).retrieve_filtered(
            features, exclude_tags, allow_categories, num_tags
        )
        return await self._run(dialogue, timeout_s)

    async def retrieve_events(
        self,
        events_of_users: EventsOfUsers,
        profiles: Profiles = None,
        at: Time = None,
        *,
        num_tags: int | None = None,
        version: int | None = None,
        label: str | None = None,
        timeout_s: float | None = None,
    ) -> Retrieval:
        """Asks for the tags of users by their events, as `TagClient.retrieve_events` does."""
        dialogues = self._dialogues.of(version, label)
        dialogue = dialogues.retrieve_events(events_of_users, profiles, at, num_tags)
        return await self._run(dialogue, timeout_s)

    async def event_features(
        self,
        events_of_users: EventsOfUsers,
        profiles: Profiles = None,
        at: Time = None,
        *,
        version: int | None = None,
        label: str | None = None,
        timeout_s: float | None = None,
    ) -> EventInstances:
        """Asks for users' instances by their events, as `TagClient.event_features` does."""
        dialogue = self._dialogues.of(version, label).event_features(events_of_users, profiles, at)
        return await self._run(dialogue, timeout_s)

    async def score_tags(
        self,
        features: Instances,
        tags: Sequence[Sequence[str]],
        *,
        version: int | None = None,
        label: str | None = None,
        timeout_s: float | None = None,
    ) -> TagScores:
        """Asks for the scores of named tags, as `TagClient.score_tags` does."""
        return await self._run(
            self._dialogues.of(version, label).score_tags(features, tags), timeout_s
        )

    async def score_items(
        self,
        features: Instances,
        item_tags: Sequence[Sequence[Sequence[str]]],
        *,
        version: int | None = None,
        label: str | None = None,
        timeout_s: float | None = None,
    ) -> ItemScores:
        """Asks for the click probabilities of items, as `TagClient.score_items` does."""
        return await self._run(
            self._dialogues.of(version, label).score_items(features, item_tags), timeout_s
        )

    async def explain(
        self,
        features: Instances,
        tags: Sequence[str],
        *,
        version: int | None = None,
        label: str | None = None,
        timeout_s: float | None = None,
    ) -> Explanations:
        """Asks why tags have their scores, as `TagClient.explain` does."""
        return await self._run(
            self._dialogues.of(version, label).explain(features, tags), timeout_s
        )

    async def similar_tags(
        self,
        tags: Sequence[str],
        *,
        num_tags: int | None = None,
        version: int | None = None,
        label: str | None = None,
        timeout_s: float | None = None,
    ) -> SimilarTags:
        """Asks for the nearest tags of tags, as `TagClient.similar_tags` does."""
        return await self._run(
            self._dialogues.of(version, label).similar_tags(tags, num_tags), timeout_s
        )

    async def predict(
        self,
        inputs: Mapping[str, np.ndarray],
        signature_name: str = SERVING_DEFAULT,
        output_filter: Sequence[str] = (),
        *,
        version: int | None = None,
        label: str | None = None,
        timeout_s: float | None = None,
    ) -> Prediction:
        """Calls any signature of the model, as `TagClient.predict` does."""
        dialogue = self._dialogues.of(version, label).predict(inputs, signature_name, output_filter)
        return await self._run(dialogue, timeout_s)

    async def model_status(
        self,
        *,
        version: int | None = None,
        timeout_s: float | None = None,
    ) -> tuple[ModelVersion, ...]:
        """Asks for the state of the model's versions, as `TagClient.model_status` does."""
        return await self._run(self._dialogues.of(version, None).model_status(), timeout_s)

    async def close(self) -> None:
        """Closes the connection and cancels the calls that are running."""
        self._is_closed = True
        if self._channel is not None:
            await self._channel.close()

    async def __aenter__(self) -> AsyncTagClient:
        return self

    async def __aexit__(self, *exception: object) -> None:
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
        # A channel of grpc.aio belongs to the event loop in which it is made. The constructor may
        # run in another one, so it makes none.
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

    async def _call(self, call: RemoteCall, deadline: float) -> Any:
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
