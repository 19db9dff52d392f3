"""Input of a batch prediction: files are cut into shards, and shards are read as instances.

One worker reads a shard from its first instance to its last, so the order of the output depends on
the input alone, not on the engine. JSON lines that are not compressed are cut by bytes. A
compressed file or a TFRecord file is one shard, because it cannot be read from the middle.
`serving.batch.files` finds and opens the files.

An instance that cannot be used raises nothing here, but becomes a value, `Rejected`. A truncated
file raises, because the number of missing instances is unknown.
"""

import base64
import dataclasses
import json
import logging
import math
import os
from collections.abc import Collection, Iterator, Mapping
from typing import Any, NamedTuple, NoReturn

import tensorflow as tf
from google.protobuf.message import DecodeError

from serving.batch.files import (
    DAMAGED,
    MOST_INSTANCE_BYTES,
    UTF8_MARK,
    check_lines,
    check_record_lengths,
    check_records,
    compression_of,
    input_files,
    open_uncompressed,
)
from serving.wire.feature_weights import field_without_number
from trainer.contract.config_loader import RepeatedName, require, unique_names
from trainer.contract.data_files import find_data_files
from trainer.contract.file_system import file_size

JSON_LINES, TF_RECORD, BY_NAME = "jsonl", "tf-record", "auto"  # two of Vertex's `instancesFormat`s
INPUT_FORMATS = (BY_NAME, JSON_LINES, TF_RECORD)

_logger = logging.getLogger("tagtower.batch_predict")
_NUM_NAMED = 3
_NUM_SHOWN = 4096  # bytes of a line that is too long

_RECORDS_AT_ONCE = 256


@dataclasses.dataclass(frozen=True)
class Shard:
    """A part of the input that one worker reads.

    Attributes:
      index: Index of the shard among all shards.
      path: Path of the file.
      begin: Position of the first byte; a line belongs to the shard in which it begins.
      end: Position after the last byte; None: the end of the file.
    """

    index: int
    path: str
    begin: int = 0
    end: int | None = None


class UnreadableInput(ValueError):
    """The error of an input file that is truncated or damaged."""


class Instance(NamedTuple):
    """An instance: one user to predict for.

    Attributes:
      text: Instance as JSON.
      key: Value of the key field; None: there is no key field.
      features: Features that are sent to the model, by name.
    """

    text: str
    key: str | int | float | None
    features: dict[str, Any]


class Rejected(NamedTuple):
    """A line or record that nothing can be predicted for.

    Attributes:
      text: Line or record as JSON; a JSON string if the line is not valid JSON.
      key: Value of the key field; None: there is no key field, or it could not be read.
      reason: Sentence that says what is wrong.
    """

    text: str
    key: str | int | float | None
    reason: str


def find_shards(
    pattern: str, input_format: str, shard_bytes: int, name: str = "input"
) -> tuple[str, list[Shard]]:
    """Cuts the input into shards, the same shards for the same files.

    Args:
      pattern: File, folder or glob, see `trainer.contract.data_files`.
      input_format: Format of the input, one of `INPUT_FORMATS`; `auto`: TFRecords if the file's
        name contains `tfrecord`, else JSON lines.
      shard_bytes: Size of a shard of JSON lines.
      name: Name of the flag that gives the input, for messages.

    Returns:
      The format, and the shards: files in order of their names, each from its first byte on.

    Raises:
      ValueError: No file matches, a file cannot be read, or `auto` finds both formats.
    """
    paths = input_files(pattern, name)
    unfinished = sorted({*find_data_files(pattern, with_unfinished=True)} - {*paths})
    if unfinished:
        _logger.warning(
            "not read, because their names say that they are still being written: %s",
            ", ".join(unfinished[:_NUM_NAMED]) + (", ..." if unfinished[_NUM_NAMED:] else ""),
        )
    if input_format == BY_NAME:
        found = {
            TF_RECORD if "tfrecord" in os.path.basename(path).lower() else JSON_LINES
            for path in paths
        }
        require(len(found) == 1, name, "match files of one format", pattern)
        (input_format,) = found
    shards: list[Shard] = []
    for path in paths:
        size = file_size(path)
        if input_format == TF_RECORD:
            check_records(path)
        else:
            check_lines(path, name)
        if input_format == TF_RECORD or compression_of(path) or size <= shard_bytes:
            shards.append(Shard(len(shards), path))
            continue
        for begin in range(0, size, shard_bytes):
            shards.append(Shard(len(shards), path, begin, min(begin + shard_bytes, size)))
    return input_format, shards


def nothing_to_predict(pattern: str) -> str:
    """Returns the error message for an input without any instance, good or bad."""
    return f"`input` must hold at least one instance. Received: {pattern}, where there is none."


class InstanceReader:
    """Reads the instances of shards."""

    def __init__(
        self,
        input_format: str,
        key_field: str | None,
        excluded_fields: Collection[str],
        is_list: Mapping[str, bool],
    ):
        """Initializes the reader of shards.

        Args:
          input_format: Format of the input, `jsonl` or `tf-record`.
          key_field: Field that identifies an instance; None: there is no key field.
          excluded_fields: Fields that are not sent to the model.
          is_list: Whether a feature is a list of values, by name of the feature.
        """
        self._input_format = input_format
        self._key_field = key_field
        self._not_features = {*excluded_fields, *([key_field] if key_field is not None else [])}
        self._is_list = dict(is_list)

    def read(self, shard: Shard) -> Iterator[Instance | Rejected]:
        """Reads the instances of a shard, in order.

        Args:
          shard: Shard to read.

        Yields:
          The instance, or the rejected instance, of each line or record.

        Raises:
          UnreadableInput: The file is truncated or damaged.
        """
        try:
            if self._input_format == TF_RECORD:
                yield from map(self.parse_record, _records(shard.path))
            else:
                yield from map(self.parse_line, _lines(shard))
        except (*DAMAGED, tf.errors.DataLossError) as error:
            if getattr(error, "errno", None) is not None:
                raise  # an error of the system, not of the file: the engine may try again
            reason = " ".join(str(error).split())
            raise UnreadableInput(
                f"`input` must be readable to the end. Received: {shard.path} ({reason})."
            ) from error

    def parse_line(self, line: bytes) -> Instance | Rejected:
        """Parses a line of JSON, which must be an object of feature values.

        Args:
          line: Line to parse.

        Returns:
          The instance, or the rejected one; its text is the line itself, or the beginning of a line
          that is too long.
        """
        if len(line) > MOST_INSTANCE_BYTES:
            shown = json.dumps(line[:_NUM_SHOWN].decode(errors="backslashreplace").strip())
            return Rejected(shown, None, f"The line has more than {MOST_INSTANCE_BYTES >> 20} MB.")
        try:
            text = line.decode().strip()
        except UnicodeDecodeError as error:
            shown = json.dumps(line.decode(errors="backslashreplace").strip())
            return Rejected(shown, None, f"The line is not UTF-8: {error}.")
        try:
            values = _DECODER.decode(text)
        except RepeatedName as error:
            return Rejected(json.dumps(text), None, f"{error}.")
        except (ValueError, RecursionError) as error:
            reason = field_without_number(text) or f"The line is not JSON: {error}."
            return Rejected(json.dumps(text), None, reason)
        if not isinstance(values, dict):
            return Rejected(
                json.dumps(text), None, "The line is not a JSON object of feature values."
            )
        return self._instance(text, values)

    def parse_record(self, record: bytes) -> Instance | Rejected:
        """Parses a serialized `tf.Example`.

        Features that the model does not take are left out, as TensorFlow Serving does, because
        examples also hold labels.

        Args:
          record: Record to parse.

        Returns:
          The equivalent JSON instance, or the rejected one; a feature that is not a list becomes
          its only value.
        """
        try:
            example = tf.train.Example.FromString(record)
        except DecodeError as error:
            return Rejected(_as_base64(record), None, f"The record is not a tf.Example: {error}.")
        if record and not example.HasField("features"):
            return Rejected(
                _as_base64(record), None, "The record is not a tf.Example with features."
            )
        values: dict[str, Any] = {}
        for name, feature in sorted(example.features.feature.items()):
            if name not in self._is_list and name not in self._not_features:
                continue
            try:
                items = _feature_values(feature)
            except UnicodeDecodeError as error:
                return Rejected(_as_base64(record), None, f"`{name}` is not UTF-8: {error}.")
            if self._is_list.get(name, False) or len(items) > 1:
                values[name] = items
            elif items and not (name in self._is_list and _is_nan(items[0])):
                # In examples NaN marks an unknown number. JSON has no NaN, so it is left out.
                values[name] = items[0]
        try:
            text = json.dumps(values, ensure_ascii=False, allow_nan=False)
        except ValueError:
            text = _as_base64(record)  # JSON has no NaN or infinity; the model will refuse them
        return self._instance(text, values)

    def _instance(self, text: str, values: dict[str, Any]) -> Instance | Rejected:
        features = {
            name: value
            for name, value in values.items()
            # null means unknown, like an empty cell of a table. A name that the model does not know
            # is kept even with null, so that it is refused.
            if name not in self._not_features and (value is not None or name not in self._is_list)
        }
        if self._key_field is None:
            return Instance(text, None, features)
        if self._key_field not in values:
            return Rejected(text, None, f"`{self._key_field}` is missing.")
        key = values[self._key_field]
        if not _is_key(key):
            reason = f"`{self._key_field}` must be text or a number. Received: {key!a}."
            return Rejected(text, None, reason)
        return Instance(text, key, features)


def _lines(shard: Shard) -> Iterator[bytes]:
    with open_uncompressed(shard.path) as file:
        if shard.begin:
            # A line that began before this position belongs to the previous shard.
            file.seek(shard.begin - 1)
            file.readline()
        end = math.inf if shard.end is None else shard.end
        position = file.tell() if shard.begin else 0
        while position < end:
            line = file.readline(MOST_INSTANCE_BYTES + 1)
            if not line:
                return
            position += len(line)
            rest = line
            while len(rest) > MOST_INSTANCE_BYTES and not rest.endswith(b"\n"):
                rest = file.readline(MOST_INSTANCE_BYTES + 1)
                position += len(rest)
            # The mark is at the beginning of a file, or inside a file joined from several.
            line = line.removeprefix(UTF8_MARK)
            if line.strip():
                yield line


def _records(path: str) -> Iterator[bytes]:
    compression = "GZIP" if compression_of(path) else ""
    check_record_lengths(path)
    dataset = tf.data.TFRecordDataset(path, compression).batch(_RECORDS_AT_ONCE)
    for records in dataset.as_numpy_iterator():
        yield from records.tolist()


def _feature_values(feature: tf.train.Feature) -> list[Any]:
    kind = feature.WhichOneof("kind")
    if kind is None:
        return []
    items = list(getattr(feature, kind).value)
    return [item.decode() for item in items] if kind == "bytes_list" else items


def _is_nan(value: Any) -> bool:
    return isinstance(value, float) and math.isnan(value)


def _is_key(value: Any) -> bool:
    if isinstance(value, str):
        # JSON's escapes can write a lone surrogate, which cannot be encoded in a file.
        return not any("\ud800" <= char <= "\udfff" for char in value)
    if isinstance(value, float):
        return math.isfinite(value)
    return isinstance(value, int) and not isinstance(value, bool)


def _as_base64(record: bytes) -> str:
    # This is how Vertex represents bytes in JSON.
    return json.dumps({"b64": base64.b64encode(record).decode()})


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON value")


_DECODER = json.JSONDecoder(parse_constant=_refuse_constant, object_pairs_hook=unique_names)
