"""A loaded SavedModel and the calls of its signatures.

It is loaded into a session, as in TensorFlow Serving, and not with `tf.saved_model.load`: a call
then costs about 30 microseconds instead of 250; the operations check shapes, not the signature; and
signatures, tensor names and error messages are the same as TensorFlow Serving's.
"""

import os
import threading
import time
from collections.abc import Callable, Sequence

import grpc
import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import config_pb2, meta_graph_pb2
from tensorflow.python.framework.ops import dismantle_graph
from tensorflow.python.saved_model import loader_impl

from serving.model_server.errors import (
    ServingError,
    invalid_argument,
    not_found,
    status_code,
)
from serving.model_server.session.signature import Signature
from trainer.contract.file_system import is_file

# A servable of this project has 80 to 120 functions, one of an earlier release about 500.
_MANY_FUNCTIONS = 50

_SCANN_NOT_REGISTERED = "Op type not registered 'Scann>"

_Definitions = dict[str, meta_graph_pb2.SignatureDef]


class Servable:
    """A loaded SavedModel; safe to call from several threads.

    Args:
      path: Folder of the version.

    Attributes:
      path: Folder of the version.
      signature_defs: Definitions of all signatures in the SavedModel, by name.
      signatures: All signatures, prepared for calls, by name.
      observe_run: Function that is called with the seconds of each call that succeeded.

    Raises:
      ServingError: If the SavedModel does not load.
    """

    def __init__(self, path: str):
        self.path = path
        if not any(
            is_file(os.path.join(path, name)) for name in ("saved_model.pb", "saved_model.pbtxt")
        ):
            raise not_found(
                "Specified file path does not appear to contain a SavedModel bundle (should have a "
                f"file called `saved_model.pb`)\nSpecified file path: {path}"
            )
        self._session, self.signature_defs = _load_with_ops(path)
        self.signatures = {
            name: Signature.from_definition(name, definition)
            for name, definition in self.signature_defs.items()
        }
        self.observe_run: Callable[[float], None] = _ignore
        self._calls: dict[str, Callable[..., list[np.ndarray]]] = {}
        self._building = threading.Lock()

    @property
    def num_calls(self) -> int:
        """Returns the number of graphs that are built: one per signature that was called."""
        return len(self._calls)

    def run(self, signature: Signature, feeds: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Computes all outputs of a signature.

        All outputs are computed even if a caller wants only some: each set of outputs would need
        its own graph, which takes seconds to build and then keeps megabytes, and callers choose
        the sets.

        Args:
          signature: Signature to call, one of `signatures`.
          feeds: Values of its inputs, in order.

        Returns:
          The values of its outputs, in order; strings are object arrays of bytes.

        Raises:
          ServingError: The call failed, with TensorFlow's code and message.
        """
        start = time.perf_counter()
        try:
            values = self._call(signature)(*feeds)
        except tf.errors.OpError as error:
            raise _translate(error) from error
        except UnicodeDecodeError as error:
            # TensorFlow's Python cannot decode an error message that quotes bytes which are not
            # UTF-8. Only a request brings these bytes, so the lost code was that of a refusal.
            raise invalid_argument(error.object.decode("utf-8", "replace")) from error
        self.observe_run(time.perf_counter() - start)
        return values

    def close(self) -> None:
        """Frees the model's memory; no call may be running."""
        session = self._session
        # Python's garbage collector would find these objects only later: until then the memory of
        # every unloaded version would stay in use.
        del self._calls, self._session
        session.close()
        dismantle_graph(session.graph)

    def _call(self, signature: Signature) -> Callable[..., list[np.ndarray]]:
        call = self._calls.get(signature.name)
        if call is None:
            # If many first calls come at once, one of them builds the graph for all.
            with self._building:
                call = self._calls.get(signature.name)
                if call is None:
                    call = self._calls[signature.name] = self._build_call(signature)
        return call

    def _build_call(self, signature: Signature) -> Callable[..., list[np.ndarray]]:
        # Session.run would cast the inputs and check them against the placeholders' shapes, which
        # TensorFlow Serving does not do; this is the function that Session.run calls.
        # Operations run in the calling thread: for one small request, to hand each of them to a
        # pool takes longer than the operations themselves. An operation still uses all cores.
        return self._session._make_callable_from_options(
            config_pb2.CallableOptions(
                feed=signature.feed_names,
                fetch=[slot.tensor_name for slot in signature.outputs.values()],
                run_options=config_pb2.RunOptions(inter_op_thread_pool=-1),
            )
        )


def _ignore(seconds: float) -> None:
    pass


def _load_with_ops(path: str) -> tuple[tf.compat.v1.Session, _Definitions]:
    try:
        return _load(path)
    except ServingError as error:
        if _SCANN_NOT_REGISTERED not in error.message:
            raise
        # The library is imported, and must be installed, only for a servable with a ScaNN index.
        try:
            from serving.index.scann_index import register_scann_ops
        except ImportError as missing:
            raise ServingError(
                error.code, f"{error.message} Install `scann`, or serve an exact index."
            ) from missing
        register_scann_ops()
    return _load(path)


def _load(path: str) -> tuple[tf.compat.v1.Session, _Definitions]:
    session = None
    try:
        loader = loader_impl.SavedModelLoader(path)
        definition = loader.get_meta_graph_def_from_tags([tf.saved_model.SERVING])
        graph = tf.Graph()
        session = tf.compat.v1.Session(graph=graph, config=session_options(definition))
        with graph.as_default():
            meta_graph = loader.load(session, [tf.saved_model.SERVING])
    except tf.errors.OpError as error:
        _close(session)
        raise _translate(error) from error
    except (OSError, RuntimeError, ValueError) as error:
        _close(session)
        raise ServingError(grpc.StatusCode.INVALID_ARGUMENT, str(error)) from error
    # Of all that Python read only these small parts are kept, as copies: a part of a message keeps
    # the whole message in memory. The session has copies of the functions of its own.
    graph._functions.clear()
    return session, {name: _copied(part) for name, part in meta_graph.signature_def.items()}


def _copied(definition: meta_graph_pb2.SignatureDef) -> meta_graph_pb2.SignatureDef:
    copied = meta_graph_pb2.SignatureDef()
    copied.CopyFrom(definition)
    return copied


def session_options(definition: meta_graph_pb2.MetaGraphDef) -> config_pb2.ConfigProto:
    """Returns options that say how TensorFlow prepares a graph.

    For a servable of this project the functions of all signatures are put into one graph at the
    load. TensorFlow would otherwise prepare every function at its first call, for each signature
    anew: the warm-up then takes 4.7 s instead of 0.9. What only a graph that grows or is looked at
    needs is not kept. TensorFlow's rewriting of the graph, once for every signature, makes no call
    faster; `serving.servable.compact_graph` has merged what is equal.

    Graphs with few functions are prepared as in TensorFlow Serving: that takes little time, and
    their errors have the same words.
    """
    options = config_pb2.ConfigProto()
    if len(definition.graph_def.library.function) > _MANY_FUNCTIONS:
        options.graph_options.rewrite_options.disable_meta_optimizer = True
        options.graph_options.optimizer_options.do_function_inlining = True
        options.experimental.disable_output_partition_graphs = True
        options.experimental.optimize_for_static_graph = True
    return options


def _close(session: tf.compat.v1.Session | None) -> None:
    if session is not None:
        session.close()


def _translate(error: tf.errors.OpError) -> ServingError:
    # The Python session puts a heading before the message, TensorFlow Serving does not.
    return ServingError(
        status_code(error.error_code), error.message.removeprefix("Graph execution error:\n\n")
    )
