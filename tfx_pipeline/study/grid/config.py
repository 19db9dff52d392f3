"""The configuration of a study: a grid of towers and objectives, and questions about it.

`definition` applies the overrides of towers, objectives and data sets.
"""

import dataclasses
import difflib
import os
import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any, Literal

from trainer.contract.config_loader import require
from trainer.contract.metric_registry import (
    CLICK_AUC,
    CLICK_GAUC,
    DISTINCT_LISTS,
    LIST_METRICS,
    NDCG,
    NOVEL,
    PRECISION,
    RECALL,
    TAG_CTR,
    TAGGED_IMPRESSIONS,
)

Budget = Literal["width", "parameters"]

# Rankings whose figures are compared: the trained model as it would be served, or with another
# second stage; or a baseline, which needs no model.
MODEL = "model"
Who = Literal[
    "model",
    "without_memory_stage",
    "multi_class_stage",
    "click_stage",
    "mix_stage",
    "ease_own_history",
    "ease",
    "neighbours",
    "blend",
    "own_history",
    "shown",
    "popularity",
    "random",
]

# Name of the data set of the base configuration's own features and examples.
BASE_DATA_SET = "base"

# Names of the metrics that a study may compare.
COMPARED_METRICS = frozenset(
    name
    for metric in (
        *(PRECISION, RECALL, NDCG, *LIST_METRICS),
        *(CLICK_AUC, CLICK_GAUC, TAGGED_IMPRESSIONS, TAG_CTR),
    )
    for name in metric.names((NOVEL,))
)
# Metrics that are stored user by user, so that a study can compare models on the same users.
USER_METRICS = (
    *(metric.at(10, truth) for truth in ("", NOVEL) for metric in (PRECISION, RECALL, NDCG)),
    CLICK_GAUC.name,
)


@dataclasses.dataclass(frozen=True)
class BaseConfig:
    """The pipeline configuration that all trials share.

    Attributes:
      config: Configuration of a pipeline: a file, relative to the working directory, or the name of
        one that comes with the package.
      overrides: Keys that replace those of the file, nested as there.
    """

    config: str
    overrides: dict[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class GridBlock:
    """A part of the grid: every tower with every objective, on every data set, in every budget.

    Attributes:
      towers: Names of towers.
      objectives: Names of objectives.
      data_sets: Names of data sets; `base` is that of the base configuration.
      budgets: Budgets of the towers. `width`: as they are configured; `parameters`: with the hidden
        width at which they have as many parameters outside the embedding tables as
        `parameter_reference`.
    """

    towers: tuple[str, ...]
    objectives: tuple[str, ...]
    data_sets: tuple[str, ...] = (BASE_DATA_SET,)
    budgets: tuple[Budget, ...] = ("width",)

    def __post_init__(self):
        for field in dataclasses.fields(self):
            _check_different(getattr(self, field.name), field.name)


@dataclasses.dataclass(frozen=True, order=True)
class Cell:
    """A point of the grid, whose trials differ only in the seed.

    Attributes:
      tower: Name of the tower.
      objective: Name of the objective.
      data_set: Name of the data set.
      budget: Budget, `width` or `parameters`.
    """

    tower: str
    objective: str
    data_set: str = BASE_DATA_SET
    budget: str = "width"


@dataclasses.dataclass(frozen=True)
class Selector:
    """One side of a comparison: a cell of the grid, as far as it is given here.

    Attributes:
      tower: Name of a tower.
      objective: Name of an objective.
      data_set: Name of a data set; null: `base`.
      budget: Budget, `width` or `parameters`; null: `width`.
      who: Ranking whose figures are compared: `model`; `without_memory_stage`, `multi_class_stage`,
        `click_stage` or `mix_stage`, the same model with another second stage; or a baseline; null:
        `model`.
    """

    tower: str | None = None
    objective: str | None = None
    data_set: str | None = None
    budget: Budget | None = None
    who: Who | None = None

    def filled(self, shared: "Selector") -> "Selector":
        """Returns the selector with missing values taken from `shared`."""
        return Selector(
            **{
                field.name: getattr(self, field.name) or getattr(shared, field.name)
                for field in dataclasses.fields(self)
            }
        )


@dataclasses.dataclass(frozen=True)
class Side:
    """One side of a comparison, complete.

    Attributes:
      cell: Cell of the grid.
      who: Ranking whose figures are compared.
    """

    cell: Cell
    who: str = MODEL


@dataclasses.dataclass(frozen=True)
class Question:
    """Comparisons that together answer a question.

    Attributes:
      question: Question in words.
      reference: Side that is compared.
      against: Sides that it is compared with.
      shared: Values that all sides have in common.
      budgets: Budgets in which the sides are compared; a side's own `budget` has priority.
      metrics: Names of the compared metrics, as in the report; on test users.
    """

    question: str
    reference: Selector
    against: tuple[Selector, ...]
    shared: Selector = Selector()
    budgets: tuple[Budget, ...] = ("width",)
    metrics: tuple[str, ...] = (PRECISION.at(10),)

    def __post_init__(self):
        require(bool(self.question.strip()), "question", "be a question", self.question)
        for name in ("against", "budgets", "metrics"):
            require(bool(getattr(self, name)), name, "name at least one", [])
        _check_metrics(self.metrics, "metrics")

    def side(self, selector: Selector, budget: Budget) -> Side:
        """Returns a selector of this question as a complete side, in one of its budgets.

        Raises:
          ValueError: Neither the selector nor `shared` names a tower and an objective.
        """
        filled = selector.filled(self.shared)
        for name in ("tower", "objective"):
            require(
                getattr(filled, name) is not None,
                name,
                "be named by every side of a question, or by its `shared`",
                None,
            )
        cell = Cell(
            filled.tower or "",
            filled.objective or "",
            filled.data_set or BASE_DATA_SET,
            filled.budget or budget,
        )
        return Side(cell, filled.who or MODEL)


@dataclasses.dataclass(frozen=True)
class NewTagsConfig:
    """Tags held out of training, which are then scored by their views alone.

    Attributes:
      towers: Names of towers with `tag_views`; each is also trained without them.
      objective: Name of the objective.
      data_set: Name of the data set.
      fraction: Share of the tags that are held out, drawn anew with every seed.
    """

    towers: tuple[str, ...]
    objective: str
    data_set: str = BASE_DATA_SET
    fraction: float = 0.1

    def __post_init__(self):
        _check_different(self.towers, "towers")
        require(0 < self.fraction < 1, "fraction", "be above 0 and below 1", self.fraction)


@dataclasses.dataclass(frozen=True)
class StudyConfig:
    """All settings that define a study.

    Attributes:
      name: Name of the study.
      base: Pipeline configuration that all trials share.
      towers: Overrides of the base's `model`, by name of the tower.
      objectives: Overrides of the loss in the base's `training`, by name of the objective.
      grid: Blocks of cells that are trained.
      data_sets: Overrides of the base's `features` and `examples`, by name of the data set; each is
        prepared once.
      seeds: Seeds of initialisation, of the training order, of the random baseline and of the
        choice of held-out tags.
      parameter_reference: Name of the tower whose number of parameters is that of the budget
        `parameters`.
      metrics: Metrics in the columns of the table, on test users.
      plot_metrics: Metrics of the plots: the first against the second, and each by itself.
      questions: Questions that the report answers.
      new_tags: Settings for tags without history; null: they are not studied.
      output: Output folder; null: `build/studies/<name>`.
      page: Markdown page into which the report is written, between its markers (at its end where it
        has none), with `study.json` and the plots beside it; null: only the output folder is
        written.
    """

    name: str
    base: BaseConfig
    towers: dict[str, dict[str, Any]]
    objectives: dict[str, dict[str, Any]]
    grid: tuple[GridBlock, ...]
    data_sets: dict[str, dict[str, Any]] = dataclasses.field(default_factory=dict)
    seeds: tuple[int, ...] = (0, 1, 2)
    parameter_reference: str | None = None
    metrics: tuple[str, ...] = (
        PRECISION.at(1),
        PRECISION.at(10),
        NDCG.at(10),
        PRECISION.at(10, NOVEL),
        CLICK_GAUC.name,
        DISTINCT_LISTS.name,
    )
    plot_metrics: tuple[str, ...] = (PRECISION.at(10), CLICK_GAUC.name)
    questions: tuple[Question, ...] = ()
    new_tags: NewTagsConfig | None = None
    output: str | None = None
    page: str | None = None

    def __post_init__(self):
        is_name = bool(self.name) and all(c.isalnum() or c in "-_" for c in self.name)
        require(is_name, "name", "consist of letters, digits, - and _", self.name)
        for kind in ("towers", "objectives", "data_sets"):
            for name in getattr(self, kind):
                is_word = bool(re.fullmatch(r"[\w-]+", name))
                require(is_word, kind, "have names of letters, digits, - and _", name)
        require(
            BASE_DATA_SET not in self.data_sets,
            "data_sets",
            f"not name one `{BASE_DATA_SET}`: that is the base configuration's own",
            BASE_DATA_SET,
        )
        require(bool(self.seeds), "seeds", "name at least one", list(self.seeds))
        require(min(self.seeds) >= 0, "seeds", "be 0 or positive", list(self.seeds))
        require(len(set(self.seeds)) == len(self.seeds), "seeds", "differ", list(self.seeds))
        for name in ("metrics", "plot_metrics"):
            require(bool(getattr(self, name)), name, "name at least one", [])
            _check_metrics(getattr(self, name), name)
        self._check_grid()
        self._check_questions()
        self._check_new_tags()

    def _check_grid(self) -> None:
        require(bool(self.grid), "grid", "have at least one block", [])
        known_data_sets = [BASE_DATA_SET, *self.data_sets]
        for i, block in enumerate(self.grid):
            check_names(block.towers, self.towers, f"grid[{i}].towers")
            check_names(block.objectives, self.objectives, f"grid[{i}].objectives")
            check_names(block.data_sets, known_data_sets, f"grid[{i}].data_sets")
            require(
                "parameters" not in block.budgets or self.parameter_reference is not None,
                "parameter_reference",
                f"name a tower: `grid[{i}].budgets` asks for equal parameters",
                None,
            )
        if self.parameter_reference is not None:
            check_names([self.parameter_reference], self.towers, "parameter_reference")

    def _check_questions(self) -> None:
        cells = set(self.cells)
        for i, question in enumerate(self.questions):
            try:
                sides = [side for pair in comparisons(question) for side in pair]
            except ValueError as error:
                raise ValueError(f"questions[{i}]: {error}") from error
            for side in sides:
                require(
                    side.cell in cells,
                    f"questions[{i}]",
                    "compare cells of the grid alone",
                    " · ".join(dataclasses.astuple(side.cell)),
                )

    def _check_new_tags(self) -> None:
        if self.new_tags is not None:
            known_data_sets = [BASE_DATA_SET, *self.data_sets]
            check_names(self.new_tags.towers, self.towers, "new_tags.towers")
            check_names([self.new_tags.objective], self.objectives, "new_tags.objective")
            check_names([self.new_tags.data_set], known_data_sets, "new_tags.data_set")

    @property
    def cells(self) -> tuple[Cell, ...]:
        """Points of the grid, each once, in the order of the blocks."""
        found: dict[Cell, None] = {}
        for block in self.grid:
            for data_set in block.data_sets:
                for objective in block.objectives:
                    for budget in block.budgets:
                        for tower in block.towers:
                            found[Cell(tower, objective, data_set, budget)] = None
        return tuple(found)

    @property
    def all_metrics(self) -> tuple[str, ...]:
        """Metrics of the table, the plots and the questions, each once."""
        asked = [metric for question in self.questions for metric in question.metrics]
        return tuple(dict.fromkeys((*self.metrics, *self.plot_metrics, *asked)))

    @property
    def output_dir(self) -> str:
        """Output folder: the declared one, or else the default."""
        return self.output or os.path.join("build", "studies", self.name)


def comparisons(question: Question) -> Iterator[tuple[Side, Side]]:
    """Yields the pairs of a question, reference and compared side, budget by budget.

    Raises:
      ValueError: A side names no tower or no objective, or is compared with itself.
    """
    for budget in question.budgets:
        reference = question.side(question.reference, budget)
        for selector in question.against:
            other = question.side(selector, budget)
            require(reference != other, "against", "differ from `reference`", _words(other))
            yield reference, other


def _check_different(names: Sequence[str], path: str) -> None:
    require(bool(names), path, "name at least one", list(names))
    repeated = sorted({name for name in names if names.count(name) > 1})
    require(not repeated, path, "name nothing twice", ", ".join(repeated))


def _check_metrics(metrics: Iterable[str], name: str) -> None:
    for metric in metrics:
        require(
            metric in COMPARED_METRICS,
            name,
            "be names of metrics of the report, `precision_at_10` for example",
            metric,
        )


def check_names(names: Iterable[str], known: Collection[str], path: str) -> None:
    """Raises `ValueError` for the first name that is not known, with a suggestion."""
    for name in names:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            hint = f"Did you mean {close[0]!r}?" if close else f"Known: {', '.join(known)}."
            raise ValueError(f"`{path}` must name what exists. Received: {name!r}. {hint}")


def _words(side: Side) -> str:
    return " · ".join((*dataclasses.astuple(side.cell), side.who))
