"""The pipeline configuration of every log with every default, as a study of defaults needs them."""

import dataclasses
import os
from collections.abc import Iterable, Mapping
from typing import Any

from tfx_pipeline.config.pipeline import PipelineConfig, load_yaml
from tfx_pipeline.study.grid.config import USER_METRICS, check_names
from tfx_pipeline.study.grid.defaults_config import DefaultConfig, DefaultsConfig
from tfx_pipeline.study.grid.definition import FOLDER, check_output, load_base, merged
from trainer.contract.config_loader import from_mapping, require, to_mapping
from trainer.contract.features import TAG_VOCABULARY, FeatureSpec
from trainer.contract.given_paths import given_path


@dataclasses.dataclass(frozen=True, order=True)
class Sample:
    """A log, or one draw of its users.

    Attributes:
      log: Name of the log.
      draw: Seed of the draw; None: the whole log is the only sample.
    """

    log: str
    draw: int | None = None

    @property
    def name(self) -> str:
        """Name of the sample in the names of its folders."""
        return self.log if self.draw is None else f"{self.log}.draw_{self.draw}"


@dataclasses.dataclass(frozen=True)
class DefaultsStudy:
    """A study of defaults whose configurations are complete and checked.

    Attributes:
      config: Configuration as written.
      bases: Pipeline configurations by log, with the log's overrides.
    """

    config: DefaultsConfig
    bases: Mapping[str, PipelineConfig]

    def __post_init__(self):
        for sample in self.samples:
            for default in self.config.defaults:
                self.trial_config(sample, default)

    @property
    def samples(self) -> tuple[Sample, ...]:
        """All samples, log by log."""
        return tuple(
            Sample(log, draw)
            for log, config in self.config.logs.items()
            for draw in (config.draws or (None,))
        )

    def tables_dir(self, sample: Sample) -> str | None:
        """Returns the folder of a sample's tables; None: they are the configuration's own."""
        log = self.config.logs[sample.log]
        if log.demo is None and log.movielens_1m is None:
            return None
        return os.path.join(self.config.output_dir, "tables", sample.name)

    def sample_config(self, sample: Sample) -> PipelineConfig:
        """Returns the configuration of a sample without any default's overrides."""
        return self._config(sample, {}, sample.name, f"logs.{sample.log}")

    def trial_config(self, sample: Sample, default: str) -> PipelineConfig:
        """Returns the configuration of a sample with a default.

        Raises:
          ValueError: The default does not fit the log's configuration.
        """
        config = self.config.defaults[default]
        base = to_mapping(self.bases[sample.log].features)
        sections = dict(config.sections)
        path = f"defaults.{default}"
        spec = from_mapping(
            FeatureSpec, merged(base, sections.pop("features", {})), f"{path}.features"
        )
        features = to_mapping(spec)
        if config.recent_days is not None or config.latest_events is not None:
            features["domains"] = _with_recency(features["domains"], config)
        name = sample.name if features == base else f"{sample.name}.with_{default}"
        return self._config(sample, {**sections, "features": features}, name, path)

    def data_set(self, sample: Sample, default: str) -> str:
        """Returns the name of the prepared examples: the sample's, unless the features differ."""
        return os.path.basename(self.trial_config(sample, default).output_dir)

    def _config(
        self, sample: Sample, overrides: Mapping[str, Any], data_set: str, path: str
    ) -> PipelineConfig:
        mapping = merged(to_mapping(self.bases[sample.log]), overrides)
        mapping["output"] = os.path.join(self.config.output_dir, "data", data_set)
        # Planted interests are not evaluated here.
        mapping["data"]["planted"] = None
        tables = self.tables_dir(sample)
        if tables is not None:
            mapping["data"] |= {
                "interactions": os.path.join(tables, "interactions"),
                "items": os.path.join(tables, "items.parquet"),
                "users": os.path.join(tables, "users.parquet"),
            }
        return from_mapping(PipelineConfig, mapping, path)


def _with_recency(domains: list[dict[str, Any]], config: DefaultConfig) -> list[dict[str, Any]]:
    """Returns the domains with the twins that `DefaultConfig.recent_days` describes."""
    days, events = config.recent_days, config.latest_events
    key = "latest_events" if days is None else "recent_days"
    lasting = [
        domain
        for domain in domains
        if domain["window_days"] is None and domain["last_events"] is None
    ]
    require(
        bool(lasting),
        key,
        "go with a log that has a domain without `window_days` and `last_events`",
        events if days is None else days,
    )
    if days is None and not events:
        return lasting
    kind = "latest" if days is None else "recent"
    twins = [
        {**domain, "name": f"{kind}_{domain['name']}", "window_days": days, "last_events": events}
        for domain in lasting
        if domain["events"] == "clicked"
        and (domain["vocabulary"] or domain["attribute"]) == TAG_VOCABULARY
    ]
    return lasting + twins


def load_defaults(
    path_or_name: str,
    output: str | None = None,
    seeds: Iterable[int] | None = None,
    logs: Iterable[str] | None = None,
) -> DefaultsStudy:
    """Loads and checks a study of defaults.

    Args:
      path_or_name: A YAML file, or the name of a study that comes with the package.
      output: Output folder that replaces the file's.
      seeds: Seeds that replace the file's.
      logs: Names of the logs to keep; None: all.

    Returns:
      The checked study.

    Raises:
      ValueError: There is no such file, it is not YAML, or a key is unknown, mistyped or
        inconsistent.
    """
    mapping = load_yaml(path_or_name, FOLDER)
    if isinstance(mapping, dict):
        if output is not None:
            mapping["output"] = output
        if seeds is not None:
            mapping["seeds"] = list(seeds)
    try:
        config = _with_given_paths(from_mapping(DefaultsConfig, mapping))
        check_names(config.metrics, USER_METRICS, "metrics")
        if logs is not None:
            chosen = list(logs)
            check_names(chosen, config.logs, "logs")
            kept = {name: log for name, log in config.logs.items() if name in chosen}
            config = dataclasses.replace(config, logs=kept)
        return DefaultsStudy(config, {log: _base(config, log) for log in config.logs})
    except ValueError as error:
        raise ValueError(f"{path_or_name}: {error}") from error


def _base(config: DefaultsConfig, log: str) -> PipelineConfig:
    one = config.logs[log]
    base = load_base(one.config, one.overrides, f"logs.{log}.overrides")
    require(
        not one.from_training_users or base.examples.split == "user_holdout",
        f"logs.{log}.from_training_users",
        "be false where `examples.split` is not user_holdout: every user may be a test user there",
        one.from_training_users,
    )
    return base


def _with_given_paths(config: DefaultsConfig) -> DefaultsConfig:
    paths: dict[str, Any] = {
        name: given_path(getattr(config, name), name)
        for name in ("output", "movielens_dir")
        if getattr(config, name) is not None
    }
    config = dataclasses.replace(config, **paths)
    check_output(config.output_dir)
    return config
