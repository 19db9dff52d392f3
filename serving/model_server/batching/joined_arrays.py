"""The inputs of a batch from those of its requests, and the outputs of each request from its."""

from collections.abc import Sequence

import grpc
import numpy as np

from serving.model_server.batching.join_rules import Shape
from serving.model_server.errors import ServingError


def join_inputs(
    requests: Sequence[Sequence[np.ndarray]], widths: Sequence[Shape], num_added: int
) -> list[np.ndarray]:
    """Joins the inputs of requests, one below the other.

    Inputs of different widths are padded with `""`, 0 and false, which mean "nothing" in lists of
    this project. TensorFlow Serving pads with the first value of a tensor.

    Args:
      requests: Values of the inputs of each request.
      widths: Sizes of each input's dimensions after the first, in the batch.
      num_added: Number of rows to add at the end, copies of the first row of the last request.

    Returns:
      The values of the inputs of the batch.
    """
    return [
        _join([feeds[position] for feeds in requests], width, num_added)
        for position, width in enumerate(widths)
    ]


def _join(parts: list[np.ndarray], width: Shape, num_added: int) -> np.ndarray:
    if num_added:
        parts = [*parts, np.repeat(parts[-1][:1], num_added, axis=0)]
    if len(parts) == 1:
        return parts[0]
    if all(part.shape[1:] == width for part in parts):
        return np.concatenate(parts)
    dtype = parts[0].dtype
    joined: np.ndarray = np.full(
        (sum(len(part) for part in parts), *width), b"" if dtype.hasobject else 0, dtype
    )
    start = 0
    for part in parts:
        end = start + len(part)
        place = (slice(start, end), *map(slice, part.shape[1:]))
        joined[place] = part
        start = end
    return joined


def check_outputs(values: Sequence[np.ndarray | bytes], num_rows: int) -> None:
    """Refuses outputs that do not have one value for each row of their batch.

    Args:
      values: Values of the outputs.
      num_rows: Rows of the batch.

    Raises:
      ServingError: FAILED_PRECONDITION, with TensorFlow Serving's words.
    """
    for value in values:
        # A session returns a string of rank 0 as bytes.
        shape = () if isinstance(value, bytes) else value.shape
        if not shape:
            raise ServingError(
                grpc.StatusCode.FAILED_PRECONDITION, "Batched output tensor has 0 dimensions"
            )
        if shape[0] != num_rows:
            raise ServingError(
                grpc.StatusCode.FAILED_PRECONDITION,
                "Batched output tensor's 0th dimension does not equal the sum of the 0th dimension "
                "sizes of the input tensors",
            )
