"""Everything that stops a run names the configuration key that it depends on."""

import dataclasses
import typing

import pytest

from tests.tfx_pipeline.evaluation.gate_test import GATE, checks_of
from tfx_pipeline.config import pipeline as c
from tfx_pipeline.config.data import DataConfig, WindowConfig
from tfx_pipeline.config.gate import DistributionThreshold, GateConfig
from tfx_pipeline.evaluation import distributions
from tfx_pipeline.evaluation.gate import check_index
from tfx_pipeline.tables.daily_window import find_window
from tfx_pipeline.tables.inputs import check_counts, find_tables
from tfx_pipeline.tables.tag_vectors import read_tag_vectors
from trainer.contract.config_loader import from_mapping
from trainer.contract.features import Domain, FeatureSpec

# --- the gates ---

INTERVAL = "by the 95 % interval of 50 users, which is"


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        (
            {"model": {"precision_at_10": 0.5}},
            "P@10 against the best of the baselines, blend: 0.5000, must be not below 0.6250 "
            f"{INTERVAL} -0.1394 to -0.1106 (`gate.min_relative_gain` is 0.25)",
        ),
        (
            {"model": {"novel_precision_at_10": 0.1}},
            "novel P@10 against the best of the baselines, ease: 0.1000, must be not below 0.4500 "
            f"{INTERVAL} -0.3644 to -0.3356 (`gate.min_relative_novel_gain` is 0.5)",
        ),
        (
            {"model": {"ndcg_at_50": 0.26, "novel_ndcg_at_50": 0.1}},
            "personal lists (NDCG@50) against popularity: 0.2600, must be above 0.2500 by the "
            "97.5 % interval of 50 users, which is -0.0065 to +0.0265 (`gate.confidence` is 0.95); "
            "too few users for a claim, about 129 are needed (`gate.too_few_users` is hold)",
        ),
        (
            {"lists": {"distinct_top10": 1}},
            "distinct top-10 lists (collapse): 1.0000, must be at least 2.0000 "
            "(`gate.min_relative_distinct` is 0.5)",
        ),
        (
            {"lists": {"coverage_at_10": 0.1}},
            "tags in anyone's top 10 (coverage): 0.1000, must be at least 0.1250 "
            "(`gate.min_relative_coverage` is 0.25)",
        ),
        (
            {"model": {"click_gauc": None}},
            "click GAUC: undefined, must be not below 0.0000 by the 95 % interval of 0 users "
            "(`gate.min_click_gauc` is 0.625)",
        ),
        (
            {"last": 2.0},
            "P@10 against the last blessed model: 0.6250, must be not below 1.0000 "
            f"{INTERVAL} -0.3894 to -0.3606 (`gate.max_relative_loss` is 0.5)",
        ),
    ],
)
def test_check_that_fails_names_figure_interval_and_key(changes, line):
    checks = checks_of(**{"last": 0.1} | changes)

    assert [str(check) for check in checks if not check.is_passed] == [line]


def test_every_key_of_the_gate_is_named_by_a_line():
    gates = (GATE, dataclasses.replace(GATE, min_relative_gain=0.0, min_users=99))
    lines = [str(check) for gate in gates for check in checks_of(last=0.1, gate=gate)]

    fields = {f"`gate.{field.name}`" for field in dataclasses.fields(GateConfig)}
    named = {field for field in fields if any(field in line for line in lines)}
    # The lines say which baseline they are about, and how many users are needed.
    assert fields - named == {"`gate.baselines`", "`gate.min_users`"}


@pytest.mark.parametrize("key", ["min_distinct_top10", "min_coverage_at_10"])
def test_key_that_there_is_no_more_names_the_one_in_its_place(key):
    with pytest.raises(
        ValueError, match=rf"`gate.{key}` is no longer a key. .*`gate.min_relative_"
    ):
        from_mapping(GateConfig, {key: 0.1}, "gate")


def test_index_gate_names_its_key():
    assert check_index(0.98, 0.98).is_passed
    assert str(check_index(0.97, 0.98)) == (
        "index recall: 0.9700, must be at least 0.9800 (`index.target_recall` is 0.98)"
    )


def test_drift_names_the_threshold_of_the_feature():
    thresholds = {"segment": DistributionThreshold(l_infinity=0.1, jensen_shannon=0.2)}
    comparisons = [
        distributions.Comparison("segment", name, value, getattr(thresholds["segment"], name), "f")
        for name, value in (("l_infinity", 0.25), ("jensen_shannon", None))
    ]

    assert distributions.violations(comparisons, "validation.drift", failed=False) == [
        "feature `segment`: L-infinity distance 0.2500, at most 0.1 is accepted "
        "(`validation.drift.segment.l_infinity`)",
        "feature `segment`: not comparable, as one side has no value, at most 0.2 is accepted "
        "(`validation.drift.segment.jensen_shannon`)",
    ]


# --- the data ---

SPEC = FeatureSpec(domains=(Domain("clicked"),))


def data(tmp_path, **changes):
    tables = {"interactions": "i.csv", "items": "t.csv", "users": "u.csv"}
    return DataConfig(**{k: str(tmp_path / v) for k, v in (tables | changes).items()})


def write_tables(tmp_path):
    (tmp_path / "i.csv").write_text("user_id,item_id,timestamp,clicked\na,x,1600000000,1\n")
    (tmp_path / "t.csv").write_text("item_id,tags,category\nx,t,c\n")
    (tmp_path / "u.csv").write_text("user_id\na\n")


@pytest.mark.parametrize("table", ["interactions", "items", "users"])
@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("missing.csv", None),
        ("other.xls", "x"),
        ("empty.csv", ""),
        ("columns.csv", "colour\nred\n"),
    ],
)
def test_table_at_fault_is_named_by_its_key(tmp_path, table, name, content):
    write_tables(tmp_path)
    if content is not None:
        (tmp_path / name).write_text(content)

    with pytest.raises(ValueError) as error:
        find_tables(data(tmp_path, **{table: name}), SPEC)

    message = str(error.value)
    assert message.startswith(f"`data.{table}`: ") and name in message and "\n" not in message


def test_table_of_vectors_at_fault_is_named_by_its_key(tmp_path):
    with pytest.raises(ValueError, match="^`data.tag_vectors`: .*/none.csv"):
        read_tag_vectors(data(tmp_path), str(tmp_path / "none.csv"))


@pytest.mark.parametrize(
    ("counts", "keys"),
    [
        (
            {
                "rows.read.items": 10,
                "rows.rejected_of.items": 9,
                "rows.rejected_of.items.wrong_type": 9,
            },
            ["data.max_rejected_fraction"],
        ),
        (
            {"examples.train": 1, "examples.validation": 1, "users.total": 2},
            ["data.interactions", "examples.validation_fraction", "examples.test_fraction"],
        ),
        (
            {"examples.train": 1, "split.validation_start": 0, "split.test_start": 86_400},
            ["data.interactions", "examples.validation_start", "examples.test_start"],
        ),
    ],
)
def test_counts_that_hold_a_run_name_the_keys(tmp_path, counts, keys):
    with pytest.raises(ValueError) as error:
        check_counts(counts, data(tmp_path), "rejected")

    assert all(f"`{key}`" in str(error.value) for key in keys)


@pytest.mark.parametrize(
    ("window", "files", "keys"),
    [
        (WindowConfig(days=2), [], ["data.interactions"]),
        (
            WindowConfig(days=2, marker="_DONE"),
            ["d=2024-05-03/a.csv"],
            ["data.interactions", "data.window.marker"],
        ),
        (
            WindowConfig(days=2, day="2024-05-02", marker="_DONE"),
            ["d=2024-05-02/a.csv"],
            ["data.window.day", "data.window.marker"],
        ),
        (
            WindowConfig(days=3),
            ["d=2024-05-01/a.csv", "d=2024-05-03/a.csv"],
            ["data.window.max_missing_days"],
        ),
    ],
)
def test_window_that_cannot_be_read_names_the_keys(tmp_path, window, files, keys):
    for name in files:
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_text("x")
    log = DataConfig(f"{tmp_path}/d={{date}}", "t", "u", window=window)

    with pytest.raises(ValueError) as error:
        find_window(log)

    assert all(f"`{key}`" in str(error.value) for key in keys)


# --- the configuration ---


def keys_of(cls, path=""):
    """Returns the dotted paths of all keys below a dataclass, and how to reach them."""
    hints = typing.get_type_hints(cls)
    for field in dataclasses.fields(cls):
        key = f"{path}.{field.name}" if path else field.name
        kinds = typing.get_args(hints[field.name]) or (hints[field.name],)
        inner = next((kind for kind in kinds if dataclasses.is_dataclass(kind)), None)
        is_plain = hints[field.name] is inner or type(None) in kinds
        if inner is not None and is_plain:
            yield from keys_of(inner, key)
        yield key


MINIMAL = {
    "name": "log",
    "data": {"interactions": "i.csv", "items": "t.csv", "users": "u.csv"},
    "features": {"domains": [{"name": "clicked"}]},
}
# What sections need beside the key that is at fault.
NEEDED = {
    "data.window": {"days": 7},
    "beam.dataflow": {"project": "p", "region": "r", "temp_location": "gs://b/t"},
}


@pytest.mark.parametrize("key", sorted(set(keys_of(c.PipelineConfig))))
def test_value_of_a_wrong_kind_names_its_key_whatever_it_is(key):
    mapping: dict = {
        section: dict(v) if isinstance(v, dict) else v for section, v in MINIMAL.items()
    }
    *parents, last = key.split(".")
    inner = mapping
    for i, parent in enumerate(parents):
        inner = inner.setdefault(parent, dict(NEEDED.get(".".join(parents[: i + 1]), {})))
    inner[last] = {1: object()} if last not in c.PipelineConfig.__annotations__ else 5.5

    with pytest.raises(ValueError) as error:
        from_mapping(c.PipelineConfig, mapping)

    message = str(error.value)
    assert message.startswith((f"`{key}", f"`{key}.1`")) and "\n" not in message
