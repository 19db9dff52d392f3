"""Makes a ScaNN servable of made-up tags whose user tower is a table, so that only search costs.

The vectors are a mixture of Gaussians with a bias as the last component, as in towers; a user's
vector is looked up by the one profile feature, `user`.
"""

import dataclasses
from pathlib import Path

import numpy as np

from benchmarks.gaussian_mixture import GaussianMixture

DIMENSION = 64
K = 100
NUM_CANDIDATES = 200  # the default of `ranking.num_candidates`
TARGET_RECALL = 0.98

_BIAS_SPREAD = 0.1
_SEED = 0
_NUM_TUNING_QUERIES = 512


@dataclasses.dataclass(frozen=True)
class MadeUpTags:
    """Made-up tags with categories, and users.

    Attributes:
      vectors: float32 [num_tags, DIMENSION + 1], vectors of the tags; tag `t<j>` has row j.
      categories: Category of each tag. `half` has the tags on one side of the space: users on the
        other side have hardly any of them in their lists. `hundredth` has one tag in a hundred,
        anywhere.
      queries: float32 [num_users, DIMENSION + 1], vectors of the users; user `<i>` has row i.
      tuning: float32 [num_users, DIMENSION + 1], vectors of other users, for tuning.
    """

    vectors: np.ndarray
    categories: np.ndarray
    queries: np.ndarray
    tuning: np.ndarray

    @classmethod
    def draw(cls, num_tags: int, num_users: int) -> "MadeUpTags":
        """Draws tags and users, which depend on the two numbers alone."""
        mixture = GaussianMixture.for_tags(num_tags, DIMENSION, _SEED)
        rng = np.random.default_rng(_SEED)
        directions = mixture.draw(num_tags)
        bias = _BIAS_SPREAD * rng.standard_normal((num_tags, 1), dtype=np.float32)
        is_half = directions[:, 0] > np.median(directions[:, 0])
        categories = np.where(is_half, "half", "rest").astype(object)
        categories[rng.random(num_tags) < 0.01] = "hundredth"
        queries, tuning = (
            np.pad(mixture.draw(num), [(0, 0), (0, 1)], constant_values=1)
            for num in (num_users, _NUM_TUNING_QUERIES)
        )
        return cls(np.concatenate([directions, bias], axis=1), categories, queries, tuning)


def export_lookup_servable(made_up: MadeUpTags, version_dir: Path) -> None:
    """Builds and tunes an index as a run does, and writes the servable."""
    import tensorflow as tf

    from benchmarks.lookup_towers import LookupTowers
    from serving.index.scann_index import ScannIndex, SearchParameters, default_num_leaves
    from serving.index.tuning import tune
    from serving.servable.export import export_servable
    from serving.servable.retrieval import TagRetrieval

    tf.random.set_seed(_SEED)
    num_leaves = default_num_leaves(len(made_up.vectors))
    index = ScannIndex(made_up.vectors, num_leaves, SearchParameters(num_leaves, NUM_CANDIDATES))
    num_candidates = min(NUM_CANDIDATES, len(made_up.vectors))
    tune(index, made_up.vectors, made_up.tuning, K, TARGET_RECALL, num_candidates)
    retrieval = TagRetrieval(
        LookupTowers(made_up.vectors, made_up.queries),
        index,
        K,
        num_candidates=num_candidates,
        tag_categories=made_up.categories.tolist(),
    )
    description = {"index": {"kind": "scann", "num_tags": len(made_up.vectors)}}
    export_servable(retrieval, str(version_dir), description)
