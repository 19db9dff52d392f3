"""Requests and answers of the client's calls, independent of how they are transported.

A dialogue is a generator: it yields the remote calls that it needs, receives their responses, and
returns the typed answer. `TagClient` runs dialogues with blocking calls, `AsyncTagClient` with
asyncio; requests, checks and learning the features anew are the same for both.
"""

from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import grpc
import grpc.aio
import numpy as np

from serving.client.answer_checks import check_answer, own_inputs
from serving.client.answers import (
    Explanations,
    ItemScores,
    ModelVersion,
    Prediction,
    Retrieval,
    SimilarTags,
    TagScores,
    read_explanations,
    read_item_scores,
    read_neighbours,
    read_profiles,
    read_tag_scores,
)
from serving.client.errors import TagClientError
from serving.wire.feature_tensors import (
    FeatureValue,
    InputSlot,
    input_slots,
    to_list_tensor,
    to_nested_list_tensor,
    to_tensors,
)
from serving.wire.serving_api import (
    COMPACT_ANSWER,
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)
from serving.wire.tensor_proto import to_numpy, write_compact
from trainer.contract.signatures import (
    ALLOW_CATEGORIES,
    CANDIDATE_TAGS,
    EXCLUDE_TAGS,
    EXPLAIN,
    EXPLAINED_TAG,
    ITEM_TAGS,
    RETRIEVE,
    RETRIEVE_FILTERED,
    SCORE_ITEMS,
    SCORE_TAGS,
    SIMILAR_TAGS,
    SIMILAR_TO,
)

Instances = Sequence[Mapping[str, FeatureValue]]

PREDICT = "Predict"
GET_MODEL_METADATA = "GetModelMetadata"
GET_MODEL_STATUS = "GetModelStatus"


class RemoteCall(NamedTuple):
    """One request to the server.

    Attributes:
      method: `PREDICT`, `GET_MODEL_METADATA` or `GET_MODEL_STATUS`.
      request: Message of the request.
      metadata: gRPC metadata of the request, without the token.
    """

    method: str
    request: Any
    metadata: tuple[tuple[str, str], ...] = ()


def remote_methods(channel: grpc.Channel | grpc.aio.Channel) -> dict[str, Callable[..., Any]]:
    """Returns the methods that dialogues call, by name, for a blocking or an asyncio channel."""
    prediction = prediction_service_pb2_grpc.PredictionServiceStub(channel)
    models = model_service_pb2_grpc.ModelServiceStub(channel)
    return {
        PREDICT: prediction.Predict,
        GET_MODEL_METADATA: prediction.GetModelMetadata,
        GET_MODEL_STATUS: models.GetModelStatus,
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
        self._slots: dict[str, dict[str, InputSlot]] = {}

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
        request = predict_pb2.PredictRequest(
            model_spec=self._spec(signature_name), output_filter=output_filter
        )
        for name, array in inputs.items():
            write_compact(request.inputs[name], np.asarray(array))
        response = yield RemoteCall(PREDICT, request, (COMPACT_ANSWER,))
        outputs = {name: to_numpy(tensor) for name, tensor in response.outputs.items()}
        return Prediction(outputs, response.model_spec.version.value)

    def model_status(self) -> Dialogue[tuple[ModelVersion, ...]]:
        """Asks for the state of the model's versions, see `TagClient.model_status`."""
        request = get_model_status_pb2.GetModelStatusRequest(model_spec=self._spec())
        response = yield RemoteCall(GET_MODEL_STATUS, request)
        state_name = get_model_status_pb2.ModelVersionStatus.State.Name
        return tuple(
            ModelVersion(status.version, state_name(status.state), status.status.error_message)
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
        slots, is_fresh = self._slots.get(signature_name), False
        if slots is None:
            slots, is_fresh = (yield from self._learn_slots(signature_name)), True
        try:
            tensors = {**to_tensors(features, slots, self._list_width), **own}
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
            tensors = {**to_tensors(features, relearned, self._list_width), **own}
            prediction = yield from self.predict(tensors, signature_name)
        check_answer(self._model_name, signature_name, prediction.outputs)
        return prediction, tensors

    def _learn_slots(self, signature_name: str) -> Dialogue[dict[str, InputSlot]]:
        request = get_model_metadata_pb2.GetModelMetadataRequest(
            model_spec=self._spec(), metadata_field=["signature_def"]
        )
        response = yield RemoteCall(GET_MODEL_METADATA, request)
        signatures = get_model_metadata_pb2.SignatureDefMap()
        response.metadata["signature_def"].Unpack(signatures)
        if signature_name not in signatures.signature_def:
            known = sorted(signatures.signature_def)
            advice = "Is it a servable of `tagtower run`?"
            if RETRIEVE in known:
                advice = "The version is older than that; `tagtower run` makes a new one."
            raise TagClientError(
                grpc.StatusCode.FAILED_PRECONDITION,
                f"Model `{self._model_name}` has no signature `{signature_name}`.",
                f"{advice} Its signatures: {', '.join(known)}.",
            )
        slots = input_slots(signatures.signature_def[signature_name])
        own = own_inputs(signature_name)
        self._slots[signature_name] = {n: slot for n, slot in slots.items() if n not in own}
        return self._slots[signature_name]

    def _lists(
        self, name: str, rows: Sequence[Sequence[str]] | None, features: Instances
    ) -> np.ndarray:
        return to_list_tensor(name, rows, len(features), self._list_width)

    def _spec(self, signature_name: str = "") -> model_pb2.ModelSpec:
        return model_pb2.ModelSpec(name=self._model_name, signature_name=signature_name)


def _check_num_tags(num_tags: int | None) -> None:
    if num_tags is not None and num_tags < 1:
        raise ValueError(f"`num_tags` must be a positive integer. Received: num_tags={num_tags}.")
