"""Batch prediction on Beam, from JSON lines or `tf.Example`s to Vertex's files.

The input is cut into shards, which depend on the files alone. A worker reads a shard from its first
instance to its last, calls the signature `retrieve` on batches of instances, and writes one file of
results. The padding is the client's, so that a user gets the same tags as online. The order and the
batches within a shard are therefore the same on every engine; the order in which the engine
processes shards does not affect the output. A bad instance goes to the errors file with its reason,
and the run continues. The output appears only when it is complete, and a killed run can be
continued (`serving.batch.staging`).

The writer decides the output format: `serving.batch.output` has Vertex's JSON lines. An input
without any instance is an error, and no empty output is written.
"""

import collections
import contextlib
import dataclasses
import logging
import math
import os
from collections.abc import Iterator, Sequence
from concurrent import futures
from typing import Any

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.utils import shared

from serving.batch.input import (
    BY_NAME,
    INPUT_FORMATS,
    Instance,
    InstanceReader,
    Rejected,
    Shard,
    UnreadableInput,
    find_shards,
    nothing_to_predict,
)
from serving.batch.output import (
    JsonLinesWriter,
    Predicted,
    PredictedBy,
    PredictionWriter,
    error_lines,
)
from serving.batch.servable_caller import Retrieved, ServableCaller
from serving.batch.staging import Staging, files_digests, folder_digest
from tagtower_client.feature_tensors import to_tensors
from trainer.contract import signatures as s
from trainer.contract.batches import batched
from trainer.contract.config_loader import require
from trainer.contract.file_system import is_file, open_file
from trainer.contract.manifest import check_manifest
from trainer.contract.whole_files import DamagedFileError, read_json

_logger = logging.getLogger("tagtower.batch_predict")

# TensorFlow computes a call in one thread and without Python's GIL: two calls keep two cores busy.
# More calls would wait for the GIL, which reading and writing JSON holds.
_CALLS_AT_ONCE = 2
_NOT_PREDICTED = "Nothing was predicted; name another version, or push it again."


@dataclasses.dataclass(frozen=True)
class BatchPredictConfig:
    """The settings of a batch prediction.

    Attributes:
      model_dir: Version folder of the model.
      input_pattern: File, folder or glob of instances.
      output_dir: Folder to write; it must not exist.
      num_tags: Maximum number of tags per prediction; None: as many as the model gives.
      key_field: Field that identifies an instance: it is not sent to the model, and replaces the
        instance in the output (Vertex's `instanceConfig.keyField`).
      excluded_fields: Fields that are not sent to the model but stay in the output.
      input_format: Format of the input, one of `serving.batch.input.INPUT_FORMATS`.
      batch_size: Number of instances per call.
      shard_bytes: Size of a shard of JSON lines that are not compressed.
      restart: Whether to begin anew instead of continuing an earlier run.
    """

    model_dir: str
    input_pattern: str
    output_dir: str
    num_tags: int | None = None
    key_field: str | None = None
    excluded_fields: tuple[str, ...] = ("user_id",)
    input_format: str = BY_NAME
    batch_size: int = 256
    shard_bytes: int = 16 << 20
    restart: bool = False

    def __post_init__(self) -> None:
        for name in ("batch_size", "shard_bytes"):
            value = getattr(self, name)
            require(value >= 1, name, "be a positive integer", value)
        if self.num_tags is not None:
            require(self.num_tags >= 1, "num_tags", "be a positive integer", self.num_tags)
        require(
            self.input_format in INPUT_FORMATS,
            "input_format",
            f"be one of {', '.join(INPUT_FORMATS)}",
            self.input_format,
        )


class PredictShard(beam.DoFn):
    """Predicts shards and writes their files into the staging folder."""

    def __init__(
        self,
        config: BatchPredictConfig,
        staging: Staging,
        writer: type[PredictionWriter],
        predicted_by: PredictedBy,
    ):
        """Initializes the function of the pipeline.

        Args:
          config: Settings of the batch prediction; the input format is not `auto`.
          staging: Staging folder to write into.
          writer: Class that writes the results.
          predicted_by: Model, version and time of the predictions, for the writer.
        """
        self._config = config
        self._staging = staging
        self._writer = writer
        self._predicted_by = predicted_by
        # One servable per process, however many threads of it the engine uses.
        self._servables = shared.Shared()

    def setup(self) -> None:
        """Loads the servable, once per process."""
        config = self._config
        self._caller: ServableCaller = self._servables.acquire(
            lambda: ServableCaller(config.model_dir)
        )
        self._reader = InstanceReader(
            config.input_format,
            config.key_field,
            config.excluded_fields,
            {name: slot.is_list for name, slot in self._caller.slots.items()},
        )

    def process(self, shard: Shard) -> None:
        """Predicts a shard; a shard that cannot be read is reported at the end of the run."""
        try:
            self._write(shard)
        except UnreadableInput as error:
            self._staging.give_up_shard(shard.index, str(error))

    def _write(self, shard: Shard) -> None:
        counts = {"predicted": 0, "errors": 0}
        with self._staging.write_shard(shard.index, counts) as files:
            with (
                contextlib.closing(self._writer(files.results, self._predicted_by)) as results,
                open_file(files.errors, "w") as errors,
            ):
                batches = batched(self._reader.read(shard), self._config.batch_size)
                for outcomes in self._predict_ahead(batches):
                    predicted = [outcome for outcome in outcomes if isinstance(outcome, Predicted)]
                    rejected = [outcome for outcome in outcomes if isinstance(outcome, Rejected)]
                    results.write(predicted)
                    errors.write(error_lines(rejected))
                    counts["predicted"] += len(predicted)
                    counts["errors"] += len(rejected)

    def _predict_ahead(
        self, batches: Iterator[list[Instance | Rejected]]
    ) -> Iterator[list[Predicted | Rejected]]:
        """Yields outcomes of batches, in order; the next batches run while one is written."""
        with futures.ThreadPoolExecutor(_CALLS_AT_ONCE) as executor:
            pending = collections.deque[futures.Future[list[Predicted | Rejected]]]()
            for batch in batches:
                pending.append(executor.submit(self._predict, batch))
                if len(pending) > _CALLS_AT_ONCE:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()

    def _predict(self, batch: Sequence[Instance | Rejected]) -> list[Predicted | Rejected]:
        """Returns the outcome of each instance of a batch, in order."""
        answers = iter(self._retrieve([read for read in batch if isinstance(read, Instance)]))
        return [read if isinstance(read, Rejected) else next(answers) for read in batch]

    def _retrieve(self, instances: Sequence[Instance]) -> list[Predicted | Rejected]:
        if not instances:
            return []
        try:
            retrieved = self._caller.retrieve([instance.features for instance in instances])
        except ValueError as error:
            checked = [self._check(instance) for instance in instances]
            if any(isinstance(read, Rejected) for read in checked):
                # The well-formed instances stay one batch.
                return self._predict(checked)
            if len(instances) == 1:
                return [_rejected(instances[0], error)]
            # Every instance is well-formed, but the model refuses at least one of them.
            middle = len(instances) // 2
            return self._retrieve(instances[:middle]) + self._retrieve(instances[middle:])
        return [self._outcome(instance, retrieved, i) for i, instance in enumerate(instances)]

    def _check(self, instance: Instance) -> Instance | Rejected:
        try:
            to_tensors([instance.features], self._caller.slots)
        except ValueError as error:
            return _rejected(instance, error)
        return instance

    def _outcome(self, instance: Instance, retrieved: Retrieved, row: int) -> Predicted | Rejected:
        tags, scores = retrieved.tags[row], retrieved.scores[row]
        # Places that an approximate index could not fill come last and have the tag "".
        end = len(tags) - tags.count("")
        end = end if self._config.num_tags is None else min(end, self._config.num_tags)
        columns = retrieved.probabilities
        probabilities = None if columns is None else columns[row][:end]
        if all(map(math.isfinite, (*scores[:end], *(probabilities or ())))):
            return Predicted(instance, tags[:end], scores[:end], probabilities)
        reason = "The model's scores of the instance are not finite."
        return Rejected(instance.text, instance.key, reason)


def batch_predict(
    config: BatchPredictConfig,
    pipeline_args: Sequence[str],
    writer: type[PredictionWriter] = JsonLinesWriter,
) -> dict[str, int]:
    """Runs a batch prediction, or continues one that was killed.

    Args:
      config: Settings of the batch prediction.
      pipeline_args: Beam's command line: runner, workers and other options of the runner. Every
        worker must have this package, and reach model, input and output by the same paths.
      writer: Class that writes the results.

    Returns:
      Counts `predicted` and `errors` of the whole output.

    Raises:
      ValueError: The version is damaged, there is no input or no instance in it, a file of it
        cannot be read or is truncated, the output folder exists, or an earlier run began with
        another model, input or options.
    """
    if not check_manifest(config.model_dir, remedy=_NOT_PREDICTED):
        _logger.info("%s has no manifest, not checked", config.model_dir)
    input_format, shards = find_shards(
        config.input_pattern, config.input_format, config.shard_bytes
    )
    config = dataclasses.replace(config, input_format=input_format)
    staging = Staging(config.output_dir, len(shards), writer.suffix, writer.errors_prefix)
    manifest = _manifest(config, shards, writer)
    with staging.begin(manifest, config.restart) as time:
        folder = manifest["model"]["version"]
        version = str(int(folder)) if folder.isdecimal() else folder  # `00000007` is version 7
        predicted_by = PredictedBy(_model_name(config.model_dir), version, time)
        pending = [shard for shard in shards if not staging.is_done(shard.index)]
        if len(pending) < len(shards):
            _logger.info(
                "resuming: %d of %d shards are done",
                len(shards) - len(pending),
                len(shards),
            )
        if pending:
            options = PipelineOptions(list(pipeline_args), save_main_session=False)
            with beam.Pipeline(options=options) as pipeline:
                (
                    pipeline
                    | "Shards" >> beam.Create(pending)
                    # Without this an engine may keep all shards on the worker that created them.
                    | "Spread" >> beam.Reshuffle()
                    | "Predict" >> beam.ParDo(PredictShard(config, staging, writer, predicted_by))
                )
        counts = staging.totals()
        if not any(counts.values()):
            staging.discard()
            raise ValueError(nothing_to_predict(config.input_pattern))
        model = {**manifest["model"], "name": predicted_by.model_name, "version": version}
        about = {**manifest, "model": model, "time": time.isoformat(), "counts": counts}
        staging.finish(about)
        return counts


def _model_name(model_dir: str) -> str:
    """Returns the name of the run that made a version, else the name of the versions' folder."""
    path = os.path.join(model_dir, s.PROVENANCE_FILE)
    made_by = None
    if is_file(path):
        try:
            made_by = read_json(path, "the name of its folder is used instead").get("run")
        except DamagedFileError as error:
            _logger.warning("%s", error)
    return made_by or os.path.basename(os.path.dirname(os.path.normpath(model_dir)))


def _manifest(
    config: BatchPredictConfig, shards: Sequence[Shard], writer: type[PredictionWriter]
) -> dict[str, Any]:
    """Returns everything that determines the bytes of the output."""
    return {
        "layout": writer.layout,
        "model": {
            "version": os.path.basename(os.path.normpath(config.model_dir)),
            "content": folder_digest(config.model_dir),
        },
        "input": {
            "format": config.input_format,
            "files": files_digests(dict.fromkeys(shard.path for shard in shards)),
        },
        "options": {
            "output_format": writer.format_name,
            "num_tags": config.num_tags,
            "key_field": config.key_field,
            "excluded_fields": sorted(config.excluded_fields),
            "batch_size": config.batch_size,
            "shard_bytes": config.shard_bytes,
        },
    }


def _rejected(instance: Instance, error: ValueError) -> Rejected:
    reason = str(error).replace("`features[0]`", "the instance")
    return Rejected(instance.text, instance.key, reason)
