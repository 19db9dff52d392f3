"""The inputs and outputs of a signature, read once when a version is loaded."""

import dataclasses
from collections.abc import Mapping

from tensorflow.core.framework import tensor_pb2, tensor_shape_pb2, types_pb2
from tensorflow.core.protobuf import meta_graph_pb2

from trainer.contract.features import weights_name


@dataclasses.dataclass(frozen=True)
class TensorSlot:
    """One input or output of a signature.

    Attributes:
      name: Name that callers use.
      tensor_name: Name of the tensor in the graph, such as `serving_default_x:0`.
      data_type: Number of the tensor's DataType.
      is_batched: Whether the first dimension, that of the examples, may have any size.
      shape: Sizes of the dimensions, -1 where any size is allowed; None: any rank is allowed.
    """

    name: str
    tensor_name: str
    data_type: int
    is_batched: bool = True
    shape: tuple[int, ...] | None = None


@dataclasses.dataclass(frozen=True)
class Signature:
    """A named function of a SavedModel.

    Attributes:
      name: Name of the signature.
      inputs: Inputs by name, sorted by name, which is the order of the function's arguments.
      outputs: Outputs by name, sorted by name.
      feed_names: Tensor names of `inputs`, in order.
      defaults: Values of the inputs that a request may leave out, by name.
      weights: Names of the inputs that are weights of another input's strings.
    """

    name: str
    inputs: dict[str, TensorSlot]
    outputs: dict[str, TensorSlot]
    feed_names: tuple[str, ...]
    defaults: dict[str, tensor_pb2.TensorProto] = dataclasses.field(default_factory=dict)
    weights: tuple[str, ...] = ()

    @classmethod
    def from_definition(cls, name: str, definition: meta_graph_pb2.SignatureDef) -> "Signature":
        """Reads a signature of a SavedModel."""
        inputs = _slots(definition.inputs)
        return cls(
            name=name,
            inputs=inputs,
            outputs=_slots(definition.outputs),
            feed_names=tuple(slot.tensor_name for slot in inputs.values()),
            defaults=dict(definition.defaults.items()),
            weights=tuple(
                weights_name(name)
                for name, slot in inputs.items()
                if slot.data_type == types_pb2.DT_STRING and _is_float(inputs, weights_name(name))
            ),
        )


def _is_float(slots: dict[str, TensorSlot], name: str) -> bool:
    return name in slots and slots[name].data_type == types_pb2.DT_FLOAT


def _slots(tensors: Mapping[str, meta_graph_pb2.TensorInfo]) -> dict[str, TensorSlot]:
    return {
        name: TensorSlot(
            name,
            tensors[name].name,
            tensors[name].dtype,
            _is_open(tensors[name].tensor_shape),
            _sizes(tensors[name].tensor_shape),
        )
        for name in sorted(tensors)
    }


def _is_open(shape: tensor_shape_pb2.TensorShapeProto) -> bool:
    """Returns whether the first dimension has no fixed size, as in a shape of unknown rank."""
    return shape.unknown_rank or not shape.dim or shape.dim[0].size < 0


def _sizes(shape: tensor_shape_pb2.TensorShapeProto) -> tuple[int, ...] | None:
    return None if shape.unknown_rank else tuple(dimension.size for dimension in shape.dim)
