"""The registry of report keys: what each means, its unit, who writes it, and when it is absent.

`report_keys.yaml` beside this module has the keys as data; those of metrics follow from
`trainer.contract.metric_registry`. `tfx_pipeline.reference.report` makes docs/report.md of it, and
tests hold reports to it.
"""

import dataclasses
import functools
from collections.abc import Iterator, Mapping
from pathlib import Path

import yaml

from tfx_pipeline.tables.schema import REJECT_REASONS, TABLES
from tfx_pipeline.terminal.tables import STAGES, WITHOUT_MEMORY
from trainer.contract import metric_registry as registry
from trainer.contract.config_loader import from_mapping
from trainer.contract.features import NOW_SPLIT, SPLITS
from trainer.contract.file_system import open_file
from trainer.contract.metric_registry import Metric
from trainer.evaluation.baselines_config import BASELINES

PATH = Path(__file__).with_name("report_keys.yaml")

# Metrics by the module that computes them.
_METRICS: Mapping[str, tuple[Metric, ...]] = {
    "trainer/evaluation/figures.py": (
        *registry.RANKING_METRICS,
        *registry.LIST_METRICS,
        *registry.CLICK_METRICS,
    ),
    "tfx_pipeline/evaluation/held_out_items.py": registry.ITEM_METRICS,
    "tfx_pipeline/evaluation/figures.py": registry.CALIBRATION_METRICS,
}
# Values of names that the code has as a list.
_VALUES: Mapping[str, tuple[str, ...]] = {
    "who": (
        *("model", WITHOUT_MEMORY, *STAGES, "last_blessed"),
        *(*BASELINES[:-1], "popular_items", BASELINES[-1]),
    ),
    "outcome": registry.OUTCOMES,
    "users": tuple(name for name, _, _ in registry.HISTORY_SLICES),
    "truth": registry.TRUTHS,
    "k": tuple(map(str, registry.CUTS)),
    "profile_k": tuple(map(str, registry.PROFILE_CUTS)),
    "table": tuple(TABLES),
    "reason": REJECT_REASONS,
    "part": (*SPLITS, NOW_SPLIT),
}


@dataclasses.dataclass(frozen=True)
class ReportKey:
    """A key of a report, or a family of keys.

    Attributes:
      key: Key in which `<name>` stands for each value of a name, and a part in `[...]` may be
        missing.
      unit: Unit or range of the value.
      meaning: Meaning of the value, as a sentence.
      absent: Case in which a report has no such key, as the end of "It is absent ..."; empty: every
        complete report has one.
    """

    key: str
    unit: str
    meaning: str
    absent: str = ""


@dataclasses.dataclass(frozen=True)
class Group:
    """The keys of a section that one module writes.

    Attributes:
      writer: Path of the module. Where it computes metrics, their keys come before `keys`.
      introduction: Paragraph before the keys; empty: there is none.
      absent: Case in which a report has none of the keys, as in `ReportKey`.
      keys: The keys that are not metrics.
    """

    writer: str
    introduction: str = ""
    absent: str = ""
    keys: tuple[ReportKey, ...] = ()

    @property
    def all_keys(self) -> tuple[ReportKey, ...]:
        """The keys of metrics, then the others."""
        return (*map(_metric_key, _METRICS.get(self.writer, ())), *self.keys)


@dataclasses.dataclass(frozen=True)
class Section:
    """A section of the page.

    Attributes:
      title: Heading.
      groups: Keys by the module that writes them.
      introduction: Paragraph under the heading; empty: there is none.
    """

    title: str
    groups: tuple[Group, ...]
    introduction: str = ""


@dataclasses.dataclass(frozen=True)
class Name:
    """A name in keys, which stands for one of several values.

    Attributes:
      name: The name, which keys have as `<name>`.
      meaning: Meaning, as a sentence; empty: the values say it.
      values: Values with what each means, which may be empty. Without values the name stands for
        those that the code lists, or for any.
    """

    name: str
    meaning: str = ""
    values: dict[str, str] = dataclasses.field(default_factory=dict)

    @property
    def explained(self) -> dict[str, str]:
        """All values with what each means; empty: any value will do."""
        listed = _VALUES.get(self.name, tuple(self.values))
        return {value: self.values.get(value, "") for value in listed}


@dataclasses.dataclass(frozen=True)
class Registry:
    """All keys that a report may have.

    Attributes:
      sections: Sections with the keys, in the order of the page.
      names: The names that the keys have.
    """

    sections: tuple[Section, ...]
    names: tuple[Name, ...]

    def groups(self) -> Iterator[Group]:
        """Yields the groups of all sections."""
        for section in self.sections:
            yield from section.groups


@functools.cache
def read_registry() -> Registry:
    """Reads the registry.

    Raises:
      ValueError: An entry has an unknown field, or lacks one.
    """
    with open_file(str(PATH)) as file:
        return from_mapping(Registry, yaml.safe_load(file.read()))


def _metric_key(metric: Metric) -> ReportKey:
    """Returns the key of a metric, of every user and every part of the truth that it has."""
    name, suffix, short = metric.name, "", metric.label
    if metric in registry.CALIBRATION_METRICS:
        name, suffix = f"<outcome>_{name}", f"[{registry.UNCALIBRATED}]"
    elif len(metric.cuts) == 1:
        name, short = metric.at(metric.cuts[0]), registry.label(metric.at(metric.cuts[0]))
    elif metric.cuts:
        cut = "<profile_k>" if metric.cuts == registry.PROFILE_CUTS else "<k>"
        suffix, short = f"_at_{cut}", f"{short}@{cut}"
    parts = "[<users>.]" * metric.has_slices + "[<truth>]" * metric.has_truths
    sentences = [metric.formula]
    if metric.over:
        sentences.append(f"It is {metric.over}.")
        if metric.better is not None:
            sentences.append(f"{metric.better.capitalize()} is better.")
        sentences.append(f"Its label is `{short}`.")
    return ReportKey(
        f"eval[_validation].<who>.{parts}{name}{suffix}", metric.unit, " ".join(sentences)
    )
