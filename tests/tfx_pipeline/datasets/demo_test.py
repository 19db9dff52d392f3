"""The synthetic log shows what is planted, where and when it should."""

import collections
import dataclasses
import json

import numpy as np
import pyarrow.parquet as pq
import pytest

from tfx_pipeline.datasets.demo import prepare_demo
from tfx_pipeline.datasets.demo_config import DemoConfig
from tfx_pipeline.datasets.demo_users import USERS_PER_CHUNK, draw_users
from tfx_pipeline.datasets.demo_world import build_world, is_repeated
from tfx_pipeline.tables import schema
from tfx_pipeline.tables.arrow_files import read_table
from tfx_pipeline.tables.item_catalogue import build_item_catalogue
from tfx_pipeline.tables.validate import validate_interactions, validate_items, validate_users

SMALL = DemoConfig(
    num_users=600, num_tags=200, num_items=800, num_categories=5, events_per_user=30, seed=3
)
FILES = [
    "interactions/part-00000.parquet",
    "items.parquet",
    "users.parquet",
    "planted.jsonl",
    "planted_items.jsonl",
    "demo.json",
]


def _json_lines(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    output = tmp_path_factory.mktemp("demo") / "out"
    return output, prepare_demo(str(output), SMALL)


@pytest.fixture(scope="module")
def drawn():
    world = build_world(SMALL)
    return world, draw_users(SMALL, world, 0)


def test_tables_pass_every_check(small):
    output, summary = small
    items, rejected = build_item_catalogue(
        validate_items(b) for b in read_table(str(output / "items.parquet"), schema.ITEMS)
    )
    assert rejected.num_rows == 0
    assert len(items) == summary.num_items == 800
    assert len(items.tags.vocabulary) == summary.num_tags == 200
    assert len(items.category.vocabulary) == 5
    num_interactions = num_clicks = 0
    for batch in read_table(str(output / "interactions"), schema.INTERACTIONS):
        good = validate_interactions(batch, now=SMALL.end_time, item_index=items)
        assert good.rejected.num_rows == 0
        num_interactions += good.rows.num_rows
        num_clicks += sum(good.rows.column("clicked").to_pylist())
    assert num_interactions == summary.num_interactions
    assert num_clicks == summary.num_clicks
    profile = ["segment", "region", "age_band", "device"]
    for batch in read_table(str(output / "users.parquet"), schema.users_table(profile)):
        good = validate_users(batch)
        assert good.rows.num_rows == 600
        assert good.rows.schema.names == ["user_id", *profile]


def test_same_options_write_the_same_bytes_and_another_seed_does_not(small, tmp_path):
    output, _ = small
    prepare_demo(str(tmp_path / "again"), SMALL)
    prepare_demo(str(tmp_path / "other"), dataclasses.replace(SMALL, seed=4))
    for name in FILES:
        assert (tmp_path / "again" / name).read_bytes() == (output / name).read_bytes(), name
        assert (tmp_path / "other" / name).read_bytes() != (output / name).read_bytes(), name


def test_planted_files_agree_with_the_tables(small):
    output, _ = small
    items = {r["item_id"]: r for r in pq.read_table(output / "items.parquet").to_pylist()}
    places = collections.Counter()
    for row in _json_lines(output / "planted_items.jsonl"):
        tags = items[row["item_id"]]["tags"]
        assert 3 <= len(tags) == len(set(tags)) <= 6
        places[tags.index(row["driving_tag"])] += 1
        assert row["driving_tag"].startswith(items[row["item_id"]]["category"])
    # Hidden: at any place, not mostly at the first.
    assert places[0] / len(items) == pytest.approx(0.24, abs=0.06)
    events = collections.Counter(
        pq.read_table(output / "interactions").column("user_id").to_pylist()
    )
    planted = _json_lines(output / "planted.jsonl")
    users = pq.read_table(output / "users.parquet").column("user_id").to_pylist()
    assert [row["user_id"] for row in planted] == users
    for row in planted:
        assert events[row["user_id"]] == row["num_events"]
        assert len(set(row["interests"])) == 5
        assert len(row["cross_interests"]) == 1
        assert row["cross_interests"][0] not in row["interests"]
        assert row["num_events"] <= 3 if row["is_cold"] else row["num_events"] >= 5


def test_first_driving_tag_stands_first():
    world = build_world(dataclasses.replace(SMALL, driving_tag="first"))
    np.testing.assert_array_equal(world.item_tags[:, 0], world.item_driving)


def test_passengers_come_along_and_drive_nothing():
    config = dataclasses.replace(SMALL, passengers_per_category=8)
    world = build_world(config)
    passengers = np.flatnonzero(world.is_passenger)
    assert np.bincount(world.tag_category[passengers]).tolist() == [8] * 5
    assert not world.is_passenger[world.item_driving].any()
    assert set(range(200)) - set(passengers.tolist()) == set(world.item_driving.tolist())
    # Beside its driving tag an item has only passengers.
    is_there = world.item_tags >= 0
    is_driving = world.item_tags == world.item_driving[:, None]
    assert (is_driving.sum(axis=1) == 1).all()
    assert world.is_passenger[world.item_tags[is_there & ~is_driving]].all()
    # They are mostly of the item's category, and each accompanies some item.
    own = world.tag_category[world.item_tags] == world.item_category[:, None]
    # Of the draws outside its own category, 4 in 5 are of other categories.
    assert own[is_there & ~is_driving].mean() == pytest.approx(0.85 + 0.15 / 5, abs=0.03)
    assert set(world.item_tags[is_there & ~is_driving].tolist()) == set(passengers.tolist())
    users = draw_users(config, world, 0)
    assert not world.is_passenger[users.interests].any()
    assert not world.is_passenger[users.cross_interests].any()


def test_too_few_passengers_or_tags_for_them_are_refused():
    with pytest.raises(ValueError, match="`passengers_per_category` must be 0 or at least"):
        dataclasses.replace(SMALL, passengers_per_category=5)
    with pytest.raises(ValueError, match="`num_tags` must be at least"):
        dataclasses.replace(SMALL, passengers_per_category=30)


def test_clicks_follow_the_driving_tag_only(drawn):
    world, users = drawn
    item, user = users.event_item, users.event_user
    driving = world.item_driving[item]
    is_match = (users.interests[user] == driving[:, None]).any(axis=1)
    is_cross = (users.cross_interests[user] == driving[:, None]).any(axis=1)
    carried = world.item_tags[item][:, :, None] == users.interests[user][:, None, :]
    is_noise = carried.any(axis=(1, 2)) & ~is_match & ~is_cross
    clicked = users.event_clicked
    assert clicked[is_match].mean() == pytest.approx(SMALL.click_probability, abs=0.03)
    assert clicked[is_noise].mean() == pytest.approx(SMALL.base_click_probability, abs=0.03)


def test_cross_interests_show_only_late(drawn):
    world, users = drawn
    starts = np.cumsum(users.num_events) - users.num_events
    position = np.arange(len(users.event_user)) - starts[users.event_user]
    is_late = position >= 0.8 * users.num_events[users.event_user]
    driving = world.item_driving[users.event_item][:, None]
    is_cross = (users.cross_interests[users.event_user] == driving).any(axis=1)
    is_warm = ~users.is_cold[users.event_user]
    assert is_cross[is_late & is_warm].mean() > 5 * is_cross[~is_late].mean()
    clicked = users.event_clicked
    assert clicked[is_cross & is_late & is_warm].mean() > SMALL.click_probability - 0.06
    assert clicked[is_cross & ~is_late].mean() < SMALL.base_click_probability + 0.15


def shown_of_strangers_and_own(config):
    """Returns how often warm users were early shown items of their own interests, and others."""
    world = build_world(config)
    users = draw_users(config, world, 0)
    shown = np.zeros((len(users.segment), config.num_tags))
    starts = np.cumsum(users.num_events) - users.num_events
    position = np.arange(len(users.event_user)) - starts[users.event_user]
    is_early = position < 0.8 * users.num_events[users.event_user]
    driving = world.item_driving[users.event_item]
    np.add.at(shown, (users.event_user[is_early], driving[is_early]), 1)
    shown = shown[~users.is_cold]
    interests = users.interests[~users.is_cold]
    # Interests among the five driving tags shown most.
    top = np.argsort(-shown, axis=1, kind="stable")[:, :5]
    return (top[:, :, None] == interests[:, None, :]).any(axis=2).mean(), users, world


def test_blind_exposure_tells_half_of_what_the_relevant_one_tells():
    blind = dataclasses.replace(
        SMALL, exposure="blind", interest_exposure_share=1.0, events_per_user=200
    )
    relevant = dataclasses.replace(blind, exposure="relevant")

    by_blind, users, world = shown_of_strangers_and_own(blind)
    by_relevant, same_users, _ = shown_of_strangers_and_own(relevant)

    # A stranger's interests are shown as often: telling the user from the stranger is chance.
    assert by_relevant > 0.9
    assert by_blind == pytest.approx(0.55, abs=0.08)  # a few interests are common to both
    # The users and their interests are the same, and clicks still follow the driving tag.
    np.testing.assert_array_equal(users.interests, same_users.interests)
    driving = world.item_driving[users.event_item][:, None]
    is_match = (users.interests[users.event_user] == driving).any(axis=1)
    is_cross = (users.cross_interests[users.event_user] == driving).any(axis=1)
    clicked = users.event_clicked
    assert clicked[is_match].mean() == pytest.approx(SMALL.click_probability, abs=0.03)
    assert clicked[~is_match & ~is_cross].mean() == pytest.approx(0.2, abs=0.03)


def test_blind_exposure_shows_cross_interests_of_strangers_as_often():
    config = dataclasses.replace(SMALL, exposure="blind", cross_exposure_share=0.5)
    world = build_world(config)
    users = draw_users(config, world, 0)
    starts = np.cumsum(users.num_events) - users.num_events
    position = np.arange(len(users.event_user)) - starts[users.event_user]
    is_late = position >= np.ceil(0.8 * users.num_events)[users.event_user]
    is_late &= ~users.is_cold[users.event_user]
    driving = world.item_driving[users.event_item]
    is_own = (users.cross_interests[users.event_user] == driving[:, None]).any(axis=1)
    # A stranger's cell is the user's in one case of six: the squares have six tags each.
    assert is_own[is_late].mean() == pytest.approx(0.5 + 0.5 / 6, abs=0.03)
    assert world.is_cross[driving[is_late]].mean() > 0.98


def test_users_repeat_as_asked():
    config = dataclasses.replace(SMALL, repeat_share=0.7)
    users = draw_users(config, build_world(config), 0)
    pairs = np.stack([users.event_user, users.event_item], axis=1)[users.event_clicked]
    _, first = np.unique(pairs, axis=0, return_index=True)
    num_later = users.event_clicked.sum() - len(np.unique(pairs[:, 0]))
    assert (len(pairs) - len(first)) / num_later == pytest.approx(0.7, abs=0.05)


def test_users_who_never_repeat_click_every_tag_once():
    config = dataclasses.replace(SMALL, repeats="never")
    world = build_world(config)
    users = draw_users(config, world, 0)
    tags = world.item_tags[users.event_item[users.event_clicked]]
    owners = np.repeat(users.event_user[users.event_clicked], tags.shape[1])
    pairs = np.stack([owners, tags.ravel()], axis=1)[tags.ravel() >= 0]
    assert len(np.unique(pairs, axis=0)) == len(pairs) > 0


def test_one_feature_alone_does_not_tell_the_cross_interest(drawn):
    world, users = drawn
    for square in world.cross_tags:
        for line in [*square, *square.T]:
            assert len(set(line.tolist())) == SMALL.cross_feature_values
    expected = world.cross_tags[0, users.segment, users.region]
    np.testing.assert_array_equal(users.cross_interests[:, 0], expected)
    assert not world.is_cross[users.interests].any()


def test_times_rise_within_a_user_and_stay_in_the_span(drawn):
    _, users = drawn
    is_same_user = np.diff(users.event_user) == 0
    assert (np.diff(users.event_time)[is_same_user] > 0).all()
    assert users.event_time.min() >= SMALL.start_time
    assert users.event_time.max() < SMALL.end_time


def test_users_lie_in_few_categories(drawn):
    world, users = drawn
    categories = world.tag_category[users.interests]
    num_categories = np.array([len(set(row.tolist())) for row in categories])
    assert num_categories.max() == SMALL.max_categories_per_user
    assert num_categories.min() == 1


def test_age_tells_of_the_categories(drawn):
    world, users = drawn
    categories = world.tag_category[users.interests[:, 0]]
    of_age = (world.age_categories[users.age_band] == categories[:, None]).any(axis=1).mean()
    other = world.age_categories[(users.age_band + 1) % 7]
    assert of_age > (other == categories[:, None]).any(axis=1).mean()


def test_without_cross_interests_there_are_none():
    config = dataclasses.replace(SMALL, cross_interests_per_user=0)
    users = draw_users(config, build_world(config), 0)
    assert users.cross_interests.shape == (600, 0)
    assert len(users.event_item) == users.num_events.sum()


def test_several_cross_interests_are_distinct_tables():
    config = dataclasses.replace(SMALL, cross_interests_per_user=2)
    world = build_world(config)
    assert world.is_cross.sum() == 12
    users = draw_users(config, world, 0)
    assert (users.cross_interests[:, 0] != users.cross_interests[:, 1]).all()


def test_most_interests_are_of_tastes_and_the_popular_ones_lead(drawn):
    world, users = drawn
    starts = world.category_tags.offsets[:-1]
    counts = np.bincount(users.interests.ravel(), minlength=200)
    by_rank = [counts[world.category_tags.members[starts + rank]].sum() for rank in range(40)]
    assert sum(by_rank[: SMALL.tags_per_taste]) > 0.8 * counts.sum()
    assert by_rank[0] > by_rank[SMALL.tags_per_taste - 1] > by_rank[SMALL.tags_per_taste]


def test_small_taste_gives_way_to_other_tags_of_the_category():
    config = dataclasses.replace(SMALL, tags_per_taste=1, taste_share=1.0)
    users = draw_users(config, build_world(config), 0)
    assert not is_repeated(users.interests).any()


def test_chunks_do_not_depend_on_the_number_of_users():
    more = dataclasses.replace(SMALL, num_users=USERS_PER_CHUNK + 7)
    world = build_world(more)
    first = draw_users(more, world, 0)
    again = draw_users(
        dataclasses.replace(more, num_users=2 * USERS_PER_CHUNK), build_world(more), 0
    )
    np.testing.assert_array_equal(first.event_item, again.event_item)
    assert len(draw_users(more, world, 1).segment) == 7


def test_all_users_can_be_cold():
    config = dataclasses.replace(SMALL, cold_user_fraction=1.0, cold_user_max_events=0)
    users = draw_users(config, build_world(config), 0)
    assert len(users.event_item) == 0


def test_repeated_is_any_but_the_first():
    values = np.array([[3, 1, 3, 3], [-1, -1, 2, 2]])
    expected = [[False, False, True, True], [False, False, False, True]]
    assert is_repeated(values).tolist() == expected
