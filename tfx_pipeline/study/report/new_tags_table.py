"""The results for tags without history, as a table and its explanation."""

from tfx_pipeline.study.report.labels import spread
from tfx_pipeline.study.report.tables import Rows, markdown_table
from tfx_pipeline.study.trials.new_tags_results import (
    AMONG_NEW,
    BASELINES,
    ID_ONLY,
    METRICS,
    VIEWS,
    NewTagsResults,
)
from trainer.contract.metric_registry import label

_COLUMNS = {
    f"{prefix}{metric}": f"{label(metric)}{suffix}"
    for prefix, suffix in (("", ""), (AMONG_NEW, " among new"))
    for metric in METRICS
}


def new_tags_table(results: NewTagsResults) -> tuple[list[str], Rows]:
    """Builds the table of means and standard deviations over seeds, on test users.

    Args:
      results: Results of the study for new tags.

    Returns:
      Titles of the columns; and rows: every tower with and without its views, then the baselines.
    """
    towers = results.config.towers
    # Baselines depend on seeds and users only: they are equal for all towers.
    lines = [(tower, who) for tower in towers for who in (VIEWS, ID_ONLY)]
    lines += [("-", who) for who in BASELINES]
    rows = [
        [
            who.replace("_", " "),
            tower,
            *(
                spread(results.mean(towers[0] if tower == "-" else tower, who, metric), metric)
                for metric in _COLUMNS
            ),
        ]
        for tower, who in lines
    ]
    return ["ranked by", "tower", *_COLUMNS.values()], rows


def new_tags_report(results: NewTagsResults) -> list[str]:
    """Returns paragraphs of Markdown: the method, notes, the table."""
    text = (
        "**Tags without history.** "
        f"{_range(results, 'num_new_tags')} of {_range(results, 'num_tags')} tags, drawn anew with "
        f"every seed ({results.config.fraction:.0%}), are held out of all that a training and the "
        "choice of its steps look at. Then all tags are ranked for the "
        f"{_range(results, 'num_users')} test users who clicked held-out ones later. R@k: of a "
        "user's held-out tags the share among the first k of all tags; MRR: 1 / rank of the "
        "first of them; `among new`: the same where the held-out tags alone are ranked. `views`: "
        "held-out tags have the vectors that their views give them; `id only`: the same tower "
        "without views, where they have untrained rows; `popularity of category`: the mean clicks "
        "of the category's other tags. Equal scores are in random order. The deviations are over "
        "seeds, hence over other tags as well as other trainings."
    )
    header, rows = new_tags_table(results)
    return [text, *results.notes, markdown_table(header, rows, num_words=2)]


def _range(results: NewTagsResults, count: str) -> str:
    """Returns the range of a count over all seeds, e.g. `106 to 125`."""
    tower = results.config.towers[0]
    numbers = {round(value) for value in results.values(tower, VIEWS, count)}
    return " to ".join(f"{number:,}" for number in sorted({min(numbers), max(numbers)}))
