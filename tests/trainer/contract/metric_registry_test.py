"""The registry has every metric that is computed, and no other module lists names of metrics."""

import ast
import typing
from pathlib import Path

import numpy as np
import pytest

from trainer.contract import features as f
from trainer.contract import metric_registry as registry
from trainer.contract.list_column import ListValues
from trainer.data.snapshots import Snapshots
from trainer.evaluation.figures import evaluate

ROOT = Path(__file__).resolve().parents[3]


def evaluated_names() -> set[str]:
    """Names of all metrics of two users, one with a history."""

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
    return set(
        evaluate(
            lambda chunk: np.zeros((chunk.num_examples, 60)),
            snapshots,
            60,
            lambda chunk: np.zeros(chunk.num_examples),
            is_head=np.arange(60) < 5,
        )
    )


def test_evaluation_computes_the_metrics_of_the_registry_and_no_others():
    groups = (*registry.RANKING_METRICS, *registry.LIST_METRICS, *registry.CLICK_METRICS)
    expected = set()
    for metric in groups:
        slices = [f"{name}." for name, _, _ in registry.HISTORY_SLICES] * metric.has_slices
        expected |= {
            prefix + name for prefix in ("", *slices) for name in metric.names(registry.TRUTHS)
        }

    assert evaluated_names() == expected
    assert len(expected) > 400
    assert "history_1_to_49.novel_ndcg_at_5" in expected and "distinct_top10" in expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("precision_at_10", "P@10"),
        ("novel_ndcg_at_5", "novel NDCG@5"),
        ("recall_at_20", "R@20"),
        ("recall_at_100", "R@100"),
        ("mrr", "MRR"),
        ("click_gauc", "click GAUC"),
        ("click_auc", "click AUC"),
        ("distinct_top10", "distinct"),
        ("coverage_at_10", "coverage@10"),
        ("tagged_impressions_at_3", "tagged@3"),
        ("tag_ctr_at_3", "tag CTR@3"),
        ("item_recall_at_100", "item R@100"),
        ("mean_ndcg_at_10", "mean of NDCG@10 and novel NDCG@10"),
    ],
)
def test_metric_has_a_short_label(name, expected):
    assert registry.label(name) == expected


@pytest.mark.parametrize("name", ["charm", "charm_at_10", "known_users.precision_at_10"])
def test_name_of_no_metric_is_refused(name):
    with pytest.raises(KeyError):
        registry.label(name)


def test_a_metric_that_chooses_a_state_is_one_of_which_more_is_better():
    names = typing.get_args(registry.EarlyStoppingMetric)

    assert registry.MEAN_NDCG in names
    assert [registry.find_metric(name).better for name in names] == ["more"] * len(names)


def test_calibration_is_named_by_outcome():
    assert (
        registry.calibration_name(registry.CALIBRATION_ERROR, "click", registry.UNCALIBRATED)
        == "click_ece_uncalibrated"
    )


def written_names(source: str) -> set[str]:
    """Returns the names of metrics that a module has as text; counts have everyday names."""
    names = {
        name
        for metric in registry.METRICS
        if metric.better is not None or metric.cuts
        for name in metric.names((registry.NOVEL,))
    }
    texts = {node.value for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Constant)}
    return names & {text for text in texts if isinstance(text, str)}


def test_no_other_module_writes_a_metric_by_its_name():
    found = {
        path.relative_to(ROOT).as_posix(): names
        for package in ("trainer", "serving", "tfx_pipeline", "client")
        for path in (ROOT / package).rglob("*.py")
        if (names := written_names(path.read_text(encoding="utf-8")))
    }

    assert list(found) == ["trainer/contract/metric_registry.py"]


def test_a_name_that_is_written_out_is_found():
    assert written_names('KEYS = ("novel_ndcg_at_5", "num_users", "click_gauc")') == {
        "novel_ndcg_at_5",
        "click_gauc",
    }
