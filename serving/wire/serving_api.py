"""TensorFlow Serving's messages and stubs, without importing TensorFlow.

`tensorflow_serving.apis` imports messages from `tensorflow.core`, and Python runs
`tensorflow/__init__.py` before any module below it, which takes about ten seconds and hundreds of
megabytes. The generated `_pb2` modules need nothing that is loaded there. So this module imports
them under a temporary package `tensorflow` that consists of its folder only, and removes that
package afterwards. A later `import tensorflow` in the same process imports the real package, and
finds the same messages.

A thread that imports TensorFlow during the first import of this module gets the temporary package:
import one before the other.
"""

import contextlib
import importlib.util
import sys
import types
from collections.abc import Iterator

# Metadata of a Predict call that asks for `tensor_content` instead of one field per string in the
# answer. This project's client sends it; other servers ignore it, and this project's server gives
# callers that do not send it the usual form.
COMPACT_ANSWER = ("tagtower-answer-form", "tensor-content")

_PACKAGE = "tensorflow"


@contextlib.contextmanager
def _folder_for_package() -> Iterator[None]:
    """Lets modules below `tensorflow` be imported without its `__init__.py`."""
    if _PACKAGE in sys.modules:
        yield
        return
    spec = importlib.util.find_spec(_PACKAGE)
    if spec is None or spec.submodule_search_locations is None:
        raise ImportError(
            "`tensorflow` must be installed: the messages of the serving API need it."
        )
    package = types.ModuleType(_PACKAGE)
    package.__path__ = list(spec.submodule_search_locations)
    sys.modules[_PACKAGE] = package
    try:
        yield
    finally:
        del sys.modules[_PACKAGE]


with _folder_for_package():
    from tensorflow.core.framework import tensor_pb2, types_pb2
    from tensorflow.core.protobuf import meta_graph_pb2
    from tensorflow_serving.apis import (
        get_model_metadata_pb2,
        get_model_status_pb2,
        model_pb2,
        model_service_pb2_grpc,
        predict_pb2,
        prediction_service_pb2_grpc,
    )

__all__ = [
    "COMPACT_ANSWER",
    "get_model_metadata_pb2",
    "get_model_status_pb2",
    "meta_graph_pb2",
    "model_pb2",
    "model_service_pb2_grpc",
    "predict_pb2",
    "prediction_service_pb2_grpc",
    "tensor_pb2",
    "types_pb2",
]
