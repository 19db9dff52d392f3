"""The configuration of a pipeline: one YAML file, one frozen dataclass, checked at load."""

import dataclasses
import json
import os
from importlib import resources
from typing import Any, Literal

import yaml

from tfx_pipeline.beam_config import BeamConfig
from tfx_pipeline.utc_times import is_day, utc_seconds
from tfx_pipeline.vertex_config import VertexConfig
from trainer.config import ModelConfig, RankingConfig, TrainingConfig
from trainer.config_loader import from_mapping, require, to_mapping
from trainer.features import (
    HISTORY_NUM_EVENTS,
    IMPRESSION_CLICKED,
    IMPRESSION_TAGS,
    LABEL_TAG_WEIGHTS,
    LABEL_TAGS,
    TAG_VOCABULARY,
    FeatureSpec,
    weights_name,
)
from trainer.file_system import absolute, is_file, is_remote, open_file

DATE = "{date}"  # in a path: the day, as 2024-05-03
LATEST_DAY = "latest"

# What of a training example may be compared beside its features.
TEXT_LABELS = (LABEL_TAGS, IMPRESSION_TAGS)
NUMBER_LABELS = (LABEL_TAG_WEIGHTS, IMPRESSION_CLICKED, HISTORY_NUM_EVENTS)


@dataclasses.dataclass(frozen=True)
class TagNormalizationConfig:
    """How the tags of items are normalised.

    Attributes:
      trim: Remove blanks at both ends.
      lowercase: Turn into lower case.
    """

    trim: bool = True
    lowercase: bool = True


@dataclasses.dataclass(frozen=True)
class WindowConfig:
    """The days that are read of a log partitioned by date (docs/daily.md).

    Attributes:
      days: How many days, the last one included.
      day: The last day, `2024-05-03`, or `latest`: the newest that is complete. `tagtower run
        --day` stands above it.
      marker: Name of a file, such as `_SUCCESS`, that makes the folder of a day complete; null: any
        file with rows does.
      max_missing_days: Days that may be missing or incomplete between the first and the last; more
        fail the run. Before the log's first day none is missing.
    """

    days: int
    day: str = LATEST_DAY
    marker: str | None = None
    max_missing_days: int = 0

    def __post_init__(self):
        require(self.days >= 1, "days", "be a positive integer", self.days)
        require(
            self.day == LATEST_DAY or is_day(self.day),
            "day",
            f"be {LATEST_DAY} or a date as 2024-05-03",
            self.day,
        )
        require(
            self.marker is None or (bool(self.marker) and os.sep not in self.marker),
            "marker",
            "be the name of a file, without a folder",
            self.marker,
        )
        require(
            self.max_missing_days >= 0,
            "max_missing_days",
            "be 0 or positive",
            self.max_missing_days,
        )


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """The three tables, and what is done with bad rows.

    Attributes:
      interactions: File, folder or glob of the interactions; relative to the working directory.
        With a `window`, `{date}` in it stands for a day: `log/interactions/date={date}`.
      items: The same of the items. With a `window`, a `{date}` in it is the newest there is that is
        not after the window's last day.
      users: The same of the users.
      max_rejected_fraction: Share of a table's rows that may be set aside; more fails the run.
      list_separator: Between the tags of an item in CSV files.
      tag_normalization: How tags are normalised.
      planted: File of planted interests (`tagtower prepare demo` writes it); null: none are known.
      tag_vectors: File, folder or glob of a table with the columns `tag` and `vector` (a list of
        numbers, of one length), for the view `vectors` of `model.tag_views`; a tag without a row
        has zeros; null: none.
      window: Which days are read; null: all there is.
    """

    interactions: str
    items: str
    users: str
    max_rejected_fraction: float = 0.01
    list_separator: str = "|"
    tag_normalization: TagNormalizationConfig = dataclasses.field(
        default_factory=TagNormalizationConfig
    )
    planted: str | None = None
    tag_vectors: str | None = None
    window: WindowConfig | None = None

    def __post_init__(self):
        for name in ("interactions", "items", "users"):
            require(
                self.window is not None or DATE not in getattr(self, name),
                "window",
                f"say which days are read where `{name}` has {DATE} in it",
                self.window,
            )
        require(
            self.window is None or DATE in self.interactions,
            "interactions",
            f"have {DATE} in it where there is a `window`",
            self.interactions,
        )
        require(
            0 <= self.max_rejected_fraction <= 1,
            "max_rejected_fraction",
            "be between 0 and 1",
            self.max_rejected_fraction,
        )
        require(bool(self.list_separator), "list_separator", "not be empty", self.list_separator)


@dataclasses.dataclass(frozen=True)
class ExamplesConfig:
    """How tables become point-in-time examples.

    Attributes:
      split: `user_holdout`: users fall by a hash of their id into train, validation and test, and
        a held-out user's events are cut in time. `temporal`: everything before a time trains, the
        next stretch validates, the last one tests; a user may be in all three.
      seed: Of the users' parts, the training snapshots' times and the sampling of impressions. The
        run's own seed does not change the examples, so that runs over seeds compare on the same
        ones.
      validation_fraction: Share held out for validation: of the users, or, in `temporal`, of the
        log's events (the latest before the test's).
      test_fraction: Share held out for test: of the users, or, in `temporal`, of the log's events
        (the latest).
      validation_start: Of `temporal`, where validation begins, in place of the fractions: a date or
        time, ISO 8601, UTC unless it has a zone (`2019-11-13` or `2019-11-13T06:00:00`). Together
        with `test_start`; null: by the fractions.
      test_start: Of `temporal`, where test begins.
      validation_days: Of `temporal` with a `data.window`, how many days validate, in place of the
        fractions: those before the test's. Together with `test_days`; null: by the fractions.
      test_days: How many days test: the window's last.
      cut_fraction: Of `user_holdout`, where a held-out user's events are cut: history before,
        labels after.
      snapshots_per_user: Training snapshots a user, at random times.
      min_snapshot_fraction: Earliest training snapshot, as a share of the user's events (in
        `temporal`, of those before validation).
      max_snapshot_fraction: Latest one.
      max_events_per_user: Latest events kept of a user. In `temporal` the labels count too: a user
        with that many later events trains nothing.
      max_label_tags: Most frequent label tags kept of a training snapshot.
      max_train_impressions: Impressions sampled of a training snapshot for the click head.
      max_eval_impressions: The same of a held-out user.
      num_shards: Output files a split. A worker holds the events of a shard in memory, some 100
        bytes each (the local engine those of a shard for each core): five million are plenty.
    """

    split: Literal["user_holdout", "temporal"] = "user_holdout"
    seed: int = 0
    validation_fraction: float = 0.1
    test_fraction: float = 0.2
    validation_start: str | None = None
    test_start: str | None = None
    validation_days: int | None = None
    test_days: int | None = None
    cut_fraction: float = 0.8
    snapshots_per_user: int = 6
    min_snapshot_fraction: float = 0.0
    max_snapshot_fraction: float = 0.95
    max_events_per_user: int = 10_000
    max_label_tags: int = 2_000
    max_train_impressions: int = 64
    max_eval_impressions: int = 1_000
    num_shards: int = 4

    def __post_init__(self):
        for name in ("validation_fraction", "test_fraction", "cut_fraction"):
            value = getattr(self, name)
            require(0 < value < 1, name, "be between 0 and 1", value)
        held_out = self.validation_fraction + self.test_fraction
        require(held_out < 1, "test_fraction", "leave something to train on", self.test_fraction)
        self._check_times()
        self._check_days()
        require(
            0 <= self.min_snapshot_fraction < self.max_snapshot_fraction <= 1,
            "min_snapshot_fraction",
            "be below `max_snapshot_fraction`, both between 0 and 1",
            self.min_snapshot_fraction,
        )
        for name in (
            "snapshots_per_user",
            "max_events_per_user",
            "max_label_tags",
            "max_train_impressions",
            "max_eval_impressions",
            "num_shards",
        ):
            value = getattr(self, name)
            require(value >= 1, name, "be a positive integer", value)

    def _check_times(self) -> None:
        times = {}
        for name in ("validation_start", "test_start"):
            text = getattr(self, name)
            require(
                text is None or self.split == "temporal",
                name,
                "be null unless `split` is temporal",
                text,
            )
            if text is not None:
                try:
                    times[name] = utc_seconds(text)
                except ValueError as error:
                    raise ValueError(
                        f"`{name}` must be an ISO 8601 date or time. Received: {name}={text!r}."
                    ) from error
        require(
            len(times) != 1,
            "test_start",
            "be given where `validation_start` is, and only there",
            self.test_start,
        )
        if times:
            require(
                times["validation_start"] < times["test_start"],
                "test_start",
                f"be later than `validation_start` ({self.validation_start})",
                self.test_start,
            )

    def _check_days(self) -> None:
        days = (self.validation_days, self.test_days)
        if days == (None, None):
            return
        for name in ("validation_days", "test_days"):
            value = getattr(self, name)
            require(
                value is not None and value >= 1, name, "be a positive integer as the other", value
            )
        require(
            self.split == "temporal", "test_days", "be null unless `split` is temporal", days[1]
        )
        require(
            self.test_start is None,
            "test_days",
            "be null where `validation_start` and `test_start` are given",
            days[1],
        )


@dataclasses.dataclass(frozen=True)
class GateConfig:
    """What a model must show on validation users before it may be pushed.

    Attributes:
      min_relative_gain: P@10 (all truth) above the best of popularity, own history and their blend,
        relative.
      min_relative_novel_gain: P@10 (novel truth) above popularity, relative.
      min_click_gauc: Click GAUC, where the click head is trained.
      min_distinct_top10: Distinct top-10 lists, as a share of the users (collapse shows here
        first).
      min_coverage_at_10: Share of the tags in at least one user's top 10.
      max_relative_loss: P@10 below the last blessed model's that is still accepted, relative.
    """

    min_relative_gain: float = 0.0
    min_relative_novel_gain: float = 0.0
    min_click_gauc: float = 0.5
    min_distinct_top10: float = 0.2
    min_coverage_at_10: float = 0.02
    max_relative_loss: float = 0.02

    def __post_init__(self):
        for name in (
            "min_click_gauc",
            "min_distinct_top10",
            "min_coverage_at_10",
            "max_relative_loss",
        ):
            value = getattr(self, name)
            require(0 <= value <= 1, name, "be between 0 and 1", value)
        for name in ("min_relative_gain", "min_relative_novel_gain"):
            value = getattr(self, name)
            require(value > -1, name, "be above -1", value)


@dataclasses.dataclass(frozen=True)
class IndexConfig:
    """The top-k index.

    Attributes:
      kind: `exact`, `scann`, or `auto`: exact below `exact_below` tags.
      exact_below: Number of tags under which `auto` takes the exact index.
      k: Tags returned for a user; recall is measured at this k, or of all tags when there are
        fewer.
      target_recall: Recall against exact search, below which nothing is pushed.
      num_leaves: Of ScaNN's tree; null: the square root of the number of tags.
      export_exact: Whether a version with an exact index, in TensorFlow's own ops, is pushed as
        well, for servers without ScaNN's: to `serving.exact_base_path`, under the same number.
    """

    kind: Literal["auto", "exact", "scann"] = "auto"
    exact_below: int = 20_000
    k: int = 100
    target_recall: float = 0.98
    num_leaves: int | None = None
    export_exact: bool = True

    def __post_init__(self):
        require(self.k >= 1, "k", "be a positive integer", self.k)
        require(
            0 < self.target_recall <= 1,
            "target_recall",
            "be above 0 and at most 1",
            self.target_recall,
        )
        if self.num_leaves is not None:
            require(
                self.num_leaves >= 1, "num_leaves", "be a positive integer or null", self.num_leaves
            )


@dataclasses.dataclass(frozen=True)
class TagPolicyConfig:
    """What is never returned, online or in batch; it is in the version, whoever serves it.

    Attributes:
      blocked_tags: Tags that are not in the index; normalised as those of the log. Those that the
        model does not know are counted and named, and are no error.
      min_probability: Calibrated probability of a click below which a tag is not returned: the
        profile is then shorter than k.
    """

    blocked_tags: tuple[str, ...] = ()
    min_probability: float = 0.0

    def __post_init__(self):
        require(
            0 <= self.min_probability < 1,
            "min_probability",
            "be at least 0 and below 1",
            self.min_probability,
        )


@dataclasses.dataclass(frozen=True)
class ServingConfig:
    """Where versions are pushed, and what they never return.

    Attributes:
      base_path: Folder of the numbered versions; null: `serving` below the output folder.
      exact_base_path: Folder of the versions that `index.export_exact` asks for; null: `base_path`
        with `_exact` at its end.
      policy: What is never returned.
    """

    base_path: str | None = None
    exact_base_path: str | None = None
    policy: TagPolicyConfig = dataclasses.field(default_factory=TagPolicyConfig)


@dataclasses.dataclass(frozen=True)
class BatchConfig:
    """Batch predictions within the run; `tagtower batch-predict` makes them after it.

    Attributes:
      bulk_inferrer: Whether TFX's BulkInferrer predicts for every user *now*, when the model is
        blessed; `inference_result` in the output folder then has TFX's prediction logs.
    """

    bulk_inferrer: bool = False


@dataclasses.dataclass(frozen=True)
class DistributionThreshold:
    """How far the distribution of a feature may move; at least one of the two measures.

    Attributes:
      l_infinity: The largest difference of a value's share that is accepted; for features of
        strings.
      jensen_shannon: The Jensen-Shannon divergence that is accepted, 0 for equal and 1 for disjoint
        distributions; for features of strings and of numbers.
      on_violation: `fail`: nothing is trained nor pushed; `warn`: a line says so.
    """

    l_infinity: float | None = None
    jensen_shannon: float | None = None
    on_violation: Literal["fail", "warn"] = "fail"

    def __post_init__(self):
        measures = {name: getattr(self, name) for name in ("l_infinity", "jensen_shannon")}
        require(
            any(value is not None for value in measures.values()),
            "l_infinity",
            "be given, or `jensen_shannon`",
            None,
        )
        for name, value in measures.items():
            require(value is None or 0 <= value <= 1, name, "be between 0 and 1", value)


@dataclasses.dataclass(frozen=True)
class ValidationConfig:
    """Which distributions of features are compared (docs/daily.md).

    Attributes:
      drift: By name of a feature: between the training examples of the day and those of the day
        before, as far as that was accepted. Labels and `history_num_events` have names too.
      skew: By name of a feature: between logged requests and the training examples of the version
        that serves, by `tagtower check-requests`.
    """

    drift: dict[str, DistributionThreshold] = dataclasses.field(default_factory=dict)
    skew: dict[str, DistributionThreshold] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class PipelineConfig:
    """Everything that defines a run.

    Attributes:
      name: Name of the pipeline; artifacts and metadata are kept under it.
      data: The tables.
      features: Behaviour domains and profile features.
      seed: Of the model's initialisation, the order of training and the random baseline.
      output: Output folder; null: `build/runs/<name>`.
      examples: How tables become examples.
      validation: Which distributions of features are compared.
      model: The towers.
      training: The objective and its optimisation.
      ranking: The second stage.
      gate: What a model must show before it may be pushed.
      index: The top-k index.
      serving: Where versions are pushed, and what they never return.
      beam: The engine of the Beam nodes.
      vertex: The image and machines of `tagtower compile`.
      batch: Batch predictions within the run.
    """

    name: str
    data: DataConfig
    features: FeatureSpec
    seed: int = 0
    output: str | None = None
    examples: ExamplesConfig = dataclasses.field(default_factory=ExamplesConfig)
    validation: ValidationConfig = dataclasses.field(default_factory=ValidationConfig)
    model: ModelConfig = dataclasses.field(default_factory=ModelConfig)
    training: TrainingConfig = dataclasses.field(default_factory=TrainingConfig)
    ranking: RankingConfig = dataclasses.field(default_factory=RankingConfig)
    gate: GateConfig = dataclasses.field(default_factory=GateConfig)
    index: IndexConfig = dataclasses.field(default_factory=IndexConfig)
    serving: ServingConfig = dataclasses.field(default_factory=ServingConfig)
    beam: BeamConfig = dataclasses.field(default_factory=BeamConfig)
    vertex: VertexConfig = dataclasses.field(default_factory=VertexConfig)
    batch: BatchConfig = dataclasses.field(default_factory=BatchConfig)

    def __post_init__(self):
        is_name = bool(self.name) and all(c.isalnum() or c in "-_" for c in self.name)
        require(is_name, "name", "consist of letters, digits, - and _", self.name)
        require(self.seed >= 0, "seed", "be 0 or positive", self.seed)
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
        """The output folder, after the default."""
        return self.output or os.path.join("build", "runs", self.name)

    @property
    def base_path(self) -> str:
        """The folder of pushed versions, after the default."""
        return self.serving.base_path or os.path.join(self.output_dir, "serving")

    @property
    def exact_base_path(self) -> str | None:
        """The folder of pushed versions with an exact index, after the default; None: no such."""
        if not self.index.export_exact:
            return None
        return self.serving.exact_base_path or exact_twin(self.base_path)


def exact_twin(base_path: str) -> str:
    """Where the versions with an exact index go, if nobody says otherwise."""
    return (
        base_path.rstrip("/") if is_remote(base_path) else os.path.normpath(base_path)
    ) + "_exact"


class _Loader(yaml.SafeLoader):
    """YAML in which a date is the text that was written: nothing here takes a date object."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith(":timestamp")]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def shipped_configs(folder: str = "configs") -> list[str]:
    """Names of the configurations that come with the package.

    Args:
      folder: Where in the package: `configs` has those of pipelines.
    """
    entries = (resources.files("tfx_pipeline") / folder).iterdir()
    return sorted(entry.name[: -len(".yaml")] for entry in entries if entry.name.endswith(".yaml"))


def load_yaml(path_or_name: str, folder: str = "configs") -> Any:
    """Reads a configuration file as it is written.

    Args:
      path_or_name: A YAML file, or the name of a configuration that comes with the package.
      folder: Where in the package those with names are.

    Returns:
      What the file says.

    Raises:
      ValueError: There is no such file, or it is no YAML.
    """
    if is_file(path_or_name):
        try:
            with open_file(path_or_name) as file:
                text = file.read()
        except UnicodeDecodeError as error:
            raise ValueError(
                f"`config` must be a YAML file in UTF-8. Received: {path_or_name} ({error.reason})."
            ) from error
    elif path_or_name in shipped_configs(folder):
        shipped = resources.files("tfx_pipeline") / folder / f"{path_or_name}.yaml"
        text = shipped.read_text("utf-8")
    else:
        raise ValueError(
            f"`config` must be a YAML file or one of {', '.join(shipped_configs(folder))}. "
            f"Received: {path_or_name!r}."
        )
    try:
        return yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        reason = " ".join(str(error).split())
        raise ValueError(
            f"`config` must be valid YAML. Received: {path_or_name}: {reason}."
        ) from error


def load_config(path_or_name: str, **overrides: Any) -> PipelineConfig:
    """Loads a configuration.

    Args:
      path_or_name: A YAML file, or the name of a configuration that comes with the package.
      **overrides: Top-level keys that replace those of the file (`seed`, `output`); None: no
      override.

    Returns:
      The checked configuration.

    Raises:
      ValueError: There is no such file, it is no YAML, or a key is unknown, mistyped or
        inconsistent.
    """
    mapping = load_yaml(path_or_name)
    if isinstance(mapping, dict):
        mapping.update({key: value for key, value in overrides.items() if value is not None})
    try:
        return from_mapping(PipelineConfig, mapping)
    except ValueError as error:
        raise ValueError(f"{path_or_name}: {error}") from error


def load_local_config(path_or_name: str, **overrides: Any) -> PipelineConfig:
    """Loads a configuration for a run on this machine.

    Args:
      path_or_name: See `load_config`.
      **overrides: See `load_config`.

    Returns:
      The checked configuration.

    Raises:
      ValueError: See `load_config`, or the output folder is remote.
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
    return config


def to_json(config: Any) -> str:
    """Canonical JSON of a configuration or a part of one: equal configurations, equal strings."""
    return json.dumps(to_mapping(config), sort_keys=True, separators=(",", ":"))
