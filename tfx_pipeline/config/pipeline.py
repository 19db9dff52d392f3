"""The configuration of a pipeline: one YAML file, one frozen dataclass, checked on loading."""

import dataclasses
import json
import os
from importlib import resources
from typing import Any

from tfx_pipeline.config.beam import BeamConfig
from tfx_pipeline.config.data import DataConfig
from tfx_pipeline.config.examples import ExamplesConfig
from tfx_pipeline.config.gate import NUMBER_LABELS, TEXT_LABELS, GateConfig, ValidationConfig
from tfx_pipeline.config.paths import check_written, with_given_paths
from tfx_pipeline.config.serving import BatchConfig, IndexConfig, ServingConfig
from tfx_pipeline.config.vertex import VertexConfig
from tfx_pipeline.config.yaml_document import MOST_BYTES, parse_yaml
from trainer.config import ModelConfig, RankingConfig, TrainingConfig
from trainer.contract import config_bounds as bounds
from trainer.contract.config_loader import from_mapping, require, to_mapping
from trainer.contract.features import (
    TAG_VOCABULARY,
    FeatureSpec,
    weights_name,
)
from trainer.contract.file_system import absolute, is_file, is_remote, open_file
from trainer.evaluation.baselines_config import BaselinesConfig


@bounds.checked
@dataclasses.dataclass(frozen=True)
class PipelineConfig:
    """All settings that define a run.

    Attributes:
      name: Name of the pipeline; artifacts and metadata are stored under it.
      data: The tables that are read, and the limits for bad rows.
      features: Behaviour domains and profile features.
      seed: Seed of the model's initialisation, of the training order and of the random baseline.
      output: Output folder; null: `build/runs/<name>`.
      examples: Conversion of the tables into examples.
      validation: Features whose distributions are compared.
      model: The user tower and the tag tower.
      training: The objective and its optimisation.
      ranking: The second stage, which ranks the candidates.
      baselines: Baselines that a model is compared with.
      gate: Conditions that a model must meet before it may be pushed.
      index: The top-k index of the tags.
      serving: Folders to which versions are pushed, and the tags that are never returned.
      beam: The engine that runs the Beam nodes.
      vertex: Image and machines for `tagtower compile`.
      batch: Batch predictions within the run.
    """

    name: str
    data: DataConfig
    features: FeatureSpec
    seed: bounds.NonNegativeInteger = 0
    output: str | None = None
    examples: ExamplesConfig = dataclasses.field(default_factory=ExamplesConfig)
    validation: ValidationConfig = dataclasses.field(default_factory=ValidationConfig)
    model: ModelConfig = dataclasses.field(default_factory=ModelConfig)
    training: TrainingConfig = dataclasses.field(default_factory=TrainingConfig)
    ranking: RankingConfig = dataclasses.field(default_factory=RankingConfig)
    baselines: BaselinesConfig = dataclasses.field(default_factory=BaselinesConfig)
    gate: GateConfig = dataclasses.field(default_factory=GateConfig)
    index: IndexConfig = dataclasses.field(default_factory=IndexConfig)
    serving: ServingConfig = dataclasses.field(default_factory=ServingConfig)
    beam: BeamConfig = dataclasses.field(default_factory=BeamConfig)
    vertex: VertexConfig = dataclasses.field(default_factory=VertexConfig)
    batch: BatchConfig = dataclasses.field(default_factory=BatchConfig)

    def __post_init__(self) -> None:
        is_name = bool(self.name) and all(c.isalnum() or c in "-_" for c in self.name)
        require(is_name, "name", "consist of letters, digits, - and _", self.name)
        require(
            "vectors" not in self.model.tag_views or self.data.tag_vectors is not None,
            "data.tag_vectors",
            "be given where `model.tag_views` names `vectors`",
            self.data.tag_vectors,
        )
        tag_vocabulary = self.features.vocabulary(TAG_VOCABULARY)
        require(
            tag_vocabulary.max_size is None or tag_vocabulary.max_size >= 2,
            "features.vocabularies.tags.max_size",
            "keep at least 2 tags",
            tag_vocabulary.max_size,
        )
        require(
            self.ranking.num_candidates >= self.index.k,
            "ranking.num_candidates",
            f"be at least `index.k`, {self.index.k}",
            self.ranking.num_candidates,
        )
        require(
            self.exact_base_path is None
            or absolute(self.exact_base_path) != absolute(self.base_path),
            "serving.exact_base_path",
            "be another folder than `serving.base_path`",
            self.serving.exact_base_path,
        )
        if self.training.click_objective is None:
            require(
                self.ranking.score not in ("click", "mix"),
                "ranking.score",
                "be `validation` or `multi_class` where no click loss is trained",
                self.ranking.score,
            )
        self._check_window()
        self._check_thresholds()

    def _check_window(self) -> None:
        window, examples = self.data.window, self.examples
        if window is None:
            for name in ("examples.test_days", "validation.drift"):
                section, _, key = name.partition(".")
                value = getattr(getattr(self, section), key)
                require(not value, name, "be left out where there is no `data.window`", value)
            return
        days = self.features.history_window_days
        require(
            days is not None and days <= window.days,
            "features.history_window_days",
            f"be given and at most `data.window.days`, {window.days}: older events are not read, "
            "and a live caller must see the same",
            days,
        )
        require(
            examples.test_start is None,
            "examples.test_start",
            "be null where there is a `data.window`: `validation_days`, `test_days` move with it",
            examples.test_start,
        )
        held_out = (examples.validation_days or 0) + (examples.test_days or 0)
        require(
            held_out < window.days,
            "examples.test_days",
            f"leave some of the {window.days} days of `data.window` to train on",
            examples.test_days,
        )

    def _check_thresholds(self) -> None:
        numbers = {weights_name(domain.name) for domain in self.features.domains}
        numbers |= {feature.name for feature in self.features.profile if feature.is_number}
        numbers |= set(NUMBER_LABELS)
        features = self.features.raw_names
        known = {"drift": (*features, *TEXT_LABELS, *NUMBER_LABELS), "skew": features}
        for section, names in known.items():
            for feature, threshold in getattr(self.validation, section).items():
                key = f"validation.{section}"
                require(feature in names, key, f"name features ({', '.join(names)})", feature)
                require(
                    threshold.l_infinity is None or feature not in numbers,
                    f"{key}.{feature}.l_infinity",
                    "be null for a feature of numbers; `jensen_shannon` compares these",
                    threshold.l_infinity,
                )

    @property
    def output_dir(self) -> str:
        """Output folder: the declared one, or else the default."""
        return self.output or os.path.join("build", "runs", self.name)

    @property
    def base_path(self) -> str:
        """Folder of pushed versions: the declared one, or else the default."""
        return self.serving.base_path or os.path.join(self.output_dir, "serving")

    @property
    def exact_base_path(self) -> str | None:
        """Folder of pushed versions with an exact index; None: none is pushed."""
        if not self.index.export_exact:
            return None
        return self.serving.exact_base_path or exact_twin(self.base_path)


def exact_twin(base_path: str) -> str:
    """Returns the default folder of the versions with an exact index, beside `base_path`."""
    return (
        base_path.rstrip("/") if is_remote(base_path) else os.path.normpath(base_path)
    ) + "_exact"


def shipped_configs(folder: str = "configs") -> list[str]:
    """Returns the names of the configurations that come with the package.

    Args:
      folder: Folder within the package: `configs` holds those of pipelines.
    """
    entries = (resources.files("tfx_pipeline") / folder).iterdir()
    return sorted(entry.name[: -len(".yaml")] for entry in entries if entry.name.endswith(".yaml"))


def load_yaml(path_or_name: str, folder: str = "configs") -> Any:
    """Reads a configuration file as it is written, without checking its keys.

    Args:
      path_or_name: A YAML file, or the name of a configuration that comes with the package.
      folder: Folder within the package that holds the named configurations.

    Returns:
      The content of the file.

    Raises:
      ValueError: There is no such file, or it is not YAML.
    """
    content: bytes | str
    if is_file(path_or_name):
        with open_file(path_or_name, "rb") as file:
            content = file.read(MOST_BYTES + 1)
    elif path_or_name in shipped_configs(folder):
        shipped = resources.files("tfx_pipeline") / folder / f"{path_or_name}.yaml"
        content = shipped.read_text("utf-8")
    else:
        raise ValueError(
            f"`config` must be a YAML file or one of {', '.join(shipped_configs(folder))}. "
            f"Received: {path_or_name!r}."
        )
    return parse_yaml(content, path_or_name)


def load_config(path_or_name: str, **overrides: Any) -> PipelineConfig:
    """Loads and checks a configuration.

    Args:
      path_or_name: A YAML file, or the name of a configuration that comes with the package.
      **overrides: Top-level keys that replace those of the file (`seed`, `output`); None: no
      override.

    Returns:
      The checked configuration.

    Raises:
      ValueError: There is no such file, it is not YAML, or a key is unknown, mistyped or
        inconsistent.
    """
    mapping = load_yaml(path_or_name)
    if isinstance(mapping, dict):
        mapping.update({key: value for key, value in overrides.items() if value is not None})
    try:
        return with_given_paths(from_mapping(PipelineConfig, mapping))
    except ValueError as error:
        raise ValueError(f"{path_or_name}: {error}") from error


def load_local_config(path_or_name: str, **overrides: Any) -> PipelineConfig:
    """Loads a configuration for a run on this machine.

    Args:
      path_or_name: A YAML file, or the name of a configuration that comes with the package.
      **overrides: Top-level keys that replace those of the file; None: no override.

    Returns:
      The checked configuration.

    Raises:
      ValueError: The file is refused by `load_config`, or the output folder is remote or one that
        TFX cannot use.
    """
    config = load_config(path_or_name, **overrides)
    require(
        not is_remote(config.output_dir),
        "output",
        "be a local folder, as TFX's metadata and the lock of the run are local files; "
        "`serving.base_path` and the tables may be remote, and `tagtower compile` takes a remote "
        "one",
        config.output_dir,
    )
    check_written(config)
    return config


def to_json(config: Any) -> str:
    """Returns canonical JSON of a configuration or a part of one: equal ones give equal strings."""
    return json.dumps(to_mapping(config), sort_keys=True, separators=(",", ":"))
