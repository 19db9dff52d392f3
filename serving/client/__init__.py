"""What a caller imports: typed requests to the model server, or to TensorFlow Serving itself.

It speaks the public gRPC interface, so it works against either, and imports no TensorFlow: half a
second instead of ten. `EventFeatures` makes features out of a user's events.
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
