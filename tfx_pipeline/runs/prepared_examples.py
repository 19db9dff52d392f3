"""Examples made once, for many trainings: the pipeline's nodes up to Transform.

A study of towers and a benchmark of training look at the same examples again and again, and want
neither a model nor an index from the pipeline. Imports TFX, hence is itself imported only by the
commands that run a pipeline.
"""

import dataclasses
import os
from typing import Any

import tensorflow_transform as tft

from tfx_pipeline.config.pipeline import PipelineConfig
from tfx_pipeline.examples.write_examples import TAGS_FILE
from tfx_pipeline.pipeline import create_pipeline
from tfx_pipeline.pipeline_inputs import find_inputs
from tfx_pipeline.run_log.lock import only_run
from tfx_pipeline.runs.local_runner import NodeRun
from tfx_pipeline.runs.run import run_nodes
from tfx_pipeline.terminal.console import Console
from trainer.data.input_data import load_snapshots
from trainer.data.snapshots import Snapshots

LAST_NODE = "Transform"


@dataclasses.dataclass(frozen=True)
class PreparedExamples:
    """Where the examples of a configuration are.

    Attributes:
      examples_dir: Raw examples, a folder `Split-<name>` each for train, validation and test.
      transformed_dir: The same examples, transformed.
      transform_dir: The transform graph with its vocabularies.
      summary_dir: What the example generator counted: `counts.json`, `tags.jsonl`.
      nodes: What each node did; all were answered from the cache where nothing had changed.
    """

    examples_dir: str
    transformed_dir: str
    transform_dir: str
    summary_dir: str
    nodes: tuple[NodeRun, ...] = ()

    @property
    def tags_path(self) -> str:
        """Statistics of the tags, JSON lines."""
        return os.path.join(self.summary_dir, TAGS_FILE)

    @property
    def transform_output(self) -> tft.TFTransformOutput:
        """The fitted transform."""
        return tft.TFTransformOutput(self.transform_dir)

    def transformed_files(self, split: str) -> list[str]:
        """File patterns of the transformed examples of one split."""
        return [os.path.join(self.transformed_dir, f"Split-{split}", "*")]

    def snapshots(self, split: str) -> Snapshots:
        """Reads the transformed examples of one split into memory, in canonical order."""
        return load_snapshots(self.transformed_files(split), self.transform_output)


def prepare_examples(config: PipelineConfig, console: Console) -> PreparedExamples:
    """Runs the nodes from ExampleGen to Transform, or finds what they made in the cache.

    Args:
      config: The checked configuration; `output` is where artifacts and metadata are kept. A later
        `tagtower run` with the same output folder takes these examples from the cache.
      console: Where progress goes.

    Returns:
      The folders.

    Raises:
      ValueError: A user's mistake, in one line.
    """
    os.makedirs(config.output_dir, exist_ok=True)
    with only_run(config.output_dir):
        nodes = run_nodes(create_pipeline(config, find_inputs(config), until=LAST_NODE), console)
    outputs: dict[tuple[str, str], Any] = {
        (run.node, name): artifacts[0].uri
        for run in nodes
        for name, artifacts in run.outputs.items()
        if artifacts
    }
    return PreparedExamples(
        examples_dir=outputs["ExampleGen", "examples"],
        transformed_dir=outputs[LAST_NODE, "transformed_examples"],
        transform_dir=outputs[LAST_NODE, "transform_graph"],
        summary_dir=outputs["ExampleGen", "summary"],
        nodes=tuple(nodes),
    )
