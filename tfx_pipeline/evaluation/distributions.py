"""Distances between distributions of features, by TensorFlow Data Validation, and their limits.

There are two measures: the largest difference in a value's share (L-infinity), and the
Jensen-Shannon divergence. Drift compares the training examples of two days, skew compares requests
with training examples.
"""

import dataclasses
from collections.abc import Mapping, Sequence

import tensorflow_data_validation as tfdv
from tensorflow_metadata.proto.v0 import anomalies_pb2, schema_pb2, statistics_pb2
from tfx.proto import distribution_validator_pb2

from tfx_pipeline.config.gate import DistributionThreshold

Thresholds = Mapping[str, DistributionThreshold]

FAIL = "fail"
_MEASURES = {
    anomalies_pb2.DriftSkewInfo.Measurement.L_INFTY: "l_infinity",
    anomalies_pb2.DriftSkewInfo.Measurement.JENSEN_SHANNON_DIVERGENCE: "jensen_shannon",
}
_WORDS = {"l_infinity": "L-infinity distance", "jensen_shannon": "Jensen-Shannon divergence"}


@dataclasses.dataclass(frozen=True)
class Comparison:
    """The distance of one feature's distributions by one measure.

    Attributes:
      feature: Name of the feature.
      measure: Name of the measure: `l_infinity` or `jensen_shannon`.
      value: Measured distance; None: one side has no value of the feature, so that nothing was
        compared.
      threshold: Largest accepted distance.
      on_violation: Effect of a violation: `fail` or `warn`.
    """

    feature: str
    measure: str
    value: float | None
    threshold: float
    on_violation: str

    @property
    def is_violated(self) -> bool:
        """Whether the distance is too large, or could not be measured."""
        return self.value is None or self.value > self.threshold

    @property
    def is_failed(self) -> bool:
        """Whether a violation fails the run, and does not only warn."""
        return self.is_violated and self.on_violation == FAIL

    def __str__(self) -> str:
        measured = "not comparable, as one side has no value"
        if self.value is not None:
            measured = f"{_WORDS[self.measure]} {self.value:.4f}"
        return f"feature `{self.feature}`: {measured}, at most {self.threshold:g} is accepted"


def validator_config(
    thresholds: Thresholds,
) -> distribution_validator_pb2.DistributionValidatorConfig:
    """Returns the thresholds in the form of TFX's DistributionValidator."""
    config = distribution_validator_pb2.DistributionValidatorConfig()
    for feature, threshold in sorted(thresholds.items()):
        entry = config.default_slice_config.feature.add()
        entry.path.step.append(feature)
        _set_comparator(entry.distribution_comparator, threshold)
    return config


def read_comparisons(
    anomalies: anomalies_pb2.Anomalies, thresholds: Thresholds
) -> list[Comparison]:
    """Reads the measured distances from the result of a validation.

    Args:
      anomalies: Result of the validation.
      thresholds: Thresholds of the validation by feature.

    Returns:
      One comparison for each feature and each of its measures, in order of their names.
    """
    measured = {}
    for info in anomalies.drift_skew_info:
        for measurement in (*info.drift_measurements, *info.skew_measurements):
            name = ".".join(info.path.step)
            measured[name, _MEASURES[measurement.type]] = measurement.value
    return [
        Comparison(feature, name, measured.get((feature, name)), accepted, threshold.on_violation)
        for feature, threshold in sorted(thresholds.items())
        for name in ("l_infinity", "jensen_shannon")
        if (accepted := getattr(threshold, name)) is not None
    ]


def compare_requests(
    requests: statistics_pb2.DatasetFeatureStatisticsList,
    training: statistics_pb2.DatasetFeatureStatisticsList,
    thresholds: Thresholds,
) -> list[Comparison]:
    """Compares the distributions of requests and of training examples.

    Args:
      requests: Statistics of the requests.
      training: Statistics of the training examples.
      thresholds: Thresholds by feature.

    Returns:
      One comparison for each feature and each of its measures, see `read_comparisons`.
    """
    schema = tfdv.infer_schema(training)
    known = {feature.name for feature in schema.feature}
    for feature, threshold in thresholds.items():
        if feature in known:  # otherwise training has no value of it
            _set_comparator(tfdv.get_feature(schema, feature).skew_comparator, threshold)
    anomalies = tfdv.validate_statistics(training, schema, serving_statistics=requests)
    return read_comparisons(anomalies, thresholds)


def violations(comparisons: Sequence[Comparison], section: str, *, failed: bool) -> list[str]:
    """Returns messages for the violations that fail, or for those that only warn.

    Args:
      comparisons: All comparisons.
      section: Section of the configuration with the thresholds.
      failed: Whether violations that fail are returned, or those that warn.

    Returns:
      One line for each violation, with the key of its threshold.
    """
    return [
        f"{c} (`{section}.{c.feature}.{c.measure}`)"
        for c in comparisons
        if c.is_violated and c.is_failed == failed
    ]


def _set_comparator(
    comparator: schema_pb2.FeatureComparator, threshold: DistributionThreshold
) -> None:
    if threshold.l_infinity is not None:
        comparator.infinity_norm.threshold = threshold.l_infinity
    if threshold.jensen_shannon is not None:
        comparator.jensen_shannon_divergence.threshold = threshold.jensen_shannon
