"""A study of defaults as Markdown: over all logs, then each log by itself."""

from collections.abc import Sequence

from tfx_pipeline.study.grid.defaults_config import DefaultsConfig
from tfx_pipeline.study.report.labels import spread
from tfx_pipeline.study.report.tables import Rows, markdown_table
from tfx_pipeline.study.trials.defaults_results import (
    VERDICTS,
    Against,
    DefaultsResults,
    counts_by_verdict,
)
from trainer.contract.metric_registry import label


def build_defaults_report(
    config: DefaultsConfig,
    results: DefaultsResults,
    comparisons: Sequence[Against],
    notes: Sequence[str] = (),
) -> str:
    """Builds the whole report of a study of defaults.

    Args:
      config: Configuration of the study.
      results: Results of the study.
      comparisons: All comparisons of the results.
      notes: Facts about this run for the reader, one sentence each.

    Returns:
      Markdown, ending with a line break.
    """
    header, rows = summary_table(results)
    parts = [
        f"Study `{config.name}`: {len(results.defaults)} defaults on {len(results.logs)} logs, "
        f"seeds {', '.join(map(str, config.seeds))}, {len({r.trial for r in results.runs})} "
        "trainings.",
        *notes,
        "A default is `above` a baseline, or `below` it, where the 95 % interval of the difference "
        "over test users leaves out 0 (Student's t, each user compared with themselves, a mean "
        "over seeds and draws); else the two are `not separate`. The best baseline of a log is "
        "the one with the highest mean on its test users, the hardest to be above.",
        "## All logs",
        f"How often a default is {' / '.join(VERDICTS)} the best baseline of a log, on test "
        "users; and its mean rank among the defaults on validation users (1: the best). Defaults "
        "are to be chosen by the rank: test users are for the claim alone.",
        markdown_table(header, rows, 1),
    ]
    for log in results.logs:
        parts += _log_parts(log, results, comparisons)
    return "\n\n".join(parts) + "\n"


def summary_table(results: DefaultsResults) -> tuple[list[str], Rows]:
    """Builds the table over all logs: verdicts against the best baseline, and ranks.

    Args:
      results: Results of the study.

    Returns:
      Titles of the columns; and rows, one per default.
    """
    header = ["default"]
    for metric in results.metrics:
        header += [label(metric), "rank"]
    ranks = {metric: results.ranks(metric) for metric in results.metrics}
    rows = []
    for default in results.defaults:
        row = [default]
        for metric in results.metrics:
            rank = ranks[metric][default]
            counts = counts_by_verdict(against_best(results, default, metric))
            row += [" / ".join(map(str, counts.values())), "-" if rank is None else f"{rank:.1f}"]
        rows.append(row)
    return header, rows


def against_best(results: DefaultsResults, default: str, metric: str) -> list[Against]:
    """Compares a default with the best baseline of every log that has one by this metric."""
    found = []
    for log in results.logs:
        best = results.best_baseline(log, metric)
        if best is not None:
            found.append(results.against(log, default, best, metric))
    return found


def log_table(log: str, results: DefaultsResults) -> tuple[list[str], Rows]:
    """Builds the table of one log: defaults, and baselines below.

    Args:
      log: Name of the log.
      results: Results of the study.

    Returns:
      Titles of the columns; and rows.
    """
    header = [log]
    best = {metric: results.best_baseline(log, metric) for metric in results.metrics}
    for metric in results.metrics:
        who = best[metric]
        header += [label(metric), "-" if who is None else f"best: {who.replace('_', ' ')}"]
    rows = []
    for default in results.defaults:
        row = [default]
        for metric in results.metrics:
            who = best[metric]
            row.append(spread(results.mean(log, default, metric), metric))
            verdict = who and results.against(log, default, who, metric).verdict
            row.append(verdict or "-")
        rows.append(row)
    for who in results.baselines_of(log):
        row = [who.replace("_", " ")]
        for metric in results.metrics:
            row += [spread(results.mean(log, who, metric), metric), ""]
        rows.append(row)
    return header, rows


def _log_parts(log: str, results: DefaultsResults, comparisons: Sequence[Against]) -> list[str]:
    num_draws, num_users = len(results.samples(log)), results.num_users(log)
    draws = f" over {num_draws} draws" if num_draws > 1 else ""
    over = "draws and seeds" if draws else "seeds"
    header, rows = log_table(log, results)
    parts = [
        f"## {log}",
        f"{num_users:,} test users{draws}. Means ± standard deviations over {over}; of baselines "
        "over draws.",
        markdown_table(header, rows, 1),
    ]
    for metric in results.metrics:
        of_metric = [one for one in comparisons if one.log == log and one.metric == metric]
        others = list(dict.fromkeys(one.other for one in of_metric))
        if not others:
            continue
        by_pair = {(one.default, one.other): one for one in of_metric}
        cells = [
            [default, *(_cell(by_pair.get((default, other))) for other in others)]
            for default in results.defaults
        ]
        names = [other.replace("_", " ") for other in others if other not in results.defaults]
        names += [f"`{other}`" for other in others if other in results.defaults]
        parts += [
            f"{label(metric)}, first less second:",
            markdown_table([log, *(f"less {name}" for name in names)], cells, 1),
        ]
    return parts


def _cell(one: Against | None) -> str:
    if one is None or one.comparison.difference is None:
        return "-"
    return f"{one.comparison.difference:+.4f} {one.verdict}"
