"""StrictExampleValidator: TFX's ExampleValidator, but anomalies fail the run."""

import os
from typing import Any

from tensorflow_metadata.proto.v0 import anomalies_pb2
from tfx import types
from tfx.components.example_validator import component, executor
from tfx.dsl.components.base import executor_spec
from tfx.types import artifact_utils, standard_component_specs

from trainer.contract.file_system import open_file

_ANOMALIES_FILE = "SchemaDiff.pb"


class Executor(executor.Executor):
    """Validates as TFX's executor does, then raises an error if there are anomalies."""

    def Do(  # noqa: N802 (TFX's name)
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> Any:
        """Validates the statistics against the schema and fails on anomalies.

        Args:
          input_dict: Mapping with `statistics` and `schema`.
          output_dict: Mapping with `anomalies`.
          exec_properties: Mapping with `exclude_splits`.

        Returns:
          The result of TFX's executor.

        Raises:
          ValueError: A split has anomalies; the message names each feature and its anomaly.
        """
        result = super().Do(input_dict, output_dict, exec_properties)
        anomalies = artifact_utils.get_single_instance(
            output_dict[standard_component_specs.ANOMALIES_KEY]
        )
        found = []
        for split in artifact_utils.decode_split_names(anomalies.split_names):
            path = os.path.join(anomalies.uri, f"Split-{split}", _ANOMALIES_FILE)
            with open_file(path, "rb") as file:
                anomaly_info = anomalies_pb2.Anomalies.FromString(file.read()).anomaly_info
            for feature, info in sorted(anomaly_info.items()):
                found.append(f"feature `{feature}` of split {split}: {info.description}")
        if found:
            raise ValueError(
                f"The examples depart from the declared schema: {' '.join(found)} "
                "Mend the tables (`data`), or declare the values of these features "
                "(`features.profile[].values`)."
            )
        return result


class StrictExampleValidator(component.ExampleValidator):
    """TFX's ExampleValidator with `Executor`."""

    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(Executor)
