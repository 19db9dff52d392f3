"""The files of tensors that `serving/native/run_signature.c` reads and writes."""

import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from tensorflow.core.framework import types_pb2

from tagtower_client.tensor_proto import data_type_of


def tensor_file(tensors: Mapping[str, np.ndarray]) -> bytes:
    """Returns the bytes of a file of tensors, in order of names."""
    parts = []
    for name, array in sorted(tensors.items()):
        numbers = [data_type_of(array), array.ndim, *array.shape]
        parts.append(f"tensor {name} {' '.join(map(str, numbers))}\n".encode())
        if array.dtype.kind == "O":
            for text in array.ravel():
                parts += [np.uint64(len(text)).tobytes(), text]
        else:
            parts.append(np.ascontiguousarray(array).tobytes())
    return b"".join(parts)


def write_tensors(path: Path, tensors: Mapping[str, np.ndarray]) -> Path:
    path.write_bytes(tensor_file(tensors))
    return path


def read_tensors(path: Path) -> dict[str, np.ndarray]:
    """Returns the tensors of a file by name, of the types that the servable answers with."""
    tensors = {}
    with path.open("rb") as file:
        while line := file.readline():
            _, name, kind, _, *shape = line.decode().split()
            dims = [int(size) for size in shape]
            count = int(np.prod(dims))
            if int(kind) == types_pb2.DT_STRING:
                texts = [
                    file.read(int.from_bytes(file.read(8), sys.byteorder)) for _ in range(count)
                ]
                tensors[name] = np.array(texts, object).reshape(dims)
            else:
                dtype = {types_pb2.DT_FLOAT: np.float32, types_pb2.DT_INT32: np.int32}[int(kind)]
                values = np.frombuffer(file.read(count * np.dtype(dtype).itemsize), dtype)
                tensors[name] = values.reshape(dims)
    return tensors
