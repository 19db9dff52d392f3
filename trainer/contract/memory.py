"""Memory in the second stage: a part of the score is the share of a tag in the user's history.

The towers predict what a user may like; nothing in them counts exactly what the user has clicked.
So the shares of the user's own history are mixed in after training ("repeat or explore": Ren et
al., "RepeatNet", AAAI 2019; the mixture is that of pointer networks). A domain d that lists tags of
clicked events has the weights w_i of its values t_i, their sum n, and

    s_d(t) = sum of the w_i with t_i = t / n          lambda_d(n) = limit * n / (n + half_weight)

and the domains are mixed in one after another, beginning with p of the model:

    p <- (1 - lambda_d) p + lambda_d s_d

so that the model always keeps a share above 0. Tags out of vocabulary count in n. An empty history
has lambda = 0, hence the model's score.

This module has the mixture in numpy and its description, which serving reads as well;
`trainer.evaluation.memory_choice` chooses the parameters, and `serving.servable.tag_memory`
computes the mixture in a servable's graph.
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
    """Parameters of one domain's share lambda in the score.

    Attributes:
      domain: Name of the domain.
      limit: lambda of an endless history, above 0 and at most 1.
      half_weight: Weight of a history whose lambda is half of `limit`; 0: every history has
        lambda = `limit`, which must then be below 1.
    """

    domain: str
    limit: float = 1.0
    half_weight: float = 0.0

    def __post_init__(self) -> None:
        require(0 < self.limit <= 1, "limit", "be above 0 and at most 1", self.limit)
        require(self.half_weight >= 0, "half_weight", "be 0 or positive", self.half_weight)
        require(
            self.limit < 1 or self.half_weight > 0,
            "half_weight",
            "be positive where `limit` is 1",
            self.half_weight,
        )

    def share(self, total: np.ndarray) -> np.ndarray:
        """Computes lambda of histories with these total weights, float of the same shape."""
        total = np.asarray(total, np.float64)
        # An empty history has the share 0, also where all others have the same share.
        sizes = np.where(total > 0, total + self.half_weight, 1.0)
        return self.limit * total / sizes

    def rest(self, total: np.ndarray) -> np.ndarray:
        """Computes 1 - `share`, above 0; a difference would be 0 for the heaviest histories."""
        total = np.asarray(total, np.float64)
        sizes = np.where(total > 0, total + self.half_weight, 1.0)
        left = (total * (1.0 - self.limit) + self.half_weight) / sizes
        return np.where(total > 0, left, 1.0)


@dataclasses.dataclass(frozen=True)
class DomainShares:
    """Shares of tags in users' histories of one domain, as distinct pairs of a user and a tag.

    Attributes:
      row_ids: int64 [num_pairs], users' places in the batch, ascending.
      tags: int64 [num_pairs], ids of tags, ascending within a user.
      shares: float64 [num_pairs], s, shares of the tags in the history, above 0.
      totals: float64 [batch], n, total weights of the histories.
    """

    row_ids: np.ndarray
    tags: np.ndarray
    shares: np.ndarray
    totals: np.ndarray


@dataclasses.dataclass(frozen=True)
class Remembered:
    """Memory's part of the mixture for some users, as distinct pairs of a user and a tag.

    Attributes:
      row_ids: int64 [num_pairs], users' places in the batch, ascending.
      tags: int64 [num_pairs], ids of tags, ascending within a user.
      shares: float64 [num_pairs], shares that memory adds to the tags, above 0.
      rest: float64 [batch], weight of the model's share; 1 for an empty history.
    """

    row_ids: np.ndarray
    tags: np.ndarray
    shares: np.ndarray
    rest: np.ndarray

    def unite(
        self, proposed: np.ndarray, num_tags: int
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Unites the tags that the first stage proposes with those of the history.

        Args:
          proposed: int [batch, N], tags proposed by the first stage, distinct within a user.
          num_tags: Size of the vocabulary.

        Returns:
          Places in the batch, tags, and shares that memory adds to them, each [n], without
          repetition; first the proposed tags, user by user, then the others.
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
        """Computes the logarithm of the mixture, float64 [n], from log p and memory's shares."""
        with np.errstate(divide="ignore"):
            return np.logaddexp(np.log(self.rest)[row_ids] + log_shares, np.log(shares))


def describe_memory(memory: Sequence[DomainMemory]) -> str:
    """Describes the memory for people: lambda of each domain for a history of weight n; `none`."""
    if not memory:
        return "none"
    return ", ".join(
        f"{part.domain}: {part.limit:g}"
        + (f" n / (n + {part.half_weight:g})" if part.half_weight else "")
        for part in memory
    )


def memory_domains(spec: FeatureSpec) -> tuple[str, ...]:
    """Returns the domains that memory may use: tags of clicked events, in the tags' vocabulary."""
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
    """Computes the weights of the domains and of the model in the mixture.

    Args:
      memory: The domains in the order in which they are mixed in.
      totals: float [batch] by domain, n, total weights of the histories.

    Returns:
      The weights of each domain, float64 [batch], and those of the model, float64 [batch]; they add
      up to 1.
    """
    rest = np.ones(1)
    weights: list[np.ndarray] = []
    # The last domain has its lambda, the one before it its lambda of what the last one leaves.
    for part in reversed(memory):
        total = totals[part.domain]
        weights.insert(0, rest * part.share(total))
        rest = rest * part.rest(total)
    return weights, rest


def domain_shares(lists: Mapping[str, ListValues], domain: str, num_tags: int) -> DomainShares:
    """Computes the shares of tags in the histories of one domain.

    Args:
      lists: Tags by the domain's name, and their weights by its `weights_name`. Tags below 0, or
        not below `num_tags`, are unknown.
      domain: Name of the domain.
      num_tags: Size of the vocabulary.

    Returns:
      Shares of the known tags; unknown tags count in the totals alone.
    """
    column = lists[domain]
    rows = column.row_ids
    # The servable raises weights to the same bound.
    weights = np.maximum(lists[weights_name(domain)].values.astype(np.float64), MIN_WEIGHT)
    totals = np.bincount(rows, weights, len(column.offsets) - 1)
    known = column.is_known(num_tags)
    row_ids, tags, sums = _sums_of_pairs(
        rows[known], column.values[known], weights[known], num_tags
    )
    return DomainShares(row_ids, tags, sums / totals[row_ids], totals)


def remember(
    memory: Sequence[DomainMemory], lists: Mapping[str, ListValues], num_tags: int
) -> Remembered:
    """Computes memory's part of the mixture for some users.

    Args:
      memory: The domains, at least one, in the order in which they are mixed in.
      lists: Tags and weights of the domains, as `domain_shares` takes them.
      num_tags: Size of the vocabulary.

    Returns:
      The share that memory adds to every tag in a history, and the weight left to the model.
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
    """Returns the distinct pairs of row and tag, ascending, with the sums of their values."""
    pairs, places = np.unique(row_ids * num_tags + tags, return_inverse=True)
    return pairs // num_tags, pairs % num_tags, np.bincount(places, values, len(pairs))
