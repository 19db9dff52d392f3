"""EASE on tag counts: a linear model of tags by tags in closed form (Steck, arXiv 1905.03375).

With X [users, tags] the logarithms of the training users' counts, the B with zero diagonal that
minimises `|X - X B|^2 + regularization |B|^2` is

    P = (X'X + regularization I)^-1,  B = I - P diag(P)^-1,

and a user with the row x has the scores `x B`. Where there are fewer users than tags, P is never
computed: by the Woodbury identity, with K = X X' + regularization I [users, users],

    P = (I - X' K^-1 X) / regularization,

so that memory is quadratic in the smaller of both numbers. The model uses tags alone.
"""

import dataclasses

import numpy as np
from scipy import linalg, sparse

from trainer.contract.config_loader import require
from trainer.contract.metric_registry import NOVEL, PRECISION
from trainer.data.snapshots import Snapshots
from trainer.evaluation.figures import TagScorer, evaluate, users_at_once
from trainer.evaluation.tag_rows import history_rows, is_dense, log_counts

# Factors of the regularization: decades are tried first, then both sides of the best one.
_DECADES = tuple(10.0**power for power in range(-3, 4))
_BETWEEN = 10.0**0.5
# Limits of the validation users on whom a number is chosen, and of their scores: they bound time.
_MAX_VALIDATION_USERS = 2_000
_MIN_VALIDATION_USERS = 200
_MAX_VALIDATION_SCORES = 2**27
_BLOCK = 512  # number of rows that are multiplied as dense ones at once
# Parameters of the randomized decomposition (Halko et al., arXiv 0909.4061).
_OVERSAMPLING = 32
_POWER_ITERATIONS = 8
_EXACT_TAGS = 3_000
_EXACT_ENTRIES = 2**22  # largest matrix of rows by tags that is decomposed exactly
_THIN_MATRICES = 5  # matrices of tags by rank that are held at once


def ease_memory_bytes(num_users: int, num_tags: int, num_entries: int, rank: int = 0) -> int:
    """Estimates the peak memory of a fit and its factorisation.

    The estimate adds three matrices of double precision, quadratic in the smaller of both numbers
    (products, their inverse, and its working memory), a block of scores and of rows, the entries
    twice, and for a factorisation some matrices of tags by rank.

    Args:
      num_users: Number of training users.
      num_tags: Number of tags.
      num_entries: Number of pairs of a user and a tag that they clicked.
      rank: Rank of the factorisation; 0: there is none.

    Returns:
      Memory in bytes.
    """
    block = users_at_once(num_tags) * (num_tags + min(num_users, num_tags))
    fit = 24 * min(num_users, num_tags) ** 2 + 16 * block + 2 * 12 * num_entries
    thin = _THIN_MATRICES * 8 * num_tags * (rank + _OVERSAMPLING) if rank else 0
    return fit + thin


@dataclasses.dataclass(frozen=True)
class Ease:
    """A fitted EASE model.

    Attributes:
      regularization: Ridge penalty on every tag.
      rows: float64 [users, tags], log(1 + count) of the users on whom it was fitted.
      inverse: float64, P [tags, tags] where there are no more tags than users, else K^-1 [users,
        users].
      diagonal: float64 [tags], diagonal of P.
    """

    regularization: float
    rows: sparse.csr_matrix
    inverse: np.ndarray
    diagonal: np.ndarray

    @classmethod
    def fit(cls, rows: sparse.csr_matrix, regularization: float) -> "Ease":
        """Fits the model to training users.

        Args:
          rows: Sparse [users, tags], log(1 + count) of the training users.
          regularization: Ridge penalty on every tag, above 0.

        Returns:
          The fitted model.

        Raises:
          ValueError: There is no row, or the regularization is not positive.
        """
        require(regularization > 0, "regularization", "be positive", regularization)
        require(rows.shape[0] > 0, "rows", "have at least one user", rows.shape)
        rows = rows.astype(np.float64).tocsr()
        num_users, num_tags = rows.shape
        if num_tags <= num_users:
            inverse = _inverse(gram(rows), regularization)
            return cls(regularization, rows, inverse, np.diagonal(inverse).copy())
        inverse = _inverse(gram(rows.T.tocsr()), regularization)
        return cls(regularization, rows, inverse, _dual_diagonal(rows, inverse, regularization))

    @property
    def num_tags(self) -> int:
        """The number of tags."""
        return self.rows.shape[1]

    @property
    def is_dual(self) -> bool:
        """Whether `inverse` is K^-1 [users, users] and not P."""
        return self.num_tags > self.rows.shape[0]

    def scores(self, rows: sparse.csr_matrix) -> np.ndarray:
        """Computes scores of all tags.

        Args:
          rows: Sparse [n, tags], log(1 + count) of a chunk of users; it is made dense at once.

        Returns:
          float32 [n, tags], `rows B`.
        """
        dense = np.asarray(rows.todense(), np.float64)
        dense -= self._times_p(dense) / self.diagonal
        return dense.astype(np.float32)

    def times(self, matrix: np.ndarray) -> np.ndarray:
        """Computes `B matrix`, float64 [tags, m], of a float matrix [tags, m]."""
        # P is symmetric, so it may be multiplied from either side.
        scaled = np.asarray(matrix, np.float64) / self.diagonal[:, np.newaxis]
        return matrix - self._times_p(scaled.T).T

    def transposed_times(self, matrix: np.ndarray) -> np.ndarray:
        """Computes `B' matrix`, float64 [tags, m], of a float matrix [tags, m]."""
        matrix = np.asarray(matrix, np.float64)
        return matrix - self._times_p(matrix.T).T / self.diagonal[:, np.newaxis]

    def factorize(
        self, rank: int, rows: sparse.csr_matrix, seed: int = 0
    ) -> tuple[np.ndarray, np.ndarray]:
        """Approximates B by a product of two thin matrices, best on the rows of some users.

        With the singular value decomposition `rows B = U S V'`, T is the first columns of V and
        A = B T, so that `rows A T'` is the best approximation of `rows B` of that rank (Eckart and
        Young). Where both sides are large, V is found by subspace iterations from a fixed seed.

        Args:
          rank: Number of columns wanted; columns beyond n or the number of tags are 0.
          rows: Sparse [n, tags], log(1 + count) of the users whose predictions count.
          seed: Seed of the iterations.

        Returns:
          A float32 [tags, rank] and T float32 [tags, rank]. The columns of T are orthonormal, that
          with the largest singular value first; the largest entry of each is positive.

        Raises:
          ValueError: The rank is not positive.
        """
        require(rank >= 1, "rank", "be a positive integer", rank)
        rows = rows.astype(np.float64).tocsr()
        found = self._right_vectors(min(rank, *rows.shape), rows, seed)
        places = np.abs(found).argmax(axis=0)
        found *= np.where(found[places, np.arange(found.shape[1])] < 0, -1.0, 1.0)
        tags = np.zeros((self.num_tags, rank))
        tags[:, : found.shape[1]] = found
        return self.times(tags).astype(np.float32), tags.astype(np.float32)

    def _right_vectors(self, rank: int, rows: sparse.csr_matrix, seed: int) -> np.ndarray:
        """Computes the first right singular vectors of `rows B`, float64 [tags, rank]."""
        num_rows, num_tags = rows.shape
        is_small = num_tags <= _EXACT_TAGS or num_rows * num_tags <= _EXACT_ENTRIES
        if is_small or min(rows.shape) <= rank + _OVERSAMPLING:
            return self._exact_right_vectors(rank, rows)
        rng = np.random.default_rng(seed)
        basis = rng.standard_normal((self.num_tags, rank + _OVERSAMPLING))
        for _ in range(_POWER_ITERATIONS):
            basis, _ = np.linalg.qr(basis)
            basis = self.transposed_times(rows.T @ (rows @ self.times(basis)))
        basis, _ = np.linalg.qr(basis)
        _, _, rotation = np.linalg.svd(rows @ self.times(basis), full_matrices=False)
        return basis @ rotation[:rank].T

    def _exact_right_vectors(self, rank: int, rows: sparse.csr_matrix) -> np.ndarray:
        num_rows, num_tags = rows.shape
        if num_tags <= num_rows:
            # They are the eigenvectors of B' (rows' rows) B.
            product = self.transposed_times(gram(rows))
            product = self.transposed_times(product.T)
            _, vectors = linalg.eigh(product, subset_by_index=(num_tags - rank, num_tags - 1))
            return vectors[:, ::-1].copy()
        # Few rows: the left singular vectors of (rows B)', a matrix of tags by rows.
        predictions = self.transposed_times(np.asarray(rows.T.todense()))
        vectors, _, _ = np.linalg.svd(predictions, full_matrices=False)
        return vectors[:, :rank].copy()

    def _times_p(self, rows: np.ndarray) -> np.ndarray:
        """Computes `rows P`, float64 [n, tags]."""
        if not self.is_dual:
            return rows @ self.inverse
        # In products a sparse matrix must be on the left of a dense one.
        users = self.inverse @ (self.rows @ rows.T)
        return (rows - (self.rows.T @ users).T) / self.regularization


def gram(rows: sparse.csr_matrix) -> np.ndarray:
    """Computes `rows' rows`, float64 [columns, columns], in dense blocks if few entries are 0."""
    num_rows, num_columns = rows.shape
    if not is_dense(rows):
        return np.asarray((rows.T @ rows).todense(), np.float64)
    result = np.zeros((num_columns, num_columns))
    for first in range(0, num_rows, _BLOCK):
        block = np.asarray(rows[first : first + _BLOCK].todense(), np.float64)
        result += block.T @ block
    return result


def mean_square(rows: sparse.csr_matrix) -> float:
    """Computes the scale of a regularization: the mean diagonal of `rows' rows`; 1 if it is 0."""
    return float(rows.multiply(rows).sum() / rows.shape[1]) or 1.0


def ease_scorer(ease: Ease) -> TagScorer:
    """Returns a scorer of all tags by the users' uncapped histories."""

    def score(chunk: Snapshots) -> np.ndarray:
        return ease.scores(log_counts(history_rows(chunk, ease.num_tags)))

    return score


def deciding_users(validation: Snapshots, num_tags: int) -> Snapshots:
    """Returns as many validation users, at even distances, as suffice to choose a number."""
    num_users = validation.num_examples
    most = max(_MAX_VALIDATION_SCORES // num_tags, _MIN_VALIDATION_USERS)
    most = min(most, _MAX_VALIDATION_USERS)
    if num_users <= most:
        return validation
    chosen = np.linspace(0, num_users - 1, most).astype(np.int64)
    return validation.take(chosen)


def choose_ease(rows: sparse.csr_matrix, validation: Snapshots) -> Ease:
    """Fits EASE with the regularization that is best on validation users.

    Factors of `mean_square` from 0.001 to 1000 are tried, decades first. Novel P@10 decides (P@10
    where no user has a novel truth), and of equally good factors the largest is taken.

    Args:
      rows: Sparse [users, tags], log(1 + count) of the training users.
      validation: Snapshots of validation users, of which `deciding_users` are used.

    Returns:
      The fitted model.
    """
    validation = deciding_users(validation, rows.shape[1])
    scale = mean_square(rows)

    def quality(ease: Ease) -> float:
        figures = evaluate(ease_scorer(ease), validation, rows.shape[1], with_slices=False)
        novel = figures[PRECISION.at(10, NOVEL)]
        return (novel if novel is not None else figures[PRECISION.at(10)]) or 0.0

    best: tuple[float, float] = (-1.0, 0.0)
    best_fit: Ease | None = None

    def attempt(factor: float) -> None:
        nonlocal best, best_fit
        ease = Ease.fit(rows, factor * scale)
        if (found := (quality(ease), factor)) > best:
            best, best_fit = found, ease

    for factor in _DECADES:
        attempt(factor)
    decade = best[1]
    for factor in (decade / _BETWEEN, decade * _BETWEEN):
        attempt(factor)
    assert best_fit is not None
    return best_fit


def _inverse(matrix: np.ndarray, regularization: float) -> np.ndarray:
    """Inverts the positive definite matrix + regularization I in the matrix's own memory."""
    matrix[np.diag_indices_from(matrix)] += regularization
    # LAPACK stores columns; those of a symmetric matrix are its rows.
    lower, failed = linalg.lapack.dpotrf(matrix.T, lower=1, overwrite_a=1)
    require(failed == 0, "regularization", "be larger: the products are singular", regularization)
    inverse, _ = linalg.lapack.dpotri(lower, lower=1, overwrite_c=1)
    size = len(inverse)
    for first in range(0, size, _BLOCK):
        end = first + _BLOCK
        square = inverse[first:end, first:end]
        inverse[first:end, first:end] = np.tril(square) + np.tril(square, -1).T
        inverse[first:end, end:] = inverse[end:, first:end].T
    return inverse


def _dual_diagonal(
    rows: sparse.csr_matrix, inverse: np.ndarray, regularization: float
) -> np.ndarray:
    """Computes diag(P) = (1 - x_j' K^-1 x_j) / regularization for every column x_j of X, [tags]."""
    columns = rows.tocsc()
    # LAPACK's result is stored by columns. Transposed (it is symmetric) it is contiguous by rows
    # and need not be copied for every block.
    inverse = np.ascontiguousarray(inverse.T)
    products = np.empty(rows.shape[1])
    for first in range(0, rows.shape[1], _BLOCK):
        block = columns[:, first : first + _BLOCK].T.tocsr()  # [tags, users]
        solved = np.asarray(block @ inverse)
        # Only products of entries that are not 0 are added up.
        tags = np.repeat(np.arange(block.shape[0]), np.diff(block.indptr))
        parts = block.data * solved[tags, block.indices]
        products[first : first + _BLOCK] = np.bincount(tags, parts, block.shape[0])
    return (1 - products) / regularization
