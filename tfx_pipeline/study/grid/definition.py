"""The configurations that a study defines: base and overrides combined, and checked as a whole.

Trials may differ only in what the study compares: a tower may set keys of `model`, an objective
those of the loss. Epochs, batches, learning rate and seeds belong to the study and are equal for
all; no tower is tuned by itself.
"""

import dataclasses
import functools
import os
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from tfx_pipeline.config.paths import with_given_paths
from tfx_pipeline.config.pipeline import PipelineConfig, load_config, load_yaml
from tfx_pipeline.study.grid.checks import check_names
from tfx_pipeline.study.grid.config import StudyConfig
from tfx_pipeline.study.grid.defaults_config import DefaultsConfig
from trainer.config import ModelConfig, TrainingConfig
from trainer.contract.config_loader import from_mapping, require, to_mapping
from trainer.contract.file_system import is_remote
from trainer.contract.given_paths import given_path, require_no_pattern

# Folder in the package of its studies. Their names are not those of pipelines.
FOLDER = "configs/studies"

# Keys that an objective may set: the losses, and the metric that chooses the kept state. A loss of
# clicks alone does not train retrieval, so that no retrieval metric could stop it.
OBJECTIVE_KEYS = (
    "multi_class_weight",
    "multi_class_joint_weight",
    "joint_weight",
    "split_weight",
    "attention_weight",
    "mask_positives",
    "user_weighting",
    "full_softmax_max_tags",
    "num_sampled_tags",
    "sampling_power",
    "early_stopping_metric",
)
DATA_SET_KEYS = ("features", "examples")


@dataclasses.dataclass(frozen=True)
class Study:
    """A study whose configurations are complete and checked.

    Attributes:
      config: Configuration as written.
      base: Pipeline configuration that all trials share.
    """

    config: StudyConfig
    base: PipelineConfig

    def __post_init__(self) -> None:
        for tower in self.config.towers:
            require(
                "vectors" not in self.model_config(tower).tag_views
                or self.base.data.tag_vectors is not None,
                f"towers.{tower}.tag_views",
                "not name `vectors` without `base.overrides.data.tag_vectors`",
                list(self.model_config(tower).tag_views),
            )
        for tower in self.config.new_tags.towers if self.config.new_tags else ():
            require(
                bool(self.model_config(tower).tag_views),
                "new_tags.towers",
                "name towers with `tag_views`",
                tower,
            )
        for objective in self.config.objectives:
            self.training_config(objective)
        for data_set in self.config.data_sets:
            self.pipeline_config(data_set)

    @functools.cached_property
    def _base(self) -> dict[str, Any]:
        return to_mapping(self.base)

    def model_config(self, tower: str) -> ModelConfig:
        """Returns the model configuration of a tower, with its configured width."""
        mapping = merged(self._base["model"], self.config.towers[tower])
        return from_mapping(ModelConfig, mapping, f"towers.{tower}")

    def training_config(self, objective: str) -> TrainingConfig:
        """Returns the training configuration with an objective.

        Raises:
          ValueError: The objective sets a key that is equal for all trials, or an unknown key.
        """
        path, overrides = f"objectives.{objective}", self.config.objectives[objective]
        common = {field.name for field in dataclasses.fields(TrainingConfig)} - {*OBJECTIVE_KEYS}
        for key, value in overrides.items():
            require(
                key not in common,
                f"{path}.{key}",
                "not differ between objectives (`base.overrides.training` sets it for all)",
                value,
            )
        return from_mapping(TrainingConfig, merged(self._base["training"], overrides), path)

    def pipeline_config(self, data_set: str) -> PipelineConfig:
        """Returns the configuration that prepares a data set, in its own folder."""
        overrides = self.config.data_sets.get(data_set, {})
        path = f"data_sets.{data_set}"
        check_names(overrides, DATA_SET_KEYS, path)
        mapping = merged(self._base, overrides)
        mapping["output"] = os.path.join(self.config.output_dir, "data", data_set)
        return from_mapping(PipelineConfig, mapping, path)


def merged(base: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Returns `base` with the keys of `overrides`: mappings are merged, lists replaced."""
    result = dict(base)
    for key, value in overrides.items():
        if isinstance(result.get(key), Mapping) and isinstance(value, Mapping):
            result[key] = merged(result[key], value)
        else:
            result[key] = value
    return result


def load_base(path_or_name: str, overrides: Mapping[str, Any], key: str) -> PipelineConfig:
    """Loads the configuration of a pipeline with some of its keys replaced.

    Args:
      path_or_name: A YAML file, or the name of a configuration that comes with the package.
      overrides: Keys that replace those of the file, nested as there; lists as a whole.
      key: Name of the overrides in messages.

    Returns:
      The checked configuration.

    Raises:
      ValueError: There is no such file, or the file or the overrides are invalid.
    """
    mapping = merged(to_mapping(load_config(path_or_name)), overrides)
    return with_given_paths(from_mapping(PipelineConfig, mapping, key))


def load_study(
    path_or_name: str, output: str | None = None, seeds: Iterable[int] | None = None
) -> Study:
    """Loads and checks a study.

    Args:
      path_or_name: A YAML file, or the name of a study that comes with the package.
      output: Output folder that replaces the file's; with it no page is written.
      seeds: Seeds that replace the file's.

    Returns:
      The checked study.

    Raises:
      ValueError: There is no such file, it is not YAML, or a key is unknown, mistyped or
        inconsistent.
    """
    mapping = load_study_mapping(path_or_name, output, seeds)
    if isinstance(mapping, dict) and output is not None:
        mapping["page"] = None
    try:
        config = with_checked_paths(from_mapping(StudyConfig, mapping), "page")
        base = load_base(config.base.config, config.base.overrides, "base.overrides")
        return Study(config, base)
    except ValueError as error:
        raise ValueError(f"{path_or_name}: {error}") from error


def load_study_mapping(path_or_name: str, output: str | None, seeds: Iterable[int] | None) -> Any:
    """Reads the file of a study, and replaces what the command line replaces.

    Args:
      path_or_name: A YAML file, or the name of a study that comes with the package.
      output: Output folder that replaces the file's; None: the file's.
      seeds: Seeds that replace the file's; None: the file's.

    Returns:
      The content of the file.

    Raises:
      ValueError: There is no such file, or it is not YAML.
    """
    mapping = load_yaml(path_or_name, FOLDER)
    if isinstance(mapping, dict):
        if output is not None:
            mapping["output"] = output
        if seeds is not None:
            mapping["seeds"] = list(seeds)
    return mapping


_Config = TypeVar("_Config", StudyConfig, DefaultsConfig)


def with_checked_paths(config: _Config, name: str) -> _Config:
    """Returns a study with the paths that a user wrote, resolved.

    Args:
      config: Study as written.
      name: Name of the path beside `output`.

    Raises:
      ValueError: The output folder is remote, or below a folder where TFX would not find its files.
    """
    paths: dict[str, Any] = {
        name: given_path(getattr(config, name), name)
        for name in ("output", name)
        if getattr(config, name) is not None
    }
    config = dataclasses.replace(config, **paths)
    output = config.output_dir
    require(
        not is_remote(output),
        "output",
        "be a local folder, as the trials of a study and its lock are local files",
        output,
    )
    require_no_pattern(output, "output")
    return config
