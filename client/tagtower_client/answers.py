"""Typed answers of the client, in plain Python values, and how they are read from outputs."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from tagtower_client.feature_tensors import FeatureValue
from tagtower_client.signatures import (
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
    weights_name,
)


@dataclasses.dataclass(frozen=True)
class TagProfile:
    """The ranked tags of one user, best first.

    There are fewer than the model's k tags if fewer are allowed, or if fewer reach the minimum
    probability.

    Attributes:
      tags: Tag names, best first.
      scores: Score of each tag.
      probabilities: Calibrated probability of each tag that the user will click it; None if the
        version is so old that it gives no probabilities.
    """

    tags: tuple[str, ...]
    scores: tuple[float, ...]
    probabilities: tuple[float, ...] | None = None


@dataclasses.dataclass(frozen=True)
class Retrieval:
    """The answer to a call of `retrieve`.

    Attributes:
      profiles: Ranked tags of each instance, in the order of the instances.
      model_version: Number of the version that answered.
    """

    profiles: tuple[TagProfile, ...]
    model_version: int


@dataclasses.dataclass(frozen=True)
class ScoredTags:
    """Scores of the tags that a caller named, for one user.

    Attributes:
      tags: Tag names, in the order of the request.
      scores: Score of each tag, the same as that of `retrieve`; NaN if the model does not know the
        tag.
      probabilities: Calibrated probability of each tag; NaN if the model does not know the tag.
    """

    tags: tuple[str, ...]
    scores: tuple[float, ...]
    probabilities: tuple[float, ...]


@dataclasses.dataclass(frozen=True)
class TagScores:
    """The answer to a call of `score_tags`.

    Attributes:
      users: Scored tags of each instance, in the order of the instances.
      model_version: Number of the version that answered.
    """

    users: tuple[ScoredTags, ...]
    model_version: int


@dataclasses.dataclass(frozen=True)
class ScoredItems:
    """Click logits and probabilities of items, for one user.

    Attributes:
      logits: Click logit of each item, in the order of the request; NaN if the model was trained
        without a click loss.
      probabilities: Calibrated click probability of each item; NaN if the logit is NaN.
    """

    logits: tuple[float, ...]
    probabilities: tuple[float, ...]


@dataclasses.dataclass(frozen=True)
class ItemScores:
    """The answer to a call of `score_items`.

    Attributes:
      users: Scored items of each instance, in the order of the instances.
      model_version: Number of the version that answered.
    """

    users: tuple[ScoredItems, ...]
    model_version: int


@dataclasses.dataclass(frozen=True)
class ValueContribution:
    """The contribution of one value of a user's history to the score of a tag.

    Attributes:
      domain: Name of the domain that lists the value.
      value: The value, for example a tag or a category.
      contribution: Score of the user minus the score of the same user without the value.
      attention: Share of the domain's attention that the value receives.
    """

    domain: str
    value: str
    contribution: float
    attention: float


@dataclasses.dataclass(frozen=True)
class FeatureContribution:
    """The contribution of one feature to the score of a tag.

    Attributes:
      feature: Name of a profile feature or of a domain.
      contribution: Score of the user minus the score of the same user with the feature unknown or
        empty.
      attention: Share of the tower's attention that the feature receives; all shares are equal if
        the tower has no attention.
    """

    feature: str
    contribution: float
    attention: float


@dataclasses.dataclass(frozen=True)
class TagExplanation:
    """The explanation of a user's score of one tag.

    Attributes:
      tag: Name of the tag.
      score: Score of the tag, the same as that of `retrieve`; NaN, like all contributions, if the
        model does not know the tag.
      values: Contributions of the values of the user's histories, largest absolute value first.
      features: Contributions of profile features and domains, in the model's order.
      memory: Score minus the score without memory of the user's own clicks; 0 if the version has
        no memory.
    """

    tag: str
    score: float
    values: tuple[ValueContribution, ...]
    features: tuple[FeatureContribution, ...]
    memory: float = 0.0


@dataclasses.dataclass(frozen=True)
class Explanations:
    """The answer to a call of `explain`.

    Attributes:
      explanations: Explanation for each instance, in the order of the instances.
      model_version: Number of the version that answered.
    """

    explanations: tuple[TagExplanation, ...]
    model_version: int


@dataclasses.dataclass(frozen=True)
class TagNeighbours:
    """The tags nearest to one tag, nearest first.

    Attributes:
      tag: Name of the tag.
      tags: Names of its neighbours; empty if the model does not know the tag or never serves it.
      scores: Cosine similarity of each neighbour with the tag.
    """

    tag: str
    tags: tuple[str, ...]
    scores: tuple[float, ...]


@dataclasses.dataclass(frozen=True)
class SimilarTags:
    """The answer to a call of `similar_tags`.

    Attributes:
      neighbours: Neighbours of each tag, in the order of the request.
      model_version: Number of the version that answered.
    """

    neighbours: tuple[TagNeighbours, ...]
    model_version: int


@dataclasses.dataclass(frozen=True)
class EventInstances:
    """The answer to a call of `event_features`.

    Attributes:
      instances: Features by name of each user, as the other calls take them, in the order of the
        users.
      model_version: Number of the version that computed them.
    """

    instances: tuple[dict[str, FeatureValue], ...]
    model_version: int


@dataclasses.dataclass(frozen=True)
class Prediction:
    """The answer to a call of `predict`.

    Attributes:
      outputs: Arrays by output name; strings are object arrays of bytes.
      model_version: Number of the version that answered.
    """

    outputs: dict[str, np.ndarray]
    model_version: int


@dataclasses.dataclass(frozen=True)
class ModelVersion:
    """The state of one version, as the server reports it.

    Attributes:
      version: Number of the version.
      state: `START`, `LOADING`, `AVAILABLE`, `UNLOADING` or `END`.
      error: Message that says why the version did not load; empty without an error.
    """

    version: int
    state: str
    error: str = ""


def read_profiles(
    outputs: Mapping[str, np.ndarray], num_tags: int | None
) -> tuple[TagProfile, ...]:
    """Reads the outputs of `retrieve`: for each user at most `num_tags` of the tags found."""
    names = [name for name in (TAGS, SCORES, PROBABILITIES) if name in outputs]
    columns = {name: outputs[name][:, :num_tags].tolist() for name in names}
    probabilities = columns.get(PROBABILITIES) or [None] * len(columns[TAGS])
    profiles = []
    for tags, scores, row in _rows(columns[TAGS], columns[SCORES], probabilities):
        # Places that could not be filled have the score -inf and come last.
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
    """Reads the outputs of `score_tags` and drops the padding."""
    rows = _rows(tags, outputs[SCORES].tolist(), outputs[PROBABILITIES].tolist())
    return tuple(
        ScoredTags(tuple(asked), tuple(scores[: len(asked)]), tuple(probabilities[: len(asked)]))
        for asked, scores, probabilities in rows
    )


def read_item_scores(
    outputs: Mapping[str, np.ndarray], num_items: Sequence[int]
) -> tuple[ScoredItems, ...]:
    """Reads the outputs of `score_items` and drops the padding."""
    rows = _rows(num_items, outputs[CLICK_LOGITS].tolist(), outputs[CLICK_PROBABILITIES].tolist())
    return tuple(
        ScoredItems(tuple(logits[:count]), tuple(probabilities[:count]))
        for count, logits, probabilities in rows
    )


def read_neighbours(
    outputs: Mapping[str, np.ndarray], tags: Sequence[str], num_tags: int | None
) -> tuple[TagNeighbours, ...]:
    """Reads the outputs of `similar_tags`: for each tag at most `num_tags` neighbours."""
    rows = _rows(tags, outputs[COUNT].tolist(), outputs[TAGS].tolist(), outputs[SCORES].tolist())
    return tuple(
        TagNeighbours(
            asked,
            tuple(tag.decode() for tag in found[:count][:num_tags]),
            tuple(scores[:count][:num_tags]),
        )
        for asked, count, found, scores in rows
    )


def read_instances(
    outputs: Mapping[str, np.ndarray],
) -> tuple[dict[str, FeatureValue], ...]:
    """Reads the outputs of `event_features`: raw features, whose lists lose their padding."""
    instances: list[dict[str, FeatureValue]] = [{} for _ in next(iter(outputs.values()), ())]
    weights = {weights_name(name) for name in outputs}
    for name, array in outputs.items():
        if name in weights:
            continue
        of_values = outputs.get(weights_name(name))
        for row, (instance, values) in enumerate(zip(instances, array.tolist())):
            if array.ndim == 1:
                instance[name] = values.decode() if isinstance(values, bytes) else values
                continue
            kept = [place for place, value in enumerate(values) if value]
            instance[name] = [values[place].decode() for place in kept]
            if of_values is not None:
                instance[weights_name(name)] = of_values[row, kept].tolist()
    return tuple(instances)


def read_explanations(
    outputs: Mapping[str, np.ndarray], sent: Mapping[str, np.ndarray]
) -> tuple[TagExplanation, ...]:
    """Reads the outputs of `explain`, which have the positions of the values that were sent."""
    names = [name.decode() for name in outputs[FEATURES][0]]
    domains = [name for name in names if contributions_of(name) in outputs]
    memory = outputs.get(MEMORY_CONTRIBUTION, np.zeros(len(sent[EXPLAINED_TAG])))
    explanations = []
    for row, tag in enumerate(sent[EXPLAINED_TAG]):
        values = [
            ValueContribution(domain, value.decode(), contribution, attention)
            for domain in domains
            for value, contribution, attention in _rows(
                sent[domain][row].tolist(),
                outputs[contributions_of(domain)][row].tolist(),
                outputs[attention_of(domain)][row].tolist(),
            )
            if value
        ]
        by_feature = _rows(
            names,
            outputs[CONTRIBUTIONS_BY_FEATURE][row].tolist(),
            outputs[ATTENTION_BY_FEATURE][row].tolist(),
        )
        explanations.append(
            TagExplanation(
                tag.decode(),
                float(outputs[SCORE][row]),
                # NaN compares with nothing: without a score the values keep the order sent.
                tuple(sorted(values, key=lambda value: -abs(value.contribution))),
                tuple(FeatureContribution(*feature) for feature in by_feature),
                float(memory[row]),
            )
        )
    return tuple(explanations)


def _rows(*columns: Sequence[Any]) -> Iterator[tuple[Any, ...]]:
    """Returns the rows of columns, which must be of one length: `zip` checks that since 3.10."""
    lengths = [len(column) for column in columns]
    if len(set(lengths)) > 1:
        raise ValueError(
            f"`outputs` must have a row for each row of the request. Received: {lengths}."
        )
    return zip(*columns)
