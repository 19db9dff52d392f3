"""The registry of report keys has every key that the code writes, and no other."""

import ast
import re
from pathlib import Path

import pytest

from tests.report_keys import (
    BENCHMARKS,
    compile_pattern,
    made_up_registry,
    undocumented_keys,
    unwritten_keys,
)
from tfx_pipeline.reference.report_keys import read_registry
from trainer.contract import metric_registry

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


def test_every_metric_of_the_registry_is_a_key_and_every_key_of_the_evaluation_is_a_metric():
    metrics = [
        *metric_registry.RANKING_METRICS,
        *metric_registry.LIST_METRICS,
        *metric_registry.CLICK_METRICS,
        *metric_registry.ITEM_METRICS,
    ]
    names = [name for metric in metrics for name in metric.names(metric_registry.TRUTHS)]
    names += [
        metric_registry.calibration_name(metric, outcome, suffix)
        for metric in metric_registry.CALIBRATION_METRICS
        for outcome in metric_registry.OUTCOMES
        for suffix in ("", metric_registry.UNCALIBRATED)
    ]
    writers = [
        group.writer
        for group in read_registry().groups()
        if any("<who>" in key.key for key in group.all_keys)
    ]

    assert len(names) > 80 and len(writers) == 3
    assert undocumented_keys(f"eval.model.{name}" for name in names) == []
    assert unwritten_keys([f"eval.model.{name}" for name in names], *writers) == []
    assert unwritten_keys([f"eval.model.{name}" for name in names[1:] if "ndcg" not in name]) != []


def texts_of(source: str) -> set[str]:
    """Returns what a module may write keys with: texts, f-strings with `{}`, and attributes."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            found.add(node.value)
        elif isinstance(node, ast.JoinedStr):
            parts = [p.value if isinstance(p, ast.Constant) else "{}" for p in node.values]
            found.add("".join(map(str, parts)))
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            found.add(node.target.id)  # an attribute of a dataclass whose fields become keys
    return found


WRITERS = sorted({group.writer for group in read_registry().groups() if group.keys})


@pytest.mark.parametrize("path", [w for w in WRITERS if not w.startswith(BENCHMARKS)])
def test_every_key_written_out_in_the_source_is_documented(path):
    sections = {
        re.split(r"[.\[]", key.key)[0]
        for group in read_registry().groups()
        if not group.writer.startswith(BENCHMARKS)
        for key in group.all_keys
    }
    keys = {
        text
        for text in texts_of((ROOT / path).read_text(encoding="utf-8"))
        if re.fullmatch(r"\w+(\.\w*[a-z0-9])+", text)  # not the part of a key before a {...}
        and text.partition(".")[0] in sections
        and not text.endswith((".json", ".jsonl"))
        and text != "validation.drift"
    }

    assert undocumented_keys(keys) == []


# Modules whose attributes a writer writes as keys.
NAMED_ELSEWHERE = {
    "tfx_pipeline/examples/notes.py": "tfx_pipeline/tables/id_forms.py",
    "tfx_pipeline/runs/report.py": "trainer/fitting/memory_estimate.py",
}


@pytest.mark.parametrize("path", WRITERS)
def test_every_registered_key_is_written_by_its_writer(path):
    files = [ROOT / path, ROOT / NAMED_ELSEWHERE.get(path, path)]
    if path.startswith(BENCHMARKS):
        # A benchmark may leave a part of its figures to a module beside it.
        files = sorted((ROOT / BENCHMARKS).glob("*.py"))
    texts = {text for file in files for text in texts_of(file.read_text(encoding="utf-8"))}
    keys = [
        key.key for group in read_registry().groups() if group.writer == path for key in group.keys
    ]

    assert keys_not_in(texts, keys) == []


def keys_not_in(texts: set[str], keys: list[str]) -> list[str]:
    """Returns the keys whose last word is in no text, and that no f-string may become."""
    words = {word for text in texts for word in text.split(".")}
    written = {word.strip("_{}") for word in words}
    patterns = [
        re.compile(re.escape(word).replace(re.escape("{}"), r"\w+"))
        for word in words
        # Without letters of its own an f-string could become every key.
        if re.fullmatch(r"[\w{}]*\w{3}[\w{}]*", word) and "{}" in word
    ]
    missing = []
    for key in keys:
        bare = re.sub(r"\[.*?\]", "", key)
        last = [word for word in bare.split(".") if not re.fullmatch(r"<\w+>", word)][-1]
        own = re.compile(re.sub(r"<\w+>", r"\\w+", last))
        sample = re.sub(r"<(\w+)>", r"\1", last)
        if not any(map(own.fullmatch, written)) and not any(p.fullmatch(sample) for p in patterns):
            missing.append(key)
    return missing


def test_key_that_is_written_no_more_is_found():
    texts = texts_of('a = ("train.steps", f"train.{name}", f"warm.{name}_rows", f"{x}_mb")')
    keys = ["train.steps", "train.<memory>_mb", "warm.[<part>.]kept_rows", "train.epochs"]

    assert keys_not_in(texts, keys) == ["train.epochs"]


def test_explanations_are_of_values_that_there_are():
    for name in read_registry().names:
        assert set(name.values) <= set(name.explained), name.name
        # A value that says nothing by itself, and a name that nobody explains.
        assert name.meaning or all(name.explained.values()), name.name


def test_every_name_is_used_and_every_key_is_there_once():
    registry = read_registry()
    keys = [key.key for group in registry.groups() for key in group.all_keys]

    used = {name for key in keys for name in re.findall(r"<(\w+)>", key)}
    assert used == {name.name for name in registry.names}
    assert len(set(keys)) == len(keys) > 240
    assert all(
        key.meaning.endswith(".") and key.meaning[0] in "TWAO1`R"
        for group in registry.groups()
        for key in group.all_keys
    )


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


def test_key_that_a_report_lacks_is_found():
    registry = made_up_registry()

    assert undocumented_keys(["a.size", "a.left.old", "a.up", "b"], registry) == ["a.up", "b"]
    assert unwritten_keys(["a.size", "a.right"], registry=registry) == []
    assert unwritten_keys(["a.right.old"], registry=registry) == ["a.size"]
    assert unwritten_keys([], "x.py", registry=registry) == ["a.size", "a.<side>[.old]"]
    assert unwritten_keys(["a.left"], "y.py", registry=registry) == ["a.size"]
    assert compile_pattern("a.<side>[.old]", registry).fullmatch("a.middle") is None
