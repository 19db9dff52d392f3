"""Widths with equal parameter counts: on straight lines, on others, and on real towers."""

import dataclasses

import numpy as np
import pytest

from tests.trainer.toy_training import NUM_TAGS, SHORT, SMALL, SPEC, snapshots
from tfx_pipeline.study.grid.budgets import Width, is_matched, match_width
from tfx_pipeline.study.trials.examples import StudyExamples
from tfx_pipeline.study.trials.training import parameters_of
from trainer.contract.features import profile_vocabulary_name
from trainer.towers.tag_views import TagAttributes


def nearest(count, target, max_width=10_000):
    """Returns the nearest width by trying every one; the narrower of two equally near ones."""
    return min(range(1, max_width + 1), key=lambda width: (abs(count(width) - target), width))


COUNTS = {
    "line": lambda width: 1000 + 37 * width,
    "square": lambda width: 10 + 3 * width * width,
    "steps": lambda width: 100 * (width // 8) + width,
    "late": lambda width: width + max(0, width - 900) * 5000,
}


@pytest.mark.parametrize("name", COUNTS)
@pytest.mark.parametrize("target", [1_040, 1_055, 20_000, 100_003])
@pytest.mark.parametrize("start", [1, 16, 700])
def test_width_is_the_nearest_of_all(name, target, start):
    count = COUNTS[name]

    width = match_width(count, target, start)

    assert width == Width(nearest(count, target), count(nearest(count, target)))


def test_straight_line_is_asked_seldom():
    asked = []

    def count(width):
        asked.append(width)
        return 5_000 + 161 * width

    assert match_width(count, 1_000_000, start=512).hidden_dim == 6180
    assert len(asked) <= 12
    assert len(set(asked)) == len(asked)


def test_tower_that_is_too_large_at_any_width_gets_the_narrowest():
    width = match_width(lambda width: 9_000 + width, 500)

    assert width == Width(1, 9_001)
    assert not is_matched(width, 500)


def test_tower_that_cannot_grow_stays_at_the_widest_that_is_looked_at():
    width = match_width(lambda width: 7, 500, start=4, max_width=64)

    assert width == Width(64, 7)
    assert not is_matched(width, 500)


def test_match_is_within_two_per_cent():
    assert is_matched(Width(1, 1_020), 1_000)
    assert is_matched(Width(1, 980), 1_000)
    assert not is_matched(Width(1, 1_021), 1_000)


@pytest.mark.parametrize(
    ("arguments", "named"), [((0, 4), "`target`"), ((9, 0), "`start`"), ((9, 1 << 20), "`start`")]
)
def test_impossible_arguments_are_refused(arguments, named):
    with pytest.raises(ValueError, match=named):
        match_width(COUNTS["line"], *arguments)


@pytest.fixture(scope="module")
def examples():
    return StudyExamples(
        SPEC,
        {"tags": NUM_TAGS + 1, profile_vocabulary_name("segment"): 4},
        TagAttributes(tuple(map(str, range(NUM_TAGS))), ("",) * NUM_TAGS),
        np.ones(NUM_TAGS),
        {"train": snapshots(4)},
        np.arange(float(NUM_TAGS)),
    )


@pytest.mark.parametrize("interaction", ["youtube_dnn", "afm", "nfm", "dcn", "autoint"])
def test_towers_reach_the_parameters_of_the_reference(interaction, examples):
    target = parameters_of(examples, dataclasses.replace(SMALL, hidden_dim=400), SHORT)
    tower = dataclasses.replace(SMALL, interaction=interaction)

    width = match_width(
        lambda hidden_dim: parameters_of(
            examples, dataclasses.replace(tower, hidden_dim=hidden_dim), SHORT
        ),
        target,
        tower.hidden_dim,
    )

    assert is_matched(width, target)
    made = dataclasses.replace(tower, hidden_dim=width.hidden_dim)
    assert parameters_of(examples, made, SHORT) == width.parameters
