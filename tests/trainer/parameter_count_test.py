import dataclasses

import pytest

from tests.trainer.towers.user_tower_test import CONFIG, SIZES, SPEC
from trainer.config import TrainingConfig
from trainer.model import InterestModel
from trainer.parameter_count import count_parameters

# Of CONFIG: E = 4, A = 3, C = 2, D = 6, U = 4; H = 2 with attention.
# Fields: gender; tags and items; both with log counts; both totals.
K = 7
OUTPUT = 6 * 4 + 4  # from D to U, with a bias
TABLES = 4 * (3 + 8 + 5 + 1 + 1)  # gender, tags, items, two totals
TAG_TOWER = 7 * (4 + 1 + 1) + 2  # vectors and two biases of 7 tags, click scale and offset


def count(training=None, **changes):
    config = dataclasses.replace(CONFIG, click_projection=False, **changes)
    return count_parameters(
        InterestModel(SPEC, SIZES, 7, config, training or TrainingConfig(joint_weight=0.0))
    )


def dense(num_inputs, num_outputs):
    return num_inputs * num_outputs + num_outputs


@pytest.mark.parametrize(
    ("interaction", "weights", "num_features"),
    [
        # Beside each count: what it is made of. Every norm has a scale and a shift.
        ("youtube_dnn", 0, K * 4),
        ("nfm", K * 4, 2 * 4),  # first order
        ("afm", K * 4 + dense(4, 3) + 3, 2 * 4),  # first order; pair attention and its query
        ("dcn", 2 * dense(K * 4, K * 4), K * 4),  # two cross layers
        # Two layers of two heads of size 3: query, key, value, residual.
        ("autoint", 4 * 4 * 6 + 4 * 6 * 6, K * 6),
    ],
)
def test_towers_of_averages_count_their_weights_beside_the_tables(
    interaction, weights, num_features
):
    expected = weights + 2 * num_features + dense(num_features, 6) + OUTPUT
    found = count(interaction=interaction, field_residual=False)
    assert found == (expected, TABLES + TAG_TOWER)


def test_utpm_counts_attention_and_crossing():
    x = 2 * 4
    crossed = x + x * (x - 1) // 2
    attention = 2 * 3 + 5 * (2 * 4 * 3 + 3)  # queries; four domain fields and between the fields
    crossing = x * 2 + x + 2 * crossed
    residual = K * 2 * 4
    expected = attention + crossing + 2 * residual + dense(crossed + residual, 6) + OUTPUT
    assert count() == (expected, TABLES + TAG_TOWER)


def test_bag_counts_the_rows_of_values_as_embeddings():
    rows = 3 + 2 * (8 + 5) + 2  # gender; shares and log counts of tags and items; totals
    assert count(interaction="bag") == (6 + OUTPUT, 6 * rows + TAG_TOWER)


def test_shared_table_counts_once():
    # The domain keeps one row, the bucket of unknown tags.
    assert count(share_tag_embeddings=True).embeddings == TABLES - 4 * 7 + TAG_TOWER


def test_counting_again_gives_the_same_and_hidden_units_cost_the_same_each():
    model = InterestModel(SPEC, SIZES, 7, CONFIG, TrainingConfig())
    assert count_parameters(model) == count_parameters(model)
    narrow, middle, wide = (count(hidden_dim=width).without_embeddings for width in (10, 11, 14))
    assert wide - middle == 3 * (middle - narrow)


def test_click_head_counts_where_it_is_trained():
    with_head = InterestModel(SPEC, SIZES, 7, CONFIG, TrainingConfig(joint_weight=1.0))
    without = count(TrainingConfig(joint_weight=1.0))
    difference = count_parameters(with_head).without_embeddings - without.without_embeddings
    assert difference == 4 * 4
