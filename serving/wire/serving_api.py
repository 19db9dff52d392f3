"""TensorFlow Serving's messages and stubs, without importing TensorFlow.

`tensorflow_serving.apis` takes its messages from `tensorflow.core`, and Python runs
`tensorflow/__init__.py`, some ten seconds and hundreds of megabytes, before it opens a package
below it. The generated `_pb2` modules need nothing of what is loaded there. So they are imported
here under a package `tensorflow` that is nothing but its folder; it is taken away again afterwards.
A later `import tensorflow` in the same process is the real one, and finds the same messages.

Whoever imports TensorFlow in another thread at the very moment of the first import of this module
gets the empty package: import one before the other.
"""

import contextlib
import importlib.util
import sys
import types
from collections.abc import Iterator

# Metadata of a Predict call whose caller would rather read `tensor_content` than a field a string.
# Our client sends it; a server that does not know it answers as ever, and so does ours to others.
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
