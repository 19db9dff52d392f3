"""The configuration of a study of defaults: logs, and the defaults tried on each of them.

`defaults_definition` turns its parts into pipeline configurations.
"""

import dataclasses
import os
import re
from collections.abc import Mapping
from typing import Any

from tfx_pipeline.datasets.demo_config import DemoConfig
from trainer.contract.config_loader import require
from trainer.contract.metric_registry import CLICK_GAUC, NOVEL, PRECISION
from trainer.evaluation.baselines_config import BASELINES

# Environment variable of the folder, used if no key names one.
MOVIELENS_VARIABLE = "MOVIELENS_DIR"
METRICS = (PRECISION.at(10), PRECISION.at(10, NOVEL), CLICK_GAUC.name)


@dataclasses.dataclass(frozen=True)
class MovieLensTables:
    """Options of the tables made from MovieLens-1M.

    Attributes:
      min_tag_movies: Number of movies that must have a free tag for it to be kept.
      max_free_tags: Largest number of free tags per movie.
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
      config: Configuration of a pipeline: a file, relative to the working directory, or the name of
        one that comes with the package. Its tables are the log, unless they are made here.
      demo: Options of `tagtower prepare demo`, which makes the tables; null: it does not.
      movielens_1m: Options of the tables made from MovieLens-1M; null: they are not. Without the
        data, the log is left out, and the report states it.
      num_users: Number of users kept of tables made here; null: all.
      draws: Seeds that draw the users. The figures of a log are over all of its draws.
      from_training_users: Whether only users are drawn on whom a run on all users of the log would
        train, under new ids: a choice made on the draws' test users has then seen no test user of
        the log.
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
    """A candidate for the default: keys that replace those of every log's configuration.

    Attributes:
      model: Keys of the towers.
      training: Keys of the objective and its optimisation.
      ranking: Keys of the second stage.
      features: Keys of the features; lists as a whole.
      recent_days: Days n of recency domains. null: domains as in the log's configuration; n:
        domains with `window_days` or `last_events` are replaced: every other domain of clicked tags
        gets a twin, `recent_<name>`, over the last n days.
      latest_events: Clicks n of recency domains, as `recent_days` with twins `latest_<name>` over
        the last n clicks; 0: there are no twins.
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
        """Overrides by section of a pipeline's configuration."""
        names = ("model", "training", "ranking", "features")
        return {name: getattr(self, name) for name in names if getattr(self, name)}


@dataclasses.dataclass(frozen=True)
class DefaultsConfig:
    """All settings that define a study of defaults.

    Attributes:
      name: Name of the study.
      logs: Logs by name.
      defaults: Candidates for the default, by name. The others are compared with the first one,
        besides baselines.
      seeds: Seeds of initialisation and training order.
      metrics: Compared metrics, on test users: metrics that are stored by user.
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
        """Output folder: the declared one, or else the default."""
        return self.output or os.path.join("build", "studies", self.name)

    @property
    def movielens_folder(self) -> str:
        """Folder of MovieLens: the declared one, or else the default."""
        default = os.path.join(os.pardir, "shared", "data")
        return self.movielens_dir or os.environ.get(MOVIELENS_VARIABLE) or default


def is_of_defaults(mapping: Any) -> bool:
    """Returns whether a file defines a study of defaults, and not a grid of towers."""
    return isinstance(mapping, Mapping) and "logs" in mapping


def _check_seeds(seeds: tuple[int, ...], name: str) -> None:
    require(all(seed >= 0 for seed in seeds), name, "be 0 or positive", list(seeds))
    require(len(set(seeds)) == len(seeds), name, "differ", list(seeds))
