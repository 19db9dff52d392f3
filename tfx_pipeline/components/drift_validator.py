"""DriftValidator: TFX's DistributionValidator between a day and the last accepted day before it.

This component and no resolver chooses the baseline: the last *accepted* statistics of an earlier
day, so that neither a broken day nor the same day's first attempt is the measure for the next one.
The resolvers that Kubeflow runs know neither. Accepted statistics are stored in a folder, by day.
"""

import datetime
import json
import logging
import os
from typing import Any

from google.protobuf import message
from tensorflow_metadata.proto.v0 import anomalies_pb2, statistics_pb2
from tfx.components.distribution_validator import executor
from tfx.components.statistics_gen import stats_artifact_utils
from tfx.dsl.components.base import base_component, executor_spec
from tfx.types import artifact, artifact_utils, channel, component_spec, standard_artifacts
from tfx.types import standard_component_specs as names
from tfx.utils import json_utils

from tfx_pipeline.artifacts.json_files import read_artifact_json
from tfx_pipeline.config.gate import DistributionThreshold
from tfx_pipeline.config.utc_times import is_day
from tfx_pipeline.evaluation.distributions import read_comparisons, validator_config, violations
from tfx_pipeline.terminal.refusals import NotPushed
from trainer.contract.config_loader import from_saved
from trainer.contract.file_system import is_folder, names_in, open_file
from trainer.contract.whole_files import DamagedFileError, write_bytes, write_json

VALIDATOR_ID = "DriftValidator"
_SECTION = "validation.drift"
_SPLIT = "train"
_ANOMALIES_FILE = os.path.join(f"SplitPair-{_SPLIT}_{_SPLIT}", executor.DEFAULT_FILE_NAME)
_REPORT_FILE = "drift.json"

_logger = logging.getLogger("tagtower.drift_validator")


class DriftValidatorSpec(component_spec.ComponentSpec):
    """Interface of `DriftValidator`; the thresholds are JSON."""

    PARAMETERS = {
        name: component_spec.ExecutionParameter(type=str)
        for name in ("thresholds", "baselines_dir", "baseline", "code")
    }
    INPUTS = {
        names.STATISTICS_KEY: component_spec.ChannelParameter(
            type=standard_artifacts.ExampleStatistics
        )
    }
    OUTPUTS = {
        names.ANOMALIES_KEY: component_spec.ChannelParameter(
            type=standard_artifacts.ExampleAnomalies
        )
    }


class Executor(executor.Executor):
    """Chooses the baseline, validates, and stores the accepted statistics."""

    def Do(  # noqa: N802 (TFX's name)
        self,
        input_dict: dict[str, list[artifact.Artifact]],
        output_dict: dict[str, list[artifact.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Validates the day's statistics as TFX's executor does, against the chosen baseline.

        Args:
          input_dict: Mapping with `statistics`, whose span is the day.
          output_dict: Mapping with `anomalies`.
          exec_properties: Parameters of `DriftValidatorSpec`.

        Raises:
          NotPushed: The distribution of a feature has moved further than is accepted.
        """
        statistics = artifact_utils.get_single_instance(input_dict[names.STATISTICS_KEY])
        anomalies = artifact_utils.get_single_instance(output_dict[names.ANOMALIES_KEY])
        folder = exec_properties["baselines_dir"]
        day = (datetime.date(1970, 1, 1) + datetime.timedelta(days=statistics.span)).isoformat()
        before = last_baseline(folder, day)
        if before:
            _check_statistics(folder, before)
        thresholds = {
            feature: from_saved(DistributionThreshold, threshold)
            for feature, threshold in json.loads(exec_properties["thresholds"]).items()
        }
        super().Do(
            {
                names.STATISTICS_KEY: [statistics],
                names.BASELINE_STATISTICS_KEY: [_baseline(folder, before)] if before else [],
            },
            output_dict,
            {
                names.DISTRIBUTION_VALIDATOR_CONFIG_KEY: validator_config(thresholds),
                names.INCLUDE_SPLIT_PAIRS_KEY: json_utils.dumps([(_SPLIT, _SPLIT)]),
            },
        )
        rows: dict[str, Any] = {"drift.baseline_day": before, "drift.num_violations": 0}
        if before:
            with open_file(os.path.join(anomalies.uri, _ANOMALIES_FILE), "rb") as file:
                found = anomalies_pb2.Anomalies.FromString(file.read())
            comparisons = read_comparisons(found, thresholds)
            failed = violations(comparisons, _SECTION, failed=True)
            if failed:
                raise NotPushed(
                    f"the training examples of {day} have drifted from those of {before}: "
                    f"{'; '.join(failed)}. `tagtower run --accept_drift` takes the day as it is."
                )
            for warning in violations(comparisons, _SECTION, failed=False):
                _logger.info("drift from %s: %s", before, warning)
            rows["drift.num_violations"] = sum(c.is_violated for c in comparisons)
            rows |= {f"drift.{c.feature}.{c.measure}": c.value for c in comparisons}
        write_json(os.path.join(anomalies.uri, _REPORT_FILE), rows)
        _accept(statistics, folder, day)


class DriftValidator(base_component.BaseComponent):
    """Compares a day's training statistics with those of the last accepted day."""

    SPEC_CLASS = DriftValidatorSpec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(Executor)

    def __init__(
        self,
        statistics: channel.BaseChannel,
        thresholds: str,
        baselines_dir: str,
        baseline: str,
        code: str,
    ):
        """Creates the component with its inputs and parameters.

        Args:
          statistics: Statistics of the examples.
          thresholds: `DistributionThreshold` by feature, as JSON.
          baselines_dir: Folder of the accepted statistics.
          baseline: Fingerprint of the statistics that are compared with, for the cache.
          code: Fingerprint of the code, for the cache.
        """
        super().__init__(
            DriftValidatorSpec(
                statistics=statistics,
                thresholds=thresholds,
                baselines_dir=baselines_dir,
                baseline=baseline,
                code=code,
                anomalies=channel.Channel(type=standard_artifacts.ExampleAnomalies),
            )
        )


def drift_rows(anomalies: artifact.Artifact) -> dict[str, Any]:
    """Reads the report's keys of a drift comparison."""
    return read_artifact_json(os.path.join(anomalies.uri, _REPORT_FILE))


def last_baseline(folder: str, day: str) -> str | None:
    """Returns the last day before `day` with accepted statistics; None: there is none."""
    names = names_in(folder) if is_folder(folder) else []
    return max((name for name in names if is_day(name) and name < day), default=None)


def statistics_file(folder: str, day: str) -> str:
    """Returns the path of the accepted statistics of a day."""
    return os.path.join(folder, day, f"Split-{_SPLIT}", stats_artifact_utils.BINARY_PB_BASENAME)


def _check_statistics(folder: str, day: str) -> None:
    """Refuses accepted statistics whose file is damaged."""
    path = statistics_file(folder, day)
    fault = "it is empty"
    try:
        with open_file(path, "rb") as file:
            found = statistics_pb2.DatasetFeatureStatisticsList.FromString(file.read())
        if found.datasets:
            return
    except message.DecodeError:
        fault = "it is truncated or holds no statistics"
    remedy = f"remove {os.path.join(folder, day)}, then the day before it is compared with"
    raise DamagedFileError(f"{path} is damaged: {fault}; {remedy}.")


def _baseline(folder: str, day: str) -> artifact.Artifact:
    statistics = standard_artifacts.ExampleStatistics()
    statistics.uri = os.path.join(folder, day)
    statistics.split_names = artifact_utils.encode_split_names([_SPLIT])
    return statistics


def _accept(statistics: artifact.Artifact, folder: str, day: str) -> None:
    source = os.path.join(
        artifact_utils.get_split_uri([statistics], _SPLIT), stats_artifact_utils.BINARY_PB_BASENAME
    )
    target = statistics_file(folder, day)
    with open_file(source, "rb") as file:
        write_bytes(target, file.read())
