"""A draw of users of a log: with all their events, and the same for the same seed."""

import pyarrow.parquet as pq
import pytest

from tfx_pipeline.datasets.demo import prepare_demo
from tfx_pipeline.datasets.demo_config import DemoConfig
from tfx_pipeline.datasets.user_cut import cut_users, draw_users

LOG = DemoConfig(
    num_users=60, num_tags=120, num_items=200, num_categories=6, events_per_user=10, seed=3
)


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    folder = tmp_path_factory.mktemp("log") / "tables"
    # Several files, as a large log has them.
    prepare_demo(str(folder), LOG, rows_per_part=1)
    return folder


def rows_of(folder, name):
    return pq.read_table(folder / name).to_pylist()


def test_cut_has_the_users_drawn_with_all_that_they_did_and_every_item(tables, tmp_path):
    cut_users(str(tables), str(tmp_path / "cut"), 7, seed=1)

    users = rows_of(tables, "users.parquet")
    kept = rows_of(tmp_path / "cut", "users.parquet")
    ids = {row["user_id"] for row in kept}
    assert len(ids) == len(kept) == 7
    assert kept == [row for row in users if row["user_id"] in ids]
    assert rows_of(tmp_path / "cut", "interactions") == [
        row for row in rows_of(tables, "interactions") if row["user_id"] in ids
    ]
    assert rows_of(tmp_path / "cut", "items.parquet") == rows_of(tables, "items.parquet")


def test_cut_of_chosen_users_may_give_them_ids_of_their_own(tables, tmp_path):
    def choose(ids):
        return [user_id for user_id in ids if int(user_id[1:]) % 2]

    cut_users(str(tables), str(tmp_path / "cut"), 7, seed=1, choose=choose, prefix="x-")

    users = {row["user_id"]: row for row in rows_of(tables, "users.parquet")}
    kept = rows_of(tmp_path / "cut", "users.parquet")
    ids = [row["user_id"].removeprefix("x-") for row in kept]
    assert [row["user_id"] for row in kept] == [f"x-{user_id}" for user_id in ids]
    assert len(ids) == 7
    assert all(int(user_id[1:]) % 2 for user_id in ids)
    assert [{**row, "user_id": user_id} for row, user_id in zip(kept, ids, strict=True)] == [
        users[user_id] for user_id in ids
    ]
    assert rows_of(tmp_path / "cut", "interactions") == [
        {**row, "user_id": f"x-{row['user_id']}"}
        for row in rows_of(tables, "interactions")
        if row["user_id"] in ids
    ]


def test_seed_says_who_is_drawn_whatever_the_order():
    ids = [f"u{i}" for i in range(50)]

    first = draw_users(ids, 10, seed=0)

    assert first == draw_users(ids[::-1], 10, seed=0)
    assert first != draw_users(ids, 10, seed=1)
    # A larger draw of the same seed has the smaller one in it: cuts are comparable.
    assert set(first) < set(draw_users(ids, 20, seed=0))
    assert draw_users(ids, 50, seed=0) == sorted(ids)


def test_every_user_is_drawn_as_often_as_any_other():
    ids = [f"u{i}" for i in range(10)]

    drawn = [user for seed in range(1000) for user in draw_users(ids, 3, seed)]

    # 300 times each, with a standard deviation of sqrt(1000 * .3 * .7) = 14.5.
    assert all(abs(drawn.count(user) - 300) < 60 for user in ids)


def test_more_users_than_there_are_is_refused(tables, tmp_path):
    with pytest.raises(ValueError, match="`num_users` must be at most 60, the users to draw from."):
        cut_users(str(tables), str(tmp_path / "cut"), 61, seed=0)

    assert not (tmp_path / "cut").exists()
