"""What a batch prediction writes: Vertex AI's JSON lines.

A line of the results is `{"instance": {...}, "prediction": {...}}`, a line of the errors
`{"instance": ..., "error": {"status": "INVALID_ARGUMENT", "message": "..."}}`; with a key field
`"key"` stands in the place of `"instance"`. This is Vertex's `PredictionResult`
(docs.cloud.google.com/gemini-enterprise-agent-platform/reference/rest/Shared.Types/PredictionResult:
`prediction` or `error`, and one of `instance` and `key`). Files have the names of its batch jobs:
`prediction.results-00000-of-00002`, `prediction.errors_stats-00000-of-00001`.

Vertex's lines have no place for the model and the time. They are in `ABOUT_FILE` beside them, whose
name readers of folders pass over; a writer may have them in its files as well.
"""

import abc
import dataclasses
import datetime
import json
from collections.abc import Iterable, Sequence
from typing import ClassVar, NamedTuple

import orjson

from serving.batch.input import Instance, Rejected
from trainer.contract.file_system import open_file

RESULTS_PREFIX = "prediction.results"
ERRORS_PREFIX = "prediction.errors_stats"
ABOUT_FILE = "_predictions.json"

_INVALID = "INVALID_ARGUMENT"


class Predicted(NamedTuple):
    """The tags of an instance, best first.

    Attributes:
      instance: The instance.
      tags: The tags; fewer than asked for where an approximate index found fewer.
      scores: Of each tag.
      probabilities: Of each tag; None: the servable is older than probabilities.
    """

    instance: Instance
    tags: list[str]
    scores: list[float]
    probabilities: list[float] | None


@dataclasses.dataclass(frozen=True)
class PredictedBy:
    """What predictions come from.

    Attributes:
      model_name: Name of the model.
      model_version: Its version.
      time: When the prediction was begun, UTC; one that goes on after a kill keeps it.
    """

    model_name: str
    model_version: str
    time: datetime.datetime


class PredictionWriter(abc.ABC):
    """Writes the results of one shard into one file.

    Attributes:
      format_name: Name of the format.
      suffix: End of the file's name.
      errors_prefix: Begin of the name of the errors file; `_` where the results are to be read as a
        folder.
      layout: Number of the form of what is written: what was begun in another one is begun anew.
    """

    format_name: ClassVar[str]
    suffix: ClassVar[str] = ""
    errors_prefix: ClassVar[str] = ERRORS_PREFIX
    layout: ClassVar[int] = 2

    @abc.abstractmethod
    def __init__(self, path: str, predicted_by: PredictedBy):
        """Opens the file.

        Args:
          path: The file; it does not exist.
          predicted_by: What the predictions come from.
        """

    @abc.abstractmethod
    def write(self, predictions: Sequence[Predicted]) -> None:
        """Writes predictions, in order.

        Args:
          predictions: Of a batch of instances.
        """

    @abc.abstractmethod
    def close(self) -> None:
        """Writes what is left, and closes the file."""


class JsonLinesWriter(PredictionWriter):
    """Vertex's JSON lines."""

    format_name = "jsonl"

    def __init__(self, path: str, predicted_by: PredictedBy):
        """See `PredictionWriter`; Vertex's lines have no place for `predicted_by`."""
        self._file = open_file(path, "w")

    def write(self, predictions: Sequence[Predicted]) -> None:
        """See `PredictionWriter.write`."""
        self._file.write("".join(map(_result_line, predictions)))

    def close(self) -> None:
        """See `PredictionWriter.close`."""
        self._file.close()


def error_lines(rejected: Iterable[Rejected]) -> str:
    """Lines of the errors file.

    Args:
      rejected: What was set aside.

    Returns:
      A line each, in ASCII: what is wrong with an instance may be that it is no text.
    """
    lines = []
    for bad in rejected:
        error = json.dumps({"status": _INVALID, "message": bad.reason})
        lines.append(f'{{{_subject(bad)}, "error": {error}}}\n')
    return "".join(lines)


def _result_line(predicted: Predicted) -> str:
    prediction: dict[str, list] = {"tags": predicted.tags, "scores": predicted.scores}
    if predicted.probabilities is not None:
        prediction["probabilities"] = predicted.probabilities
    # Some two hundred numbers, all finite. Python's json takes 25 times as long to write them: as
    # long as everything else that is done for a user, the model included.
    text = orjson.dumps(prediction).decode()
    return f'{{{_subject(predicted.instance)}, "prediction": {text}}}\n'


def _subject(instance: Instance | Rejected) -> str:
    # An instance is written as it was read: parsing and writing it again would cost as much as the
    # prediction, and could change a number.
    if instance.key is None:
        return f'"instance": {instance.text}'
    return f'"key": {json.dumps(instance.key, ensure_ascii=False)}'
