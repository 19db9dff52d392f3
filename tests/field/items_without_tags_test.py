"""Catalogues in which some items have no tags, no category, or nothing at all."""

import dataclasses

import pytest

from tests.tfx_pipeline.examples.example_runs import run_examples, write_tables
from tests.tfx_pipeline.examples.random_users import write_jsonl
from tfx_pipeline.config.examples import ExamplesConfig
from tfx_pipeline.config.pipeline import PipelineConfig
from tfx_pipeline.examples.user_lookup import find_user, read_events
from tfx_pipeline.tables import schema
from tfx_pipeline.tables.arrow_files import read_table
from tfx_pipeline.tables.inputs import check_categories, check_counts, find_tables
from tfx_pipeline.tables.item_catalogue import build_item_catalogue
from tfx_pipeline.tables.row_batches import count_reasons
from tfx_pipeline.tables.validate import validate_interactions, validate_items
from tfx_pipeline.terminal.row_summary import row_lines
from trainer.contract.features import Domain, FeatureSpec

SPEC = FeatureSpec(domains=(Domain("clicked"), Domain("items", attribute="item_id")))
BY_CATEGORY = FeatureSpec(domains=(Domain("clicked"), Domain("kinds", attribute="category")))
TAGGED = {"item_id": "tagged", "tags": ["jazz"]}


def event(item, timestamp, user="u", clicked=1):
    return {"user_id": user, "item_id": item, "timestamp": timestamp, "clicked": clicked}


def read(folder, rows, name="items.jsonl"):
    path = write_jsonl(folder / name, rows)
    return build_item_catalogue(map(validate_items, read_table(path, schema.ITEMS)))


@pytest.mark.parametrize(
    "tags",
    [[], None, "", [""], [" ", "\t\u00a0"], [None], "|", " | "],
    ids=["empty list", "null", "empty text", "empty tag", "blanks", "null tag", "bar", "bars"],
)
def test_item_without_a_tag_after_normalisation_is_an_untagged_one(tmp_path, tags):
    catalogue, rejected = read(tmp_path, [TAGGED, {"item_id": "bare", "tags": tags}])
    assert catalogue.item_ids.to_pylist() == ["tagged"]
    assert catalogue.untagged_ids.to_pylist() == ["bare"]
    assert count_reasons(rejected) == {"no_tags": 1}

    log = write_jsonl(tmp_path / "log.jsonl", [event(i, 9) for i in ("bare", "tagged", "other")])
    (batch,) = read_table(log, schema.INTERACTIONS)
    checked = validate_interactions(batch, now=10, item_index=catalogue)
    assert checked.rows.column("item_id").to_pylist() == ["tagged"]
    assert [(row["row"], row["reason"]) for row in checked.rejected.to_pylist()] == [
        (1, "untagged_item"),
        (3, "unknown_item"),
    ]


@pytest.mark.parametrize("is_tagged_first", [True, False])
def test_item_that_is_repeated_with_tags_has_them(tmp_path, is_tagged_first):
    bare = {"item_id": "tagged", "tags": []}
    rows = [TAGGED, bare] if is_tagged_first else [bare, TAGGED]
    catalogue, rejected = read(tmp_path, rows)
    assert catalogue.tags.values_of(0) == ["jazz"]
    assert catalogue.untagged_ids.to_pylist() == []
    assert count_reasons(rejected) == {"no_tags": 1}


def test_other_faults_of_an_item_say_nothing_of_its_tags(tmp_path):
    rows = [TAGGED, {"item_id": None, "tags": []}, {"item_id": "bad", "tags": [{"a": 1}]}]
    catalogue, rejected = read(tmp_path, rows)
    assert catalogue.untagged_ids.to_pylist() == []
    assert count_reasons(rejected) == {"missing_item_id": 1, "wrong_type": 1}


@pytest.mark.parametrize(
    ("rows", "reasons"),
    [
        ([{"item_id": "a", "tags": []}, {"item_id": "b", "tags": None}], "no_tags: 2"),
        (
            [{"item_id": "a", "tags": []}, {"item_id": None, "tags": ["x"]}, {"item_id": "b"}],
            "no_tags: 2, missing_item_id: 1",
        ),
    ],
)
def test_table_without_any_tag_is_one_line_that_names_no_folder(tmp_path, rows, reasons):
    with pytest.raises(ValueError, match="`data.items` must have items with tags") as error:
        read(tmp_path, rows)
    message = str(error.value)
    assert f"({reasons}); the first is row 1 of {tmp_path / 'items.jsonl'}" in message
    assert "\n" not in message and "rejected rows" not in message


# A third of the items, and two thirds of the clicks: no row is bad.
ITEMS = [TAGGED, {"item_id": "other", "tags": ["pop"]}, {"item_id": "bare", "tags": []}]
LOG = [
    event("tagged", 1),
    event("bare", 2),
    event("bare", 3),
    event("other", 4, clicked=0),
    event("bare", 5, user="v"),
    event("bare", 6, clicked=0),
]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("untagged")
    data = write_tables(folder, LOG, [{"user_id": "u"}], ITEMS)
    return run_examples(folder / "out", data, SPEC, ExamplesConfig(num_shards=1)), data


def test_untagged_rows_are_counted_alike_in_report_summary_and_files(run):
    counts = run[0].counts
    assert {name: n for name, n in counts.items() if name.startswith("rows.")} == {
        "rows.clicks": 1,
        "rows.skips": 1,
        "rows.read.interactions": 6,
        "rows.read.items": 3,
        "rows.read.users": 1,
        "rows.rejected.no_tags": 1,
        "rows.rejected.untagged_item": 4,
        "rows.rejected_of.interactions": 4,
        "rows.rejected_of.interactions.untagged_item": 4,
        "rows.rejected_of.items": 1,
        "rows.rejected_of.items.no_tags": 1,
    }
    places = [(row["table"], row["row"], row["reason"]) for row in run[0].rejected]
    assert sorted(places) == [
        ("interactions", 2, "untagged_item"),
        ("interactions", 3, "untagged_item"),
        ("interactions", 5, "untagged_item"),
        ("interactions", 6, "untagged_item"),
        ("items", 3, "no_tags"),
    ]
    assert row_lines(counts)[:2] == [
        "rows       6 interactions read, none rejected, 0 exact duplicates dropped",
        "untagged   1 items have no tags: they and 4 interactions with them are set aside",
    ]


def test_untagged_rows_do_not_count_towards_the_bound(run):
    data = dataclasses.replace(run[1], max_rejected_fraction=0.0)
    parts = dict.fromkeys(("examples.train", "examples.validation", "examples.test"), 1)
    check_counts({**run[0].counts, **parts}, data, "aside")


def test_user_with_untagged_items_alone_has_no_history(run):
    users = {instance["user_id"]: instance for instance in run[0].instances}
    assert users["u"]["items"] == ["tagged"] and set(users) == {"u"}


def test_query_sees_what_the_examples_saw(run, tmp_path, caplog):
    config = PipelineConfig("log", run[1], SPEC)
    assert len(find_user(config, "u").events) == 2
    fresh = write_jsonl(tmp_path / "fresh.jsonl", [event("bare", 7), event("other", 8)])
    assert [record["item_id"] for record in read_events(fresh, config)] == ["other"]
    assert "1 of the events are of items without tags" in caplog.text


def test_log_of_untagged_items_alone_is_refused(run):
    counts = {
        "rows.read.interactions": 4,
        "rows.rejected_of.interactions": 4,
        "rows.rejected_of.interactions.untagged_item": 4,
    }
    with pytest.raises(ValueError) as error:
        check_counts(counts, run[1], "aside")
    assert str(error.value) == (
        "`data.interactions` must have events of items with tags. Received: all 4 rows were set "
        "aside (untagged_item: 4). They are in aside/."
    )


def test_items_need_no_category(run):
    catalogue = run[0].items
    assert [row["tags"] for row in catalogue] == [["pop"], ["jazz"]]
    assert {row["category"] for row in run[0].tags.values()} == {None}


def test_domain_of_categories_needs_the_column(run):
    data = run[1]
    with pytest.raises(ValueError) as error:
        find_tables(data, BY_CATEGORY)
    assert str(error.value) == (
        "`data.items` must have the column `category`, as the domain `kinds` lists them. Received: "
        f"{data.items} without it. Add it, or list another attribute."
    )


def test_view_of_tags_by_category_needs_the_column(run):
    with pytest.raises(ValueError, match="as `model.tag_views` names it. Received: "):
        check_categories([run[1].items], run[1], "`model.tag_views` names it")


def test_category_in_one_of_the_files_is_enough(tmp_path):
    items = tmp_path / "items"
    write_jsonl(items / "a.jsonl", [TAGGED])
    write_jsonl(items / "b.jsonl", [{"item_id": "b", "tags": ["x"], "category": "music"}])
    data = write_tables(tmp_path, LOG, [{"user_id": "u"}])
    found = find_tables(dataclasses.replace(data, items=str(items)), BY_CATEGORY)
    assert len(found["items"]) == 2
    batches = map(validate_items, read_table(str(items), schema.ITEMS))
    catalogue, _ = build_item_catalogue(batches)
    assert [catalogue.category.values_of(item) for item in (0, 1)] == [["music"], []]
