"""Signatures as TensorFlow's functions: inputs from the table of signatures, outputs checked by it.

What is saved can thus not differ from `tagtower_client.signature_table`, from which callers and
the documentation take names, types and shapes.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import tensorflow as tf

from tagtower_client.signature_rows import Export, Kind, SignatureRow, TensorRow, present
from tagtower_client.signature_table import signatures_of
from trainer.contract.config_loader import require
from trainer.contract.features import weights_name


@dataclasses.dataclass(frozen=True)
class SignatureMaker:
    """Makes the signatures of one export.

    Attributes:
      export: The SavedModel that gets them.
      users: Specifications of the raw features, by name, see `raw_features.raw_signature`.
      sizes: Sizes of the dimensions that the model fixes, by their name in the table.
      properties: What the model has, `signature_rows.WITH_...`.
    """

    export: Export
    users: Mapping[str, tf.TensorSpec]
    sizes: Mapping[str, int]
    properties: frozenset[str] = frozenset()

    def make(self, functions: Mapping[str, Callable[..., Mapping[str, tf.Tensor]]]) -> dict:
        """Traces the functions in their order and checks their outputs.

        Args:
          functions: Functions of named tensors by name of the signature. Those of signatures that
            the model does not have are left out.

        Returns:
          Concrete functions by name of the signature.

        Raises:
          ValueError: The table lacks a name, or a function has other outputs than the table says.
        """
        rows = signatures_of(self.export)
        found: dict[str, Any] = {}
        for name, function in functions.items():
            require(name in rows, "signatures", "be in the table of signatures", name)
            if rows[name].only and rows[name].only not in self.properties:
                continue
            graph = tf.function(function, autograph=False)
            found[name] = graph.get_concrete_function(**self.inputs(rows[name]))
            self._check_outputs(rows[name], found[name].structured_outputs)
        return found

    def inputs(self, signature: SignatureRow) -> dict[str, tf.TensorSpec]:
        """Returns the inputs of a signature by name, in the order of the table."""
        return self._specs(signature.inputs)

    def _specs(self, rows: tuple[TensorRow, ...]) -> dict[str, tf.TensorSpec]:
        specs: dict[str, tf.TensorSpec] = {}
        for row in present(rows, self.properties):
            if row.kind is Kind.EACH_FEATURE:
                specs |= self.users
                continue
            if row.kind is Kind.EACH_PROFILE:
                specs |= {name: self.users[name] for name in self._profile()}
                continue
            names = [row.name]
            if row.kind is Kind.EACH_LIST:
                names = [row.name_of(listed) for listed in self._lists()]
            shape = row.sizes(self.sizes)
            specs |= {name: tf.TensorSpec(shape, row.dtype, name) for name in names}
        return specs

    def _lists(self) -> list[str]:
        """Returns the names of the users' lists; weights, which are numbers, are none."""
        return [
            name
            for name, spec in self.users.items()
            if spec.dtype == tf.string and spec.shape.rank == 2
        ]

    def _profile(self) -> list[str]:
        """Returns the names of the profile features: what is neither a domain nor its weights."""
        domains = [name for name in self._lists() if weights_name(name) in self.users]
        others = {*domains, *map(weights_name, domains)}
        return [name for name in self.users if name not in others]

    def _check_outputs(self, signature: SignatureRow, outputs: Mapping[str, Any]) -> None:
        specs = self._specs(signature.outputs)
        require(
            set(outputs) == set(specs),
            signature.name,
            f"have the outputs {', '.join(sorted(specs))}",
            sorted(outputs),
        )
        for name, spec in specs.items():
            found = outputs[name]
            require(
                found.dtype == spec.dtype and found.shape.is_compatible_with(spec.shape),
                f"{signature.name}.{name}",
                f"be {spec.dtype.name} {spec.shape}",
                f"{found.dtype.name} {found.shape}",
            )
