"""The baseline of user neighbours: tags that the most similar training users have clicked.

The similarity of two users is the cosine of their rows of log(1 + count). Each of the most similar
users adds their shares of clicks, times the similarity. Nothing is trained.
"""

import numpy as np
from scipy import sparse

from trainer.contract.batches import slices
from trainer.contract.features import USER_ID
from trainer.data.snapshots import Snapshots
from trainer.evaluation.figures import TagScorer
from trainer.evaluation.metrics import top_k
from trainer.evaluation.tag_rows import history_rows, is_dense, log_counts

NUM_NEIGHBOURS = 50
_MAX_LIKENESSES = 2**24  # similarities held at once, users times training users
_BLOCK = 512


class Neighbours:
    """The training users among whom neighbours are searched."""

    def __init__(
        self,
        counts: sparse.csr_matrix,
        user_ids: np.ndarray,
        num_neighbours: int = NUM_NEIGHBOURS,
    ):
        """Initializes with the training users.

        Args:
          counts: Sparse [num_users, num_tags], clicks of the training users.
          user_ids: Array [num_users], ids of the training users, so that no user is their own
            neighbour.
          num_neighbours: Number of neighbours that add their shares.
        """
        self._unit_rows = _scaled(log_counts(counts), norm=2)
        self._shares = _scaled(counts, norm=1)
        self._places = {user: place for place, user in enumerate(user_ids.tolist())}
        self._num_neighbours = num_neighbours

    def scores(self, counts: sparse.csr_matrix, user_ids: np.ndarray) -> np.ndarray:
        """Computes scores of all tags.

        Args:
          counts: Sparse [n, num_tags], clicks of the users to be scored.
          user_ids: Array [n], ids of these users.

        Returns:
          float64 [n, num_tags]; zeros for users without a known tag, who have no neighbours.
        """
        at_once = max(1, _MAX_LIKENESSES // self._shares.shape[0])
        return np.concatenate(
            [
                self._scores(counts[rows], user_ids[rows])
                for rows in slices(counts.shape[0], at_once)
            ]
        )

    def scorer(self) -> TagScorer:
        """Returns a scorer of all tags by the users' uncapped histories."""

        def score(chunk: Snapshots) -> np.ndarray:
            counts = history_rows(chunk, self._shares.shape[1])
            return self.scores(counts, chunk.scalars[USER_ID])

        return score

    def _scores(self, counts: sparse.csr_matrix, user_ids: np.ndarray) -> np.ndarray:
        likeness = self._likeness(_scaled(log_counts(counts), norm=2))
        for row, user in enumerate(user_ids.tolist()):
            if user in self._places:
                likeness[row, self._places[user]] = 0.0
        nearest = top_k(likeness, self._num_neighbours)
        rows = np.repeat(np.arange(len(nearest)), nearest.shape[1])
        values = np.take_along_axis(likeness, nearest, axis=1)
        weights = sparse.csr_matrix((values.ravel(), (rows, nearest.ravel())), likeness.shape)
        return np.asarray((weights @ self._shares).todense())

    def _likeness(self, rows: sparse.csr_matrix) -> np.ndarray:
        """Computes the cosines of all pairs, float64 [n, num_users]."""
        if not is_dense(self._unit_rows):
            return np.asarray((rows @ self._unit_rows.T).todense())
        dense = np.asarray(rows.todense())
        result = np.empty((rows.shape[0], self._unit_rows.shape[0]))
        for users in slices(result.shape[1], _BLOCK):
            block = np.asarray(self._unit_rows[users].todense())
            result[:, users] = dense @ block.T
        return result


def _scaled(rows: sparse.csr_matrix, norm: int) -> sparse.csr_matrix:
    """Scales rows to length 1 by the L1 or L2 norm; rows of zeros do not change."""
    powers = rows.power(norm).sum(axis=1)
    lengths = np.asarray(powers, np.float64).ravel() ** (1 / norm)
    factors = np.divide(1.0, lengths, out=np.zeros_like(lengths), where=lengths > 0)
    return sparse.csr_matrix(sparse.diags(factors) @ rows)
