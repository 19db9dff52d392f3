"""Compares two answers of one version, which may differ by rounding."""

from collections.abc import Mapping, Sequence
from typing import Any

import pytest


def assert_equal_order(found: Mapping[str, Any], tags: Sequence[str], scores: Sequence[float]):
    """Checks for the same tags in the same places; tags of equal scores may swap.

    Batches of other sizes add up in another order, so scores agree to six digits, and two tags that
    the log tells apart by nothing else may swap.

    Args:
      found: `tags` and `scores` of one user.
      tags: Expected tags of the user, best first.
      scores: Expected scores of these tags.
    """
    expected = dict(zip(tags, scores, strict=True))
    for tag, score in zip(found["tags"], found["scores"], strict=True):
        # The last one may be missing in favour of another with the same score.
        assert score == pytest.approx(expected.get(tag, scores[-1]), rel=1e-5, abs=1e-5), tag
