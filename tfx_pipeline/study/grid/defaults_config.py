"""A study of defaults as data: logs, and what is tried as the default on every one of them.

How its parts become pipelines' configurations is `defaults_definition`'s work.
"""

import dataclasses
import os
import re
from collections.abc import Mapping
from typing import Any

from tfx_pipeline.datasets.demo_config import DemoConfig
from trainer.contract.config_loader import require
from trainer.evaluation.baselines_config import BASELINES

# Where no key says otherwise.
MOVIELENS_VARIABLE = "MOVIELENS_DIR"
METRICS = ("precision_at_10", "novel_precision_at_10", "click_gauc")
# Of `tfx_pipeline.study.trials.evaluation`, which loads TensorFlow: a mistyped key is to be said
# before.
USER_METRICS = (
    "precision_at_10",
    "recall_at_10",
    "ndcg_at_10",
    "novel_precision_at_10",
    "novel_recall_at_10",
    "novel_ndcg_at_10",
    "click_gauc",
)


@dataclasses.dataclass(frozen=True)
class MovieLensTables:
    """Options of the tables of MovieLens-1M.

    Attributes:
      min_tag_movies: A free tag is kept when at least that many movies carry it.
      max_free_tags: At most that many free tags a movie.
    """

    min_tag_movies: int = 5
    max_free_tags: int = 10

    def __post_init__(self):
        require(self.min_tag_movies >= 1, "min_tag_movies", "be at least 1", self.min_tag_movies)
        require(self.max_free_tags >= 0, "max_free_tags", "be at least 0", self.max_free_tags)


@dataclasses.dataclass(frozen=True)
class LogConfig:
    """A log on which defaults are tried.

    Attributes:
      config: A pipeline's configuration: a file, relative to the working directory, or the name of
        one that comes with the package. Its tables are the log, unless they are made here.
      demo: The tables are those of `tagtower prepare demo` with these options; null: they are not.
      movielens_1m: The tables are those of MovieLens-1M with these options; null: they are not.
        Where the data is not there, the log is left out, and the report says so.
      num_users: Users kept of tables made here; null: all.
      draws: Which users: a seed each. The figures of a log are over all of its draws.
      from_training_users: Whether only those are drawn whom a run on all users of the log would
        train on, under ids of their own: what is chosen on the draws' test users has seen no test
        user of the log.
      overrides: Keys that replace those of `config`, nested as there; lists as a whole.
    """

    config: str
    demo: DemoConfig | None = None
    movielens_1m: MovieLensTables | None = None
    num_users: int | None = None
    draws: tuple[int, ...] = ()
    from_training_users: bool = False
    overrides: dict[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self):
        made = [name for name in ("demo", "movielens_1m") if getattr(self, name) is not None]
        require(len(made) < 2, "demo", "be null where there is `movielens_1m`", self.demo)
        require(
            self.num_users is None or self.num_users >= 1,
            "num_users",
            "be a positive integer or null",
            self.num_users,
        )
        require(
            self.num_users is None or bool(made),
            "num_users",
            "be null where there is neither `demo` nor `movielens_1m`",
            self.num_users,
        )
        require(
            bool(self.draws) == (self.num_users is not None),
            "draws",
            "be given together with `num_users`",
            list(self.draws),
        )
        _check_seeds(self.draws, "draws")
        require(
            not self.from_training_users or bool(self.draws),
            "from_training_users",
            "be false where there are no `draws`",
            self.from_training_users,
        )


@dataclasses.dataclass(frozen=True)
class DefaultConfig:
    """What is tried as the default: keys that replace those of every log's configuration.

    Attributes:
      model: Keys of the towers.
      training: Keys of the objective and its optimisation.
      ranking: Keys of the second stage.
      features: Keys of the features; lists as a whole.
      recent_days: null: domains as the log's configuration has them; n: in place of those with
        `window_days` or `last_events`, every other domain of clicked tags has a twin,
        `recent_<name>`, of the last n days.
      latest_events: The same with `latest_<name>`, of the last n clicks; 0: there are no twins.
    """

    model: dict[str, Any] = dataclasses.field(default_factory=dict)
    training: dict[str, Any] = dataclasses.field(default_factory=dict)
    ranking: dict[str, Any] = dataclasses.field(default_factory=dict)
    features: dict[str, Any] = dataclasses.field(default_factory=dict)
    recent_days: float | None = None
    latest_events: int | None = None

    def __post_init__(self):
        days, events = self.recent_days, self.latest_events
        require(days is None or days > 0, "recent_days", "be positive or null", days)
        require(events is None or events >= 0, "latest_events", "be 0 or positive, or null", events)
        require(
            days is None or events is None,
            "latest_events",
            "be left out where there is `recent_days`",
            events,
        )

    @property
    def sections(self) -> dict[str, dict[str, Any]]:
        """The overrides by section of a pipeline's configuration."""
        names = ("model", "training", "ranking", "features")
        return {name: getattr(self, name) for name in names if getattr(self, name)}


@dataclasses.dataclass(frozen=True)
class DefaultsConfig:
    """Everything that defines a study of defaults.

    Attributes:
      name: Name of the study.
      logs: By name.
      defaults: By name. The first is the one that the others are compared with, beside baselines.
      seeds: Seeds of initialisation and order of training.
      metrics: What is compared, test users: metrics that are kept by user.
      movielens_dir: Folder with `ml-1m` and `ml-10m-tags/tags.dat` (or `tags.dat.gz`); null: the
        variable `MOVIELENS_DIR`, else `../shared/data`.
      output: Output folder; null: `build/studies/<name>`.
    """

    name: str
    logs: dict[str, LogConfig]
    defaults: dict[str, DefaultConfig]
    seeds: tuple[int, ...] = (0, 1, 2)
    metrics: tuple[str, ...] = METRICS
    movielens_dir: str | None = None
    output: str | None = None

    def __post_init__(self):
        is_name = bool(self.name) and all(c.isalnum() or c in "-_" for c in self.name)
        require(is_name, "name", "consist of letters, digits, - and _", self.name)
        for kind in ("logs", "defaults", "seeds", "metrics"):
            require(bool(getattr(self, kind)), kind, "name at least one", [])
        for kind in ("logs", "defaults"):
            for name in getattr(self, kind):
                is_word = bool(re.fullmatch(r"[\w-]+", name))
                require(is_word, kind, "have names of letters, digits, - and _", name)
        taken = sorted(self.defaults.keys() & {*BASELINES})
        require(not taken, "defaults", "not have names of baselines", ", ".join(taken))
        _check_seeds(self.seeds, "seeds")

    @property
    def output_dir(self) -> str:
        """The output folder, after the default."""
        return self.output or os.path.join("build", "studies", self.name)

    @property
    def movielens_folder(self) -> str:
        """Where MovieLens would be, after the default."""
        default = os.path.join(os.pardir, "shared", "data")
        return self.movielens_dir or os.environ.get(MOVIELENS_VARIABLE) or default


def is_of_defaults(mapping: Any) -> bool:
    """Whether what a file says is a study of defaults, and not a grid of towers."""
    return isinstance(mapping, Mapping) and "logs" in mapping


def _check_seeds(seeds: tuple[int, ...], name: str) -> None:
    require(all(seed >= 0 for seed in seeds), name, "be 0 or positive", list(seeds))
    require(len(set(seeds)) == len(seeds), name, "differ", list(seeds))
