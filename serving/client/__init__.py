"""The Python client: `tagtower_client`, and features computed in Python from a user's events.

The client is a distribution of its own, which needs no TensorFlow. Only `EventFeatures` is made
here: it reads a version's description and follows this project's rules.
"""

from serving.client.fresh_events import EventFeatures
from tagtower_client import (
    AsyncTagClient,
    ChannelSecurity,
    EventInstances,
    Explanations,
    FeatureContribution,
    ItemScores,
    ModelVersion,
    Prediction,
    Retrieval,
    ScoredItems,
    ScoredTags,
    SimilarTags,
    TagClient,
    TagClientError,
    TagExplanation,
    TagNeighbours,
    TagProfile,
    TagScores,
    ValueContribution,
)

__all__ = [
    "AsyncTagClient",
    "ChannelSecurity",
    "EventFeatures",
    "EventInstances",
    "Explanations",
    "FeatureContribution",
    "ItemScores",
    "ModelVersion",
    "Prediction",
    "Retrieval",
    "ScoredItems",
    "ScoredTags",
    "SimilarTags",
    "TagClient",
    "TagClientError",
    "TagExplanation",
    "TagNeighbours",
    "TagProfile",
    "TagScores",
    "ValueContribution",
]
