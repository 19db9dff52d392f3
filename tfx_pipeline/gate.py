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
      key: The key of the configuration that the bound follows from; empty: none is said.
      setting: Its value.
    """

    name: str
    value: float | None
    bound: float
    is_passed: bool
    is_strict: bool = False
    key: str = ""
    setting: float | None = None

    def __str__(self) -> str:
        value = "undefined" if self.value is None else f"{self.value:.4f}"
        comparison = "above" if self.is_strict else "at least"
        line = f"{self.name}: {value}, must be {comparison} {self.bound:.4f}"
        return f"{line} (`{self.key}` is {self.setting:g})" if self.key else line


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

    def check(key: str, name: str, figure: str, bound: float, is_strict: bool = False) -> Check:
        value = model.get(figure)
        # A model that is only as good as a baseline has not beaten it.
        is_passed = value is not None and (value > bound if is_strict else value >= bound)
        return Check(name, value, bound, is_passed, is_strict, f"gate.{key}", getattr(gate, key))

    checks = [
        check(
            "min_relative_gain",
            "P@10 against the best of popularity, own history and their blend",
            "precision_at_10",
            max(baselines) * (1 + gate.min_relative_gain),
            is_strict=True,
        ),
        check(
            "min_relative_novel_gain",
            "novel P@10 against popularity",
            "novel_precision_at_10",
            (figures["popularity"].get("novel_precision_at_10") or 0.0)
            * (1 + gate.min_relative_novel_gain),
            is_strict=True,
        ),
        check(
            "min_distinct_top10",
            "distinct top-10 lists (collapse)",
            "distinct_top10",
            gate.min_distinct_top10 * num_users,
        ),
        check(
            "min_coverage_at_10",
            "tags in anyone's top 10 (coverage)",
            "coverage_at_10",
            gate.min_coverage_at_10,
        ),
    ]
    if has_click_head:
        checks.append(check("min_click_gauc", "click GAUC", "click_gauc", gate.min_click_gauc))
    if "last_blessed" in figures:
        last = figures["last_blessed"].get("precision_at_10") or 0.0
        bound = last * (1 - gate.max_relative_loss)
        name = "P@10 against the last blessed model"
        checks.append(check("max_relative_loss", name, "precision_at_10", bound))
    return checks


def check_index(recall: float, target_recall: float) -> Check:
    """The check of an index: recall against exact search, of validation users.

    Args:
      recall: As measured.
      target_recall: `index.target_recall`.

    Returns:
      The check.
    """
    return Check(
        "index recall",
        recall,
        target_recall,
        recall >= target_recall,
        key="index.target_recall",
        setting=target_recall,
    )
