"""TableExampleGen: makes examples, instances of the split `now` and a log summary from the tables.

It does not derive from TFX's `FileBasedExampleGen`, which reads one file pattern per split and
knows neither point-in-time features, nor joined tables, nor the assignment of users to splits. Its
output is a standard `Examples` artifact all the same. The fingerprint of the tables is an execution
property, as stock TFX fingerprints only the inputs of its own ExampleGens.

A window over days is resolved here and not in a driver, as Kubeflow runs none: the properties are
the pattern, the number of days and the last one, possibly `latest`. The last day is the span of the
artifact.
"""

import json
import os
from typing import Any

from tfx import types
from tfx.components.util import examples_utils
from tfx.dsl.components.base import base_beam_component, base_beam_executor, executor_spec
from tfx.proto import example_gen_pb2
from tfx.types import artifact_utils, channel, component_spec, standard_artifacts

from tfx_pipeline.components.artifacts import Instances, LogSummary
from tfx_pipeline.config.data import DataConfig
from tfx_pipeline.config.examples import ExamplesConfig
from tfx_pipeline.examples import write_examples as table_examples
from tfx_pipeline.examples.notes import read_summary
from tfx_pipeline.examples.shuffle import workplace_of
from tfx_pipeline.tables.daily_window import find_window, with_cut_days, with_day
from tfx_pipeline.tables.inputs import check_counts, find_tables
from trainer.contract.config_loader import from_saved
from trainer.contract.features import FeatureSpec
from trainer.contract.file_system import (
    copy_folder,
    is_folder,
    matching,
    remove_file,
    remove_folder,
)
from trainer.contract.whole_files import UNFINISHED_SUFFIX, write_json

WINDOW_FILE = "window.json"  # in the summary: the days that were read

_Artifacts = dict[str, list[types.Artifact]]


class TableExampleGenSpec(component_spec.ComponentSpec):
    """Interface of `TableExampleGen`; the configurations are JSON."""

    PARAMETERS = {
        name: component_spec.ExecutionParameter(type=str)
        for name in ("data", "day", "features", "examples_config", "rejected_dir", "tables", "code")
    }
    INPUTS: dict[str, Any] = {}
    OUTPUTS = {
        "examples": component_spec.ChannelParameter(type=standard_artifacts.Examples),
        "instances": component_spec.ChannelParameter(type=Instances),
        "summary": component_spec.ChannelParameter(type=LogSummary),
    }


class Executor(base_beam_executor.BaseBeamExecutor):
    """Runs `tfx_pipeline.examples.write_examples` on the configured Beam engine."""

    def Do(  # noqa: N802 (TFX's name)
        self, input_dict: _Artifacts, output_dict: _Artifacts, exec_properties: dict[str, Any]
    ) -> None:
        """Writes the examples; raises `ValueError` where too many rows were rejected.

        Args:
          input_dict: Empty mapping.
          output_dict: Mapping with `examples`, `instances`, `summary`.
          exec_properties: Parameters of `TableExampleGenSpec`.
        """
        data = from_saved(DataConfig, json.loads(exec_properties["data"]), "data")
        if exec_properties["day"]:
            data = with_day(data, exec_properties["day"])
        window = find_window(data)
        if window is not None:
            # The run keeps this day, even if newer data arrive meanwhile.
            data = with_day(data, window.day)
        spec = from_saved(FeatureSpec, json.loads(exec_properties["features"]), "features")
        config = from_saved(
            ExamplesConfig, json.loads(exec_properties["examples_config"]), "examples"
        )
        artifacts = {
            name: artifact_utils.get_single_instance(output_dict[name]) for name in output_dict
        }
        outputs = table_examples.ExampleOutputs(
            examples=artifacts["examples"].uri,
            instances=artifacts["instances"].uri,
            summary=artifacts["summary"].uri,
            rejected=exec_properties["rejected_dir"],
        )
        remove_folder(outputs.rejected)
        files = find_tables(data, spec)
        beam_pipeline = self._make_beam_pipeline()
        with workplace_of(beam_pipeline.options, outputs.examples) as workplace:
            with beam_pipeline as pipeline:
                table_examples.write_examples(
                    pipeline,
                    data,
                    spec,
                    with_cut_days(config, window),
                    outputs,
                    files,
                    workplace,
                    day_end=None if window is None else window.end,
                )
        _remove_unfinished(outputs)
        counts, forms = read_summary(outputs.summary)
        check_counts(counts, data, outputs.rejected, forms)
        # A failed run keeps the rejected rows in `rejected_dir` alone: its artifacts are removed.
        if is_folder(outputs.rejected):
            kept = os.path.join(outputs.summary, os.path.basename(outputs.rejected))
            copy_folder(outputs.rejected, kept)
        examples = artifacts["examples"]
        if window is not None:
            examples.span = window.span
            write_json(os.path.join(outputs.summary, WINDOW_FILE), window.facts())
        examples.split_names = artifact_utils.encode_split_names(list(table_examples.ALL_SPLITS))
        examples_utils.set_payload_format(examples, example_gen_pb2.FORMAT_TF_EXAMPLE)
        examples_utils.set_file_format(examples, "tfrecords_gzip")


def _remove_unfinished(outputs: table_examples.ExampleOutputs) -> None:
    """Removes unfinished files of killed workers, as TFX reads all files of a split."""
    splits = (outputs.split(name) for name in table_examples.ALL_SPLITS)
    for folder in (*splits, outputs.instances, outputs.summary):
        for path in matching(os.path.join(folder, f"*{UNFINISHED_SUFFIX}")):
            remove_file(path)


class TableExampleGen(base_beam_component.BaseBeamComponent):
    """Makes point-in-time examples from the three tables (splits train, validation, test, now)."""

    SPEC_CLASS = TableExampleGenSpec
    EXECUTOR_SPEC = executor_spec.BeamExecutorSpec(Executor)

    def __init__(
        self,
        data: str,
        day: str,
        features: str,
        examples_config: str,
        rejected_dir: str,
        tables: str,
        code: str,
    ):
        """Creates the component with its parameters.

        Args:
          data: `DataConfig` as JSON.
          day: Last day of the window, in place of the one in `data`; empty: the one in `data`.
          features: `FeatureSpec` as JSON.
          examples_config: `ExamplesConfig` as JSON.
          rejected_dir: Folder for the rejected rows.
          tables: Fingerprint of the tables' contents.
          code: Fingerprint of the code, for the cache.
        """
        outputs = TableExampleGenSpec.OUTPUTS.items()
        channels = {name: channel.Channel(type=parameter.type) for name, parameter in outputs}
        super().__init__(
            TableExampleGenSpec(
                data=data,
                day=day,
                features=features,
                examples_config=examples_config,
                rejected_dir=rejected_dir,
                tables=tables,
                code=code,
                **channels,
            )
        )
