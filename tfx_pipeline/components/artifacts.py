"""Artifact types that TFX does not have.

In a specification for Kubeflow a type is its name, `NAMESPACE.Title`, by which a container imports
the class: hence `tfx_pipeline` exports these classes, and each must have the name in its
`TYPE_NAME`.
"""

from tfx.types import artifact


class LogSummary(artifact.Artifact):
    """Counts of rows and examples (`counts.json`), and clicks by tag and by item (`*.jsonl`)."""

    TYPE_NAME = "tfx_pipeline.LogSummary"


class Instances(artifact.Artifact):
    """Feature values of users in the split `now`, JSON lines: the input of batch prediction."""

    TYPE_NAME = "tfx_pipeline.Instances"


class IndexEvaluation(artifact.Artifact):
    """Recall and latency of an index, measured from its saved files (`index_evaluation.json`)."""

    TYPE_NAME = "tfx_pipeline.IndexEvaluation"
