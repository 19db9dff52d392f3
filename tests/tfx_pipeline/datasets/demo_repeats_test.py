"""Users who repeat clicks, and users who never do, checked by loops."""

import numpy as np
import pytest

from tfx_pipeline.datasets.demo_repeats import drop_repeated_clicks, repeat_clicks


def events(seed, num_users=60, num_items=500, rate=0.4):
    rng = np.random.default_rng(seed)
    user = np.sort(rng.integers(0, num_users, 3000))
    return user, rng.integers(0, num_items, 3000), rng.random(3000) < rate


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_share_of_clicks_goes_to_items_of_earlier_ones(share):
    user, item, clicked = events(0, num_items=10**9)

    changed = repeat_clicks(user, item, clicked, share, np.random.default_rng(1))

    np.testing.assert_array_equal(changed[~clicked], item[~clicked])
    num_later = num_repeats = 0
    for one in range(60):
        earlier, own = set(), clicked & (user == one)
        for drawn, found in zip(item[own], changed[own], strict=True):
            if earlier:
                num_later += 1
                num_repeats += found in earlier
            assert found == drawn or found in earlier
            earlier.add(found)
    assert num_repeats / num_later == pytest.approx(share, abs=0.04)


def test_log_without_clicks_has_nothing_to_repeat():
    user, item, clicked = events(0, rate=0.0)
    rng = np.random.default_rng(1)
    np.testing.assert_array_equal(repeat_clicks(user, item, clicked, 0.5, rng), item)


def test_clicks_with_a_tag_clicked_before_become_skips():
    user, _, clicked = events(2)
    tags = np.random.default_rng(3).integers(-1, 80, (3000, 4))

    kept = drop_repeated_clicks(user, tags, clicked, 80)

    seen = [set() for _ in range(60)]
    for one, row, was, found in zip(user, tags, clicked, kept, strict=True):
        own = set(row[row >= 0].tolist())
        assert found == (was and not own & seen[one])
        if found:
            seen[one] |= own
    assert 0 < kept.sum() < clicked.sum()


def test_no_event_is_no_fault():
    nothing = np.zeros(0, int)
    assert not len(drop_repeated_clicks(nothing, np.zeros((0, 3), int), nothing.astype(bool), 5))
    assert not len(
        repeat_clicks(nothing, nothing, nothing.astype(bool), 0.5, np.random.default_rng(0))
    )
