"""Makes a ScaNN servable of made-up tags whose user tower is a table, so that only search costs.

The vectors are a mixture of Gaussians with a bias as the last component, as in towers; a user's
vector is looked up by the one profile feature, `user`.
"""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.gaussian_mixture import GaussianMixture
from trainer.contract import signatures as s

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

    from serving.index.scann_index import ScannIndex, SearchParameters, default_num_leaves
    from serving.index.tuning import tune
    from serving.servable.export import export_servable
    from serving.servable.retrieval import TagRetrieval

    tf.random.set_seed(_SEED)
    num_leaves = default_num_leaves(len(made_up.vectors))
    index = ScannIndex(made_up.vectors, num_leaves, SearchParameters(num_leaves, NUM_CANDIDATES))
    tune(index, made_up.vectors, made_up.tuning, K, TARGET_RECALL, NUM_CANDIDATES)
    retrieval = TagRetrieval(
        _lookup_towers(made_up.vectors, made_up.queries),
        index,
        K,
        num_candidates=NUM_CANDIDATES,
        tag_categories=made_up.categories.tolist(),
    )
    description = {"index": {"kind": "scann", "num_tags": len(made_up.vectors)}}
    export_servable(retrieval, str(version_dir), description)


def _lookup_towers(vectors: np.ndarray, queries: np.ndarray) -> Any:
    """Makes towers with the signatures from which a servable is built."""
    import tensorflow as tf

    class LookupTowers(tf.Module):
        """Tables of vectors, and signatures that look them up."""

        def __init__(self):
            super().__init__()
            self.vectors, self.queries = tf.Variable(vectors), tf.Variable(queries)
            self.tags = tf.Variable([f"t{j}" for j in range(len(vectors))])
            signatures = self._make_signatures()
            # Behind a function, so that TensorFlow does not save each signature a second time.
            self._get_signatures = lambda: signatures

        @property
        def signatures(self) -> dict[str, Any]:
            return self._get_signatures()

        def _embed(self, users: tf.Tensor) -> tf.Tensor:
            # An empty user, as in a warm-up request, gets the first row.
            digits = tf.strings.regex_replace(users, "^$", "0")
            return tf.gather(self.queries, tf.strings.to_number(digits, tf.int32))

        def _score(self, embedded: tf.Tensor, tags: tf.Tensor) -> dict[str, tf.Tensor]:
            digits = tf.strings.regex_replace(tags, "^t?$|^t", "0")
            rows = tf.gather(self.vectors, tf.strings.to_number(digits, tf.int32))
            logits = tf.einsum("bd,bmd->bm", embedded, rows)
            return {s.SCORES: logits, s.MULTI_CLASS_LOGITS: logits}

        def _make_signatures(self) -> dict[str, Any]:
            user = tf.TensorSpec([None], tf.string, "user")
            examples = tf.TensorSpec([None], tf.string, s.EXAMPLES)
            tags = tf.TensorSpec([None, None], tf.string, s.CANDIDATE_TAGS)
            items = tf.TensorSpec([None, None, None], tf.string, s.ITEM_TAGS)
            embedded = tf.TensorSpec([None, queries.shape[1]], tf.float32, s.QUERY_EMBEDDINGS)

            def embed_examples(**inputs):
                spec = {"user": tf.io.FixedLenFeature([], tf.string, "")}
                parsed = tf.io.parse_example(inputs[s.EXAMPLES], spec)
                return {s.QUERY_EMBEDDINGS: self._embed(parsed["user"])}

            def candidates():
                table = self.vectors.value()
                return {
                    s.TAGS: self.tags.value(),
                    s.CANDIDATE_EMBEDDINGS: table,
                    s.RANKING_EMBEDDINGS: table,
                }

            def score_items(**inputs):
                logits = tf.zeros(tf.shape(inputs[s.ITEM_TAGS])[:2])
                return {s.CLICK_LOGITS: logits, s.CLICK_PROBABILITIES: tf.sigmoid(logits)}

            functions: Sequence[tuple[str, Callable[..., Any], list[Any]]] = (
                (s.EMBED_EXAMPLES, embed_examples, [examples]),
                (s.EMBED_USERS, lambda **i: {s.QUERY_EMBEDDINGS: self._embed(i["user"])}, [user]),
                (s.CANDIDATES, candidates, []),
                (
                    s.SCORE_TAGS,
                    lambda **i: self._score(self._embed(i["user"]), i[s.CANDIDATE_TAGS]),
                    [user, tags],
                ),
                (
                    s.SCORE_TAGS_BY_EMBEDDING,
                    lambda **i: self._score(i[s.QUERY_EMBEDDINGS], i[s.CANDIDATE_TAGS]),
                    [embedded, tags],
                ),
                (s.SCORE_ITEMS, score_items, [user, items]),
            )
            return {
                name: tf.function(function, autograph=False).get_concrete_function(
                    **{spec.name: spec for spec in specs}
                )
                for name, function, specs in functions
            }

    return LookupTowers()
