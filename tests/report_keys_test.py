"""docs/report.md names every key that the code writes."""

import ast
import re
from pathlib import Path

import numpy as np
import pytest

from tests.report_keys import compile_pattern, read_names, read_patterns, undocumented_keys
from tfx_pipeline.tables.schema import REJECT_REASONS, TABLES
from trainer.contract import features as f
from trainer.contract.list_column import ListValues
from trainer.data.snapshots import Snapshots
from trainer.evaluation.figures import CUTS, HISTORY_SLICES, PROFILE_CUTS, evaluate

ROOT = Path(__file__).resolve().parent.parent
WHO = ("model", "popularity", "own_history", "random")


def test_keys_that_were_promised_are_documented():
    promised = [
        f"eval.{who}.{name}"
        for who in WHO
        for name in (
            "precision_at_10",
            "novel_precision_at_10",
            "ndcg_at_10",
            "click_gauc",
            "tagged_impressions_at_3",
            "tag_ctr_at_3",
            "distinct_top10",
            "item_recall_at_100",
        )
    ]
    promised += ["eval_validation.popular_items.item_recall_at_100"]
    promised += ["index.kind", "index.num_tags", "index.recall_at_100"]
    promised += ["index.latency_ms_p50_batch_1", "index.queries_per_second_batch_64"]
    promised += ["train.examples_per_second", "train.epochs"]
    promised += ["time.Trainer_seconds", "time.total_seconds", "memory.peak_mb"]
    promised += ["rows.read.interactions", "rows.rejected.no_tags"]
    promised += ["demo.planted_precision", "demo.planted_precision_random"]

    assert undocumented_keys(promised) == []


def test_every_metric_of_the_evaluation_is_documented():
    def one_each(values, dtype):
        return ListValues(np.array(values, dtype), np.arange(len(values) + 1))

    snapshots = Snapshots(
        {f.USER_ID: np.array([b"a", b"b"]), f.HISTORY_NUM_EVENTS: np.array([0, 60])},
        {
            f.LABEL_TAGS: one_each([1, 2], np.int32),
            f.HISTORY_TAGS: one_each([3, 2], np.int32),
            f.IMPRESSION_TAGS: one_each([1, 2], np.int32),
            f.IMPRESSION_NUM_TAGS: one_each([1, 1], np.int32),
            f.IMPRESSION_CLICKED: one_each([1, 0], np.float32),
            f.IMPRESSION_WEIGHTS: one_each([1, 1], np.float32),
        },
    )
    metrics = evaluate(
        lambda chunk: np.zeros((chunk.num_examples, 60)),
        snapshots,
        60,
        lambda chunk: np.zeros(chunk.num_examples),
        is_head=np.arange(60) < 5,
    )

    keys = [f"{part}.model.{name}" for part in ("eval", "eval_validation") for name in metrics]
    assert len(keys) > 500
    assert undocumented_keys(keys) == []


@pytest.mark.parametrize(
    "path",
    [
        "tfx_pipeline/runs/report.py",
        "tfx_pipeline/runs/run.py",
        "tfx_pipeline/evaluation/planted_score.py",
        "tfx_pipeline/examples/write_examples.py",
        "tfx_pipeline/examples/writer.py",
    ],
)
def test_every_key_written_out_in_the_source_is_documented(path):
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    sections = {pattern.partition(".")[0].partition("[")[0] for pattern in read_patterns()}
    texts = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)}
    keys = {
        text
        for text in texts
        if isinstance(text, str)
        and re.fullmatch(r"\w+(\.\w*[a-z0-9])+", text)  # not the part of a key before a {...}
        and text.partition(".")[0] in sections
        and not text.endswith((".json", ".jsonl"))
    }

    assert keys
    assert undocumented_keys(keys) == []


def test_names_have_the_values_of_the_code():
    names = read_names()

    assert names["<reason>"] == list(REJECT_REASONS)
    assert names["<table>"] == list(TABLES)
    assert names["<part>"] == [*f.SPLITS, f.NOW_SPLIT]
    assert names["<k>"] == [str(k) for k in CUTS]
    assert names["<profile_k>"] == [str(k) for k in PROFILE_CUTS]
    assert names["<users>"] == [name for name, _, _ in HISTORY_SLICES]


def test_every_name_is_used_and_every_pattern_compiles():
    names, patterns = read_names(), read_patterns()
    for pattern in patterns:
        compile_pattern(pattern, names)

    assert {name for pattern in patterns for name in re.findall(r"<\w+>", pattern)} == set(names)
    assert len(set(patterns)) == len(patterns)


@pytest.mark.parametrize(
    "key",
    [
        "eval.nobody.precision_at_10",
        "eval.model.precision_at_7",
        "eval.model.novel_head_tags.precision_at_10",
        "eval.model.known_users.distinct_top10",
        "evalXmodel.precision_at_10",
        "index.20000.scann",
        "time.seconds",
        "rows.rejected.bad_mood",
    ],
)
def test_key_of_no_pattern_is_found(key):
    assert undocumented_keys({key: 1, "run.name": "x"}) == [key]


def test_name_that_the_page_does_not_explain_is_refused(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("| key | unit |\n| --- | --- |\n| `a.<b>` | x |\n")
    with pytest.raises(ValueError, match="`a.<b>` has a name that is not explained: <b>"):
        undocumented_keys(["a.c"], page)
