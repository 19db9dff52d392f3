import pytest

from tfx_pipeline.terminal.tables import (
    format_table,
    quality_table,
    skipped_lines,
    stage_weights,
)


def report(click_weight, mix_weight):
    who = ["model", "multi_class_stage", "click_stage", "blend", "random"]
    who += ["mix_stage"] if mix_weight is not None else []
    figures = {f"eval.{name}.precision_at_10": 0.5 for name in who}
    return {**figures, "eval.click_weight": click_weight, "eval.mix_weight": mix_weight}


def first_column(table):
    return [line.split("  ")[0] for line in table.splitlines()[2:]]


@pytest.mark.parametrize(
    ("click_weight", "stages"),
    [
        (0.0, ["click stage", "mix stage"]),
        (0.1, ["multi class stage", "click stage"]),
        (0.4, ["multi class stage", "click stage", "mix stage"]),
        (1.0, ["multi class stage", "mix stage"]),
    ],
)
def test_second_stage_that_is_served_is_the_row_of_the_model(click_weight, stages):
    table = quality_table(report(click_weight, mix_weight=0.1))

    assert first_column(table) == ["model", *stages, "blend", "random"]


def test_without_a_click_head_the_model_is_the_only_row():
    figures = {f"eval.{who}.precision_at_10": 0.5 for who in ("model", "multi_class_stage")}
    figures |= {"eval.click_weight": 0.0, "eval.mix_weight": None}

    assert first_column(quality_table(figures)) == ["model"]


def test_popular_items_are_shown_beside_those_that_tags_recall():
    figures = {
        "eval.model.precision_at_10": 0.5,
        "eval.model.item_recall_at_100": 0.25,
        "eval.popular_items.item_recall_at_100": None,
        "eval.click_weight": 0.0,
    }

    header, _, *rows = quality_table(figures).splitlines()

    column = header.index("item R@100")
    assert first_column(quality_table(figures)) == ["model", "popular items"]
    assert [row[column : column + len("item R@100")].strip() for row in rows] == ["0.250", "-"]


def test_weights_name_the_stages_that_there_are():
    assert stage_weights(None, has_click_head=False) == {"multi_class_stage": 0.0}
    assert stage_weights(None) == {"multi_class_stage": 0.0, "click_stage": 1.0}
    assert stage_weights(0.2)["mix_stage"] == 0.2


def test_baselines_left_out_are_named_by_reason():
    figures = report(0.0, mix_weight=0.1)
    figures |= {"eval.ease_skipped": "too large", "eval.ease_own_history_skipped": "too large"}
    figures["eval.shown_skipped"] = "nothing skipped"

    assert skipped_lines(figures) == [
        "left out   ease own history, ease: too large",
        "left out   shown: nothing skipped",
    ]


def test_words_go_to_the_left_and_numbers_to_the_right():
    rows = [
        [1, "jazz", 0.5, "1,024", None],
        [12, "soul", 12.25, "0.512 ± 0.004", "-"],
        [3, "90s", None, "none", ""],
    ]

    assert format_table(["rank", "tag", "score", "figure", "none"], rows).splitlines() == [
        "rank  tag    score         figure  none",
        "----  ----  ------  -------------  ----",
        "1     jazz   0.500          1,024     -",
        "12    soul  12.250  0.512 ± 0.004     -",
        "3     90s        -           none",
    ]


def test_characters_of_two_columns_are_aligned_as_a_terminal_shows_them():
    assert format_table(["tag", "score"], [["日本", 1.0], ["jazz", 12.0]]).splitlines() == [
        "tag    score",
        "----  ------",
        "日本   1.000",
        "jazz  12.000",
    ]


def test_tags_that_look_like_numbers_stay_as_they_are():
    rows = [["1e5", "007"], ["1_000", "-0.50"]]

    assert [line.split() for line in format_table(["tag", "other"], rows).splitlines()[2:]] == rows


def test_table_without_rows_is_its_titles():
    assert format_table(["figure", "value"], []) == "figure  value\n------  -----"
