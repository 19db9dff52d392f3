"""Planted precision, computed by hand."""

import json

import pytest

from tfx_pipeline.datasets.planted import planted_precision, read_planted


def _row(user_id, interests, cross=(), num_events=9):
    return {
        "user_id": user_id,
        "interests": list(interests),
        "cross_interests": list(cross),
        "is_cold": num_events < 5,
        "num_events": num_events,
    }


PLANTED = [_row("u", "ab", "c"), _row("v", "de"), _row("w", "f", num_events=0), _row("x", "g")]


def test_precision_is_over_as_many_tags_as_are_planted():
    served = {"u": ["a", "z", "c", "b"], "v": ["e", "d"]}
    score = planted_precision(served, PLANTED, num_tags=10)
    assert score.precision == pytest.approx((2 / 3 + 1) / 2)
    assert score.random == pytest.approx((0.3 + 0.2) / 2)
    assert score.interests_found == pytest.approx((1 / 2 + 1) / 2)
    assert score.cross_interests_found == 1
    assert (score.num_users, score.num_users_without_events) == (2, 0)


def test_short_and_repetitive_lists_count_as_wrong():
    served = {"u": ["a"], "v": ["d", "d"]}
    score = planted_precision(served, PLANTED, num_tags=10)
    assert score.precision == pytest.approx((1 / 3 + 1 / 2) / 2)


def test_users_without_events_are_left_out_and_counted():
    score = planted_precision({"v": ["d", "e"], "w": ["f"]}, PLANTED, num_tags=10)
    assert score.precision == 1
    assert (score.num_users, score.num_users_without_events) == (1, 1)
    assert score.cross_interests_found is None


def test_nobody_to_score_is_none_and_not_zero():
    score = planted_precision({"w": ["f"]}, PLANTED, num_tags=10)
    assert (score.precision, score.random, score.interests_found) == (None, None, None)


def test_user_that_was_not_planted_is_refused():
    with pytest.raises(ValueError, match="`served` must .* 'stranger'"):
        planted_precision({"stranger": ["a"]}, PLANTED, num_tags=10)


def test_no_tags_at_all_is_refused():
    with pytest.raises(ValueError, match="`num_tags` must be a positive integer"):
        planted_precision({}, PLANTED, num_tags=0)


def test_planted_file_is_read_row_by_row(tmp_path):
    path = tmp_path / "planted.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in PLANTED))
    assert list(read_planted(str(path))) == PLANTED
