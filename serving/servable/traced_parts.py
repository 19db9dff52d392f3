"""What a servable saves once: parts of the graph that signatures share, and the towers' state."""

import dataclasses
from collections.abc import Callable
from typing import Any

import tensorflow as tf
from tensorflow.python.trackable.asset import Asset
from tensorflow.python.trackable.base import Trackable
from tensorflow.python.trackable.resource import CapturableResource


@dataclasses.dataclass(frozen=True)
class TracedOnce:
    """Parts of the computation that several signatures share, as functions in the saved graph.

    What is saved is loaded often: a part that stood in every signature would be read, and kept in
    memory, once for each of them.
    """

    read_history: Callable[..., tuple[tf.Tensor, ...]]
    propose: Callable[..., tuple[tf.Tensor, ...]]
    rank: Callable[..., dict[str, tf.Tensor]]


def state_of(towers: Any) -> list[Any]:
    """Returns the variables, tables and files that the towers' signatures read."""
    if not isinstance(towers, Trackable):  # functions without a state
        return []
    kinds = (tf.Variable, CapturableResource, Asset)  # a lookup table is such a resource
    found = tf.train.TrackableView(towers).descendants()
    return [part for part in found if isinstance(part, kinds)]
