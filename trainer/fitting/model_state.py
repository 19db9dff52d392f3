"""The state that training changes, as arrays by name: a model's weights and its optimizer's slots.

A name is the path of attributes to the variable, such as `user_tower.last.kernel`. It is the same
in every process, and says more to a reader than the variable's own name, which need not be unique.
"""

import dataclasses
import io
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras

from trainer.contract.file_system import open_file
from trainer.contract.whole_files import WholeFile
from trainer.model import InterestModel

Arrays = dict[str, np.ndarray]

# Names in a file: prefixes of arrays, and the name of the other content, JSON in UTF-8.
_WEIGHTS, _SLOTS = "weights/", "slots/"
_REST = "json"


def named_weights(model: InterestModel) -> dict[str, tf.Variable]:
    """Returns the weights of a model, trainable or not, by name.

    Args:
      model: A model whose variables exist; variables of its metrics are left out.

    Returns:
      The variables by name, in the order of `model.weights`.
    """
    paths = {id(variable): path for path, variable in model.get_weight_paths().items()}
    counters = {id(variable) for metric in model.metrics for variable in metric.variables}
    return {paths[id(v)]: v for v in model.weights if id(v) not in counters}


def named_slots(model: InterestModel) -> dict[str, dict[str, tf.Variable]]:
    """Returns the slots of a model's optimizer for each weight, for example Adam's `momentums`.

    Args:
      model: A model whose optimizer is one of Keras 2, built for the trainable variables: it keeps
        each kind of slot as a list in their order.

    Returns:
      Slots by their kind and by the name of the weight.
    """
    names = {id(variable): name for name, variable in named_weights(model).items()}
    variables = model.trainable_variables
    found = {}
    for attribute, value in vars(model.optimizer).items():
        if _is_slot_list(value, variables):
            pairs = zip(variables, value, strict=True)
            found[attribute.strip("_")] = {names[id(v)]: slot for v, slot in pairs}
    return found


def _is_slot_list(value: object, variables: Sequence[tf.Variable]) -> bool:
    if not isinstance(value, Sequence) or isinstance(value, str) or len(value) != len(variables):
        return False
    pairs = zip(value, variables, strict=True)
    return all(isinstance(v, tf.Variable) and v.shape == of.shape for v, of in pairs)


@dataclasses.dataclass(frozen=True)
class ModelState:
    """The state of a model and its optimizer after some step.

    Attributes:
      weights: Weights by name.
      slots: Slots by their kind and the name of the weight.
      iterations: Number of steps that the optimizer has taken.
    """

    weights: Arrays
    slots: dict[str, Arrays]
    iterations: int

    @classmethod
    def of(cls, model: InterestModel) -> "ModelState":
        """Copies the state of a compiled model.

        Args:
          model: Model whose optimizer is built. Under a strategy of several processes all of them
            must call this at the same step: variables that each replica keeps for itself are
            averaged.

        Returns:
          The state, as copies.
        """
        return cls(
            weights=copy_weights(model),
            slots={
                kind: {name: np.array(slot) for name, slot in slots.items()}
                for kind, slots in named_slots(model).items()
            },
            iterations=int(model.optimizer.iterations.numpy()),
        )

    def assign_to(self, model: InterestModel) -> None:
        """Sets a model of the same shapes and with the same kind of optimizer to this state."""
        assign_weights(model, self.weights)
        for kind, slots in named_slots(model).items():
            for name, slot in slots.items():
                slot.assign(self.slots[kind][name])
        model.optimizer.iterations.assign(self.iterations)

    def to_arrays(self) -> Arrays:
        """Returns all arrays as one mapping, for a file."""
        arrays = {_WEIGHTS + name: value for name, value in self.weights.items()}
        for kind, slots in self.slots.items():
            arrays |= {f"{_SLOTS}{kind}/{name}": value for name, value in slots.items()}
        arrays["iterations"] = np.array(self.iterations)
        return arrays

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> "ModelState":
        """Builds the state from the mapping of `to_arrays`; other arrays are ignored."""
        slots: dict[str, Arrays] = {}
        for key, value in arrays.items():
            if key.startswith(_SLOTS):
                kind, _, name = key.removeprefix(_SLOTS).partition("/")
                slots.setdefault(kind, {})[name] = value
        return cls(with_prefix(arrays, _WEIGHTS), slots, int(arrays["iterations"]))


def with_prefix(arrays: Mapping[str, np.ndarray], prefix: str) -> Arrays:
    """Returns the arrays whose names have a prefix, by the rest of the name."""
    return {k.removeprefix(prefix): v for k, v in arrays.items() if k.startswith(prefix)}


def copy_weights(model: InterestModel, into: Arrays | None = None) -> Arrays:
    """Copies a model's weights.

    Args:
      model: The model.
      into: Arrays of an earlier copy, which are overwritten; None or empty: new arrays.

    Returns:
      The copies by name.
    """
    weights = named_weights(model)
    if not into:
        return {name: np.array(variable) for name, variable in weights.items()}
    for name, variable in weights.items():
        np.copyto(into[name], variable.numpy())
    return into


def assign_weights(model: InterestModel, weights: Mapping[str, np.ndarray]) -> None:
    """Sets all weights of a model."""
    for name, variable in named_weights(model).items():
        variable.assign(weights[name])


def build_optimizer(model: InterestModel, optimizer: tf_keras.optimizers.Optimizer) -> None:
    """Gives a built model an optimizer with fresh slots."""
    model.compile(optimizer=optimizer)
    optimizer.build(model.trainable_variables)


def write_arrays(path: str, arrays: Mapping[str, np.ndarray], rest: Any) -> None:
    """Writes arrays and a JSON value into one file, whole or not at all.

    A process that is killed meanwhile leaves an earlier file unchanged.

    Args:
      path: Path of the file.
      arrays: Arrays by name.
      rest: A value that JSON can hold.
    """
    text = np.frombuffer(json.dumps(rest).encode(), np.uint8)
    with WholeFile(path, "wb") as file:
        np.savez(_Stream(file), **{**arrays, _REST: text})


def read_arrays(path: str) -> tuple[Arrays, Any]:
    """Reads the arrays and the JSON value that `write_arrays` wrote."""
    with open_file(path, "rb") as file, np.load(file) as stored:
        arrays = {name: stored[name] for name in stored.files}
    return arrays, json.loads(arrays.pop(_REST).tobytes())


class _Stream(io.RawIOBase):
    """Wraps a file being written for numpy: a stream that cannot seek."""

    def __init__(self, file: WholeFile):
        super().__init__()
        self._file = file

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        # After an error, such as a full disk, numpy's archive writes once more when it is deleted.
        if not self._file.file.closed:
            self._file.write(bytes(data))
        return len(data)

    def flush(self) -> None:
        pass  # closing flushes
