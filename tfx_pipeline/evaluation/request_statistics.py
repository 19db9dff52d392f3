"""Statistics of logged requests, in the form of the training examples' statistics.

A request is what a client sends: feature values by name, one JSON object per line, like the
instances of batch prediction; or a user in the request log of a model server. A feature that is
left out has the value that the server would use: an unknown profile feature, an empty list, a
weight of 1.
"""

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import tensorflow_data_validation as tfdv
from tensorflow_data_validation.statistics import stats_impl
from tensorflow_metadata.proto.v0 import statistics_pb2

from serving.batch.files import log_files
from serving.batch.input import JSON_LINES, InstanceReader, Rejected, find_shards
from tfx_pipeline.evaluation.logged_requests import LogCounts, LogReader
from trainer.contract.arrow import pa
from trainer.contract.batches import batched
from trainer.contract.config_loader import require
from trainer.contract.features import SNAPSHOT_TIME, USER_ID, FeatureSpec, weights_name
from trainer.contract.history import MAX_WEIGHT, is_profile_number, unknown_value
from trainer.contract.tag_normalization import TagNormalization

_SHARD_BYTES = 1 << 40  # one shard per file: they are read one after the other
_BATCH_ROWS = 8_192
# Keys that instances may have besides the features.
_NOT_FEATURES = (USER_ID, SNAPSHOT_TIME)


@dataclasses.dataclass(frozen=True)
class RequestStatistics:
    """Statistics of the requests that were read, and the reasons for rejecting others.

    Attributes:
      statistics: Statistics in the form of TensorFlow Data Validation.
      num_requests: Number of requests that were read.
      rejected: Reasons of the rejected requests, one for each.
      log: What a request log holds beside users.
    """

    statistics: statistics_pb2.DatasetFeatureStatisticsList
    num_requests: int
    rejected: tuple[str, ...]
    log: LogCounts = dataclasses.field(default_factory=LogCounts)


def request_statistics(
    pattern: str, spec: FeatureSpec, tag_normalization: TagNormalization | None = None
) -> RequestStatistics:
    """Reads logged requests and computes their statistics.

    Args:
      pattern: File, folder or glob of JSON lines, compressed or not, or of a request log.
      spec: Feature specification of the model.
      tag_normalization: How the tags of logged events are normalised; None: as by default.

    Returns:
      The statistics of the requests.

    Raises:
      ValueError: There is no file, a file is truncated, or no request can be read.
    """
    rejected: list[str] = []
    log = LogReader(spec, tag_normalization or TagNormalization())
    options = tfdv.StatsOptions()
    generators = stats_impl.get_generators(options, in_memory=True)
    accumulators = [generator.create_accumulator() for generator in generators]
    num_requests = 0
    # These are the generators that TFDV runs on Beam; requests are read here, a batch at a time.
    for batch in _batches(_read(pattern, spec, log, rejected), spec):
        num_requests += batch.num_rows
        accumulators = [
            generator.add_input(accumulator, batch)
            for generator, accumulator in zip(generators, accumulators, strict=True)
        ]
    require(num_requests > 0, "requests", "hold a request that can be read", pattern)
    statistics = stats_impl.extract_statistics_output(accumulators, generators)
    return RequestStatistics(statistics, num_requests, tuple(rejected), log.counts)


def request_values(features: Mapping[str, Any], spec: FeatureSpec) -> dict[str, Any]:
    """Returns the values of every feature, with defaults for those that a request leaves out.

    Args:
      features: Feature values that a client sent.
      spec: Feature specification of the model.

    Returns:
      Values by raw feature name.

    Raises:
      ValueError: A name is unknown, or a value is of the wrong kind.
    """
    unknown = sorted(set(features) - set(spec.raw_names))
    require(not unknown, "features", f"be among {', '.join(spec.raw_names)}", ", ".join(unknown))
    values: dict[str, Any] = {}
    for profile in spec.singles:
        value = features.get(profile.name, unknown_value(profile))
        if profile.is_number:
            require(is_profile_number(value), profile.name, "be a finite number", value)
        else:
            require(isinstance(value, str), profile.name, "be a string", value)
        values[profile.name] = value
    for domain in spec.lists:
        listed = features.get(domain.name, [])
        is_text = isinstance(listed, list) and all(isinstance(value, str) for value in listed)
        require(is_text, domain.name, "be a list of strings", listed)
        if not domain.has_weights:
            values[domain.name] = listed
            continue
        name = weights_name(domain.name)
        weights = features.get(name, [1.0] * len(listed))
        is_numbers = isinstance(weights, list) and all(
            isinstance(w, int | float) and not isinstance(w, bool) and 0 <= w <= MAX_WEIGHT
            for w in weights
        )
        require(
            is_numbers and len(weights) == len(listed),
            name,
            f"be a list of finite numbers, 0 or more, one for each of the {len(listed)} values",
            weights,
        )
        values |= {domain.name: listed, name: weights}
    return values


def _read(
    pattern: str, spec: FeatureSpec, log: LogReader, rejected: list[str]
) -> Iterator[dict[str, Any]]:
    """Yields the values of each valid request; adds the reasons of the others to `rejected`."""
    for features in _features(pattern, spec, log):
        if isinstance(features, str):
            rejected.append(features)
            continue
        try:
            yield request_values(features, spec)
        except ValueError as error:
            rejected.append(str(error))


def _features(pattern: str, spec: FeatureSpec, log: LogReader) -> Iterator[Mapping[str, Any] | str]:
    """Yields the features of each request, or the reason why it cannot be read."""
    paths = log_files(pattern)
    for path in paths:
        yield from log.read(path)
    if paths:
        return
    singles = {feature.name for feature in spec.singles}
    is_list = {name: name not in singles for name in spec.raw_names}
    reader = InstanceReader(JSON_LINES, None, _NOT_FEATURES, is_list)
    for shard in find_shards(pattern, JSON_LINES, _SHARD_BYTES, "requests")[1]:
        for instance in reader.read(shard):
            yield instance.reason if isinstance(instance, Rejected) else instance.features


def _batches(rows: Iterable[dict[str, Any]], spec: FeatureSpec) -> Iterator[pa.RecordBatch]:
    """Converts rows to record batches as they are read from examples: every feature is a list."""
    numbers = {weights_name(domain.name) for domain in spec.domains}
    numbers |= {feature.name for feature in spec.profile if feature.is_number}
    for batch in batched(rows, _BATCH_ROWS):
        arrays = []
        for name in spec.raw_names:
            kind = pa.list_(pa.float32() if name in numbers else pa.binary())
            values = [_as_list(row[name]) for row in batch]
            arrays.append(pa.array(values, kind))
        yield pa.RecordBatch.from_arrays(arrays, list(spec.raw_names))


def _as_list(value: str | float | list[Any]) -> list[Any]:
    values = value if isinstance(value, list) else [value]
    return [v.encode() if isinstance(v, str) else v for v in values]
