"""The light client: typed requests to tagtower's model server or to TensorFlow Serving.

The client speaks TensorFlow Serving's public gRPC interface, so it works with both servers. It
needs gRPC, numpy and protobuf, but neither TensorFlow nor the rest of tagtower; it works beside
them as well.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tagtower_client.answers import (
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
        TagExplanation,
        TagNeighbours,
        TagProfile,
        TagScores,
        ValueContribution,
    )
    from tagtower_client.async_client import AsyncTagClient
    from tagtower_client.channel_security import ChannelSecurity
    from tagtower_client.errors import TagClientError
    from tagtower_client.sync_client import TagClient

__all__ = [
    "AsyncTagClient",
    "ChannelSecurity",
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

# The modules of the names that are not answers.
_MODULES = {
    "AsyncTagClient": "async_client",
    "ChannelSecurity": "channel_security",
    "TagClient": "sync_client",
    "TagClientError": "errors",
}


def __getattr__(name: str) -> object:
    """Imports a name when it is first asked for.

    The trainer takes the names of signatures from this package, and needs no gRPC for that.

    Args:
      name: Name in `__all__`.
    """
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = importlib.import_module(f"{__name__}.{_MODULES.get(name, 'answers')}")
    found: object = getattr(module, name)
    globals()[name] = found
    return found
