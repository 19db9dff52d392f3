"""Tables that do not join, because one writes an id in another form than the other."""

import dataclasses

import numpy as np
import pyarrow as pa
import pytest

from tests.tfx_pipeline.examples.example_runs import run_examples, write_tables
from tfx_pipeline.config.data import DataConfig
from tfx_pipeline.config.examples import ExamplesConfig
from tfx_pipeline.examples.notes import read_summary
from tfx_pipeline.tables.id_forms import KnownIds, id_form, match_samples, merge_samples, sample_ids
from tfx_pipeline.tables.inputs import check_counts
from tfx_pipeline.terminal.row_summary import row_lines
from trainer.contract.features import Domain, FeatureSpec, ProfileFeature

SPEC = FeatureSpec(domains=(Domain("clicked"),), profile=(ProfileFeature("country"),))
DATA = DataConfig("log.csv", "items.csv", "users.csv")


@pytest.mark.parametrize(
    ("found", "form"),
    [
        ("123.0", "123"),
        ("123.", "123"),
        ("00123", "123"),
        ("+123.00", "123"),
        ("-7.0", "-7"),
        ("0", "0"),
        ("000", "0"),
        (" 123\t", "123"),
        ("\u00a0123\u00a0", "123"),
        ("\ufeff123", "123"),
        ("'123'", "123"),
        ('"123.0"', "123"),
        ("\u201cAbc\u201d", "abc"),
        ("`u1`", "u1"),
        ("User-7", "user-7"),
        ("DEADBEEF-01", "deadbeef-01"),
        ("\uff11\uff12", "12"),
        ("caf\u00e9", "cafe\u0301"),
        ("cafe\u0301", "cafe\u0301"),
        # Differences that may tell users apart are kept.
        ("u007", "u007"),
        ("123.5", "123.5"),
        ("1-2", "1-2"),
        ("1.2.0", "1.2.0"),
        ("a b", "a b"),
        ("", ""),
    ],
)
def test_form_of_an_id(found, form):
    assert id_form(pa.array([found])).to_pylist() == [form]


def test_samples_of_shards_sum_up_to_the_exact_number():
    table = [str(number) for number in range(1_000)]
    log = [f"{number}.0" for number in range(0, 2_000, 2)]
    parts = [
        merge_samples(sample_ids(pa.array(ids[shard::7])) for shard in range(7))
        for ids in (log, table)
    ]
    matches = match_samples(*parts)
    assert matches.num == 500
    assert matches.in_log == f"{matches.in_table}.0"


def test_sample_of_many_ids_is_bounded_and_near():
    table = pa.array([str(number) for number in range(40_000)])
    log = pa.array([f"0{number}" for number in range(0, 80_000, 2)])
    size = 2_000
    parts = [
        merge_samples((sample_ids(ids.slice(i * 10_000, 10_000), size) for i in range(4)), size)
        for ids in (log, table)
    ]
    assert max(len(part.ids) for part in parts) <= size
    assert match_samples(*parts).num == pytest.approx(20_000, rel=0.1)


def test_no_ids_and_no_match_are_none():
    nobody, some = sample_ids(pa.array([], pa.string())), sample_ids(pa.array(["a", "b"]))
    assert match_samples(nobody, some) is None
    assert match_samples(some, nobody) is None
    assert match_samples(some, sample_ids(pa.array(["c"]))) is None
    assert KnownIds(pa.array([], pa.string())).match(pa.array(["1"])) is None
    assert merge_samples([]).bound == 2**64 and not len(merge_samples([]).hashes)


def test_known_ids_count_rows_and_name_the_first():
    matches = KnownIds(pa.array(["7", "8", "x"])).match(pa.array(["8.0", "07", "8.0", "nothing"]))
    assert matches == (3, "07", "7")


def run(folder, user_ids, ids_in_users, item_id="i0"):
    log = [
        {"user_id": user, "item_id": item, "timestamp": 1_000_000_000 + i, "clicked": 1}
        for i, (user, item) in enumerate((user, item) for user in user_ids for item in (item_id,))
    ]
    users = [{"user_id": user, "country": "at"} for user in ids_in_users]
    items = [{"item_id": "i0", "tags": ["jazz"]}, {"item_id": "7", "tags": []}]
    data = write_tables(folder, log, users, items)
    done = run_examples(folder / "out", data, SPEC, ExamplesConfig(num_shards=3))
    return done, *read_summary(done.outputs.summary)


def test_users_are_named_in_summary_and_report_and_fail_the_run(tmp_path):
    numbers = range(100, 140)
    _, counts, forms = run(
        tmp_path, [f"{n}.0" for n in numbers] + ["140"], [str(n) for n in numbers]
    )

    assert counts["users.without_profile"] == 41 and counts["users.without_events"] == 40
    assert forms["id_forms.users.num"] == 40
    in_log, in_table = forms["id_forms.users.in_log"], forms["id_forms.users.in_table"]
    assert in_log == f"{in_table}.0" and int(in_table) in numbers
    pair = f"as {in_log!r} in interactions and {in_table!r} in users"
    assert (
        "profiles   41 of 41 users with events have no row in users, 40 with a row have no event; "
        f"40 of the former have one under an id of another form, {pair}"
        in row_lines(counts | forms)
    )
    with pytest.raises(ValueError) as error:
        check_counts(counts, DATA, "aside", forms)
    assert str(error.value) == (
        "`data.users` must have the ids of `data.interactions`. Received: 40 of 41 users with "
        "events have no row, but one under an id that differs in form alone, "
        f"{pair}. Write them alike, or set `data.max_users_without_profile` (1: any) where they "
        "are different users."
    )


def test_two_forms_in_the_log_of_a_user_with_a_row_are_seen(tmp_path):
    _, counts, forms = run(tmp_path, ["1", "1.0", "2", "3"], ["1", "2", "3"])
    assert counts["users.without_profile"] == 1
    assert forms == {
        "id_forms.users.num": 1,
        "id_forms.users.in_log": "1.0",
        "id_forms.users.in_table": "1",
    }


def test_users_table_of_some_users_is_no_mistake(tmp_path):
    _, counts, forms = run(tmp_path, [f"u{n}" for n in range(40)], ["u1", "elsewhere"])
    assert forms == {} and counts["users.without_profile"] == 39
    enough = dict.fromkeys(("examples.train", "examples.validation", "examples.test"), 1)
    check_counts(counts | enough, DATA, "aside", forms)


COUNTS = {
    "users.total": 120,
    "users.without_events": 20,
    "users.without_profile": 11,
    "rows.clicks": 1,
    **dict.fromkeys(("examples.train", "examples.validation", "examples.test"), 1),
}
FORMS = {
    "id_forms.users.num": 2,
    "id_forms.users.in_log": "7.0",
    "id_forms.users.in_table": "7",
}


@pytest.mark.parametrize(
    ("share", "num_alike", "message"),
    [
        (None, 1, None),
        (None, 2, "2 of 100 users with events have no row, but one under an id"),
        (0.11, 2, None),
        (1.0, 11, None),
        (0.1, 0, "must not be exceeded: 11 of 100 users with events have no row in users, 10.00%"),
        (0.1, 2, " 2 of them have one under an id of another form, as '7.0' in interactions and "),
        (0.0, 0, "11 of 100 users with events have no row in users, 0.00% are allowed."),
    ],
)
def test_bounds_of_users_without_a_profile(share, num_alike, message):
    data = dataclasses.replace(DATA, max_users_without_profile=share)
    forms = FORMS | {"id_forms.users.num": num_alike} if num_alike else {}
    if message is None:
        check_counts(COUNTS, data, "aside", forms)
        return
    with pytest.raises(ValueError) as error:
        check_counts(COUNTS, data, "aside", forms)
    assert message in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan")])
def test_share_that_is_none_is_refused(share):
    with pytest.raises(ValueError, match="`max_users_without_profile` must be between 0 and 1"):
        dataclasses.replace(DATA, max_users_without_profile=share)


@pytest.mark.parametrize(("item_id", "in_table"), [(" I0", "i0"), ("07.0", "7")])
def test_items_are_named_in_summary_and_message(tmp_path, item_id, in_table):
    # The second one is an item without tags, which is known nevertheless.
    users = ["a", "b", "c"]
    _, counts, forms = run(tmp_path, users, users, item_id)

    assert forms == {
        "id_forms.items.num": 3,
        "id_forms.items.in_log": item_id,
        "id_forms.items.in_table": in_table,
    }
    sentence = f"in another form, as {item_id!r} in interactions and {in_table!r} in items"
    (line,) = [line for line in row_lines(counts | forms) if line.startswith("item ids")]
    assert line == f"item ids   3 interactions of unknown_item name an item {sentence}"
    with pytest.raises(ValueError) as error:
        check_counts(counts, DATA, "aside", forms)
    assert str(error.value) == (
        "`data.max_rejected_fraction` must not be exceeded: 3 of 3 rows of interactions were "
        "rejected, 1.00% are allowed (unknown_item: 3). 3 of unknown_item name an item "
        f"{sentence}. They are in aside/: mend them, or raise the threshold."
    )


def test_samples_hold_numpy_arrays_in_order():
    sample = sample_ids(pa.array([str(number) for number in range(50)]))
    assert (np.diff(sample.hashes.astype(float)) >= 0).all()
