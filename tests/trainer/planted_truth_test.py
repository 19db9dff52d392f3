"""On a log whose truth is known, the full model finds what a weaker one cannot.

Logs and models are seeded, and each seed must keep the margin by itself. `pytest -s` shows the
figures, docs/model.md has them.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from tests.trainer.planted_logs import PlantedLog, make_planted_log
from tfx_pipeline.config.examples import ExamplesConfig
from tfx_pipeline.datasets.demo_config import DemoConfig
from tfx_pipeline.examples import moments as snapshot_moments
from trainer.config import ModelConfig, TrainingConfig
from trainer.contract import features as f
from trainer.data.snapshots import Snapshots
from trainer.fitting.loop import build_model, fit
from trainer.model import InterestModel

# docs/model.md has a third one, by the same code: here it would repeat the second.
SEEDS = (1, 2)
MODEL = ModelConfig(
    embedding_dim=8,
    attention_dim=8,
    cross_dim=4,
    hidden_dim=32,
    output_dim=16,
    dropout=0.0,
    domain_dropout=0.0,
)


def trained(
    log: PlantedLog,
    model: ModelConfig,
    training: TrainingConfig,
    seed: int,
    weaken: Callable[[InterestModel], Any] = lambda model: None,
) -> InterestModel:
    """Fits a model to the log; `weaken` changes it before the first step."""
    tf_keras.utils.set_random_seed(seed)
    found = InterestModel(log.spec, log.vocabulary_sizes, len(log.tags), model, training, seed=seed)
    build_model(found, log.parts["train"])
    weaken(found)
    fit(found, log.parts["train"], log.parts["validation"], seed)
    return found


def planted_of_test_users(log: PlantedLog, key: str) -> list[set[str]]:
    """Returns the planted tags of the test snapshots, in their order."""
    planted = {row["user_id"]: set(row[key]) for row in log.planted}
    return [planted[user.decode()] for user in log.parts["test"].scalars[f.USER_ID]]


# Crossing: a segment and a region together tell an interest, and neither alone (a Latin square). It
# is in no history of a test user, for it shows only after the cut.

CROSS_SPEC = f.FeatureSpec(
    profile=(f.ProfileFeature("segment"), f.ProfileFeature("region")),
    domains=(f.Domain("clicked_tags", max_values=50),),
)
CROSS_LOG = DemoConfig(
    num_users=800,
    num_tags=120,
    num_items=300,
    num_categories=3,
    events_per_user=30,
    interests_per_user=3,
    cross_exposure_share=0.6,
    cold_user_fraction=0.0,
)
CROSS_EXAMPLES = ExamplesConfig(snapshots_per_user=2, test_fraction=0.3)
# Later moments than by default: a history then tells the interests, and enough follows as labels.
CROSS_SHARES = (0.6, 0.9)
CROSS_TRAINING = TrainingConfig(
    joint_weight=0.0,
    batch_size=64,
    max_batch_share=1.0,
    max_epochs=12,
    budget_steps=0,
    min_steps=0,
    patience=12,
    learning_rate=0.01,
)


def without_hidden_relu(model: InterestModel) -> None:
    """Keeps the hidden layer from learning pairs of features instead of the crossing."""
    model.user_tower.hidden.activation = tf_keras.activations.linear


def without_pairs(model: InterestModel) -> None:
    """Removes the crossing's pairs as well: at v_i = 0 every c_ij and its gradient is 0."""
    without_hidden_relu(model)
    latent = model.user_tower.interaction.cross.latent
    latent.assign(tf.zeros_like(latent))


def cross_interests_found(log: PlantedLog, model: InterestModel) -> float:
    """Returns the share of test users whose cross interest ranks first among all."""
    cross = sorted({tag for row in log.planted for tag in row["cross_interests"]})
    columns = [log.tags.index(tag) for tag in cross]
    scores = model.score_tags(log.parts["test"].features()).numpy()[:, columns]
    own = planted_of_test_users(log, "cross_interests")
    return float(
        np.mean([cross[i] in tags for i, tags in zip(scores.argmax(axis=1), own, strict=True)])
    )


@pytest.mark.parametrize("seed", SEEDS)
def test_crossing_recovers_what_two_features_tell_together(monkeypatch, tmp_path, seed):
    monkeypatch.setattr(snapshot_moments, "SNAPSHOT_SHARES", CROSS_SHARES)
    config = dataclasses.replace(CROSS_LOG, seed=seed)
    log = make_planted_log(tmp_path, config, CROSS_SPEC, CROSS_EXAMPLES)

    full = cross_interests_found(log, trained(log, MODEL, CROSS_TRAINING, seed))
    crossing = trained(log, MODEL, CROSS_TRAINING, seed, without_hidden_relu)
    by_crossing_alone = cross_interests_found(log, crossing)
    weaker = trained(log, MODEL, CROSS_TRAINING, seed, without_pairs)
    by_neither = cross_interests_found(log, weaker)

    print(f"seed {seed}: {full:.2f}, {by_crossing_alone:.2f}, without pairs {by_neither:.2f}")
    assert not weaker.user_tower.interaction.cross.latent.numpy().any()
    # Chance is 1/6.
    assert by_neither < 0.35
    assert full > by_neither + 0.4
    assert by_crossing_alone > by_neither + 0.4


# The driving tag: a click is due to one tag of an item, others of a few come along with all of a
# category. What is known of a user is the category alone. A passenger then has the mean click rate
# of all tags that it comes with, which is above that of most of them: few are popular.

DRIVING_SPEC = f.FeatureSpec(
    domains=(f.Domain("clicked_categories", attribute="category", max_values=20),)
)
DRIVING_LOG = DemoConfig(
    num_users=3000,
    num_tags=72,
    num_items=400,
    num_categories=4,
    events_per_user=40,
    interests_per_user=4,
    max_categories_per_user=1,
    cross_interests_per_user=0,
    min_tags_per_item=2,
    max_tags_per_item=4,
    passengers_per_category=6,
    tags_per_taste=12,
    popularity_skew=0.7,
    noise_skew=0.5,
    cold_user_fraction=0.0,
    exposure_share=0.8,
    interest_exposure_share=0.1,
    click_probability=0.9,
    base_click_probability=0.05,
)
DRIVING_EXAMPLES = ExamplesConfig(snapshots_per_user=1)
DRIVING_SHARES = (0.2, 0.7)
CLICKS_ALONE = {
    "multi_class_weight": 0.0,
    "joint_weight": 0.0,
    "early_stopping_metric": "click_gauc",
    "batch_size": 64,
    "max_batch_share": 1.0,
    "max_epochs": 10,
    "budget_steps": 0,
    "min_steps": 0,
    "patience": 10,
    "learning_rate": 0.02,
}


def without_clicks(part: Snapshots) -> Snapshots:
    """Returns users without any click metric, so that `fit` keeps the last epoch.

    The best epoch by 300 users is one by chance, and `joint` and `split` are to be compared after
    the same number of steps.
    """
    clicked = part.lists[f.IMPRESSION_CLICKED]
    none = dataclasses.replace(clicked, values=np.zeros_like(clicked.values))
    return dataclasses.replace(part, lists={**part.lists, f.IMPRESSION_CLICKED: none})


def driving_tags_first(log: PlantedLog, model: InterestModel) -> float:
    """Returns how often an item's driving tag has its highest click logit s_t.

    It counts test users whose interest is the driving tag; the mean over users, then over items.
    """
    queries = model.query_embeddings(log.parts["test"].features()).numpy()
    logits = queries @ model.click_candidate_embeddings().numpy().T
    interests = planted_of_test_users(log, "interests")
    ids = {tag: i for i, tag in enumerate(log.tags)}
    shares = []
    for item, tags in log.item_tags.items():
        users = [i for i, own in enumerate(interests) if log.driving[item] in own]
        if users:
            columns = [ids[tag] for tag in tags]
            first = logits[np.ix_(users, columns)].argmax(axis=1)
            shares.append(np.mean([tags[i] == log.driving[item] for i in first]))
    return float(np.mean(shares))


@pytest.mark.parametrize("seed", SEEDS)
def test_joint_puts_the_driving_tag_first_where_split_does_not(monkeypatch, tmp_path, seed):
    monkeypatch.setattr(snapshot_moments, "SNAPSHOT_SHARES", DRIVING_SHARES)
    config = dataclasses.replace(DRIVING_LOG, seed=seed)
    log = make_planted_log(tmp_path, config, DRIVING_SPEC, DRIVING_EXAMPLES)
    parts = {**log.parts, "validation": without_clicks(log.parts["validation"])}
    log = dataclasses.replace(log, parts=parts)

    joint, split = (
        driving_tags_first(
            log, trained(log, MODEL, TrainingConfig(**{**CLICKS_ALONE, name: 1.0}), seed)
        )
        for name in ("joint_weight", "split_weight")
    )

    print(f"seed {seed}: joint {joint:.2f}, split {split:.2f}")
    # Chance is 0.36.
    assert joint > 0.6
    assert joint > split + 0.2


# Attention: clicked tags are interests, which tell what comes later, and tags that come along with
# any, which tell nothing. A second domain is another user's: the same values, telling nothing.

ATTENTION_SPEC = f.FeatureSpec(
    domains=(f.Domain("clicked_tags", max_values=100), f.Domain("foreign_tags", max_values=100))
)
ATTENTION_LOG = DemoConfig(
    num_users=1500,
    num_tags=96,
    num_items=500,
    num_categories=4,
    events_per_user=40,
    interests_per_user=3,
    cross_interests_per_user=0,
    min_tags_per_item=3,
    max_tags_per_item=5,
    passengers_per_category=12,
    tag_in_category_share=0.0,
    noise_skew=0.0,
    tags_per_taste=12,
    popularity_skew=0.3,
    cold_user_fraction=0.0,
    exposure_share=0.8,
    interest_exposure_share=0.5,
    click_probability=0.8,
    base_click_probability=0.03,
)
# The paper's tower: with vectors of fields beside the attention it need not decide.
PAPER = dataclasses.replace(
    MODEL, log_count_fields=False, use_domain_totals=False, field_residual=False
)


def with_foreign_tags(log: PlantedLog, seed: int) -> PlantedLog:
    """Returns the log with each snapshot's `foreign_tags` taken from another at random."""
    rng = np.random.default_rng(seed)
    parts = {}
    for name, part in log.parts.items():
        order = rng.permutation(part.num_examples)
        foreign = {
            column: part.lists[column].take(order)
            for column in ("foreign_tags", f.weights_name("foreign_tags"))
        }
        parts[name] = dataclasses.replace(part, lists={**part.lists, **foreign})
    return dataclasses.replace(log, parts=parts)


def mean_by_user(values: tf.RaggedTensor, of_interest: np.ndarray) -> float:
    """Returns the mean share, of float [users, None] with sums of 1, that lies on interests."""
    found = values.with_flat_values(values.flat_values * of_interest)
    has_any = values.row_lengths() > 0
    return float(tf.reduce_mean(tf.boolean_mask(tf.reduce_sum(found, axis=1), has_any)))


@pytest.mark.parametrize("seed", SEEDS)
def test_attention_weighs_the_informative_domain_and_value_higher(monkeypatch, tmp_path, seed):
    monkeypatch.setattr(snapshot_moments, "SNAPSHOT_SHARES", DRIVING_SHARES)
    config = dataclasses.replace(ATTENTION_LOG, seed=seed)
    examples = dataclasses.replace(DRIVING_EXAMPLES, snapshots_per_user=2)
    log = with_foreign_tags(make_planted_log(tmp_path, config, ATTENTION_SPEC, examples), seed)
    training = dataclasses.replace(CROSS_TRAINING, max_epochs=10, learning_rate=0.02)

    model = trained(log, PAPER, training, seed)

    users = log.parts["test"].features()
    attention = model.user_tower.attention(users)
    values, weights = users["clicked_tags"], users["clicked_tags_weights"]
    has_both = (values.row_lengths() > 0) & (users["foreign_tags"].row_lengths() > 0)
    domain = float(tf.reduce_mean(tf.boolean_mask(attention["fields"], has_both)[:, 0]))
    interests = {tag for row in log.planted for tag in row["interests"]}
    is_interest = np.array([*(tag in interests for tag in log.tags), False], np.float32)
    of_interest = is_interest[values.flat_values.numpy()]
    heads = attention["clicked_tags"]
    own = mean_by_user(
        heads.with_flat_values(tf.reduce_mean(heads.flat_values, axis=1)), of_interest
    )
    average = mean_by_user(weights / tf.reduce_sum(weights, axis=1, keepdims=True), of_interest)
    print(f"seed {seed}: domain {domain:.2f}, interests {own:.2f}, by an average {average:.2f}")
    assert model.user_tower.field_names == ("clicked_tags", "foreign_tags")
    # By an average each domain has one half.
    assert domain > 0.6
    assert own > 1.25 * average
