"""Whether batch predictions are the online answers, as far as an approximate index allows.

A user's vector depends on the shape of the batch in its last bit. Scores are exact for the vector,
but ScaNN may then look into another leaf and miss a tag near the end of a list: seen for one user
of 6,040 in one place of 100.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pytest

from serving.client import TagProfile

MIN_OVERLAP = 0.9  # of any user
MIN_MEAN_OVERLAP = 0.999


def assert_agreement(
    predictions: Sequence[Mapping[str, list]], profiles: Sequence[TagProfile]
) -> None:
    """Asserts that nearly all tags are the same, and every common tag has the same score."""
    overlaps = []
    for prediction, profile in zip(predictions, profiles, strict=True):
        batch = dict(zip(prediction["tags"], prediction["scores"], strict=True))
        online = {t: s for t, s in zip(profile.tags, profile.scores, strict=True) if t}
        common = sorted(batch.keys() & online.keys())
        overlaps.append(len(common) / len(online))
        assert [batch[tag] for tag in common] == pytest.approx(
            [online[tag] for tag in common], rel=1e-4, abs=1e-4
        )
    assert min(overlaps) >= MIN_OVERLAP
    assert np.mean(overlaps) >= MIN_MEAN_OVERLAP
