"""Rows set aside in several tables at once: each is counted and written for its own table."""

import datetime
import decimal
import json

import numpy as np
import pyarrow as pa
import pytest

from tests.tfx_pipeline.examples.example_runs import run_examples, write_tables
from tfx_pipeline.config.examples import ExamplesConfig
from tfx_pipeline.tables.inputs import check_counts
from tfx_pipeline.tables.row_batches import rejected_lines, rejected_rows, rows_as_json
from tfx_pipeline.terminal.row_summary import row_lines
from trainer.contract.features import Domain, FeatureSpec

SPEC = FeatureSpec(domains=(Domain("clicked"),))
ITEMS = [
    {"item_id": "a", "tags": ["jazz"]},
    {"item_id": "a", "tags": ["pop"]},
    {"item_id": "", "tags": ["pop"]},
    {"item_id": "bare", "tags": []},
]
USERS = [{"user_id": "u"}, {"user_id": "u"}, {"user_id": None}, {"user_id": [1]}]
LOG = [
    {"user_id": "u", "item_id": "a", "timestamp": 1, "clicked": 1},
    {"user_id": "u", "item_id": "", "timestamp": 1, "clicked": 1},
    {"user_id": "", "item_id": "a", "timestamp": 1, "clicked": 1},
    {"user_id": "u", "item_id": "bare", "timestamp": 1, "clicked": 1},
]
REASONS = {
    "interactions": {"missing_item_id": 1, "missing_user_id": 1, "untagged_item": 1},
    "items": {"duplicate_item": 1, "missing_item_id": 1, "no_tags": 1},
    "users": {"duplicate_user": 1, "missing_user_id": 1, "wrong_type": 1},
}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tables")
    data = write_tables(folder, LOG, USERS, ITEMS)
    return run_examples(folder / "out", data, SPEC, ExamplesConfig(num_shards=1)), data


@pytest.mark.parametrize("table", REASONS)
def test_counts_are_those_of_the_table_and_of_the_file(made, table):
    run, _ = made
    prefix = f"rows.rejected_of.{table}."
    by_key = {k.removeprefix(prefix): n for k, n in run.counts.items() if k.startswith(prefix)}
    in_files = {}
    for row in run.rejected:
        if row["table"] == table:
            in_files[row["reason"]] = in_files.get(row["reason"], 0) + 1
    assert by_key == in_files == REASONS[table]
    assert run.counts[f"rows.rejected_of.{table}"] == sum(REASONS[table].values())


def test_reasons_of_all_tables_are_still_summed(made):
    assert made[0].counts["rows.rejected.missing_item_id"] == 2


def test_summary_has_a_line_of_each_table(made):
    assert row_lines(made[0].counts) == [
        "rows       4 interactions read, rejected: 1 missing_item_id, 1 missing_user_id, "
        "0 exact duplicates dropped",
        "items      4 read, rejected: 1 duplicate_item, 1 missing_item_id",
        "users      4 read, rejected: 1 duplicate_user, 1 missing_user_id, 1 wrong_type",
        "untagged   1 items have no tags: they and 1 interactions with them are set aside",
    ]


@pytest.mark.parametrize(
    ("table", "said"),
    [
        (
            "interactions",
            "2 of 4 rows of interactions were rejected, 1.00% are allowed "
            "(missing_item_id: 1, missing_user_id: 1).",
        ),
        (
            "items",
            "2 of 4 rows of items were rejected, 1.00% are allowed "
            "(duplicate_item: 1, missing_item_id: 1).",
        ),
        (
            "users",
            "3 of 4 rows of users were rejected, 1.00% are allowed "
            "(duplicate_user: 1, missing_user_id: 1, wrong_type: 1).",
        ),
    ],
)
def test_message_counts_one_table_and_names_files_that_are_there(made, table, said):
    run, data = made
    counts = {
        key: n
        for key, n in run.counts.items()
        if not key.startswith("rows.rejected_of.") or key.startswith(f"rows.rejected_of.{table}.")
    }
    with pytest.raises(ValueError) as error:
        check_counts(counts, data, run.outputs.rejected)
    message = str(error.value)
    assert said in message
    folder = message.partition("They are in ")[2].partition(": mend")[0]
    assert folder == f"{run.outputs.rejected}/"
    (path,) = (run.folder / "rejected").iterdir()
    rows = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    assert len(rows) == 9 and {row["table"] for row in rows} == set(REASONS)


def test_rejected_rows_are_json_whatever_their_values():
    rows = [
        {"text": 'a "b"\\ \n\u2028\x00é𝄞', "number": 1, "fraction": 0.5, "list": ["x", None]},
        {"text": "", "number": -(2**62), "fraction": None, "list": None},
        {"text": None, "number": None, "fraction": 1e300, "list": []},
    ]
    batch = pa.RecordBatch.from_pylist(rows)
    found = rows_as_json(batch, np.arange(3))
    assert found == [json.dumps(row, ensure_ascii=False) for row in rows]
    rejected = rejected_rows("items", "a\tb.csv", [1, 2, 3], ["no_tags"] * 3, found)
    lines = rejected_lines(rejected)
    assert lines == [json.dumps(r, ensure_ascii=False) + "\n" for r in rejected.to_pylist()]


def test_times_and_decimals_of_rejected_rows_are_text():
    day = datetime.date(2024, 5, 3)
    batch = pa.RecordBatch.from_pydict({"day": [day], "price": [decimal.Decimal("1.50")]})
    assert rows_as_json(batch, np.array([0])) == ['{"day": "2024-05-03", "price": "1.50"}']
