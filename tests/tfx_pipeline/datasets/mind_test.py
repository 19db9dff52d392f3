"""MIND: a hand-written folder by value, and the published subset's counts if it is present."""

import dataclasses
import json

import pyarrow.parquet as pq
import pytest

from tests.mind_data import MIND_DIR, needs_mind
from tests.tfx_pipeline.datasets.mind_folder import (
    BEHAVIORS,
    NEWS,
    OPTIONS,
    write_source,
)
from tests.tfx_pipeline.examples.example_runs import run_examples
from tfx_pipeline.config.data import DataConfig
from tfx_pipeline.config.pipeline import load_config
from tfx_pipeline.datasets.mind import prepare_mind
from tfx_pipeline.datasets.mind_options import MindOptions
from tfx_pipeline.tables.inputs import check_counts
from trainer.contract import features as f

MIDNIGHT = 1_573_257_600  # 2019-11-09, UTC
START = MIDNIGHT + 5
NOON = MIDNIGHT + 12 * 3600


@pytest.fixture(params=["plain", "gz"])
def source(request, tmp_path):
    return write_source(tmp_path / "source", NEWS, BEHAVIORS, request.param == "gz")


def prepare(source, tmp_path, options=OPTIONS):
    output = tmp_path / "out"
    return output, prepare_mind(str(source), str(output), options)


def interactions(output):
    rows = pq.read_table(output / "interactions").to_pylist()
    return [(r["user_id"], r["item_id"], r["timestamp"], r["clicked"]) for r in rows]


SHOWN = [
    ("U1", "N1", NOON + 3600, 0),
    ("U1", "N2", NOON + 3600, 1),
    ("U2", "N3", START, 1),
    ("U2", "N8", START, 0),  # not in news.tsv
    ("U1", "N1", NOON, 1),
    ("U3", "N1", MIDNIGHT + 86_400, 0),
]


def test_hand_written_folder_gives_its_tables(source, tmp_path):
    output, summary = prepare(source, tmp_path)
    assert pq.read_table(output / "items.parquet").to_pylist() == [
        {
            "item_id": "N1",
            "tags": ["news", "newsus", "ann lee", "ohio"],
            "category": "news",
            "title": 'A "quoted" title',
        },
        {
            "item_id": "N2",
            "tags": ["sports", "football_nfl", "ann lee", "ohio"],
            "category": "sports",
            "title": "Touché",
        },
        {"item_id": "N3", "tags": ["news"], "category": "news", "title": "No entity"},
    ]
    assert pq.read_table(output / "users.parquet").to_pylist() == [
        {"user_id": user} for user in ("U1", "U2", "U3")
    ]
    # U1's history is that of the earliest impression, line 3, and ends before the log begins.
    assert sorted(interactions(output)) == sorted(
        [
            *SHOWN,
            ("U1", "N2", START - 2, 1),
            ("U1", "N3", START - 1, 1),
            ("U3", "N2", START - 1, 1),
        ]
    )
    assert (summary.num_interactions, summary.num_clicks) == (9, 6)
    assert (summary.num_users, summary.num_items, summary.num_tags) == (3, 3, 6)
    assert summary.tags_per_item == 3.0


def test_history_can_be_left_out(source, tmp_path):
    output, summary = prepare(source, tmp_path, MindOptions("leave_out", 2))
    assert sorted(interactions(output)) == sorted(SHOWN)
    notes = "\n".join(summary.notes)
    assert "3 clicks of the history column have no time: they were left out." in notes
    assert "1 of 6 news shown have no row in news.tsv" in notes
    assert "unknown_item, 16.7% of all rows" in notes


def test_what_was_decided_is_told(source, tmp_path):
    _, summary = prepare(source, tmp_path)
    assert summary.notes == (
        "3 clicks of the history column have no time: they stand a second apart before the log's "
        "first impression (2019-11-09T00:00:05Z).",
        "1 users have different histories at different impressions: that of the first one is used.",
        "1 of 6 news shown and 0 of 3 clicks before have no row in news.tsv. They are written; "
        "`tagtower run` sets them aside as unknown_item, 11.1% of all rows: see "
        "`data.max_rejected_fraction`.",
        "MIND's own test part has no clicks: take its training or validation part.",
    )


def test_lines_that_cannot_be_used_are_set_aside_with_reason_and_place(source, tmp_path):
    output, summary = prepare(source, tmp_path)
    lines = (output / "rejected.jsonl").read_text(encoding="utf-8").splitlines()
    found = {}
    for row in map(json.loads, lines):
        name = "news" if "news.tsv" in row["file"] else "behaviors"
        found.setdefault((name, row["row"]), []).append((row["reason"], row["values"]))
    reasons = {place: {reason for reason, _ in rows} for place, rows in found.items()}
    assert reasons == {
        ("news", 4): {"no_tags"},
        ("news", 5): {"duplicate_item"},
        ("news", 6): {"missing_item_id"},
        ("news", 7): {"malformed_row"},
        ("news", 8): {"malformed_row"},
        ("news", 9): {"malformed_row"},
        ("behaviors", 4): {"clicked_not_0_or_1"},
        ("behaviors", 5): {"missing_user_id"},
        ("behaviors", 6): {"unparsable_timestamp"},
        ("behaviors", 7): {"missing_item_id"},
        ("behaviors", 8): {"malformed_row"},
    }
    # Only the wrong entries of an impression are rejected.
    assert [values for _, values in found["behaviors", 4]] == ["N2", "N1-2", "-1"]
    assert sum(summary.rejected.values()) == len(lines) == 13


def test_rare_entity_is_no_tag_and_every_one_is_at_a_minimum_of_one(source, tmp_path):
    output, _ = prepare(source, tmp_path, MindOptions(min_tag_items=1))
    tags = {r["item_id"]: r["tags"] for r in pq.read_table(output / "items.parquet").to_pylist()}
    assert tags["N3"] == ["news", "only here"]
    assert tags["N4"] == ["only there"]


def test_two_runs_write_the_same_bytes(source, tmp_path):
    output, _ = prepare(source, tmp_path)
    names = ["interactions/part-00000.parquet", "items.parquet", "users.parquet"]
    before = [(output / name).read_bytes() for name in names]
    prepare(source, tmp_path)
    assert [(output / name).read_bytes() for name in names] == before


@pytest.mark.parametrize("name", ["news.tsv", "behaviors.tsv"])
def test_missing_file_says_what_to_download(source, tmp_path, name):
    for path in source.glob(f"{name}*"):
        path.unlink()
    with pytest.raises(ValueError, match=rf"{name}.*MINDsmall_train\.zip.*msnews\.github\.io"):
        prepare(source, tmp_path)
    assert not (tmp_path / "out").exists()


def test_log_without_labels_is_refused_with_advice(tmp_path):
    """MINDlarge_test has this layout."""
    rows = [["1", "U1", "11/9/2019 1:00:00 PM", "N1", "N1 N2"]]
    source = write_source(tmp_path / "source", NEWS, rows)
    with pytest.raises(ValueError, match="no usable impression.*MIND's own test part has no"):
        prepare(source, tmp_path)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"history": "first"}, "`history` must be one of before_log, leave_out. Received"),
        ({"min_tag_items": 0}, "`min_tag_items` must be at least 1. Received: min_tag_items=0"),
    ],
)
def test_option_out_of_range_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        MindOptions(**options)


def shipped_config(tables):
    """Returns the shipped configuration with these tables."""
    config = load_config("mind")
    data = dataclasses.replace(
        config.data,
        interactions=str(tables / "interactions"),
        items=str(tables / "items.parquet"),
        users=str(tables / "users.parquet"),
    )
    return dataclasses.replace(config, data=data)


@needs_mind
def test_subset_goes_through_the_examples_with_the_threshold_raised(tmp_path):
    """Most news shown have no row, so only counts can be tested."""
    output = tmp_path / "tables"
    summary = prepare_mind(str(MIND_DIR), str(output))
    assert (summary.num_users, summary.num_items) == (4_637, 2_000)
    assert summary.num_interactions == 189_359 + 138_932  # shown, and clicks of the histories
    assert summary.num_clicks == 7_542 + 138_932
    assert summary.rejected == {}
    assert any("184,049 of 189,359 news shown and 133,578 of 138,932" in n for n in summary.notes)

    config = shipped_config(output)
    run = run_examples(tmp_path / "out", config.data, config.features, config.examples)
    counts = run.counts
    assert counts["rows.read.interactions"] == summary.num_interactions
    assert counts["rows.rejected.unknown_item"] == 184_049 + 133_578
    assert counts["rows.rejected_of.interactions"] == 184_049 + 133_578
    check_counts(counts, config.data, "aside")
    strict = DataConfig(config.data.interactions, config.data.items, config.data.users)
    with pytest.raises(ValueError, match="317627 of 328291 rows of interactions were rejected"):
        check_counts(counts, strict, "aside")
    # Known users, and new ones: no news of their history, or of an earlier day, has a row.
    for split in ("validation", "test"):
        known = [example[f.HISTORY_NUM_EVENTS][0] > 0 for example in run.examples(split)]
        assert 0 < sum(known) < len(known)
    assert {item["item_id"] for item in run.items} == {
        row["item_id"] for row in pq.read_table(output / "items.parquet").to_pylist()
    }
