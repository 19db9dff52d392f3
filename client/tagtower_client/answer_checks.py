"""The client's check that an answer has what the table of signatures says.

A server may hold a model of somebody else whose signature has the same name. Without the check the
caller would see an error of Python's about a missing key, or numbers read from another tensor.
"""

from __future__ import annotations

from collections.abc import Mapping

import grpc
import numpy as np

from tagtower_client.errors import TagClientError
from tagtower_client.signature_rows import Export, Kind, TensorRow
from tagtower_client.signature_table import signatures_of

_SIGNATURES = signatures_of(Export.SERVABLE)
# Kinds of arrays by type in the table; strings are object arrays of bytes.
_KINDS = {"string": "O", "float32": "f", "int32": "i", "int64": "i", "bool": "b"}


def own_inputs(signature_name: str) -> frozenset[str]:
    """Returns the names of a signature's inputs that are no features.

    Args:
      signature_name: Name of a signature of the servable.
    """
    return frozenset(row.name for row in _SIGNATURES[signature_name].own_inputs)


def check_answer(model_name: str, signature_name: str, outputs: Mapping[str, np.ndarray]) -> None:
    """Checks the outputs that every version of the signature has.

    What depends on the model (a click loss, memory, the names of its lists) is not checked, nor is
    what older versions lack.

    Args:
      model_name: Name of the model, for the error.
      signature_name: Name of the signature that answered.
      outputs: Arrays of the answer, by name.

    Raises:
      TagClientError: An output is missing, or has another type or rank.
    """
    for row in _SIGNATURES[signature_name].outputs:
        array = outputs.get(row.name)
        is_optional = bool(row.only) or row.is_new or row.kind is not Kind.ONE
        if array is None and is_optional or array is not None and _fits(row, array):
            continue
        raise TagClientError(
            grpc.StatusCode.FAILED_PRECONDITION,
            f"Model `{model_name}` answers `{signature_name}` without the output `{row.name}`, "
            f"{row.dtype} [{', '.join(row.shape)}].",
            "Is it a servable of `tagtower run`?",
        )


def _fits(row: TensorRow, array: np.ndarray) -> bool:
    return array.dtype.kind == _KINDS[row.dtype] and array.ndim == len(row.shape)
