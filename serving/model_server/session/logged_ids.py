"""User ids in logged requests: hashed with a secret salt, or left out.

An id is found by its name: a tensor of a request or an answer, or a feature of a serialized
`tf.Example` in any tensor of strings. The hash is the first half of HMAC-SHA256 in hexadecimal: the
same id has the same hash as long as the salt is the same, and without the salt nobody can try ids.
A number is hashed as its decimal text, so that 7 and "7" are one id.
"""

import hashlib
import hmac
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from google.protobuf.message import DecodeError
from tensorflow.core.framework import tensor_pb2, types_pb2
from tensorflow_serving.apis import predict_pb2

from tagtower_client.tensor_proto import to_numpy, write_numpy

_HASH_DIGITS = 32


class IdFilter:
    """Removes or hashes the user ids of requests and answers.

    Args:
      names: Names of the tensors and features that identify a user.
      salt: Secret of the hash; None: ids are left out.
    """

    def __init__(self, names: Sequence[str], salt: bytes | None):
        self._names = tuple(names)
        self._bytes = tuple(name.encode() for name in names)
        self._salt = salt

    def request(self, message: bytes) -> bytes:
        """Returns a serialized PredictRequest without ids, or with their hashes."""
        return self._filtered(message, predict_pb2.PredictRequest, lambda m: m.inputs)

    def response(self, message: bytes) -> bytes:
        """Returns a serialized PredictResponse without ids, or with their hashes."""
        return self._filtered(message, predict_pb2.PredictResponse, lambda m: m.outputs)

    def hashed(self, value: bytes) -> bytes:
        """Returns the hash of an id as text; an empty id, which is unknown, stays empty."""
        if not value or self._salt is None:
            return b""
        digest = hmac.new(self._salt, value, hashlib.sha256).hexdigest()
        return digest[:_HASH_DIGITS].encode()

    def _filtered(self, message: bytes, kind: Any, tensors_of: Callable[[Any], Any]) -> bytes:
        # Most requests have no id at all. A name in the bytes may be one; without it there is none.
        if not self._may_hold(message):
            return message
        parsed = kind.FromString(message)
        tensors = tensors_of(parsed)
        for name in list(tensors):
            if name in self._names:
                if self._salt is None:
                    del tensors[name]
                else:
                    _replace(tensors[name], self._hashed_array(to_numpy(tensors[name])))
            elif tensors[name].dtype == types_pb2.DT_STRING:
                self._filter_examples(tensors[name])
        filtered: bytes = parsed.SerializeToString()
        return filtered

    def _may_hold(self, content: bytes) -> bool:
        return any(name in content for name in self._bytes)

    def _hashed_array(self, values: np.ndarray) -> np.ndarray:
        hashes = [self.hashed(_text(value)) for value in values.ravel().tolist()]
        return np.array(hashes, object).reshape(values.shape)

    def _filter_examples(self, tensor: tensor_pb2.TensorProto) -> None:
        values = to_numpy(tensor)
        found = {
            index: filtered
            for index, value in enumerate(values.ravel().tolist())
            if self._may_hold(value) and (filtered := self._filtered_example(value)) != value
        }
        if found:
            flat = values.ravel().copy()
            for index, filtered in found.items():
                flat[index] = filtered
            _replace(tensor, flat.reshape(values.shape))

    def _filtered_example(self, value: bytes) -> bytes:
        """Returns an example without ids, and any other string as it is.

        A string that has a feature of such a name and cannot be read becomes empty: the model may
        read it all the same, for example where another feature's name is not UTF-8.
        """
        try:
            example = tf.train.Example.FromString(value)
        except DecodeError:
            return b"" if any(_key(name) in value for name in self._bytes) else value
        features = example.features.feature
        present = [name for name in self._names if name in features]
        for name in present:
            feature = features[name]
            kind = feature.WhichOneof("kind")
            ids = list(getattr(feature, kind).value) if kind else []
            if self._salt is None:
                del features[name]
            else:
                feature.bytes_list.value[:] = [self.hashed(_text(each)) for each in ids]
        serialized: bytes = example.SerializeToString() if present else value
        return serialized


def _key(name: bytes) -> bytes:
    """Returns the key of a feature of an example, as it is on the wire."""
    return b"\n" + bytes([len(name) & 0x7F]) + name


def _text(value: Any) -> bytes:
    if isinstance(value, bytes):
        return value
    return (repr(value) if isinstance(value, float) else str(value)).encode()


def _replace(tensor: tensor_pb2.TensorProto, values: np.ndarray) -> None:
    written = tensor_pb2.TensorProto()
    write_numpy(written, values)
    tensor.CopyFrom(written)
