"""The blocking client of the model server."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import grpc
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
from tagtower_client.blocking_channel import BlockingChannel
from tagtower_client.channel_security import ChannelSecurity
from tagtower_client.dialogues import Dialogues, Instances
from tagtower_client.event_tensors import EventsOfUsers, Profiles, Time
from tagtower_client.settings import ClientSettings
from tagtower_client.signatures import SERVING_DEFAULT


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
        self._channel = BlockingChannel(self.settings, credentials, security)

    def retrieve(
        self,
        features: Instances,
        *,
        num_tags: int | None = None,
        version: int | None = None,
        label: str | None = None,
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
          version: Number of the version to ask; None: the latest that is available.
          label: Label of the version to ask, in place of its number; None: no label.
          timeout_s: Deadline in seconds; None: the client's deadline.

        Returns:
          The ranked tags of each user, and the version that answered.

        Raises:
          ValueError: If there is no instance, a feature is unknown, or a value is of the wrong
            kind.
          TagClientError: If the call failed.
        """
        return self._channel.run(
            self._dialogues.of(version, label).retrieve(features, num_tags), timeout_s
        )

    def retrieve_filtered(
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
        """Asks for the tags of users among those that are allowed.

        Args:
          features: One instance per user, as for `retrieve`.
          exclude_tags: Lists of tags that the answers must not have, one list per user, as the
            model spells them; None: no tag is excluded.
          allow_categories: Lists of categories whose tags are allowed, one list per user; an empty
            list: all categories; None: all categories for every user. An unknown category has no
            tags.
          num_tags: Maximum number of tags per user; None: as many as the model gives.
          version: Number of the version to ask; None: the latest that is available.
          label: Label of the version to ask, in place of its number; None: no label.
          timeout_s: Deadline in seconds; None: the client's deadline.

        Returns:
          The ranked tags of each user, k of them or as many as are allowed, and the version that
          answered.

        Raises:
          ValueError: If there is no instance or not one list for each, a feature is unknown, or a
            value is of the wrong kind.
          TagClientError: If the call failed, or the version is so old that it has no filters.
        """
        dialogue = self._dialogues.of(version, label).retrieve_filtered(
            features, exclude_tags, allow_categories, num_tags
        )
        return self._channel.run(dialogue, timeout_s)

    def retrieve_events(
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
        """Asks for the tags of users by their events, from which the server makes the features.

        Args:
          events_of_users: Events of each user, in any order, one list per user. An event is a
            mapping with `item_id`, `timestamp` (seconds since 1970, UTC, a `datetime`, or any other
            form that the tables may have), `clicked` (0 or 1), `tags` of the item as the items
            table has them, its `category` if the model lists categories, and optionally `weight`.
          profiles: Profile features by name, one mapping or None per user; what is left out is
            unknown. None: all are unknown.
          at: Time to answer for, seconds or a `datetime`, UTC; events at or after it do not count.
            None: now.
          num_tags: Maximum number of tags per user; None: as many as the model gives.
          version: Number of the version to ask; None: the latest that is available.
          label: Label of the version to ask, in place of its number; None: no label.
          timeout_s: Deadline in seconds; None: the client's deadline.

        Returns:
          The ranked tags of each user, and the version that answered.

        Raises:
          ValueError: If there is no user, an event lacks a field, or a value is of the wrong kind.
          TagClientError: If the call failed, or the version takes no events.
        """
        dialogues = self._dialogues.of(version, label)
        dialogue = dialogues.retrieve_events(events_of_users, profiles, at, num_tags)
        return self._channel.run(dialogue, timeout_s)

    def event_features(
        self,
        events_of_users: EventsOfUsers,
        profiles: Profiles = None,
        at: Time = None,
        *,
        version: int | None = None,
        label: str | None = None,
        timeout_s: float | None = None,
    ) -> EventInstances:
        """Asks for the instances of users, which the other calls take, by their events.

        Args:
          events_of_users: Events of each user, as for `retrieve_events`.
          profiles: Profile features of each user, as for `retrieve_events`.
          at: Time to answer for, as for `retrieve_events`.
          version: Number of the version to ask; None: the latest that is available.
          label: Label of the version to ask, in place of its number; None: no label.
          timeout_s: Deadline in seconds; None: the client's deadline.

        Returns:
          One instance per user, and the version that computed it.

        Raises:
          ValueError: If there is no user, an event lacks a field, or a value is of the wrong kind.
          TagClientError: If the call failed, or the version takes no events.
        """
        dialogue = self._dialogues.of(version, label).event_features(events_of_users, profiles, at)
        return self._channel.run(dialogue, timeout_s)

    def score_tags(
        self,
        features: Instances,
        tags: Sequence[Sequence[str]],
        *,
        version: int | None = None,
        label: str | None = None,
        timeout_s: float | None = None,
    ) -> TagScores:
        """Asks for the scores of tags that the caller names.

        Args:
          features: One instance per user, as for `retrieve`.
          tags: Lists of tags to score, one list per user, as the model spells them.
          version: Number of the version to ask; None: the latest that is available.
          label: Label of the version to ask, in place of its number; None: no label.
          timeout_s: Deadline in seconds; None: the client's deadline.

        Returns:
          Scores and probabilities in the order of `tags`, the same as those of `retrieve`; NaN for
          a tag that the model does not know.

        Raises:
          ValueError: If there is no instance or not one list for each, a feature is unknown, or a
            value is of the wrong kind.
          TagClientError: If the call failed.
        """
        return self._channel.run(
            self._dialogues.of(version, label).score_tags(features, tags), timeout_s
        )

    def score_items(
        self,
        features: Instances,
        item_tags: Sequence[Sequence[Sequence[str]]],
        *,
        version: int | None = None,
        label: str | None = None,
        timeout_s: float | None = None,
    ) -> ItemScores:
        """Asks how likely users are to click items, which are described by their tags.

        Args:
          features: One instance per user, as for `retrieve`.
          item_tags: Lists of items to score, one list per user; an item is the list of its tags.
          version: Number of the version to ask; None: the latest that is available.
          label: Label of the version to ask, in place of its number; None: no label.
          timeout_s: Deadline in seconds; None: the client's deadline.

        Returns:
          Click logits and calibrated click probabilities in the order of the items; NaN if the
          model was trained without a click loss.

        Raises:
          ValueError: If there is no instance or not one list for each, a feature is unknown, or a
            value is of the wrong kind.
          TagClientError: If the call failed.
        """
        return self._channel.run(
            self._dialogues.of(version, label).score_items(features, item_tags), timeout_s
        )

    def explain(
        self,
        features: Instances,
        tags: Sequence[str],
        *,
        version: int | None = None,
        label: str | None = None,
        timeout_s: float | None = None,
    ) -> Explanations:
        """Asks why tags have their scores.

        The server embeds a user once for every value of the user's histories, so this costs far
        more than `retrieve`.

        Args:
          features: One instance per tag to explain, as for `retrieve`; repeat an instance to
            explain several tags of one user.
          tags: One tag for each instance.
          version: Number of the version to ask; None: the latest that is available.
          label: Label of the version to ask, in place of its number; None: no label.
          timeout_s: Deadline in seconds; None: the client's deadline.

        Returns:
          The explanations, and the version that answered.

        Raises:
          ValueError: If there is no instance or not one tag for each, a feature is unknown, or a
            value is of the wrong kind.
          TagClientError: If the call failed, or the version is so old that it has no explanations.
        """
        return self._channel.run(
            self._dialogues.of(version, label).explain(features, tags), timeout_s
        )

    def similar_tags(
        self,
        tags: Sequence[str],
        *,
        num_tags: int | None = None,
        version: int | None = None,
        label: str | None = None,
        timeout_s: float | None = None,
    ) -> SimilarTags:
        """Asks for the nearest tags of tags, independent of any user.

        Args:
          tags: Tags as the model spells them.
          num_tags: Maximum number of neighbours per tag; None: as many as the model gives.
          version: Number of the version to ask; None: the latest that is available.
          label: Label of the version to ask, in place of its number; None: no label.
          timeout_s: Deadline in seconds; None: the client's deadline.

        Returns:
          The neighbours in the order of `tags`, and the version that answered.

        Raises:
          ValueError: If `tags` is not a list of strings, or empty.
          TagClientError: If the call failed, or the version is so old that it has no neighbours.
        """
        return self._channel.run(
            self._dialogues.of(version, label).similar_tags(tags, num_tags), timeout_s
        )

    def predict(
        self,
        inputs: Mapping[str, np.ndarray],
        signature_name: str = SERVING_DEFAULT,
        output_filter: Sequence[str] = (),
        *,
        version: int | None = None,
        label: str | None = None,
        timeout_s: float | None = None,
    ) -> Prediction:
        """Calls any signature of the model.

        Args:
          inputs: Arrays by input name: exactly the signature's inputs, with their types.
          signature_name: Name of the signature.
          output_filter: Names of the outputs to return; empty: all.
          version: Number of the version to ask; None: the latest that is available.
          label: Label of the version to ask, in place of its number; None: no label.
          timeout_s: Deadline in seconds; None: the client's deadline.

        Returns:
          The outputs, and the version that answered.

        Raises:
          ValueError: If TensorFlow has no type for an array's type.
          TagClientError: If the call failed.
        """
        return self._channel.run(
            self._dialogues.of(version, label).predict(inputs, signature_name, output_filter),
            timeout_s,
        )

    def model_status(
        self,
        *,
        version: int | None = None,
        timeout_s: float | None = None,
    ) -> tuple[ModelVersion, ...]:
        """Asks for the state of the model's versions.

        Args:
          version: Number of the version to ask about; None: all. The servers ignore a label here.
          timeout_s: Deadline in seconds; None: the client's deadline.

        Returns:
          All versions that the server has known, highest first.

        Raises:
          TagClientError: If the call failed, or the server does not know the model.
        """
        return self._channel.run(self._dialogues.of(version, None).model_status(), timeout_s)

    def close(self) -> None:
        """Closes the connection to the server."""
        self._channel.close()

    def __enter__(self) -> TagClient:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()
