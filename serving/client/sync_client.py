"""The blocking client of the model server."""

import functools
import time
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import grpc
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


class TagClient:
    """A client of one model; threads may share it, and `with` closes it.

    Only a call that found no server (UNAVAILABLE) is made again, after a random and growing pause
    and within the deadline. Repeating a call is safe, because no call changes the server.

    Args:
      target: `host:port` of the gRPC interface.
      model_name: Name of the model, as the server's `--model_name` says.
      timeout_s: Deadline of a call in seconds, all attempts together.
      max_attempts: Maximum number of attempts of a call.
      list_width: Width to which every list is padded; longer lists are refused. TensorFlow Serving
        with batching can join requests of one width. None: length of the request's longest list.
      credentials: TLS credentials, for example `grpc.ssl_channel_credentials()`; None: the
        credentials that `security` describes.
      security: Certificate files and a token; None: an unencrypted connection without a token.

    Raises:
      ValueError: If an argument is out of its range, or a file of `security` cannot be read or has
        the wrong content.
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
        options = channel_options(target) + self._secured.options
        self._channel = (
            grpc.insecure_channel(target, options)
            if self._secured.credentials is None
            else grpc.secure_channel(target, self._secured.credentials, options)
        )
        self._methods = remote_methods(self._channel)

    def retrieve(
        self,
        features: Instances,
        *,
        num_tags: int | None = None,
        timeout_s: float | None = None,
    ) -> Retrieval:
        """Asks for the tags of users.

        The features of the model are learned from the server once, and again when the server
        refuses the known ones, which happens when a new version has other features.

        Args:
          features: One instance per user: a profile feature is a string, a number or a list of
            strings, a domain is a list of strings, and `<domain>_weights` is a list of as many
            numbers (1 each, if left out). A feature that is left out is unknown or empty.
          num_tags: Maximum number of tags per user; None: as many as the model gives.
          timeout_s: Deadline in seconds; None: the client's deadline.

        Returns:
          The ranked tags of each user, and the version that answered.

        Raises:
          ValueError: If there is no instance, a feature is unknown, or a value is of the wrong
            kind.
          TagClientError: If the call failed.
        """
        return self._run(self._dialogues.retrieve(features, num_tags), timeout_s)

    def retrieve_filtered(
        self,
        features: Instances,
        *,
        exclude_tags: Sequence[Sequence[str]] | None = None,
        allow_categories: Sequence[Sequence[str]] | None = None,
        num_tags: int | None = None,
        timeout_s: float | None = None,
    ) -> Retrieval:
        """Asks for the tags of users among those that are allowed.

        Args:
          features: One instance per user, as for `retrieve`.
          exclude_tags: Lists of tags that the answers must not have, one list per user, as the
            model spells them; None: no tag is excluded.
          allow_categories: Lists of categories whose tags are allowed, one list per user; an empty
            list: all categories; None: all categories for every user. An unknown category has no
            tags.
          num_tags: Maximum number of tags per user; None: as many as the model gives.
          timeout_s: Deadline in seconds; None: the client's deadline.

        Returns:
          The ranked tags of each user, k of them or as many as are allowed, and the version that
          answered.

        Raises:
          ValueError: If there is no instance or not one list for each, a feature is unknown, or a
            value is of the wrong kind.
          TagClientError: If the call failed, or the version is so old that it has no filters.
        """
        dialogue = self._dialogues.retrieve_filtered(
            features, exclude_tags, allow_categories, num_tags
        )
        return self._run(dialogue, timeout_s)

    def score_tags(
        self,
        features: Instances,
        tags: Sequence[Sequence[str]],
        *,
        timeout_s: float | None = None,
    ) -> TagScores:
        """Asks for the scores of tags that the caller names.

        Args:
          features: One instance per user, as for `retrieve`.
          tags: Lists of tags to score, one list per user, as the model spells them.
          timeout_s: Deadline in seconds; None: the client's deadline.

        Returns:
          Scores and probabilities in the order of `tags`, the same as those of `retrieve`; NaN for
          a tag that the model does not know.

        Raises:
          ValueError: If there is no instance or not one list for each, a feature is unknown, or a
            value is of the wrong kind.
          TagClientError: If the call failed.
        """
        return self._run(self._dialogues.score_tags(features, tags), timeout_s)

    def score_items(
        self,
        features: Instances,
        item_tags: Sequence[Sequence[Sequence[str]]],
        *,
        timeout_s: float | None = None,
    ) -> ItemScores:
        """Asks how likely users are to click items, which are described by their tags.

        Args:
          features: One instance per user, as for `retrieve`.
          item_tags: Lists of items to score, one list per user; an item is the list of its tags.
          timeout_s: Deadline in seconds; None: the client's deadline.

        Returns:
          Click logits and calibrated click probabilities in the order of the items; NaN if the
          model was trained without a click loss.

        Raises:
          ValueError: If there is no instance or not one list for each, a feature is unknown, or a
            value is of the wrong kind.
          TagClientError: If the call failed.
        """
        return self._run(self._dialogues.score_items(features, item_tags), timeout_s)

    def explain(
        self,
        features: Instances,
        tags: Sequence[str],
        *,
        timeout_s: float | None = None,
    ) -> Explanations:
        """Asks why tags have their scores.

        The server embeds a user once for every value of the user's histories, so this costs far
        more than `retrieve`.

        Args:
          features: One instance per tag to explain, as for `retrieve`; repeat an instance to
            explain several tags of one user.
          tags: One tag for each instance.
          timeout_s: Deadline in seconds; None: the client's deadline.

        Returns:
          The explanations, and the version that answered.

        Raises:
          ValueError: If there is no instance or not one tag for each, a feature is unknown, or a
            value is of the wrong kind.
          TagClientError: If the call failed, or the version is so old that it has no explanations.
        """
        return self._run(self._dialogues.explain(features, tags), timeout_s)

    def similar_tags(
        self,
        tags: Sequence[str],
        *,
        num_tags: int | None = None,
        timeout_s: float | None = None,
    ) -> SimilarTags:
        """Asks for the nearest tags of tags, independent of any user.

        Args:
          tags: Tags as the model spells them.
          num_tags: Maximum number of neighbours per tag; None: as many as the model gives.
          timeout_s: Deadline in seconds; None: the client's deadline.

        Returns:
          The neighbours in the order of `tags`, and the version that answered.

        Raises:
          ValueError: If `tags` is not a list of strings, or empty.
          TagClientError: If the call failed, or the version is so old that it has no neighbours.
        """
        return self._run(self._dialogues.similar_tags(tags, num_tags), timeout_s)

    def predict(
        self,
        inputs: Mapping[str, np.ndarray],
        signature_name: str = SERVING_DEFAULT,
        output_filter: Sequence[str] = (),
        *,
        timeout_s: float | None = None,
    ) -> Prediction:
        """Calls any signature of the model.

        Args:
          inputs: Arrays by input name: exactly the signature's inputs, with their types.
          signature_name: Name of the signature.
          output_filter: Names of the outputs to return; empty: all.
          timeout_s: Deadline in seconds; None: the client's deadline.

        Returns:
          The outputs, and the version that answered.

        Raises:
          ValueError: If TensorFlow has no type for an array's type.
          TagClientError: If the call failed.
        """
        return self._run(self._dialogues.predict(inputs, signature_name, output_filter), timeout_s)

    def model_status(self, *, timeout_s: float | None = None) -> tuple[ModelVersion, ...]:
        """Asks for the state of the model's versions.

        Args:
          timeout_s: Deadline in seconds; None: the client's deadline.

        Returns:
          All versions that the server has known, highest first.

        Raises:
          TagClientError: If the call failed, or the server does not know the model.
        """
        return self._run(self._dialogues.model_status(), timeout_s)

    def close(self) -> None:
        """Closes the connection to the server."""
        self._channel.close()

    def __enter__(self) -> "TagClient":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _run(self, dialogue: Dialogue[_Answer], timeout_s: float | None) -> _Answer:
        deadline = deadline_after(self.settings.timeout_s if timeout_s is None else timeout_s)
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

    def _call(self, call: RemoteCall, deadline: float) -> Any:
        method = self._methods[call.method]
        attempts = Attempts(self.settings.max_attempts, deadline)
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
                    settings = self.settings
                    raise with_advice(error, settings.target, settings.model_name) from error
            time.sleep(pause)
