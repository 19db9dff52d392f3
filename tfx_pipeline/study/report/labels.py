"""Names of cells and figures for the readers of a study; names of metrics are in the registry."""

from tfx_pipeline.study.grid.config import Cell, Side
from tfx_pipeline.study.statistics import Mean
from tfx_pipeline.study.trials.results import Results
from trainer.contract.metric_registry import DISTINCT_LISTS
from trainer.evaluation.baselines_config import BASELINES

_STAGES = {
    "model": "as served",
    "without_memory_stage": "without memory",
    "multi_class_stage": "without second stage",
    "click_stage": "ordered by the click head",
    "mix_stage": "ordered by the best mix",
}


def spread(mean: Mean | None, metric: str) -> str:
    """Returns `0.7347 ± 0.0014`, without a deviation if there is none, or `-` without a mean."""
    if mean is None:
        return "-"
    digits = 1 if metric == DISTINCT_LISTS.name else 4
    text = f"{mean.mean:.{digits}f}"
    return f"{text} ± {mean.deviation:.{digits}f}" if mean.deviation else text


def cell_label(cell: Cell, results: Results) -> str:
    """Returns a cell's name, with the parts that differ between the cells of a study."""
    words = [cell.tower, cell.objective]
    words += [cell.data_set] * results.has_data_sets + [cell.budget] * results.has_budgets
    return " · ".join(words)


def side_labels(reference: Side, other: Side) -> tuple[str, str]:
    """Returns the names of two sides with the parts that differ; at least their towers."""
    return _side_label(reference, other), _side_label(other, reference)


def _side_label(side: Side, opposite: Side) -> str:
    if side.who in BASELINES:
        return side.who.replace("_", " ")
    words = [f"`{side.cell.tower}`"]
    words += [
        f"`{getattr(side.cell, kind)}`"
        for kind in ("objective", "data_set")
        if getattr(side.cell, kind) != getattr(opposite.cell, kind)
    ]
    if side.who != opposite.who and opposite.who not in BASELINES:
        words.append(_STAGES[side.who])
    return " ".join(words)
