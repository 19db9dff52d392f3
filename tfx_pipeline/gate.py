"""The quality gate: which figures a model must show on validation users before it may be pushed."""

import dataclasses
from collections.abc import Mapping

from tfx_pipeline.gate_config import GateConfig

Metrics = Mapping[str, float | None]


@dataclasses.dataclass(frozen=True)
class Check:
    """One condition.

    Attributes:
      name: What is compared, in words.
      value: The figure; None: undefined, which passes no check.
      bound: What it must reach.
      is_passed: Whether it does.
      is_strict: Whether reaching means exceeding.
    """

    name: str
    value: float | None
    bound: float
    is_passed: bool
    is_strict: bool = False

    def __str__(self) -> str:
        value = "undefined" if self.value is None else f"{self.value:.4f}"
        comparison = "above" if self.is_strict else "at least"
        return f"{self.name}: {value}, must be {comparison} {self.bound:.4f}"


def check_model(
    figures: Mapping[str, Metrics], gate: GateConfig, num_users: int, has_click_head: bool
) -> list[Check]:
    """All checks of a model.

    Args:
      figures: By `model`, `popularity`, `own_history`, `blend` and, where there is one,
        `last_blessed`: the protocol's metrics on the same validation users.
      gate: The margins.
      num_users: Validation users, what distinct lists are compared with.
      has_click_head: Whether the click loss was trained.

    Returns:
      The checks; a model is blessed if all are passed.
    """
    model = figures["model"]
    baselines = [
        figures[who].get("precision_at_10") or 0.0 for who in ("popularity", "own_history", "blend")
    ]
    checks = [
        _above(
            "P@10 against the best of popularity, own history and their blend",
            model.get("precision_at_10"),
            max(baselines) * (1 + gate.min_relative_gain),
        ),
        _above(
            "novel P@10 against popularity",
            model.get("novel_precision_at_10"),
            (figures["popularity"].get("novel_precision_at_10") or 0.0)
            * (1 + gate.min_relative_novel_gain),
        ),
        _at_least(
            "distinct top-10 lists (collapse)",
            model.get("distinct_top10"),
            gate.min_distinct_top10 * num_users,
        ),
        _at_least(
            "tags in anyone's top 10 (coverage)",
            model.get("coverage_at_10"),
            gate.min_coverage_at_10,
        ),
    ]
    if has_click_head:
        checks.append(_at_least("click GAUC", model.get("click_gauc"), gate.min_click_gauc))
    if "last_blessed" in figures:
        last = figures["last_blessed"].get("precision_at_10") or 0.0
        bound = last * (1 - gate.max_relative_loss)
        checks.append(
            _at_least("P@10 against the last blessed model", model.get("precision_at_10"), bound)
        )
    return checks


def _at_least(name: str, value: float | None, bound: float) -> Check:
    return Check(name, value, bound, value is not None and value >= bound)


def _above(name: str, value: float | None, bound: float) -> Check:
    # A model that is only as good as a baseline has not beaten it.
    return Check(name, value, bound, value is not None and value > bound, is_strict=True)
