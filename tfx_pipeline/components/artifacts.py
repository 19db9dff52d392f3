"""Artifact types beside TFX's own."""

from tfx.types import artifact


class LogSummary(artifact.Artifact):
    """Counts of rows and examples (`counts.json`), clicks by tag and by item (`*.jsonl`)."""

    TYPE_NAME = "TagtowerLogSummary"


class Instances(artifact.Artifact):
    """Feature values of every user *now*, JSON lines: the input of batch prediction."""

    TYPE_NAME = "TagtowerInstances"


class IndexEvaluation(artifact.Artifact):
    """Recall and latency of an index, measured from its saved files (`index_evaluation.json`)."""

    TYPE_NAME = "TagtowerIndexEvaluation"
