"""Requests and answers of the client's calls, independent of how they are transported.

A dialogue is a generator: it yields the remote calls that it needs, receives their responses, and
returns the typed answer. `TagClient` runs dialogues with blocking calls, `AsyncTagClient` with
asyncio; requests, checks and learning the features anew are the same for both.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Generator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import grpc
import numpy as np

from tagtower_client.answer_checks import check_answer, own_inputs
from tagtower_client.answers import (
    EventInstances,
    Explanations,
    ItemScores,
    ModelVersion,
    Prediction,
    Retrieval,
    SimilarTags,
    TagScores,
    read_explanations,
    read_instances,
    read_item_scores,
    read_neighbours,
    read_profiles,
    read_tag_scores,
)
from tagtower_client.errors import TagClientError
from tagtower_client.event_tensors import EventsOfUsers, Profiles, Time, read_users
from tagtower_client.feature_tensors import (
    FeatureValue,
    InputSlot,
    input_slots,
    to_list_tensor,
    to_nested_list_tensor,
    to_tensors,
)
from tagtower_client.messages import (
    GET_MODEL_METADATA,
    GET_MODEL_STATUS,
    METHODS,
    PREDICT,
    GetModelMetadataRequest,
    GetModelStatusRequest,
    ModelSpec,
    PredictRequest,
    SignatureDefMap,
    VersionState,
)
from tagtower_client.signatures import (
    ALLOW_CATEGORIES,
    CANDIDATE_TAGS,
    EVENT_FEATURES_FLAT,
    EXCLUDE_TAGS,
    EXPLAIN,
    EXPLAINED_TAG,
    ITEM_TAGS,
    RETRIEVE,
    RETRIEVE_EVENTS_FLAT,
    RETRIEVE_FILTERED,
    SCORE_ITEMS,
    SCORE_TAGS,
    SIMILAR_TAGS,
    SIMILAR_TO,
)
from tagtower_client.tensor_proto import COMPACT_ANSWER, to_numpy, write_compact

if TYPE_CHECKING:
    import grpc.aio

Instances = Sequence[Mapping[str, FeatureValue]]

_Slots = Mapping[str, InputSlot]
_OF_EVENTS = (RETRIEVE_EVENTS_FLAT, EVENT_FEATURES_FLAT)


class RemoteCall(NamedTuple):
    """One request to the server.

    Attributes:
      method: `PREDICT`, `GET_MODEL_METADATA` or `GET_MODEL_STATUS` of `tagtower_client.messages`.
      request: Message of the request.
      metadata: gRPC metadata of the request, without the token.
    """

    method: str
    request: Any
    metadata: tuple[tuple[str, str], ...] = ()


def remote_methods(channel: grpc.Channel | grpc.aio.Channel) -> dict[str, Callable[..., Any]]:
    """Returns the methods that dialogues call, by name, for a blocking or an asyncio channel."""
    return {
        path: channel.unary_unary(
            path,
            request_serializer=request.SerializeToString,
            response_deserializer=response.FromString,
        )
        for path, (request, response) in METHODS.items()
    }


_Answer = TypeVar("_Answer")
Dialogue = Generator[RemoteCall, Any, _Answer]


class Dialogues:
    """The dialogues with one model.

    The features of the model are learned from the server once, and again when the server refuses
    the known ones, which happens when a new version has other features.

    Args:
      model_name: Name of the model.
      list_width: Width to which lists are padded; None: length of the longest list of the request.
    """

    def __init__(self, model_name: str, list_width: int | None = None):
        self._model_name = model_name
        self._list_width = list_width
        self._version: int | None = None
        self._label: str | None = None
        # By signature, version and label: versions may differ in their features.
        self._slots: dict[tuple[str, int | None, str | None], dict[str, InputSlot]] = {}

    def of(self, version: int | None, label: str | None) -> Dialogues:
        """Returns the dialogues with one version of the model.

        Args:
          version: Number of the version; None: the latest that is available.
          label: Label of the version, in place of its number; None: no label.

        Returns:
          Dialogues that share what was learned of the model's features.

        Raises:
          ValueError: If both are given, or one of them is wrong.
        """
        if version is None and label is None:
            return self
        if version is not None and label is not None:
            raise ValueError(
                "`version` must be left out where a `label` names the version. "
                f"Received: {version=}, {label=}."
            )
        is_number = isinstance(version, (int, np.integer)) and not isinstance(version, bool)
        if version is not None and not (is_number and 0 <= version < 2**63):
            raise ValueError(f"`version` must be the number of a version. Received: {version=}.")
        if label is not None and not (isinstance(label, str) and label):
            raise ValueError(f"`label` must be the name of a label. Received: {label=}.")
        chosen = copy.copy(self)
        chosen._version, chosen._label = version, label
        return chosen

    def retrieve(self, features: Instances, num_tags: int | None) -> Dialogue[Retrieval]:
        """Asks for the tags of users, see `TagClient.retrieve`."""
        _check_num_tags(num_tags)
        prediction, _ = yield from self._ask(RETRIEVE, features, {})
        return Retrieval(read_profiles(prediction.outputs, num_tags), prediction.model_version)

    def retrieve_filtered(
        self,
        features: Instances,
        exclude_tags: Sequence[Sequence[str]] | None,
        allow_categories: Sequence[Sequence[str]] | None,
        num_tags: int | None,
    ) -> Dialogue[Retrieval]:
        """Asks for the tags of users among allowed ones, see `TagClient.retrieve_filtered`."""
        _check_num_tags(num_tags)
        own = {
            EXCLUDE_TAGS: self._lists(EXCLUDE_TAGS, exclude_tags, features),
            ALLOW_CATEGORIES: self._lists(ALLOW_CATEGORIES, allow_categories, features),
        }
        prediction, _ = yield from self._ask(RETRIEVE_FILTERED, features, own)
        return Retrieval(read_profiles(prediction.outputs, num_tags), prediction.model_version)

    def retrieve_events(
        self, events: EventsOfUsers, profiles: Profiles, at: Time, num_tags: int | None
    ) -> Dialogue[Retrieval]:
        """Asks for the tags of users by their events, see `TagClient.retrieve_events`."""
        _check_num_tags(num_tags)
        prediction = yield from self._ask_by_events(RETRIEVE_EVENTS_FLAT, events, profiles, at)
        check_answer(self._model_name, RETRIEVE_EVENTS_FLAT, prediction.outputs)
        return Retrieval(read_profiles(prediction.outputs, num_tags), prediction.model_version)

    def event_features(
        self, events: EventsOfUsers, profiles: Profiles, at: Time
    ) -> Dialogue[EventInstances]:
        """Asks for users' instances by their events, see `TagClient.event_features`."""
        prediction = yield from self._ask_by_events(EVENT_FEATURES_FLAT, events, profiles, at)
        return EventInstances(read_instances(prediction.outputs), prediction.model_version)

    def score_tags(self, features: Instances, tags: Sequence[Sequence[str]]) -> Dialogue[TagScores]:
        """Asks for the scores of named tags, see `TagClient.score_tags`."""
        own = {CANDIDATE_TAGS: self._lists(CANDIDATE_TAGS, tags, features)}
        prediction, _ = yield from self._ask(SCORE_TAGS, features, own)
        return TagScores(read_tag_scores(prediction.outputs, tags), prediction.model_version)

    def score_items(
        self, features: Instances, item_tags: Sequence[Sequence[Sequence[str]]]
    ) -> Dialogue[ItemScores]:
        """Asks for the click probabilities of items, see `TagClient.score_items`."""
        own = {
            ITEM_TAGS: to_nested_list_tensor(ITEM_TAGS, item_tags, len(features), self._list_width)
        }
        prediction, _ = yield from self._ask(SCORE_ITEMS, features, own)
        lengths = [len(items) for items in item_tags]
        return ItemScores(read_item_scores(prediction.outputs, lengths), prediction.model_version)

    def explain(self, features: Instances, tags: Sequence[str]) -> Dialogue[Explanations]:
        """Asks why tags have their scores, see `TagClient.explain`."""
        if isinstance(tags, str) or not all(isinstance(tag, str) for tag in tags):
            raise ValueError(f"`tags` must be a list of strings. Received: tags={tags!r}.")
        if len(tags) != len(features):
            raise ValueError(
                f"`tags` must name one tag for each of the {len(features)} instances. "
                f"Received: {len(tags)} tags."
            )
        own = {EXPLAINED_TAG: np.array([tag.encode() for tag in tags], object)}
        prediction, sent = yield from self._ask(EXPLAIN, features, own)
        return Explanations(read_explanations(prediction.outputs, sent), prediction.model_version)

    def similar_tags(self, tags: Sequence[str], num_tags: int | None) -> Dialogue[SimilarTags]:
        """Asks for the nearest tags of tags, see `TagClient.similar_tags`."""
        _check_num_tags(num_tags)
        if isinstance(tags, str) or not len(tags) or not all(isinstance(tag, str) for tag in tags):
            raise ValueError(f"`tags` must be a list of strings, at least one. Received: {tags!r}.")
        own = {SIMILAR_TO: np.array([tag.encode() for tag in tags], object)}
        try:
            prediction = yield from self.predict(own, SIMILAR_TAGS)
        except TagClientError as error:
            if error.code is grpc.StatusCode.FAILED_PRECONDITION:
                # This raises a clearer error if the version is too old to have `similar_tags`.
                yield from self._learn_slots(SIMILAR_TAGS)
            raise
        check_answer(self._model_name, SIMILAR_TAGS, prediction.outputs)
        neighbours = read_neighbours(prediction.outputs, tags, num_tags)
        return SimilarTags(neighbours, prediction.model_version)

    def predict(
        self,
        inputs: Mapping[str, np.ndarray],
        signature_name: str,
        output_filter: Sequence[str] = (),
    ) -> Dialogue[Prediction]:
        """Calls any signature of the model, see `TagClient.predict`."""
        request = PredictRequest(model_spec=self._spec(signature_name), output_filter=output_filter)
        for name, array in inputs.items():
            write_compact(request.inputs[name], np.asarray(array))
        response = yield RemoteCall(PREDICT, request, (COMPACT_ANSWER,))
        outputs = {name: to_numpy(tensor) for name, tensor in response.outputs.items()}
        return Prediction(outputs, response.model_spec.version.value)

    def model_status(self) -> Dialogue[tuple[ModelVersion, ...]]:
        """Asks for the state of the model's versions, see `TagClient.model_status`."""
        request = GetModelStatusRequest(model_spec=self._spec())
        response = yield RemoteCall(GET_MODEL_STATUS, request)
        return tuple(
            ModelVersion(
                status.version, VersionState(status.state).name, status.status.error_message
            )
            for status in response.model_version_status
        )

    def _ask(
        self, signature_name: str, features: Instances, own: Mapping[str, np.ndarray]
    ) -> Dialogue[tuple[Prediction, dict[str, np.ndarray]]]:
        """Calls a signature that takes instances.

        Args:
          signature_name: Name of the signature.
          features: Features of the instances.
          own: Inputs of the signature beside the features, by name.

        Returns:
          The answer, and the tensors that were sent.
        """
        names = own_inputs(signature_name)

        def tensors(slots: _Slots) -> dict[str, np.ndarray]:
            of_features = {name: slot for name, slot in slots.items() if name not in names}
            return {**to_tensors(features, of_features, self._list_width), **own}

        prediction, sent = yield from self._ask_with(signature_name, tensors)
        check_answer(self._model_name, signature_name, prediction.outputs)
        return prediction, sent

    def _ask_with(
        self, signature_name: str, to_inputs: Callable[[_Slots], dict[str, np.ndarray]]
    ) -> Dialogue[tuple[Prediction, dict[str, np.ndarray]]]:
        """Calls a signature whose inputs are learned from the server.

        Args:
          signature_name: Name of the signature.
          to_inputs: Function that makes the tensors for the inputs that the signature has.

        Returns:
          The answer, and the tensors that were sent.
        """
        slots = self._slots.get((signature_name, self._version, self._label))
        is_fresh = slots is None
        if slots is None:
            slots = yield from self._learn_slots(signature_name)
        try:
            tensors = to_inputs(slots)
            # No output filter: old versions without probabilities refuse one that names them.
            prediction = yield from self.predict(tensors, signature_name)
        except (TagClientError, ValueError) as error:
            is_refused = isinstance(error, ValueError) or (
                error.code is grpc.StatusCode.INVALID_ARGUMENT
            )
            if is_fresh or not is_refused:
                raise
            relearned = yield from self._learn_slots(signature_name)
            if relearned == slots:
                raise
            tensors = to_inputs(relearned)
            prediction = yield from self.predict(tensors, signature_name)
        return prediction, tensors

    def _ask_by_events(
        self, signature_name: str, events: EventsOfUsers, profiles: Profiles, at: Time
    ) -> Dialogue[Prediction]:
        # Read once: an iterator of events cannot be read again when the inputs are learned anew.
        users = read_users(events, profiles, at)
        prediction, _ = yield from self._ask_with(
            signature_name, functools.partial(users.to_tensors, list_width=self._list_width)
        )
        return prediction

    def _learn_slots(self, signature_name: str) -> Dialogue[dict[str, InputSlot]]:
        request = GetModelMetadataRequest(model_spec=self._spec(), metadata_field=["signature_def"])
        response = yield RemoteCall(GET_MODEL_METADATA, request)
        signatures = SignatureDefMap.FromString(response.metadata["signature_def"].value)
        if signature_name not in signatures.signature_def:
            known = sorted(signatures.signature_def)
            advice = "Is it a servable of `tagtower run`?"
            if RETRIEVE in known:
                advice = "The version is older than that; `tagtower run` makes a new one."
            if RETRIEVE in known and signature_name in _OF_EVENTS:
                advice = "Its version is older than that, or its model has no domains."
            raise TagClientError(
                grpc.StatusCode.FAILED_PRECONDITION,
                f"Model `{self._model_name}` has no signature `{signature_name}`.",
                f"{advice} Its signatures: {', '.join(known)}.",
            )
        slots = input_slots(signatures.signature_def[signature_name])
        self._slots[signature_name, self._version, self._label] = slots
        return slots

    def _lists(
        self, name: str, rows: Sequence[Sequence[str]] | None, features: Instances
    ) -> np.ndarray:
        return to_list_tensor(name, rows, len(features), self._list_width)

    def _spec(self, signature_name: str = "") -> Any:
        spec = ModelSpec(
            name=self._model_name, signature_name=signature_name, version_label=self._label or ""
        )
        if self._version is not None:
            spec.version.SetInParent()  # version 0 is a version, too
            spec.version.value = int(self._version)
        return spec


def _check_num_tags(num_tags: int | None) -> None:
    if num_tags is not None and num_tags < 1:
        raise ValueError(f"`num_tags` must be a positive integer. Received: num_tags={num_tags}.")
