"""Request logs of a model server as instances: one for each user that a request asks for.

A log is TFRecord files of TensorFlow Serving's `PredictionLog`, as `tagtower serve` writes them;
it may be read while the server writes. A file that ends in `.part` is being written, or its server
was killed: its last record may be cut off, which is counted. Logged answers are not used.
"""

import dataclasses
import struct
from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO

import google_crc32c
import numpy as np
from google.protobuf.message import DecodeError
from tensorflow_serving.apis import prediction_log_pb2

from serving.batch.files import DAMAGED, PART, check_records, open_uncompressed
from serving.batch.input import TF_RECORD, InstanceReader, Rejected, UnreadableInput
from serving.client.fresh_events import EventFeatures
from tagtower_client.tensor_proto import to_numpy
from trainer.contract import signatures as s
from trainer.contract.config_loader import require
from trainer.contract.features import SNAPSHOT_TIME, USER_ID, FeatureSpec, weights_name
from trainer.contract.tag_normalization import TagNormalization

_LENGTH, _CHECKSUM = struct.Struct("<Q"), struct.Struct("<I")
_HEADER_BYTES = _LENGTH.size + _CHECKSUM.size
_MASK_DELTA = 0xA282EAD8
# Names of the inputs about an event, and of what they mean to `EventFeatures`.
_EVENT_FIELDS = {
    s.EVENT_ITEM_ID: "item_id",
    s.EVENT_CLICKED: "clicked",
    s.EVENT_TIME: "timestamp",
    s.EVENT_CATEGORY: "category",
    s.EVENT_WEIGHT: "weight",
}


@dataclasses.dataclass
class LogCounts:
    """What was found in the files of a log beside instances.

    Attributes:
      num_cut_off: Number of files that end in the middle of a record.
      num_without_features: Number of requests of signatures that take no user's features.
    """

    num_cut_off: int = 0
    num_without_features: int = 0


class LogReader:
    """Reads the users' features from the files of a request log.

    Args:
      spec: Feature specification of the model.
      tag_normalization: How the tags of events are normalised.

    Attributes:
      counts: What was found beside instances.
    """

    def __init__(self, spec: FeatureSpec, tag_normalization: TagNormalization):
        self.counts = LogCounts()
        self._spec = spec
        self._events = EventFeatures(spec, tag_normalization)
        self._singles = {feature.name for feature in spec.singles}
        self._numbers = {feature.name for feature in spec.profile if feature.is_number}
        is_list = {name: name not in self._singles for name in spec.raw_names}
        self._examples = InstanceReader(TF_RECORD, None, (USER_ID, SNAPSHOT_TIME), is_list)

    def read(self, path: str) -> Iterator[dict[str, Any] | str]:
        """Reads the instances of a file, in order.

        Args:
          path: Path of the file.

        Yields:
          The features of each user by name, or the reason why a record cannot be read.

        Raises:
          UnreadableInput: The file is damaged, or cut off and not one that is being written.
        """
        try:
            for record in self._records(path):
                try:
                    yield from self._instances(record)
                except (ValueError, LookupError, TypeError, AttributeError) as error:
                    # The last two: a tensor of another type or rank than the feature has today.
                    yield " ".join(str(error).split())
        except DAMAGED as error:
            if getattr(error, "errno", None) is not None:
                raise  # an error of the system, not of the file
            reason = " ".join(str(error).split())
            raise UnreadableInput(
                f"`requests` must be readable to the end. Received: {path} ({reason})."
            ) from error

    def _records(self, path: str) -> Iterator[bytes]:
        try:
            check_records(path)
            file = open_uncompressed(path)
        except FileNotFoundError:
            if not path.endswith(PART):
                raise
            path = path.removesuffix(PART)  # it has been closed since it was listed
            file = open_uncompressed(path)
        with file:
            try:
                yield from _records_of(file)
            except _CutOffError:
                if not path.endswith(PART):
                    raise
                self.counts.num_cut_off += 1

    def _instances(self, record: bytes) -> Iterator[dict[str, Any] | str]:
        try:
            log = prediction_log_pb2.PredictionLog.FromString(record)
        except DecodeError as error:
            raise ValueError(f"The record is not a PredictionLog: {error}.") from error
        kind = log.WhichOneof("log_type")
        require(kind == "predict_log", "log_type", "be predict_log", kind)
        tensors = log.predict_log.request.inputs
        inputs = {name: to_numpy(tensor) for name, tensor in tensors.items()}
        if s.EXAMPLES in inputs:
            for example in inputs[s.EXAMPLES].ravel().tolist():
                instance = self._examples.parse_record(example)
                yield instance.reason if isinstance(instance, Rejected) else instance.features
        elif s.NOW in inputs and s.EVENT_TAGS in inputs:
            yield from self._of_events(inputs)
        elif inputs.keys() & set(self._spec.raw_names):
            (name, *_) = sorted(inputs.keys() & set(self._spec.raw_names))
            for user in range(len(inputs[name])):
                yield self._features(inputs, user)
        else:
            self.counts.num_without_features += 1

    def _features(self, inputs: Mapping[str, np.ndarray], user: int) -> dict[str, Any]:
        """Returns the raw features of a user, without the padding of lists."""
        features: dict[str, Any] = {}
        for feature in (*self._spec.singles, *self._spec.lists):
            name = feature.name
            if name not in inputs:
                continue
            values = inputs[name][user]
            if name in self._singles:
                features[name] = float(values) if name in self._numbers else values.decode()
                continue
            is_value = values != b""
            features[name] = [value.decode() for value in values[is_value]]
            weights = weights_name(name)
            if feature.has_weights and weights in inputs:
                features[weights] = inputs[weights][user][is_value].tolist()
        return features

    def _of_events(self, inputs: Mapping[str, np.ndarray]) -> Iterator[dict[str, Any]]:
        is_flat = s.NUM_EVENTS in inputs
        users = _flat_events(inputs) if is_flat else _nested_events(inputs)
        for user, events in enumerate(users):
            profile = self._features(inputs, user)
            yield self._events.instance(events, profile, float(inputs[s.NOW][user]))


class _CutOffError(EOFError):
    """The error of a file that ends in the middle of a record."""


def _records_of(file: BinaryIO) -> Iterator[bytes]:
    """Yields the records of a file that may be renamed, or written to, meanwhile.

    https://www.tensorflow.org/tutorials/load_data/tfrecord#tfrecords_format_details
    """
    while header := file.read(_HEADER_BYTES):
        if len(header) < _HEADER_BYTES:
            raise _CutOffError("the last record is cut off")
        _check(header)
        (length,) = _LENGTH.unpack_from(header)
        content = file.read(length + _CHECKSUM.size)
        if len(content) < length + _CHECKSUM.size:
            raise _CutOffError("the last record is cut off")
        _check(content)
        yield content[:length]


def _check(checked: bytes) -> None:
    """Compares content with the checksum behind it."""
    crc = google_crc32c.value(checked[: -_CHECKSUM.size])
    masked = ((crc >> 15 | crc << 17) + _MASK_DELTA) & 0xFFFFFFFF
    if checked[-_CHECKSUM.size :] != _CHECKSUM.pack(masked):
        raise EOFError("a record is damaged")


def _nested_events(inputs: Mapping[str, np.ndarray]) -> Iterator[list[dict[str, Any]]]:
    for user, tags_of_events in enumerate(inputs[s.EVENT_TAGS]):
        events = []
        for position, tags in enumerate(tags_of_events):
            # An event without tags is padding, or does not count.
            if texts := [tag.decode() for tag in tags if tag]:
                events.append({"tags": texts, **_event(inputs, (user, position))})
        yield events


def _flat_events(inputs: Mapping[str, np.ndarray]) -> Iterator[list[dict[str, Any]]]:
    first_tags = np.cumsum([0, *inputs[s.EVENT_NUM_TAGS]])
    first_events = np.cumsum([0, *inputs[s.NUM_EVENTS]])
    for begin, end in zip(first_events, first_events[1:], strict=False):
        events = []
        for position in range(begin, end):
            tags = inputs[s.EVENT_TAGS][first_tags[position] : first_tags[position + 1]]
            if texts := [tag.decode() for tag in tags if tag]:
                events.append({"tags": texts, **_event(inputs, (position,))})
        yield events


def _event(inputs: Mapping[str, np.ndarray], position: tuple[int, ...]) -> dict[str, Any]:
    event = {}
    for name, field in _EVENT_FIELDS.items():
        if name in inputs:
            value = inputs[name][position]
            event[field] = value.decode() if isinstance(value, bytes) else value.item()
    return {"item_id": "", **event}
