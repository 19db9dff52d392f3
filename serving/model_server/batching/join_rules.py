"""Which requests of a signature may share a batch, from its tensors' shapes.

Row i of every output must depend on row i of the inputs alone. A SavedModel does not say so. The
table of signatures says it for those of this project; of others it is assumed, as TensorFlow
Serving does, unless a shape speaks against it.
"""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

from serving.model_server.errors import invalid_argument
from serving.model_server.session.signature import Signature, TensorSlot
from tagtower_client.signature_rows import Export, SignatureRow
from tagtower_client.signature_table import signatures_of
from trainer.contract.features import weights_name

Shape = tuple[int, ...]
# What two requests of one batch have in common: of each input the type and the sizes of its
# dimensions after the first, None where a batch pads them.
Form = tuple[tuple[int | None, ...], ...]


@dataclasses.dataclass(frozen=True)
class Rows:
    """The rows of a request that may join others.

    Attributes:
      number: Number of rows.
      form: What the requests of its batch have in common.
      widths: Sizes of each input's dimensions after the first.
    """

    number: int
    form: Form
    widths: tuple[Shape, ...]


class JoinRule:
    """The rule of one signature.

    Args:
      signature: Signature of a servable.
      pads: Whether inputs of different widths are padded to one width.

    Attributes:
      is_joined: Whether requests of the signature are joined at all.
    """

    def __init__(self, signature: Signature, pads: bool):
        inputs = list(signature.inputs.values())
        row = signatures_of(Export.SERVABLE).get(signature.name)
        self.is_joined = _is_row_wise(signature, row)
        # An output that has other open dimensions than the first may be as wide as an input is:
        # padding would change the caller's answer.
        keeps_shape = all(
            slot.shape is not None and min(slot.shape[1:], default=0) >= 0
            for slot in signature.outputs.values()
        )
        self._paddable = [_paddable(slot) if pads and keeps_shape else () for slot in inputs]
        self._equal = _equal_sizes(signature, row)

    def rows(self, feeds: Sequence[np.ndarray]) -> Rows | None:
        """Returns the rows of a request; None: the request must be computed alone.

        Args:
          feeds: Values of the signature's inputs, in order.

        Raises:
          ServingError: INVALID_ARGUMENT, with TensorFlow Serving's words, if an input has no
            dimension, or the inputs have different numbers of rows.
        """
        if not self.is_joined:
            return None
        shapes = [array.shape for array in feeds]
        if not all(shapes):
            raise invalid_argument("Batching Run() input tensors must have at least one dimension")
        number = shapes[0][0]
        if any(shape[0] != number for shape in shapes):
            raise invalid_argument(
                "Batching Run() input tensors must have equal 0th-dimension size"
            )
        if not number:
            return None
        for first, *others in self._equal:
            size = _size(shapes, first)
            if any(_size(shapes, other) != size for other in others):
                # The model refuses it; padded to one width it would be answered.
                return None
        form = tuple(
            tuple(
                None if axis in paddable else size for axis, size in enumerate(shape[1:], start=1)
            )
            for shape, paddable in zip(shapes, self._paddable, strict=True)
        )
        return Rows(number, form, tuple(shape[1:] for shape in shapes))


def _is_row_wise(signature: Signature, row: SignatureRow | None) -> bool:
    slots = [*signature.inputs.values(), *signature.outputs.values()]
    if not signature.inputs or any(
        slot.shape is not None and (not slot.shape or slot.shape[0] >= 0) for slot in slots
    ):
        return False
    if row is None:
        return True
    firsts = {tensor.shape[0] for tensor in (*row.inputs, *row.outputs) if tensor.shape}
    # An output whose shape the table does not give may be as wide as the widest of its neighbours.
    return len(firsts) <= 1 and all(tensor.shape for tensor in row.outputs)


def _paddable(slot: TensorSlot) -> tuple[int, ...]:
    """Returns the axes of an input whose sizes the signature leaves open, after the first."""
    return tuple(axis for axis, size in enumerate(slot.shape or ()) if axis and size < 0)


def _equal_sizes(signature: Signature, row: SignatureRow | None) -> list[list[tuple[int, int]]]:
    """Returns groups of dimensions that must have one size, as input's position and axis."""
    positions = {name: position for position, name in enumerate(signature.inputs)}
    groups = [
        [(position, 1), (positions[weights_name(name)], 1)]
        for name, position in positions.items()
        if weights_name(name) in signature.weights
    ]
    named: dict[str, list[tuple[int, int]]] = {}
    for tensor in row.inputs if row else ():
        for axis, symbol in enumerate(tensor.shape):
            if axis and tensor.name in positions:
                named.setdefault(symbol, []).append((positions[tensor.name], axis))
    return groups + [group for group in named.values() if len(group) > 1]


def _size(shapes: Sequence[Shape], dimension: tuple[int, int]) -> int:
    position, axis = dimension
    return shapes[position][axis] if axis < len(shapes[position]) else -1


def num_elements(number: int, widths: Sequence[Shape]) -> int:
    """Returns the number of values of all inputs together.

    Args:
      number: Number of rows.
      widths: Sizes of each input's dimensions after the first.
    """
    return number * sum(map(math.prod, widths))


def wider(first: tuple[Shape, ...], second: tuple[Shape, ...]) -> tuple[Shape, ...]:
    """Returns the widths to which the inputs of two requests of one form are padded."""
    if first == second:
        return first
    return tuple(
        one if one == other else tuple(map(max, one, other))
        for one, other in zip(first, second, strict=True)
    )
