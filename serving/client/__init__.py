"""The Python client: typed requests to this project's model server or to TensorFlow Serving.

The client speaks the public gRPC interface, so it works with both servers. It does not import
TensorFlow, so its import takes half a second instead of ten. `EventFeatures` computes features from
a user's events.
"""

from serving.client.answers import (
    Explanations,
    FeatureContribution,
    ItemScores,
    ModelVersion,
    Prediction,
    Retrieval,
    ScoredItems,
    ScoredTags,
    SimilarTags,
    TagExplanation,
    TagNeighbours,
    TagProfile,
    TagScores,
    ValueContribution,
)
from serving.client.async_client import AsyncTagClient
from serving.client.channel_security import ChannelSecurity
from serving.client.errors import TagClientError
from serving.client.fresh_events import EventFeatures
from serving.client.sync_client import TagClient

__all__ = [
    "AsyncTagClient",
    "ChannelSecurity",
    "EventFeatures",
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
