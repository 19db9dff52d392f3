"""When two answers of one version are the same: but for rounding."""

from collections.abc import Mapping, Sequence
from typing import Any

import pytest


def assert_equal_order(found: Mapping[str, Any], tags: Sequence[str], scores: Sequence[float]):
    """The same tags in the same places; those of one score may change theirs.

    Batches of other sizes add up in another order, so scores agree to six digits, and two tags that
    the log tells apart by nothing else may swap.

    Args:
      found: `tags` and `scores` of one user.
      tags: What is expected.
      scores: As well.
    """
    expected = dict(zip(tags, scores, strict=True))
    for tag, score in zip(found["tags"], found["scores"], strict=True):
        # The last one may have been left out for another of the same score.
        assert score == pytest.approx(expected.get(tag, scores[-1]), rel=1e-5, abs=1e-5), tag
