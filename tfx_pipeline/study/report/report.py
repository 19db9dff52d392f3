"""A study's results as Markdown: the comparison, the table, plots, answers to its questions."""

from collections.abc import Iterable, Sequence

from tfx_pipeline.study.grid.definition import Study
from tfx_pipeline.study.report.labels import side_labels, spread
from tfx_pipeline.study.report.new_tags_table import new_tags_report
from tfx_pipeline.study.report.questions import Answer
from tfx_pipeline.study.report.tables import markdown_table, result_table
from tfx_pipeline.study.statistics import Difference
from tfx_pipeline.study.trials.new_tags_results import NewTagsResults
from tfx_pipeline.study.trials.results import Results
from trainer.contract.metric_registry import label


def build_report(
    study: Study,
    results: Results,
    answers: Sequence[Answer],
    plots: Iterable[tuple[str, str]] = (),
    notes: Iterable[str] = (),
    new_tags: NewTagsResults | None = None,
) -> str:
    """Builds the whole report of a study.

    Args:
      study: Study that was run.
      results: Results of the study.
      answers: Answers to the study's questions.
      plots: Titles and file names of the plots.
      notes: Facts about this run for the reader, one sentence each.
      new_tags: Results for tags without history; None: the study does not include them.

    Returns:
      Markdown, ending with a line break.
    """
    header, rows = result_table(results, study.config.metrics)
    num_words = header.index(label(study.config.metrics[0]))
    parts = [*_introduction(study, results), *notes, markdown_table(header, rows, num_words)]
    parts += [f"![{name}]({path})" for name, path in plots]
    if answers:
        parts.append(_how_to_read(study, answers))
        for one in answers:
            parts += [f"**{one.question.question}** {summary(one)}", _comparison_table(one)]
    if new_tags is not None:
        parts += new_tags_report(new_tags)
    return "\n\n".join(parts) + "\n"


def _introduction(study: Study, results: Results) -> list[str]:
    config, training = study.config, study.base.training
    counts = {int(run.figure("model", "num_users") or 0) for run in results.runs}
    users = " or ".join(f"{count:,}" for count in sorted(counts))
    num_trainings = len({run.trial for run in results.runs})
    parts = [
        f"Study `{config.name}`: {len(results.cells)} cells, seeds "
        f"{', '.join(map(str, config.seeds))}, {num_trainings} trainings. Figures are means ± "
        f"standard deviations over the seeds, of {users} test users with a truth; every choice "
        "(steps, second stage, weight of the blend) is made on validation users. Trials are equal: "
        f"at most {training.max_epochs} epochs, or {training.budget_steps} steps where these are "
        f"more, of batches of at most {training.batch_size}, patience {training.patience}, "
        f"{training.optimizer} at {training.learning_rate:g} "
        f"({training.learning_rate_schedule}), the same seeds. No tower is tuned for itself.",
    ]
    objectives: dict[str, list[str]] = {}
    for name in dict.fromkeys(cell.objective for cell in results.cells):
        metric = study.training_config(name).early_stopping_metric
        objectives.setdefault(metric, []).append(f"`{name}`")
    chosen = [f"{label(metric)} ({', '.join(names)})" for metric, names in objectives.items()]
    parts.append(f"The state kept is the best by {'; by '.join(chosen)}.")
    if results.has_budgets:
        parts.append(
            "Budget `width`: towers as configured. Budget `parameters`: the first fully connected "
            "layer as wide as it takes for as many parameters outside the embedding tables as "
            f"`{config.parameter_reference}` has; the column `parameters` says what was reached."
        )
    return parts


def _how_to_read(study: Study, answers: Sequence[Answer]) -> str:
    num_tests = sum(c.adjusted_p is not None for one in answers for c in one.comparisons)
    return (
        f"Differences are of means over {len(study.config.seeds)} seeds. In brackets is their 95 % "
        "interval over seeds, which says whether other trainings on the same examples would come "
        "out alike (Welch's t; Student's t of the pairs where both sides are figures of the same "
        "trained models), under `users` that over the test users, each compared with itself, which "
        "says whether other users would. `above` and `below` stand only where both are borne out: "
        "the intervals of the two means over seeds do not meet (of pairs: that of the difference "
        "leaves out 0), and that over users leaves out 0. `p` belongs to the difference over seeds "
        f"and is adjusted for all {num_tests} comparisons (Holm): unadjusted, one comparison of "
        "equals in 20 would have p < 0.05."
    )


def summary(one: Answer) -> str:
    """Returns the numbers of verdicts, metric by metric."""
    parts = []
    for metric in one.question.metrics:
        verdicts = [c.verdict for c in one.comparisons if c.metric == metric]
        counts = {verdict: verdicts.count(verdict) for verdict in verdicts}
        words = [f"{verdict} in {count} of {len(verdicts)}" for verdict, count in counts.items()]
        parts.append(f"{label(metric)} {', '.join(words)}")
    return "; ".join(parts) + "."


def _comparison_table(one: Answer) -> str:
    has_budgets = len(one.question.budgets) > 1
    header = ["reference", "against", *["budget"] * has_budgets, "metric"]
    num_words = len(header)
    header += ["reference", "against", "difference (seeds)", "p", "users", "reference is"]
    rows = []
    for comparison in one.comparisons:
        reference, other = side_labels(comparison.reference, comparison.other)
        rows.append(
            [
                reference,
                other,
                *[comparison.other.cell.budget] * has_budgets,
                label(comparison.metric),
                spread(comparison.reference_mean, comparison.metric),
                spread(comparison.other_mean, comparison.metric),
                _difference(comparison.difference),
                _p_value(comparison.adjusted_p),
                _interval(comparison.user_difference),
                comparison.verdict,
            ]
        )
    return markdown_table(header, rows, num_words)


def _difference(difference: Difference | None) -> str:
    if difference is None:
        return "-"
    return f"{difference.mean:+.4f} ({_interval(difference)})"


def _interval(difference: Difference | None) -> str:
    if difference is None or difference.low is None or difference.high is None:
        return "-"
    return f"{difference.low:+.4f} to {difference.high:+.4f}"


def _p_value(value: float | None) -> str:
    if value is None:
        return "-"
    return "< 0.001" if value < 0.001 else f"{value:.3f}"
