"""Limits on the cost of a Predict request, checked before its tensors are expanded.

A tensor's shape may claim more than the message holds. One value may stand for all elements of the
shape (`*_val` repeats its last value), so that a few hundred bytes can claim millions of users; and
a string of two bytes in a message takes hundreds in the model, which looks it up and embeds it.
Therefore the claimed sizes are compared with the values in the message, and summed over all inputs,
before any tensor is read.
"""

import dataclasses
import math
from collections.abc import Mapping

import numpy as np
from tensorflow.core.framework import tensor_pb2, types_pb2

from serving.model_server.errors import ServingError, invalid_argument
from serving.model_server.session.signature import Signature
from tagtower_client.event_rows import FLAT_EVENTS
from tagtower_client.signatures import EVENT_FEATURES_FLAT, RETRIEVE_EVENTS_FLAT
from tagtower_client.tensor_proto import is_readable, num_values

MAX_BATCH_SIZE = 4096
# Strings of all inputs together, padding included: 800 users with 2,400 values each. A string costs
# a model about 300 bytes: the string, its id, its embedding.
MAX_STRINGS = 2**21
# Bytes of all elements that the shapes claim and the message does not hold, over all inputs.
MAX_REPEATED_BYTES = 16 << 20
# A shape with more elements is invalid.
_MOST_ELEMENTS = 2**63 - 1
# Size of TensorFlow's string object, without the bytes that it points to.
_STRING_BYTES = 24


# Inputs whose first dimension is open and counts events or tags, not users.
_NOT_BY_USER = frozenset(
    (signature, row.name)
    for signature in (RETRIEVE_EVENTS_FLAT, EVENT_FEATURES_FLAT)
    for row in FLAT_EVENTS
    if row.shape[:1] in (("events",), ("values",))
)


@dataclasses.dataclass(frozen=True)
class RequestLimits:
    """Limits on the cost of one Predict request.

    Attributes:
      max_batch_size: Maximum size of an input's first dimension, if the signature leaves it open.
      max_strings: Maximum number of strings of all inputs together, padding included.
      max_repeated_bytes: Maximum size of all elements that a message claims and does not hold.
    """

    max_batch_size: int = MAX_BATCH_SIZE
    max_strings: int = MAX_STRINGS
    max_repeated_bytes: int = MAX_REPEATED_BYTES

    def check_tensors(
        self, signature: Signature, tensors: Mapping[str, tensor_pb2.TensorProto]
    ) -> None:
        """Refuses a request that claims too much; reads only shapes and lengths.

        Args:
          signature: Signature that is called.
          tensors: Tensors of the request by input name; unknown names and invalid shapes are
            ignored here, and refused later.

        Raises:
          ServingError: INVALID_ARGUMENT, with the claimed size and the flag or the limit.
        """
        num_strings = repeated_bytes = 0
        for name, tensor in tensors.items():
            shape = [dimension.size for dimension in tensor.tensor_shape.dim]
            size = math.prod(shape)
            is_shape = all(length >= 0 for length in shape) and size <= _MOST_ELEMENTS
            if name not in signature.inputs or not is_shape:
                continue
            self._check_batch(signature, name, shape)
            if tensor.dtype == types_pb2.DT_STRING:
                num_strings += size
            if tensor.tensor_content or not is_readable(tensor.dtype):
                continue  # it must fit its shape exactly, or is refused later for its type
            carried = num_values(tensor)
            if carried >= size:
                continue
            if shape and shape[0] > max(carried, 1):
                raise invalid_argument(
                    f"`{name}` must have a value for each of its {shape[0]} examples: values are "
                    f"repeated only within an example. Received: {carried} values."
                )
            repeated_bytes += (size - carried) * _element_bytes(tensor)
        self._check_strings(num_strings)
        if repeated_bytes > self.max_repeated_bytes:
            raise invalid_argument(
                "Shapes must not span more than "
                f"{self.max_repeated_bytes} bytes that the message does not hold. "
                f"Received: {repeated_bytes}."
            )

    def check_arrays(self, signature: Signature, arrays: Mapping[str, np.ndarray]) -> None:
        """Refuses arrays that are too large; for values that are already read, as from JSON.

        Args:
          signature: Signature that is called.
          arrays: Arrays by input name.

        Raises:
          ServingError: INVALID_ARGUMENT, with the size and the limit.
        """
        num_strings = 0
        for name, array in arrays.items():
            self._check_batch(signature, name, array.shape)
            if array.dtype == object:
                num_strings += array.size
        self._check_strings(num_strings)

    def check_examples(self, num_examples: int, context_bytes: int) -> None:
        """Refuses too many examples, or a context that is too large to be repeated in each.

        Args:
          num_examples: Number of the request's examples.
          context_bytes: Size of the context that is part of each of them.

        Raises:
          ServingError: INVALID_ARGUMENT, with the size and the limit.
        """
        if num_examples > self.max_batch_size:
            raise _too_large("max_batch_size", self.max_batch_size, "input", num_examples)
        repeated_bytes = context_bytes * (num_examples - 1)
        if repeated_bytes > self.max_repeated_bytes:
            raise invalid_argument(
                f"A context must not take more than {self.max_repeated_bytes} bytes in all further "
                f"examples. Received: {repeated_bytes}."
            )

    def check_rows(self, signature: Signature, rows: object) -> None:
        """Refuses too many `instances` of a JSON body, before any of them is read.

        Args:
          signature: Signature that is called.
          rows: Value of `instances`; anything but a list is ignored here, and refused later.

        Raises:
          ServingError: INVALID_ARGUMENT, with the size and the limit.
        """
        for name in signature.inputs if isinstance(rows, list) else ():
            self._check_batch(signature, name, (len(rows),))  # type: ignore[arg-type]

    def _check_batch(
        self, signature: Signature, name: str, shape: list[int] | tuple[int, ...]
    ) -> None:
        if (signature.name, name) in _NOT_BY_USER:
            return
        if shape and signature.inputs[name].is_batched and shape[0] > self.max_batch_size:
            raise _too_large("max_batch_size", self.max_batch_size, name, shape[0])

    def _check_strings(self, num_strings: int) -> None:
        if num_strings > self.max_strings:
            raise invalid_argument(
                f"A request must not have more than {self.max_strings} strings, padding included. "
                f"Received: {num_strings}."
            )


def _too_large(flag: str, limit: int, name: str, size: int) -> ServingError:
    return invalid_argument(
        f"`{name}` must have at most --{flag}={limit} examples. Received: {size}. "
        "Ask for them in several requests."
    )


def _element_bytes(tensor: tensor_pb2.TensorProto) -> int:
    """Returns the size of one repeated element; a string has its own copy of the bytes."""
    if tensor.dtype == types_pb2.DT_STRING:
        return _STRING_BYTES + (len(tensor.string_val[-1]) if tensor.string_val else 0)
    return 16  # the largest number type, a complex number of two doubles
