"""Rows in, rows out; and the same graph on rows that training never saw."""

import json

import pytest
import tensorflow_transform.beam as tft_beam
from tensorflow_transform.tf_metadata import dataset_metadata

from tests.tfx_pipeline.toy_rows import EMPTY, RAW_ONLY, SPEC, TAGS, TRAIN
from tfx_pipeline.examples.tf_examples import build_schema
from tfx_pipeline.preprocessing import OUT_OF_VOCABULARY, preprocessing_fn
from trainer.contract import features as f
from trainer.contract.config_loader import to_mapping
from trainer.data.input_data import tag_frequencies
from trainer.data.snapshots import Snapshots


@pytest.fixture(scope="module")
def graph(toy_graph):
    return toy_graph


@pytest.fixture(scope="module")
def rows(graph):
    return graph.rows(TRAIN)


# --- vocabularies ---


def test_tags_of_labels_and_domains_are_one_vocabulary_by_frequency(graph):
    assert graph.vocabulary("tags") == TAGS


def test_trainer_counts_what_the_vocabulary_was_made_of(graph):
    snapshots = Snapshots.from_batches([graph.columns(TRAIN)])

    counts = tag_frequencies(snapshots, SPEC, len(TAGS))

    assert dict(zip(graph.vocabulary("tags"), counts, strict=True)) == {
        "pop": 5,
        "jazz": 3,
        "new age": 2,
        "folk": 1,
    }


def test_named_vocabulary_is_apart(graph):
    assert graph.vocabulary("recent_tags") == ["jazz", "rock"]


def test_limits_of_size_and_frequency_hold(graph):
    assert sorted(graph.vocabulary("category")) == ["x", "y"]  # of three the two most frequent
    assert graph.vocabulary("item_id") == ["i1"]  # i2 occurs once


def test_profile_features_have_vocabularies_of_their_own(graph):
    assert graph.vocabulary("profile_gender") == ["F", "M"]
    assert graph.vocabulary("profile_age") == ["30"]


# --- rows ---


def test_values_become_positions_in_their_vocabulary(graph, rows):
    first, second, third = rows
    assert first["clicked"] == [0, 1]  # pop, jazz
    assert first["skipped"] == [3]
    assert first["recent"] == [0]  # jazz, in a vocabulary of its own
    assert second["recent"] == [1, 0]
    assert first["label_tags"] == [0, 2]
    assert first["impression_tags"] == [0, 1, 2]
    assert second["label_tags"] == [1, 0]
    assert third["clicked"] == third["label_tags"] == []
    categories = graph.vocabulary("category")
    assert second["categories"] == [categories.index("x"), categories.index("y")]


def test_weights_counts_and_identity_pass_untouched(rows):
    for raw, row in zip(TRAIN, rows, strict=True):
        for name in (
            *(f.weights_name(domain.name) for domain in SPEC.domains),
            "label_tags_weights",
            "impression_num_tags",
            "impression_clicked",
            "impression_weights",
            "history_tags_counts",
        ):
            assert row[name] == raw[name], name
        for name in ("user_id", "snapshot_time", "history_num_events"):
            assert [row[name]] == raw[name], name
    assert set(rows[0]) == set(EMPTY) - RAW_ONLY


def test_unknown_profile_is_zero_and_known_values_follow(rows):
    assert [row["gender"] for row in rows] == [1, 2, 1]
    assert [row["age"] for row in rows] == [1, 1, 0]


def test_value_beyond_the_vocabulary_goes_to_a_bucket_behind_it(rows):
    known, bucket = rows[0]["items"]
    assert (known, bucket) == (0, 1)  # one value, then the one bucket
    assert rows[0]["categories"][2] in (2, 3, 4)  # two values, then three buckets


def test_label_beyond_the_vocabulary_is_minus_one(rows):
    assert rows[1]["history_tags"] == [OUT_OF_VOCABULARY, 0]


def test_transform_of_training_and_served_graph_give_the_same(graph, rows):
    dataset = [
        {name: value.tolist() if hasattr(value, "tolist") else value for name, value in row.items()}
        for row in graph.dataset
    ]
    assert dataset == rows


# --- rows that training never saw ---


def unseen(**changes):
    return {**EMPTY, **changes}


def test_unseen_tags_are_hashed_in_domains_and_minus_one_in_labels(graph):
    names = [f"unseen {i}".encode() for i in range(40)]
    (row,) = graph.rows([unseen(clicked=names, label_tags=names, history_tags=names)])
    assert set(row["clicked"]) == {4, 5}  # both buckets behind the four tags
    assert set(row["label_tags"]) == set(row["history_tags"]) == {OUT_OF_VOCABULARY}
    (again,) = graph.rows([unseen(clicked=names[:3], skipped=names[:3])])
    assert again["clicked"] == again["skipped"] == row["clicked"][:3]


def test_unseen_values_keep_place_and_weights(graph):
    (row,) = graph.rows(
        [unseen(clicked=[b"what", b"jazz", b"pop"], clicked_weights=[3.0, 2.0, 1.0])]
    )
    assert row["clicked"][1:] == [1, 0]
    assert row["clicked_weights"] == [3.0, 2.0, 1.0]


def test_unseen_profile_values_are_hashed_behind_the_known_ones(graph):
    ages = [f"{i}".encode() for i in range(31, 60)]
    found = [row["age"] for row in graph.rows([unseen(age=[age]) for age in ages])]
    assert set(found) == {2, 3, 4}  # 0 unknown, 1 is 30, then three buckets
    (row,) = graph.rows([unseen(gender=[b"X"])])
    assert row["gender"] == 3


def test_case_is_not_changed_here(graph):
    """Tags are normalised once, by the readers; a caller sends them as they were returned."""
    (row,) = graph.rows([unseen(clicked=[b"POP"], label_tags=[b"POP"])])
    assert row["clicked"][0] >= 4
    assert row["label_tags"] == [OUT_OF_VOCABULARY]


def test_user_with_nothing_is_transformed(graph):
    (row,) = graph.rows([unseen()])
    assert (row["gender"], row["age"]) == (0, 0)
    assert all(row[domain.name] == [] for domain in SPEC.domains)


def test_row_alone_and_in_a_batch_is_the_same(graph, rows):
    alone = [graph.rows([raw])[0] for raw in TRAIN]
    assert alone == rows


def test_profile_that_is_unknown_for_all_still_has_a_place(tmp_path):
    spec = f.FeatureSpec(profile=(f.ProfileFeature("gender"),), domains=(f.Domain("clicked"),))
    config = {f.FEATURES_KEY: json.dumps(to_mapping(spec))}
    names = {feature.name for feature in build_schema(spec).feature}
    raw = [{k: v for k, v in {**row, "gender": [b""]}.items() if k in names} for row in TRAIN]
    meta = dataset_metadata.DatasetMetadata(build_schema(spec))
    with tft_beam.Context(temp_dir=str(tmp_path)):
        (dataset, _), _ = (raw, meta) | tft_beam.AnalyzeAndTransformDataset(
            lambda inputs: preprocessing_fn(inputs, config)
        )
    assert [int(row["gender"]) for row in dataset] == [0, 0, 0]
