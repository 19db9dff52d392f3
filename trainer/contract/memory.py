"""Memory in the second stage: a share of a user's score is what they have clicked themselves.

The towers say what a user may like; nothing in them counts exactly what the user has clicked. So
the shares of the user's own history are mixed in, after training ("repeat or explore": Ren et al.,
"RepeatNet", AAAI 2019; the mixture is that of pointer networks). A domain d that lists tags of
clicked events has the weights w_i of its values t_i, their sum n, and

    s_d(t) = sum of the w_i with t_i = t / n          lambda_d(n) = limit * n / (n + half_weight)

and the domains are mixed in one after another, beginning with the model's p:

    p <- (1 - lambda_d) p + lambda_d s_d

so that a share of p above 0 is left whatever the domains are. Tags that nobody knows count in n. An
empty history has lambda = 0, and so the model's score.

Here are the mixture in numpy and its description, which serving reads as well;
`trainer.evaluation.memory_choice` chooses it and `serving.servable.tag_memory` computes it in a
servable's graph.
"""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from trainer.contract.config_loader import require
from trainer.contract.features import TAG_VOCABULARY, FeatureSpec, weights_name
from trainer.contract.history import MIN_WEIGHT
from trainer.contract.list_column import ListValues


@dataclasses.dataclass(frozen=True)
class DomainMemory:
    """How much of the score one domain is.

    Attributes:
      domain: Its name.
      limit: lambda of an endless history, above 0 and at most 1.
      half_weight: Weight of a history that has half of `limit`; 0: every history has all of it,
        which is below 1 then.
    """

    domain: str
    limit: float = 1.0
    half_weight: float = 0.0

    def __post_init__(self):
        require(0 < self.limit <= 1, "limit", "be above 0 and at most 1", self.limit)
        require(self.half_weight >= 0, "half_weight", "be 0 or positive", self.half_weight)
        require(
            self.limit < 1 or self.half_weight > 0,
            "half_weight",
            "be positive where `limit` is 1",
            self.half_weight,
        )

    def share(self, total: np.ndarray) -> np.ndarray:
        """Lambda of histories of these total weights, float of the same shape."""
        total = np.asarray(total, np.float64)
        # An empty history has no share, also where every other one has the same.
        sizes = np.where(total > 0, total + self.half_weight, 1.0)
        return self.limit * total / sizes

    def rest(self, total: np.ndarray) -> np.ndarray:
        """1 - `share`, above 0: as a difference it would be 0 for the heaviest histories."""
        total = np.asarray(total, np.float64)
        sizes = np.where(total > 0, total + self.half_weight, 1.0)
        left = (total * (1.0 - self.limit) + self.half_weight) / sizes
        return np.where(total > 0, left, 1.0)


@dataclasses.dataclass(frozen=True)
class DomainShares:
    """What the histories of one domain say: pairs of a user and a tag, each once.

    Attributes:
      row_ids: int64 [num_pairs], places in the batch, ascending.
      tags: int64 [num_pairs], ascending within a user.
      shares: float64 [num_pairs], s, above 0.
      totals: float64 [batch], n.
    """

    row_ids: np.ndarray
    tags: np.ndarray
    shares: np.ndarray
    totals: np.ndarray


@dataclasses.dataclass(frozen=True)
class Remembered:
    """What the histories of some users say of tags: pairs of a user and a tag, each once.

    Attributes:
      row_ids: int64 [num_pairs], places in the batch, ascending.
      tags: int64 [num_pairs], ascending within a user.
      shares: float64 [num_pairs], above 0: the domains' shares of the tag, as they are mixed in.
      rest: float64 [batch], what is left to the model's; 1 for an empty history.
    """

    row_ids: np.ndarray
    tags: np.ndarray
    shares: np.ndarray
    rest: np.ndarray

    def unite(
        self, proposed: np.ndarray, num_tags: int
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The tags that the second stage orders, each once: those proposed, and the remembered.

        Args:
          proposed: int [batch, N], tags proposed by the first stage, distinct within a user.
          num_tags: Size of the vocabulary.

        Returns:
          Places in the batch, tags, and what memory adds to the share of each, [n], those proposed
          first, user by user.
        """
        rows = np.arange(len(proposed))[:, np.newaxis]
        first = (rows * num_tags + proposed).ravel()
        own = self.row_ids * num_tags + self.tags
        keys = np.concatenate([first, own[~np.isin(own, first)]])
        shares = np.zeros(len(keys))
        if len(own):
            places = np.minimum(np.searchsorted(own, keys), len(own) - 1)
            shares = np.where(own[places] == keys, self.shares[places], 0.0)
        return keys // num_tags, keys % num_tags, shares

    def log_mixture(
        self, log_shares: np.ndarray, row_ids: np.ndarray, shares: np.ndarray
    ) -> np.ndarray:
        """Logarithm of p', float64 [n], of the model's log p and memory's part of as many pairs."""
        with np.errstate(divide="ignore"):
            return np.logaddexp(np.log(self.rest)[row_ids] + log_shares, np.log(shares))


def describe_memory(memory: Sequence[DomainMemory]) -> str:
    """For people: by domain its lambda, n being the weight of the history; `none`."""
    if not memory:
        return "none"
    return ", ".join(
        f"{part.domain}: {part.limit:g}"
        + (f" n / (n + {part.half_weight:g})" if part.half_weight else "")
        for part in memory
    )


def memory_domains(spec: FeatureSpec) -> tuple[str, ...]:
    """The domains that memory may look at: tags of clicked events, in the tags' vocabulary."""
    return tuple(
        domain.name
        for domain in spec.domains
        if domain.attribute == "tags"
        and domain.events == "clicked"
        and domain.vocabulary_name == TAG_VOCABULARY
    )


def domain_weights(
    memory: Sequence[DomainMemory], totals: Mapping[str, np.ndarray]
) -> tuple[list[np.ndarray], np.ndarray]:
    """What each domain is of the mixture, and what is left to the model.

    Args:
      memory: The domains in the order in which they are mixed in.
      totals: By domain float [batch], n.

    Returns:
      For each domain float64 [batch], and float64 [batch]; they add up to 1.
    """
    rest = np.ones(1)
    weights: list[np.ndarray] = []
    # The last one has its lambda, the one before it that share of what the last one leaves.
    for part in reversed(memory):
        total = totals[part.domain]
        weights.insert(0, rest * part.share(total))
        rest = rest * part.rest(total)
    return weights, rest


def domain_shares(lists: Mapping[str, ListValues], domain: str, num_tags: int) -> DomainShares:
    """Shares of tags in the histories of one domain.

    Args:
      lists: By name of a domain its tags, and by `weights_name` of it their weights. Tags below 0,
        or not below `num_tags`, are unknown.
      domain: Its name.
      num_tags: Size of the vocabulary.

    Returns:
      Those of the tags that are known.
    """
    column = lists[domain]
    rows = column.row_ids
    # As served.
    weights = np.maximum(lists[weights_name(domain)].values.astype(np.float64), MIN_WEIGHT)
    totals = np.bincount(rows, weights, len(column.offsets) - 1)
    known = (column.values >= 0) & (column.values < num_tags)
    row_ids, tags, sums = _sums_of_pairs(
        rows[known], column.values[known], weights[known], num_tags
    )
    return DomainShares(row_ids, tags, sums / totals[row_ids], totals)


def remember(
    memory: Sequence[DomainMemory], lists: Mapping[str, ListValues], num_tags: int
) -> Remembered:
    """What the histories of some users say.

    Args:
      memory: The domains, at least one.
      lists: As `domain_shares` takes them.
      num_tags: Size of the vocabulary.

    Returns:
      The mixture's part of every tag in a history.
    """
    found = [domain_shares(lists, part.domain, num_tags) for part in memory]
    totals = {part.domain: own.totals for part, own in zip(memory, found, strict=True)}
    of_domains, rest = domain_weights(memory, totals)
    parts = [
        (own.row_ids, own.tags, own.shares * of_domain[own.row_ids])
        for own, of_domain in zip(found, of_domains, strict=True)
    ]
    row_ids, tags, shares = (np.concatenate(columns) for columns in zip(*parts, strict=True))
    return Remembered(*_sums_of_pairs(row_ids, tags, shares, num_tags), rest)


def _sums_of_pairs(
    row_ids: np.ndarray, tags: np.ndarray, values: np.ndarray, num_tags: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Every pair of row and tag once, ascending, with the sum of its values."""
    pairs, places = np.unique(row_ids * num_tags + tags, return_inverse=True)
    return pairs // num_tags, pairs % num_tags, np.bincount(places, values, len(pairs))
