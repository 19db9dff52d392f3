"""What a caller imports: typed requests to the model server, or to TensorFlow Serving itself.

It speaks the public gRPC interface, so it works against either. It does not import TensorFlow
itself; `tensorflow_serving.apis`, which holds the messages, does so in its turn.
"""

import dataclasses
import random
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import grpc
import numpy as np
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from serving.feature_tensors import FeatureValue, InputSlot, input_slots, to_tensors
from serving.tensor_proto import compact_from_numpy, to_numpy
from trainer.signatures import (
    ALLOW_CATEGORIES,
    ATTENTION_BY_FEATURE,
    CONTRIBUTIONS_BY_FEATURE,
    EXCLUDE_TAGS,
    EXPLAIN,
    EXPLAINED_TAG,
    FEATURES,
    PROBABILITIES,
    RETRIEVE,
    RETRIEVE_FILTERED,
    SCORE,
    SCORES,
    SERVING_DEFAULT,
    TAGS,
    attention_of,
    contributions_of,
)

_FIRST_BACKOFF_S = 0.05
_OPTIONS = [
    # gRPC's own default of 4 MiB is soon reached by a large batch.
    ("grpc.max_receive_message_length", 2**31 - 1),
    ("grpc.max_send_message_length", 2**31 - 1),
    # By default a channel that could not connect does not even try again for a second or more, and
    # every attempt in between fails at once: retries would be for nothing.
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.min_reconnect_backoff_ms", 50),
    ("grpc.max_reconnect_backoff_ms", 1000),
]

_Answer = TypeVar("_Answer")


class TagClientError(Exception):
    """A call that failed; the text says what to do.

    Attributes:
      code: The status code.
      message: What the server, or gRPC, said.
    """

    def __init__(self, code: grpc.StatusCode, message: str, advice: str = ""):
        super().__init__(f"{code.name}: {message}" + (f" {advice}" if advice else ""))
        self.code = code
        self.message = message


@dataclasses.dataclass(frozen=True)
class TagProfile:
    """The tags that interest one user, best first.

    There are fewer than the model's k where too few are allowed, or likely enough.

    Attributes:
      tags: The tags.
      scores: The score of each.
      probabilities: The calibrated probability of each that the user will click it; None: the
        version is older than probabilities.
    """

    tags: tuple[str, ...]
    scores: tuple[float, ...]
    probabilities: tuple[float, ...] | None = None


@dataclasses.dataclass(frozen=True)
class Retrieval:
    """The answer of `retrieve`.

    Attributes:
      profiles: One for each instance, in order.
      model_version: The version that answered.
    """

    profiles: tuple[TagProfile, ...]
    model_version: int


@dataclasses.dataclass(frozen=True)
class ValueContribution:
    """What one value of a history does to the score of a tag.

    Attributes:
      domain: The domain it stands in.
      value: The value.
      contribution: The score less that of the same user without the value.
      attention: Its part of the domain's attention.
    """

    domain: str
    value: str
    contribution: float
    attention: float


@dataclasses.dataclass(frozen=True)
class FeatureContribution:
    """What one feature does to the score of a tag.

    Attributes:
      feature: A profile feature or a domain.
      contribution: The score less that of the same user with the feature unknown, or empty.
      attention: Its part of the tower's attention; equal parts where the tower has none.
    """

    feature: str
    contribution: float
    attention: float


@dataclasses.dataclass(frozen=True)
class TagExplanation:
    """Why a user's score of a tag is what it is.

    Attributes:
      tag: The tag.
      score: That of `retrieve`; NaN, as are the contributions: the model does not know the tag.
      values: The values of the user's histories, the largest contribution, up or down, first.
      features: Profile features and domains, in the model's order.
    """

    tag: str
    score: float
    values: tuple[ValueContribution, ...]
    features: tuple[FeatureContribution, ...]


@dataclasses.dataclass(frozen=True)
class Explanations:
    """The answer of `explain`.

    Attributes:
      explanations: One for each instance, in order.
      model_version: The version that answered.
    """

    explanations: tuple[TagExplanation, ...]
    model_version: int


@dataclasses.dataclass(frozen=True)
class Prediction:
    """The answer of `predict`.

    Attributes:
      outputs: Output name -> array; strings are object arrays of bytes.
      model_version: The version that answered.
    """

    outputs: dict[str, np.ndarray]
    model_version: int


@dataclasses.dataclass(frozen=True)
class ModelVersion:
    """What the server says of one version.

    Attributes:
      version: Its number.
      state: `START`, `LOADING`, `AVAILABLE`, `UNLOADING` or `END`.
      error: Why it did not load; empty without an error.
    """

    version: int
    state: str
    error: str = ""


class TagClient:
    """A client of one model; safe to share between threads; a context manager that closes itself.

    Only a call that found no server (UNAVAILABLE) is made again, after a random and growing pause
    and within the deadline: everything asked here only reads.

    Args:
      target: `host:port` of the gRPC interface.
      model_name: The model, as the server's `--model_name` says.
      timeout_s: Deadline of a call in seconds, all attempts together.
      max_attempts: How often a call is made at most.

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
    ):
        if not target:
            raise ValueError(
                "`target` must be host:port of the gRPC interface. Received: target=''."
            )
        if not model_name:
            raise ValueError("`model_name` must not be empty. Received: model_name=''.")
        if not timeout_s > 0:
            raise ValueError(f"`timeout_s` must be positive. Received: timeout_s={timeout_s}.")
        if max_attempts < 1:
            raise ValueError(
                f"`max_attempts` must be a positive integer. Received: max_attempts={max_attempts}."
            )
        self.target = target
        self.model_name = model_name
        self.timeout_s = timeout_s
        self.max_attempts = max_attempts
        self._channel = grpc.insecure_channel(target, options=_OPTIONS)
        self._prediction = prediction_service_pb2_grpc.PredictionServiceStub(self._channel)
        self._models = model_service_pb2_grpc.ModelServiceStub(self._channel)
        self._random = random.Random()
        self._slots: dict[str, dict[str, InputSlot]] = {}

    def retrieve(
        self,
        features: Sequence[Mapping[str, FeatureValue]],
        *,
        num_tags: int | None = None,
        timeout_s: float | None = None,
    ) -> Retrieval:
        """Asks for the tags of users.

        Which features there are is learned from the server once, and again when it turns the known
        ones down, as it does when a new version has others.

        Args:
          features: One instance a user: a profile feature is a string, a domain a list of strings,
            `<domain>_weights` a list of as many numbers (1 each, if left out). A feature left out
            is unknown, or empty.
          num_tags: How many tags to return at most; None: as many as the model gives.
          timeout_s: Deadline in seconds; None: the client's.

        Returns:
          The profiles and the version that gave them.

        Raises:
          ValueError: If there is no instance, a feature is unknown, or a value is of the wrong
            kind.
          TagClientError: If the call failed.
        """
        if num_tags is not None and num_tags < 1:
            raise ValueError(
                f"`num_tags` must be a positive integer. Received: num_tags={num_tags}."
            )
        prediction, _ = self._ask(RETRIEVE, features, {}, self._deadline(timeout_s))
        return Retrieval(_profiles(prediction.outputs, num_tags), prediction.model_version)

    def retrieve_filtered(
        self,
        features: Sequence[Mapping[str, FeatureValue]],
        *,
        exclude_tags: Sequence[Sequence[str]] | None = None,
        allow_categories: Sequence[Sequence[str]] | None = None,
        num_tags: int | None = None,
        timeout_s: float | None = None,
    ) -> Retrieval:
        """Asks for tags of users among those that are allowed.

        Args:
          features: One instance a user, as for `retrieve`.
          exclude_tags: Of each user, any number of tags that he must not get, as the model spells
            them; None: nobody excludes any.
          allow_categories: Of each user, the categories whose tags he may get; an empty list: all;
            None: all for everybody. A category that nobody knows has no tags.
          num_tags: How many tags to return at most; None: as many as the model gives.
          timeout_s: Deadline in seconds; None: the client's.

        Returns:
          The profiles, each of k tags or of as many as are allowed, and the version that gave them.

        Raises:
          ValueError: If there is no instance or not one list for each, a feature is unknown, or a
            value is of the wrong kind.
          TagClientError: If the call failed, or the version is older than filters.
        """
        if num_tags is not None and num_tags < 1:
            raise ValueError(
                f"`num_tags` must be a positive integer. Received: num_tags={num_tags}."
            )
        own = {
            EXCLUDE_TAGS: _rule(EXCLUDE_TAGS, exclude_tags, len(features)),
            ALLOW_CATEGORIES: _rule(ALLOW_CATEGORIES, allow_categories, len(features)),
        }
        prediction, _ = self._ask(RETRIEVE_FILTERED, features, own, self._deadline(timeout_s))
        return Retrieval(_profiles(prediction.outputs, num_tags), prediction.model_version)

    def explain(
        self,
        features: Sequence[Mapping[str, FeatureValue]],
        tags: Sequence[str],
        *,
        timeout_s: float | None = None,
    ) -> Explanations:
        """Asks why tags have their scores.

        The server embeds a user once for every value of his histories: this costs far more than
        `retrieve`.

        Args:
          features: One instance a user, as for `retrieve`.
          tags: One for each instance; for several tags of a user, name him several times.
          timeout_s: Deadline in seconds; None: the client's.

        Returns:
          The explanations and the version that gave them.

        Raises:
          ValueError: If there is no instance or not one tag for each, a feature is unknown, or a
            value is of the wrong kind.
          TagClientError: If the call failed, or the version is older than explanations.
        """
        if isinstance(tags, str) or not all(isinstance(tag, str) for tag in tags):
            raise ValueError(f"`tags` must be a list of strings. Received: tags={tags!r}.")
        if len(tags) != len(features):
            raise ValueError(
                f"`tags` must name one tag for each of the {len(features)} instances. "
                f"Received: {len(tags)} tags."
            )
        own = {EXPLAINED_TAG: np.array([tag.encode() for tag in tags], object)}
        prediction, sent = self._ask(EXPLAIN, features, own, self._deadline(timeout_s))
        return Explanations(_explanations(prediction.outputs, sent), prediction.model_version)

    def predict(
        self,
        inputs: Mapping[str, np.ndarray],
        signature_name: str = SERVING_DEFAULT,
        output_filter: Sequence[str] = (),
        *,
        timeout_s: float | None = None,
    ) -> Prediction:
        """Calls any signature.

        Args:
          inputs: Input name -> array, of exactly the signature's inputs and their types.
          signature_name: The signature.
          output_filter: The outputs wanted; none: all.
          timeout_s: Deadline in seconds; None: the client's.

        Returns:
          The outputs and the version that gave them.

        Raises:
          ValueError: If an array's type is none TensorFlow has.
          TagClientError: If the call failed.
        """
        return self._predict(inputs, signature_name, output_filter, self._deadline(timeout_s))

    def model_status(self, *, timeout_s: float | None = None) -> tuple[ModelVersion, ...]:
        """Asks for the state of the model's versions.

        Args:
          timeout_s: Deadline in seconds; None: the client's.

        Returns:
          All versions the server has known, highest first.

        Raises:
          TagClientError: If the call failed, or the server does not know the model.
        """
        request = get_model_status_pb2.GetModelStatusRequest(model_spec=self._spec())
        response = self._call(self._models.GetModelStatus, request, self._deadline(timeout_s))
        state_name = get_model_status_pb2.ModelVersionStatus.State.Name
        return tuple(
            ModelVersion(status.version, state_name(status.state), status.status.error_message)
            for status in response.model_version_status
        )

    def close(self) -> None:
        """Closes the connection."""
        self._channel.close()

    def __enter__(self) -> "TagClient":
        return self

    def __exit__(self, *exception) -> None:
        self.close()

    def _predict(
        self,
        inputs: Mapping[str, np.ndarray],
        signature_name: str,
        output_filter: Sequence[str],
        deadline: float,
    ) -> Prediction:
        request = predict_pb2.PredictRequest(
            model_spec=self._spec(signature_name), output_filter=output_filter
        )
        for name, array in inputs.items():
            request.inputs[name].CopyFrom(compact_from_numpy(np.asarray(array)))
        response = self._call(self._prediction.Predict, request, deadline)
        outputs = {name: to_numpy(tensor) for name, tensor in response.outputs.items()}
        return Prediction(outputs, response.model_spec.version.value)

    def _ask(
        self,
        signature_name: str,
        features: Sequence[Mapping[str, FeatureValue]],
        own: Mapping[str, np.ndarray],
        deadline: float,
    ) -> tuple[Prediction, dict[str, np.ndarray]]:
        """Calls a signature that takes instances.

        Args:
          signature_name: The signature.
          features: The instances.
          own: What it takes beside the features.
          deadline: Of the call.

        Returns:
          The answer, and the tensors that were sent.
        """
        slots, is_fresh = self._slots.get(signature_name), False
        if slots is None:
            slots, is_fresh = self._learn_slots(signature_name, own, deadline), True
        try:
            tensors = {**to_tensors(features, slots), **own}
            # All outputs: versions before probabilities refuse a filter that names them.
            return self._predict(tensors, signature_name, (), deadline), tensors
        except (TagClientError, ValueError) as error:
            is_refused = isinstance(error, ValueError) or (
                error.code is grpc.StatusCode.INVALID_ARGUMENT
            )
            if is_fresh or not is_refused:
                raise
            relearned = self._learn_slots(signature_name, own, deadline)
            if relearned == slots:
                raise
            tensors = {**to_tensors(features, relearned), **own}
            return self._predict(tensors, signature_name, (), deadline), tensors

    def _learn_slots(
        self, signature_name: str, own: Mapping[str, np.ndarray], deadline: float
    ) -> dict[str, InputSlot]:
        request = get_model_metadata_pb2.GetModelMetadataRequest(
            model_spec=self._spec(), metadata_field=["signature_def"]
        )
        response = self._call(self._prediction.GetModelMetadata, request, deadline)
        signatures = get_model_metadata_pb2.SignatureDefMap()
        response.metadata["signature_def"].Unpack(signatures)
        if signature_name not in signatures.signature_def:
            known = sorted(signatures.signature_def)
            advice = "Is it a servable of `tagtower run`?"
            if RETRIEVE in known:
                advice = "The version is older than that; `tagtower run` makes a new one."
            raise TagClientError(
                grpc.StatusCode.FAILED_PRECONDITION,
                f"Model `{self.model_name}` has no signature `{signature_name}`.",
                f"{advice} Its signatures: {', '.join(known)}.",
            )
        slots = input_slots(signatures.signature_def[signature_name])
        self._slots[signature_name] = {n: slot for n, slot in slots.items() if n not in own}
        return self._slots[signature_name]

    def _spec(self, signature_name: str = "") -> model_pb2.ModelSpec:
        return model_pb2.ModelSpec(name=self.model_name, signature_name=signature_name)

    def _deadline(self, timeout_s: float | None) -> float:
        if timeout_s is None:
            timeout_s = self.timeout_s
        elif not timeout_s > 0:
            raise ValueError(f"`timeout_s` must be positive. Received: timeout_s={timeout_s}.")
        return time.monotonic() + timeout_s

    def _call(self, rpc: Callable[..., _Answer], request: Any, deadline: float) -> _Answer:
        backoff = _FIRST_BACKOFF_S
        for attempt in range(1, self.max_attempts + 1):
            try:
                return rpc(request, timeout=max(0.0, deadline - time.monotonic()))
            except grpc.RpcError as error:
                pause = backoff * self._random.uniform(0.5, 1.5)
                is_last = attempt == self.max_attempts or time.monotonic() + pause >= deadline
                if error.code() is not grpc.StatusCode.UNAVAILABLE or is_last:
                    raise self._with_advice(error) from error
                time.sleep(pause)
                backoff *= 2
        raise AssertionError("unreachable: the last attempt returns or raises")

    def _with_advice(self, error: grpc.RpcError) -> TagClientError:
        code, details = error.code(), (error.details() or "").rstrip(".")
        advice = ""
        if code is grpc.StatusCode.UNAVAILABLE:
            advice = (
                f"No model server answers at {self.target}: is it started (`tagtower serve`), and "
                "is this its gRPC port?"
            )
        elif code is grpc.StatusCode.DEADLINE_EXCEEDED:
            advice = (
                f"{self.target} did not answer in time: raise `timeout_s`, or look at its load."
            )
        elif code is grpc.StatusCode.NOT_FOUND:
            advice = (
                f"Is `{self.model_name}` the server's --model_name, and has a version been loaded? "
                "`model_status()` says so."
            )
        elif code is grpc.StatusCode.UNIMPLEMENTED:
            advice = f"Is {self.target} the gRPC port of a TensorFlow Serving model server?"
        elif code is grpc.StatusCode.RESOURCE_EXHAUSTED:
            advice = "Send fewer instances at a time."
        return TagClientError(code, f"{details}.", advice)


def _profiles(outputs: Mapping[str, np.ndarray], num_tags: int | None) -> tuple[TagProfile, ...]:
    names = [name for name in (TAGS, SCORES, PROBABILITIES) if name in outputs]
    columns = {name: outputs[name][:, :num_tags].tolist() for name in names}
    probabilities = columns.get(PROBABILITIES) or [None] * len(columns[TAGS])
    profiles = []
    for tags, scores, row in zip(columns[TAGS], columns[SCORES], probabilities, strict=True):
        # Places that could not be filled are the last.
        count = len(scores) - scores.count(float("-inf"))
        profiles.append(
            TagProfile(
                tuple(tag.decode() for tag in tags[:count]),
                tuple(scores[:count]),
                None if row is None else tuple(row[:count]),
            )
        )
    return tuple(profiles)


def _rule(name: str, rows: Sequence[Sequence[str]] | None, num_instances: int) -> np.ndarray:
    """Lists of strings, one a user, as bytes [num_instances, n], padded with empty ones."""
    rows = [()] * num_instances if rows is None else rows
    if isinstance(rows, str) or any(
        isinstance(row, str) or not all(isinstance(value, str) for value in row) for row in rows
    ):
        raise ValueError(f"`{name}` must be a list of lists of strings. Received: {rows!r}.")
    if len(rows) != num_instances:
        raise ValueError(
            f"`{name}` must have one list for each of the {num_instances} instances. "
            f"Received: {len(rows)} lists."
        )
    width = max((len(row) for row in rows), default=0)
    tensor = np.full((num_instances, width), b"", object)
    for i, row in enumerate(rows):
        tensor[i, : len(row)] = [value.encode() for value in row]
    return tensor


def _explanations(
    outputs: Mapping[str, np.ndarray], sent: Mapping[str, np.ndarray]
) -> tuple[TagExplanation, ...]:
    """Reads the outputs of `explain`, which lie beside the values that were sent."""
    names = [name.decode() for name in outputs[FEATURES][0]]
    domains = [name for name in names if contributions_of(name) in outputs]
    explanations = []
    for row, tag in enumerate(sent[EXPLAINED_TAG]):
        values = [
            ValueContribution(domain, value.decode(), contribution, attention)
            for domain in domains
            for value, contribution, attention in zip(
                sent[domain][row],
                outputs[contributions_of(domain)][row].tolist(),
                outputs[attention_of(domain)][row].tolist(),
                strict=True,
            )
            if value
        ]
        by_feature = zip(
            names,
            outputs[CONTRIBUTIONS_BY_FEATURE][row].tolist(),
            outputs[ATTENTION_BY_FEATURE][row].tolist(),
            strict=True,
        )
        explanations.append(
            TagExplanation(
                tag.decode(),
                float(outputs[SCORE][row]),
                # NaN compares with nothing: without a score the values stay as they were sent.
                tuple(sorted(values, key=lambda value: -abs(value.contribution))),
                tuple(FeatureContribution(*feature) for feature in by_feature),
            )
        )
    return tuple(explanations)
