"""What the client answers: typed, in plain Python values, and read from a signature's outputs."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from trainer.contract.signatures import (
    ATTENTION_BY_FEATURE,
    CLICK_LOGITS,
    CLICK_PROBABILITIES,
    CONTRIBUTIONS_BY_FEATURE,
    COUNT,
    EXPLAINED_TAG,
    FEATURES,
    MEMORY_CONTRIBUTION,
    PROBABILITIES,
    SCORE,
    SCORES,
    TAGS,
    attention_of,
    contributions_of,
)


@dataclasses.dataclass(frozen=True)
class TagProfile:
    """The tags that interest one user, best first.

    There are fewer than the model's k where too few are allowed, or likely enough.

    Attributes:
      tags: The tags.
      scores: The score of each.
      probabilities: The calibrated probability of each that the user will click it; None: the
        version is older than probabilities.
    """

    tags: tuple[str, ...]
    scores: tuple[float, ...]
    probabilities: tuple[float, ...] | None = None


@dataclasses.dataclass(frozen=True)
class Retrieval:
    """The answer of `retrieve`.

    Attributes:
      profiles: One for each instance, in order.
      model_version: The version that answered.
    """

    profiles: tuple[TagProfile, ...]
    model_version: int


@dataclasses.dataclass(frozen=True)
class ScoredTags:
    """How much named tags interest one user.

    Attributes:
      tags: The tags, in the order asked for.
      scores: The score of each, as in a profile; NaN: the model does not know the tag.
      probabilities: The calibrated probability of each; NaN likewise.
    """

    tags: tuple[str, ...]
    scores: tuple[float, ...]
    probabilities: tuple[float, ...]


@dataclasses.dataclass(frozen=True)
class TagScores:
    """The answer of `score_tags`.

    Attributes:
      users: One for each instance, in order.
      model_version: The version that answered.
    """

    users: tuple[ScoredTags, ...]
    model_version: int


@dataclasses.dataclass(frozen=True)
class ScoredItems:
    """How likely one user is to click items.

    Attributes:
      logits: Of a click on each item, in the order asked for; NaN: no click loss was trained.
      probabilities: The same, calibrated.
    """

    logits: tuple[float, ...]
    probabilities: tuple[float, ...]


@dataclasses.dataclass(frozen=True)
class ItemScores:
    """The answer of `score_items`.

    Attributes:
      users: One for each instance, in order.
      model_version: The version that answered.
    """

    users: tuple[ScoredItems, ...]
    model_version: int


@dataclasses.dataclass(frozen=True)
class ValueContribution:
    """What one value of a history does to the score of a tag.

    Attributes:
      domain: The domain it stands in.
      value: The value.
      contribution: The score less that of the same user without the value.
      attention: Its part of the domain's attention.
    """

    domain: str
    value: str
    contribution: float
    attention: float


@dataclasses.dataclass(frozen=True)
class FeatureContribution:
    """What one feature does to the score of a tag.

    Attributes:
      feature: A profile feature or a domain.
      contribution: The score less that of the same user with the feature unknown, or empty.
      attention: Its part of the tower's attention; equal parts where the tower has none.
    """

    feature: str
    contribution: float
    attention: float


@dataclasses.dataclass(frozen=True)
class TagExplanation:
    """Why a user's score of a tag is what it is.

    Attributes:
      tag: The tag.
      score: That of `retrieve`; NaN, as are the contributions: the model does not know the tag.
      values: The values of the user's histories, the largest contribution, up or down, first.
      features: Profile features and domains, in the model's order.
      memory: The score less that without memory of the user's own clicks; 0: the version has none.
    """

    tag: str
    score: float
    values: tuple[ValueContribution, ...]
    features: tuple[FeatureContribution, ...]
    memory: float = 0.0


@dataclasses.dataclass(frozen=True)
class Explanations:
    """The answer of `explain`.

    Attributes:
      explanations: One for each instance, in order.
      model_version: The version that answered.
    """

    explanations: tuple[TagExplanation, ...]
    model_version: int


@dataclasses.dataclass(frozen=True)
class TagNeighbours:
    """The tags nearest to one tag, the nearest first.

    Attributes:
      tag: The tag.
      tags: Its neighbours; none: the model does not know the tag, or serves it to nobody.
      scores: The cosine of each with the tag.
    """

    tag: str
    tags: tuple[str, ...]
    scores: tuple[float, ...]


@dataclasses.dataclass(frozen=True)
class SimilarTags:
    """The answer of `similar_tags`.

    Attributes:
      neighbours: Of each tag, in the order asked for.
      model_version: The version that answered.
    """

    neighbours: tuple[TagNeighbours, ...]
    model_version: int


@dataclasses.dataclass(frozen=True)
class Prediction:
    """The answer of `predict`.

    Attributes:
      outputs: Output name -> array; strings are object arrays of bytes.
      model_version: The version that answered.
    """

    outputs: dict[str, np.ndarray]
    model_version: int


@dataclasses.dataclass(frozen=True)
class ModelVersion:
    """What the server says of one version.

    Attributes:
      version: Its number.
      state: `START`, `LOADING`, `AVAILABLE`, `UNLOADING` or `END`.
      error: Why it did not load; empty without an error.
    """

    version: int
    state: str
    error: str = ""


def read_profiles(
    outputs: Mapping[str, np.ndarray], num_tags: int | None
) -> tuple[TagProfile, ...]:
    """Reads the outputs of `retrieve`: of each user the first `num_tags`, those found at most."""
    names = [name for name in (TAGS, SCORES, PROBABILITIES) if name in outputs]
    columns = {name: outputs[name][:, :num_tags].tolist() for name in names}
    probabilities = columns.get(PROBABILITIES) or [None] * len(columns[TAGS])
    profiles = []
    for tags, scores, row in zip(columns[TAGS], columns[SCORES], probabilities, strict=True):
        # Places that could not be filled are the last.
        count = len(scores) - scores.count(float("-inf"))
        profiles.append(
            TagProfile(
                tuple(map(bytes.decode, tags[:count])),
                tuple(scores[:count]),
                None if row is None else tuple(row[:count]),
            )
        )
    return tuple(profiles)


def read_tag_scores(
    outputs: Mapping[str, np.ndarray], tags: Sequence[Sequence[str]]
) -> tuple[ScoredTags, ...]:
    """Reads the outputs of `score_tags`, without what was padding."""
    rows = zip(tags, outputs[SCORES].tolist(), outputs[PROBABILITIES].tolist(), strict=True)
    return tuple(
        ScoredTags(tuple(asked), tuple(scores[: len(asked)]), tuple(probabilities[: len(asked)]))
        for asked, scores, probabilities in rows
    )


def read_item_scores(
    outputs: Mapping[str, np.ndarray], num_items: Sequence[int]
) -> tuple[ScoredItems, ...]:
    """Reads the outputs of `score_items`, without what was padding."""
    rows = zip(
        num_items,
        outputs[CLICK_LOGITS].tolist(),
        outputs[CLICK_PROBABILITIES].tolist(),
        strict=True,
    )
    return tuple(
        ScoredItems(tuple(logits[:count]), tuple(probabilities[:count]))
        for count, logits, probabilities in rows
    )


def read_neighbours(
    outputs: Mapping[str, np.ndarray], tags: Sequence[str], num_tags: int | None
) -> tuple[TagNeighbours, ...]:
    """Reads the outputs of `similar_tags`: of each tag the first `num_tags` that there are."""
    rows = zip(
        tags, outputs[COUNT].tolist(), outputs[TAGS].tolist(), outputs[SCORES].tolist(), strict=True
    )
    return tuple(
        TagNeighbours(
            asked,
            tuple(tag.decode() for tag in found[:count][:num_tags]),
            tuple(scores[:count][:num_tags]),
        )
        for asked, count, found, scores in rows
    )


def read_explanations(
    outputs: Mapping[str, np.ndarray], sent: Mapping[str, np.ndarray]
) -> tuple[TagExplanation, ...]:
    """Reads the outputs of `explain`, which lie beside the values that were sent."""
    names = [name.decode() for name in outputs[FEATURES][0]]
    domains = [name for name in names if contributions_of(name) in outputs]
    memory = outputs.get(MEMORY_CONTRIBUTION, np.zeros(len(sent[EXPLAINED_TAG])))
    explanations = []
    for row, tag in enumerate(sent[EXPLAINED_TAG]):
        values = [
            ValueContribution(domain, value.decode(), contribution, attention)
            for domain in domains
            for value, contribution, attention in zip(
                sent[domain][row],
                outputs[contributions_of(domain)][row].tolist(),
                outputs[attention_of(domain)][row].tolist(),
                strict=True,
            )
            if value
        ]
        by_feature = zip(
            names,
            outputs[CONTRIBUTIONS_BY_FEATURE][row].tolist(),
            outputs[ATTENTION_BY_FEATURE][row].tolist(),
            strict=True,
        )
        explanations.append(
            TagExplanation(
                tag.decode(),
                float(outputs[SCORE][row]),
                # NaN compares with nothing: without a score the values stay as they were sent.
                tuple(sorted(values, key=lambda value: -abs(value.contribution))),
                tuple(FeatureContribution(*feature) for feature in by_feature),
                float(memory[row]),
            )
        )
    return tuple(explanations)
