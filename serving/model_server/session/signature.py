"""The inputs and outputs of one signature, looked up once when a version is loaded."""

import dataclasses

from tensorflow.core.framework import tensor_pb2, tensor_shape_pb2, types_pb2
from tensorflow.core.protobuf import meta_graph_pb2

from trainer.contract.features import weights_name


@dataclasses.dataclass(frozen=True)
class TensorSlot:
    """One input or output of a signature.

    Attributes:
      name: The name callers use.
      tensor_name: The tensor in the graph, such as `serving_default_x:0`.
      data_type: Number of its DataType.
      is_batched: Whether its first dimension may have any size: that of the examples.
    """

    name: str
    tensor_name: str
    data_type: int
    is_batched: bool = True


@dataclasses.dataclass(frozen=True)
class Signature:
    """A named function of a SavedModel.

    Attributes:
      name: Its name.
      inputs: By name, in the order of their names, which is the order of the function's arguments.
      outputs: The same of the outputs.
      feed_names: The tensors of `inputs`, in order.
      defaults: Values of the inputs that a request may leave out.
      weights: Names of the inputs that are weights of another one's strings.
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


def _slots(tensors) -> dict[str, TensorSlot]:
    return {
        name: TensorSlot(
            name, tensors[name].name, tensors[name].dtype, _is_open(tensors[name].tensor_shape)
        )
        for name in sorted(tensors)
    }


def _is_open(shape: tensor_shape_pb2.TensorShapeProto) -> bool:
    """Whether the first dimension is nowhere said; a shape that is not known is so, too."""
    return shape.unknown_rank or not shape.dim or shape.dim[0].size < 0
