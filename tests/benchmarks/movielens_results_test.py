"""Tests the tables of the results page on reports that are written out here."""

from benchmarks.movielens_results import COSTS, figures


def report(seed, recall):
    return {
        **{key: 1.0 for key, _, _ in COSTS},
        "run.seed": seed,
        "index.num_tags": 1234,
        "time.total_seconds": 5.0,
        "memory.peak_mb": 100.0,
        "eval.blend_weight": 10.0,
        "eval.model.plain_ctr": 0.5,
        "eval.model.num_users": 40.0,
        "eval.model.item_num_users": 39.0,
        "eval.model.precision_at_10": 0.5,
        "eval.model.item_recall_at_100": recall,
        "eval.popular_items.item_recall_at_100": 0.25,
    }


def test_popular_items_have_a_row_with_their_recall_alone():
    lines = figures([report(0, 0.2), report(1, 0.4)]).splitlines()

    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines[:4]]
    by_title = {row[0]: dict(zip(rows[0], row, strict=True)) for row in rows}
    assert by_title["model"]["item R@100"] == "0.3000 ± 0.1414"
    popular = by_title["popular items"]
    defined = {title: text for title, text in popular.items() if text != "-"}
    assert defined == {"test users": "popular items", "item R@100": "0.2500"}
    assert "40 test users with a truth (39 with one of items), 1,234 tags" in lines[-1]
