"""Items of held-out users, from files to the report's figures."""

import json

import numpy as np
import pytest
import tensorflow as tf

from tests.report_keys import undocumented_keys
from tests.tfx_pipeline.evaluation.model_figures import model_figures
from tests.tfx_pipeline.examples.snapshot_messages import serialize_snapshot
from tests.toy_towers import ToyTowers, write_users
from tests.trainer.evaluation.figures_test import snapshots as label_snapshots
from tfx_pipeline.evaluation.figures import evaluate_baselines
from tfx_pipeline.evaluation.held_out_items import HeldOutItems, load_tag_items, read_held_out_items
from trainer.contract import features as f
from trainer.data.snapshots import Snapshots
from trainer.evaluation import baselines
from trainer.evaluation.baselines_config import BaselinesConfig
from trainer.evaluation.fitted_baselines import fit_baselines
from trainer.task import TRAINING_FILE

# 12 tags with 12 items each: i<tag>_<place>, the first of a tag has 12 clicks and the last 1. Ten
# tags bring 100 items: the ten first of each.
TAGS = [f"t{j}" for j in range(12)]
ITEMS = [
    {"item_id": f"i{j}_{place:02d}", "clicks": 12 - place, "tags": [tag]}
    for j, tag in enumerate(TAGS)
    for place in range(12)
]
# Tags that training users click most have the highest ids.
CLICKS = np.arange(12.0)
# Of each user, items clicked at or after the cut, and before it.
LABELS = {
    b"u0": ["i0_00", "i11_00"],
    b"u1": ["i1_09", "i1_10", "i11_11", "\u00fc"],
    b"u2": ["i2_00"],
    b"u3": [],
}
HISTORY = {b"u0": [], b"u1": ["i1_00"], b"u2": ["i2_00"], b"u3": ["i3_00"]}
HISTORY_TAGS = [[], [1], [2], [3]]


@pytest.fixture(scope="module")
def tag_items(tmp_path_factory):
    path = tmp_path_factory.mktemp("summary") / "items.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ITEMS), "utf-8")
    return load_tag_items(str(path))


def write_examples(path, labels):
    spec = f.FeatureSpec(profile=(f.ProfileFeature("name"),))
    with tf.io.TFRecordWriter(str(path), "GZIP") as writer:
        for user, items in labels.items():
            values = {f.USER_ID: user.decode(), "name": user.decode()}
            values |= {f.LABEL_ITEMS: items, f.HISTORY_ITEMS: HISTORY[user]}
            writer.write(serialize_snapshot(values, spec))
    return [str(path)]


@pytest.fixture(scope="module")
def held_out(tag_items, tmp_path_factory):
    path = tmp_path_factory.mktemp("examples") / "examples.gz"
    return read_held_out_items(tag_items, TAGS, write_examples(path, LABELS))


@pytest.fixture(scope="module")
def users():
    made = label_snapshots(
        [[0, 11], [1, 11], [2], []], HISTORY_TAGS, [[([j], 1), ([11], 0)] for j in range(4)]
    )
    ids = np.array(sorted(LABELS), object)
    return Snapshots({**made.scalars, f.USER_ID: ids}, made.lists)


def fitted(users):
    """Returns baselines fitted to users without a click: EASE and neighbours are left out."""
    train = users.take(np.array([3]))
    spec = f.FeatureSpec(domains=(f.Domain("other", attribute="category"),))
    return fit_baselines(CLICKS, train, users, spec, BaselinesConfig(), seed=0)


def test_items_of_every_user_are_read(held_out):
    assert held_out.label_items == LABELS
    assert held_out.history_items == HISTORY


def test_scorer_decides_which_items_are_recalled(held_out, users):
    def in_order(chunk):
        return np.tile(-np.arange(12.0), (chunk.num_examples, 1))

    # Tags 0 to 9: u0 gets i0_00 of two items; u1, who has seen i1_00, i1_01 to i1_10 and with them
    # two of four. u2's item is not new, u3 has none.
    assert held_out.figures(in_order, users) == {"item_recall_at_100": 0.5, "item_num_users": 2.0}


def test_baselines_recall_through_their_tags(held_out, users):
    figures, _ = evaluate_baselines(fitted(users), CLICKS, users, held_out)

    recall = {who: by_name["item_recall_at_100"] for who, by_name in figures.items()}
    # Tags 11 to 2: i11_00 of u0's two, none of u1's four.
    assert recall["popularity"] == pytest.approx((1 / 2 + 0) / 2)
    # u0 has no history: equal tags in order of their ids. u1's own tag comes first.
    assert recall["own_history"] == pytest.approx((1 / 2 + 2 / 4) / 2)
    # The weight chosen leaves u1's own tag before the most popular, whose i11_11 is the last.
    assert recall["blend"] == pytest.approx((1 / 2 + 2 / 4) / 2)
    by_chance = held_out.figures(baselines.random(12, seed=0), users)
    assert recall["random"] == by_chance["item_recall_at_100"]
    # The most clicked of all: places 0 to 7 and four of place 8, by id. u0 has both in it.
    assert recall["popular_items"] == pytest.approx((2 / 2 + 0) / 2)
    assert {by_name["item_num_users"] for by_name in figures.values()} == {2.0}
    keys = [f"eval.{who}.{name}" for who, by_name in figures.items() for name in by_name]
    assert undocumented_keys(keys) == []


def test_baselines_without_items_have_no_figures_of_them(users):
    figures, _ = evaluate_baselines(fitted(users), CLICKS, users)

    assert "popular_items" not in figures
    assert not [name for by_name in figures.values() for name in by_name if "item_" in name]


@pytest.fixture
def towers(tmp_path):
    """Returns towers that rank tags 0 to 10 in order; the click head puts 10 first."""
    candidates = np.array([[12.0 - j] for j in range(12)])
    clicks = np.array([[float(j == 10)] for j in range(12)])
    folder = tmp_path / "towers"
    ToyTowers(np.ones((4, 1)), candidates, clicks).save(folder)
    stage = {"click_weight": 0.0, "num_candidates": 11, "metric": "ndcg_at_10", "trials": []}
    (folder / TRAINING_FILE).write_text(json.dumps({"second_stage": stage}))
    return str(folder)


def test_model_and_its_stages_recall_through_their_tags(held_out, users, towers, tmp_path):
    examples = tmp_path / "examples.gz"
    write_users(examples, [user.decode() for user in LABELS])

    figures = model_figures(
        "model",
        towers,
        TAGS,
        CLICKS,
        users,
        [str(examples)],
        with_stages=True,
        items=HeldOutItems(
            held_out.items, TAGS, {b"u0": ["i9_00", "i10_00"], b"u1": ["i9_01"]}, {}
        ),
    )

    recall = {who: by_name["item_recall_at_100"] for who, by_name in figures.items()}
    # Tags 0 to 9 bring i9_00 and i9_01; with 10 before them, tag 9 is out.
    assert recall == {
        "model": pytest.approx((1 / 2 + 1) / 2),
        "multi_class_stage": pytest.approx((1 / 2 + 1) / 2),
        "click_stage": pytest.approx((1 / 2 + 0) / 2),
    }
    assert figures["model"]["item_num_users"] == 2.0


def test_log_whose_users_click_no_item_later_has_undefined_recall(
    tag_items, users, towers, tmp_path
):
    examples = write_examples(tmp_path / "examples.gz", {user: [] for user in LABELS})
    nothing = read_held_out_items(tag_items, TAGS, examples)

    figures, _ = evaluate_baselines(fitted(users), CLICKS, users, nothing)
    figures |= model_figures(
        "model", towers, TAGS, CLICKS, users, examples, with_stages=True, items=nothing
    )

    assert figures.keys() >= {"model", "click_stage", "popularity", "popular_items"}
    for by_name in figures.values():
        assert (by_name["item_recall_at_100"], by_name["item_num_users"]) == (None, 0.0)
