"""Batch prediction on Beam: JSON lines in, Vertex-style JSON lines out.

Each worker loads the servable and calls the signature `retrieve`, with the same padding as the
client, so a user gets the same tags as online. A bad instance goes to the errors file with its
reason and stops nothing. Output appears whole: it is written beside its place and renamed at the
end.
"""

import dataclasses
import glob
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import apache_beam as beam
from apache_beam import pvalue
from apache_beam.options.pipeline_options import PipelineOptions

from serving.servable_caller import ServableCaller
from trainer.config_loader import require

RESULTS_PREFIX = "prediction.results"
ERRORS_PREFIX = "prediction.errors_stats"

_ERRORS, _COUNTS = "errors", "counts"
_INVALID = "INVALID_ARGUMENT"


@dataclasses.dataclass(frozen=True)
class BatchPredictConfig:
    """A batch prediction.

    Attributes:
      model_dir: The version folder.
      input_pattern: File or glob of JSON lines, one instance (an object of feature values) a line.
      output_dir: Folder to write; it must not exist.
      num_tags: Tags of a prediction; None: as many as the model gives.
      key_field: Field that identifies an instance: it is not sent to the model, and takes the place
        of the instance in the output (Vertex's `instanceConfig.keyField`).
      excluded_fields: Fields that are not sent to the model but stay in the output.
      batch_size: Instances a call.
      num_shards: Files the results are written to; 0: the engine's choice.
    """

    model_dir: str
    input_pattern: str
    output_dir: str
    num_tags: int | None = None
    key_field: str | None = None
    excluded_fields: tuple[str, ...] = ("user_id",)
    batch_size: int = 256
    num_shards: int = 0

    def __post_init__(self):
        require(self.batch_size >= 1, "batch_size", "be a positive integer", self.batch_size)
        if self.num_tags is not None:
            require(self.num_tags >= 1, "num_tags", "be a positive integer", self.num_tags)


class Predict(beam.DoFn):
    """Lines of instances -> lines of predictions, and lines of errors."""

    def __init__(self, config: BatchPredictConfig):
        """Initializes with the batch prediction's configuration."""
        self._config = config
        self._caller: ServableCaller | None = None

    def setup(self) -> None:
        """Loads the servable, once a worker."""
        self._caller = ServableCaller(self._config.model_dir)

    def process(self, lines: list[str]) -> Iterator[Any]:
        """Predicts a batch; if one of its instances is bad, each by itself."""
        instances = []
        for line in lines:
            try:
                instances.append(_parse(line))
            except ValueError as error:
                yield _error(line, str(error))
        good = []
        for instance in instances:
            missing = self._config.key_field is not None and self._config.key_field not in instance
            if missing:
                yield _error(instance, f"`{self._config.key_field}` is missing.")
            else:
                good.append(instance)
        yield from self._predict(good)

    def _predict(self, instances: list[dict[str, Any]]) -> Iterator[Any]:
        if not instances or self._caller is None:
            return
        dropped = {*self._config.excluded_fields, self._config.key_field}
        features = [
            {k: v for k, v in instance.items() if k not in dropped} for instance in instances
        ]
        try:
            retrieved = self._caller.retrieve(features)
        except ValueError as error:
            if len(instances) == 1:
                yield _error(instances[0], str(error).replace("`features[0]`", "the instance"))
                return
            for instance in instances:
                yield from self._predict([instance])
            return
        columns: dict[str, list] = {"tags": retrieved.tags, "scores": retrieved.scores}
        if retrieved.probabilities is not None:
            columns["probabilities"] = retrieved.probabilities
        for i, instance in enumerate(instances):
            prediction = {name: rows[i] for name, rows in columns.items()}
            yield json.dumps(self._line(instance, prediction), ensure_ascii=False)
        yield pvalue.TaggedOutput(_COUNTS, ("predicted", len(instances)))

    def _line(self, instance: Mapping[str, Any], prediction: dict[str, list]) -> dict[str, Any]:
        # A place that an approximate index could not fill has the tag "".
        found = [i for i, tag in enumerate(prediction["tags"]) if tag][: self._config.num_tags]
        prediction = {name: [values[i] for i in found] for name, values in prediction.items()}
        if self._config.key_field is not None:
            return {"key": instance[self._config.key_field], "prediction": prediction}
        return {"instance": instance, "prediction": prediction}


def batch_predict(config: BatchPredictConfig, pipeline_args: Sequence[str]) -> dict[str, int]:
    """Runs a batch prediction.

    Args:
      config: What to predict.
      pipeline_args: Beam's command line (runner, workers).

    Returns:
      Counts: `predicted` and `errors`.

    Raises:
      ValueError: There is no input, or the output folder exists.
    """
    files = sorted(glob.glob(config.input_pattern))
    require(bool(files), "input", "match at least one file of JSON lines", config.input_pattern)
    require(
        not os.path.exists(config.output_dir),
        "output",
        "be a folder that does not exist yet",
        config.output_dir,
    )
    staging = f"{config.output_dir.rstrip('/')}.partial"
    shutil.rmtree(staging, ignore_errors=True)
    os.makedirs(staging)
    try:
        counts = _run(config, pipeline_args, staging)
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        raise
    os.rename(staging, config.output_dir)
    return {"predicted": counts.get("predicted", 0), "errors": counts.get("errors", 0)}


def _run(config: BatchPredictConfig, pipeline_args: Sequence[str], staging: str) -> dict[str, int]:
    counts_path = os.path.join(staging, "counts.json")
    with beam.Pipeline(
        options=PipelineOptions(list(pipeline_args), save_main_session=False)
    ) as pipeline:
        predicted = (
            pipeline
            | "Read" >> beam.io.ReadFromText(config.input_pattern)
            | "Batch" >> beam.BatchElements(config.batch_size, config.batch_size)
            | "Predict"
            >> beam.ParDo(Predict(config)).with_outputs(_ERRORS, _COUNTS, main="results")
        )
        _write(predicted.results, staging, RESULTS_PREFIX, config.num_shards)
        _write(predicted[_ERRORS], staging, ERRORS_PREFIX, 1)
        (
            (
                predicted[_COUNTS],
                predicted[_ERRORS] | "ToCount" >> beam.Map(_one_error),
            )
            | "AllCounts" >> beam.Flatten()
            | "Sum" >> beam.CombinePerKey(sum)
            | "ToDict" >> beam.combiners.ToDict()
            | "WriteCounts" >> beam.Map(_write_counts, counts_path)
        )
    with open(counts_path, encoding="utf-8") as file:
        counts = json.load(file)
    os.remove(counts_path)
    return counts


def _write(lines: pvalue.PCollection, folder: str, prefix: str, num_shards: int) -> None:
    # Beam's default name is Vertex's: prefix-00000-of-00001.
    writer = beam.io.WriteToText(os.path.join(folder, prefix), num_shards=num_shards)
    lines | f"Write {prefix}" >> writer


def _parse(line: str) -> dict[str, Any]:
    try:
        instance = json.loads(line)
    except ValueError as error:
        raise ValueError(f"The line is no JSON: {error}.") from error
    if not isinstance(instance, dict):
        raise ValueError("The line is no JSON object of feature values.")
    return instance


def _error(instance: Any, message: str) -> pvalue.TaggedOutput:
    error = {"instance": instance, "error": {"status": _INVALID, "message": message}}
    # Escaped: what is wrong with an instance may be that it is no text.
    return pvalue.TaggedOutput(_ERRORS, json.dumps(error))


def _one_error(line: str) -> tuple[str, int]:
    del line
    return "errors", 1


def _write_counts(counts: dict[str, int], path: str) -> None:
    with open(path, "w", encoding="utf-8") as file:
        json.dump(counts, file)
