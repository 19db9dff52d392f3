"""Artifact types beside TFX's own.

In a specification for Kubeflow a type is its name, `NAMESPACE.Title`, and a container imports the
class by it: hence `tfx_pipeline` hands these out, and each must be called what it is named.
"""

from tfx.types import artifact


class LogSummary(artifact.Artifact):
    """Counts of rows and examples (`counts.json`), clicks by tag and by item (`*.jsonl`)."""

    TYPE_NAME = "tfx_pipeline.LogSummary"


class Instances(artifact.Artifact):
    """Feature values of every user *now*, JSON lines: the input of batch prediction."""

    TYPE_NAME = "tfx_pipeline.Instances"


class IndexEvaluation(artifact.Artifact):
    """Recall and latency of an index, measured from its saved files (`index_evaluation.json`)."""

    TYPE_NAME = "tfx_pipeline.IndexEvaluation"
