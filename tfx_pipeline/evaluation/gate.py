"""The quality gate: what a model must reach on validation users before it may be pushed.

Every mean over users is compared user by user, with an interval. docs/gate.md explains which
interval is required and why.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tfx_pipeline.config.gate import GateConfig
from tfx_pipeline.evaluation.paired_comparison import PairedComparison, compare_users
from trainer.contract.metric_registry import (
    CLICK_GAUC,
    COVERAGE,
    DISTINCT_LISTS,
    NDCG,
    NOVEL,
    PRECISION,
)
from trainer.evaluation.figures import GAUC_WEIGHT

Metrics = Mapping[str, float | None]
# Contributions by name of the metric, float [num_users]; nan where a user has no value.
UserMetrics = Mapping[str, np.ndarray]

_MAIN = PRECISION.at(10)
_ABOVE, _NOT_BELOW, _AT_LEAST = "above", "not below", "at least"
# Deep lists distinguish a personal order from popularity with a tenth of the users that P@10 needs.
_PERSONAL = {
    NDCG.at(50): "personal lists (NDCG@50) against popularity",
    NDCG.at(50, NOVEL): "personal lists (novel NDCG@50) against popularity",
}


@dataclasses.dataclass(frozen=True)
class Check:
    """One condition of the gate and its result.

    Attributes:
      name: Description of what is compared.
      value: Figure of the model; None: undefined, which passes no check.
      bound: Bound that the figure is compared with.
      is_passed: Whether the check is passed, with or without a warning.
      demand: Relation to the bound: `above`, `not below` (both by the interval) or `at least`.
      key: Key of the configuration that decides; empty: none is named.
      setting: Value of that key.
      low: Lower end of the interval of value minus bound; None: there is no interval.
      high: Upper end of the interval of value minus bound; None: there is no interval.
      confidence: Confidence level of the interval.
      num_users: Number of users compared.
      num_needed: Number of users that a claim would need, where there are too few; None: there are
        enough, or more users would not help.
      too_few_users: Value of `gate.too_few_users`, which decides in that case.
    """

    name: str
    value: float | None
    bound: float
    is_passed: bool
    demand: str = _AT_LEAST
    key: str = ""
    setting: Any = None
    low: float | None = None
    high: float | None = None
    confidence: float | None = None
    num_users: int | None = None
    num_needed: int | None = None
    too_few_users: str = ""

    @property
    def is_warning(self) -> bool:
        """Whether the check is passed although users are too few for a claim."""
        return self.is_passed and self.num_needed is not None

    def __str__(self) -> str:
        value = "undefined" if self.value is None else f"{self.value:.4f}"
        line = f"{self.name}: {value}, must be {self.demand} {self.bound:.4f}"
        if self.confidence is not None and self.num_users is not None:
            line += f" by the {100 * self.confidence:g} % interval of {self.num_users:,} users"
            if self.low is not None and self.high is not None:
                line += f", which is {self.low:+.4f} to {self.high:+.4f}"
        if self.key:
            setting = f"{self.setting:g}" if isinstance(self.setting, float) else self.setting
            line += f" (`{self.key}` is {setting})"
        if self.num_needed is not None:
            line += (
                f"; too few users for a claim, about {self.num_needed:,} are needed "
                f"(`gate.too_few_users` is {self.too_few_users})"
            )
        return line


_ALWAYS_THERE = ("blend", "own_history", "popularity")


def check_model(
    figures: Mapping[str, Metrics],
    by_user: Mapping[str, UserMetrics],
    gate: GateConfig,
    has_click_head: bool,
) -> list[Check]:
    """Runs all checks of a model against the baselines and the last blessed model.

    Args:
      figures: Metrics of validation users by `model`, baselines and, if any, `last_blessed`.
      by_user: Contributions of the users to these metrics, by the same names.
      gate: Configuration of the gate.
      has_click_head: Whether a click loss was trained.

    Returns:
      The checks; a model is blessed if all are passed. A metric without truth for any user is not
      checked.
    """
    faced: list[str] = [who for who in gate.baselines if who in figures]
    # All named baselines may be left out on a log; without any, the gate would pass every model.
    faced = faced or [who for who in _ALWAYS_THERE if who in figures]
    checks = []
    for name, metric, margin_key in (
        ("P@10 against the best of the baselines", _MAIN, "min_relative_gain"),
        (
            "novel P@10 against the best of the baselines",
            PRECISION.at(10, NOVEL),
            "min_relative_novel_gain",
        ),
    ):
        best = _best(figures, faced, metric)
        if best is not None or metric == _MAIN:
            checks.append(_against(name, metric, best, margin_key, by_user, gate))
    checks.append(_is_personal(by_user, gate))

    personal = [who for who in faced if who != "popularity"] or faced
    for name, metric, key in (
        ("distinct top-10 lists (collapse)", DISTINCT_LISTS.name, "min_relative_distinct"),
        ("tags in anyone's top 10 (coverage)", COVERAGE.at(10), "min_relative_coverage"),
    ):
        value, share = figures["model"].get(metric), getattr(gate, key)
        bound = share * min((figures[who].get(metric) or 0.0 for who in personal), default=0.0)
        is_passed = value is not None and value >= bound
        checks.append(Check(name, value, bound, is_passed, key=f"gate.{key}", setting=share))

    if has_click_head:
        gauc, weight = (
            _metric(by_user["model"], name, by_user) for name in (CLICK_GAUC.name, GAUC_WEIGHT)
        )
        compared = compare_users(gauc, gate.min_click_gauc * weight, gate.confidence)
        key = "gate.min_click_gauc"
        checks.append(_not_below("click GAUC", compared, gate, key, gate.min_click_gauc))
    if "last_blessed" in by_user:
        last = _metric(by_user["last_blessed"], _MAIN, by_user)
        if not np.isnan(last).all():
            model = _metric(by_user["model"], _MAIN, by_user)
            compared = compare_users(model, (1 - gate.max_relative_loss) * last, gate.confidence)
            name, key = "P@10 against the last blessed model", "gate.max_relative_loss"
            checks.append(_not_below(name, compared, gate, key, gate.max_relative_loss))
    return checks


def check_index(recall: float, target_recall: float) -> Check:
    """Checks an index by its recall against exact search, on validation users.

    Args:
      recall: Measured recall.
      target_recall: Value of `index.target_recall`.

    Returns:
      The check with its result.
    """
    return Check(
        "index recall",
        recall,
        target_recall,
        recall >= target_recall,
        key="index.target_recall",
        setting=target_recall,
    )


def _best(figures: Mapping[str, Metrics], faced: Sequence[str], metric: str) -> str | None:
    """Returns the baseline with the highest figure, the first among equals; None: none has one."""
    defined = {who: value for who in faced if (value := figures[who].get(metric)) is not None}
    return max(defined, key=lambda who: defined[who]) if defined else None


def _words(who: str | None) -> str:
    return "none" if who is None else who.replace("_", " ")


def _metric(users: UserMetrics, metric: str, by_user: Mapping[str, UserMetrics]) -> np.ndarray:
    """Returns a metric of every user; nan where it was not computed."""
    num_users = max((len(v) for figures in by_user.values() for v in figures.values()), default=0)
    return users.get(metric, np.full(num_users, np.nan))


def _against(
    name: str,
    metric: str,
    best: str | None,
    margin_key: str,
    by_user: Mapping[str, UserMetrics],
    gate: GateConfig,
) -> Check:
    """Checks a metric of the model against that of a baseline, by the gate's rule."""
    model = _metric(by_user["model"], metric, by_user)
    margin = getattr(gate, margin_key)
    bound = np.zeros(len(model)) if best is None else (1 + margin) * by_user[best][metric]
    compared = compare_users(model, bound, gate.confidence)
    check = _above if gate.rule == "above" else _not_below
    key, setting = (margin_key, margin) if margin else ("rule", gate.rule)
    name = f"{name}, {_words(best)}"
    return check(name, compared, gate, f"gate.{key}", setting)


def _is_personal(by_user: Mapping[str, UserMetrics], gate: GateConfig) -> Check:
    """Checks whether the lists are more personal than popularity, on all or on novel truth.

    Either of two metrics may pass, so chance has two tries: both intervals are wider (Bonferroni).
    """
    confidence = 1 - (1 - gate.confidence) / len(_PERSONAL)
    margins = (1 + gate.min_relative_gain, 1 + gate.min_relative_novel_gain)
    checks = []
    for (metric, name), margin in zip(_PERSONAL.items(), margins, strict=True):
        model = _metric(by_user["model"], metric, by_user)
        popular = _metric(by_user.get("popularity", {}), metric, by_user)
        compared = compare_users(model, margin * popular, confidence)
        checks.append(_above(name, compared, gate, "gate.confidence", gate.confidence))

    def certainty(check: Check) -> tuple[bool, bool, float]:
        width = (check.high or 0.0) - (check.low or 0.0)
        return check.is_passed, check.value is not None, (check.low or 0.0) / (width or 1.0)

    return max(checks, key=certainty)


def _above(
    name: str, compared: PairedComparison, gate: GateConfig, key: str, setting: Any
) -> Check:
    is_claim = compared.num_users >= gate.min_users and compared.is_above
    is_open = not is_claim and compared.difference is not None and compared.difference > 0
    return _check(name, compared, gate, is_claim, is_open, _ABOVE, key, setting)


def _not_below(
    name: str, compared: PairedComparison, gate: GateConfig, key: str, setting: Any
) -> Check:
    is_enough = compared.num_users >= gate.min_users
    is_claim = is_enough and not compared.is_below
    is_open = not is_enough and compared.num_users > 0 and not compared.is_below
    return _check(name, compared, gate, is_claim, is_open, _NOT_BELOW, key, setting)


def _check(
    name: str,
    compared: PairedComparison,
    gate: GateConfig,
    is_claim: bool,
    is_open: bool,
    demand: str,
    key: str,
    setting: Any,
) -> Check:
    num_needed = None
    if is_open:
        wanted = compared.num_needed if demand == _ABOVE else gate.min_users
        num_needed = max(wanted or 0, gate.min_users)
    return Check(
        name,
        compared.first,
        0.0 if compared.second is None else compared.second,
        is_claim or (is_open and gate.too_few_users == "warn"),
        demand,
        key,
        setting,
        compared.low,
        compared.high,
        compared.confidence,
        compared.num_users,
        num_needed,
        gate.too_few_users,
    )
