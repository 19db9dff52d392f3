"""Output of a batch prediction: Vertex AI's JSON lines.

A line of the results is `{"instance": {...}, "prediction": {...}}`, a line of the errors
`{"instance": ..., "error": {"status": "INVALID_ARGUMENT", "message": "..."}}`; with a key field
`"key"` replaces `"instance"`. This is Vertex's `PredictionResult`
(docs.cloud.google.com/gemini-enterprise-agent-platform/reference/rest/Shared.Types/PredictionResult:
`prediction` or `error`, and one of `instance` and `key`). Files have the names of its batch jobs:
`prediction.results-00000-of-00002`, `prediction.errors_stats-00000-of-00001`.

Vertex's lines have no place for the model and the time. These are in `ABOUT_FILE` beside the
results; programs that read a folder skip a file of this name. A writer may put model and time in
its files as well.
"""

import abc
import dataclasses
import datetime
import json
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar, NamedTuple

import orjson

from serving.batch.input import Instance, Rejected
from trainer.contract.file_system import open_file

RESULTS_PREFIX = "prediction.results"
ERRORS_PREFIX = "prediction.errors_stats"
ABOUT_FILE = "_predictions.json"

_INVALID = "INVALID_ARGUMENT"


class Predicted(NamedTuple):
    """The predicted tags of an instance, best first.

    Attributes:
      instance: Instance that the tags are for.
      tags: Tag names; fewer than requested if an approximate index found fewer.
      scores: Score of each tag.
      probabilities: Probability of each tag; None if an old servable gives no probabilities.
    """

    instance: Instance
    tags: list[str]
    scores: list[float]
    probabilities: list[float] | None


@dataclasses.dataclass(frozen=True)
class PredictedBy:
    """The origin of predictions: model, version and time.

    Attributes:
      model_name: Name of the model.
      model_version: Version of the model.
      time: Time at which the batch prediction began, UTC; a run that continues a killed one keeps
        the time of that run.
    """

    model_name: str
    model_version: str
    time: datetime.datetime


class PredictionWriter(abc.ABC):
    """Writes the results of one shard into one file.

    Attributes:
      format_name: Name of the format.
      suffix: End of the file's name.
      errors_prefix: Beginning of the name of the errors file; it starts with `_` if the results are
        meant to be read as a folder.
      layout: Version number of the output's layout; a run that began with another layout cannot be
        continued.
    """

    format_name: ClassVar[str]
    suffix: ClassVar[str] = ""
    errors_prefix: ClassVar[str] = ERRORS_PREFIX
    layout: ClassVar[int] = 2

    @abc.abstractmethod
    def __init__(self, path: str, predicted_by: PredictedBy):
        """Opens the file.

        Args:
          path: Path of the file, which does not exist yet.
          predicted_by: Model, version and time of the predictions.
        """

    @abc.abstractmethod
    def write(self, predictions: Sequence[Predicted]) -> None:
        """Writes predictions, in order.

        Args:
          predictions: Predictions of a batch of instances.
        """

    @abc.abstractmethod
    def close(self) -> None:
        """Writes what is still buffered and closes the file."""


class JsonLinesWriter(PredictionWriter):
    """Writes results as Vertex's JSON lines."""

    format_name = "jsonl"

    def __init__(self, path: str, predicted_by: PredictedBy):
        """Opens the file; `predicted_by` is unused, as Vertex's lines have no place for it."""
        self._file = open_file(path, "w")

    def write(self, predictions: Sequence[Predicted]) -> None:
        """Writes predictions in order, one line each."""
        self._file.write("".join(map(_result_line, predictions)))

    def close(self) -> None:
        """Closes the results file."""
        self._file.close()


def error_lines(rejected: Iterable[Rejected]) -> str:
    """Returns the lines of the errors file.

    Args:
      rejected: Instances that nothing was predicted for.

    Returns:
      One line for each instance, in ASCII, because an instance may be rejected for not being valid
      text.
    """
    lines = []
    for bad in rejected:
        error = json.dumps({"status": _INVALID, "message": bad.reason})
        lines.append(f'{{{_subject(bad)}, "error": {error}}}\n')
    return "".join(lines)


def _result_line(predicted: Predicted) -> str:
    prediction: dict[str, list[Any]] = {"tags": predicted.tags, "scores": predicted.scores}
    if predicted.probabilities is not None:
        prediction["probabilities"] = predicted.probabilities
    # These are about two hundred numbers, all finite. Python's json takes 25 times as long to write
    # them: as long as all other work for a user, the model included.
    text = orjson.dumps(prediction).decode()
    return f'{{{_subject(predicted.instance)}, "prediction": {text}}}\n'


def _subject(instance: Instance | Rejected) -> str:
    # An instance is written as it was read: to parse and write it again would cost as much as the
    # prediction, and could change a number.
    if instance.key is None:
        return f'"instance": {instance.text}'
    return f'"key": {json.dumps(instance.key, ensure_ascii=False)}'
