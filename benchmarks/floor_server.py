"""A minimal gRPC server in C++ over a version: what a server costs at least.

`floor_server.cc` is compiled here where a C++ compiler and gRPC's library for C++ are installed (on
Debian `apt-get install g++ libgrpc++-dev`). It prepares the graph as the model server does.
"""

import contextlib
import importlib.util
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks.fresh_process import call_in_fresh_process
from benchmarks.registry import Progress

_SOURCE = Path(__file__).with_suffix(".cc")
_HEADER = "grpcpp/grpcpp.h"
_WITHOUT = "the minimal server in C++ is left out"
_METADATA_METHOD = "/tensorflow.serving.PredictionService/GetModelMetadata"
_SCANN, _SCANN_LIBRARY = "Scann>", "scann_ops/cc/_scann_ops.so"
_TIMEOUT_S = 60


def build_floor_server(progress: Progress, folder: Path) -> Path | None:
    """Compiles the server.

    Args:
      progress: Function that is called with a line if the server cannot be built.
      folder: Folder for the program.

    Returns:
      Path of the program; None: no compiler, or no gRPC for C++, is installed.

    Raises:
      ValueError: The source does not compile.
    """
    compiler = shutil.which("c++") or shutil.which("g++")
    if compiler is None:
        progress(f"{_WITHOUT}: no C++ compiler is installed")
        return None
    preprocess = [compiler, "-x", "c++", "-E", "-include", _HEADER, os.devnull]
    if subprocess.run(preprocess, capture_output=True, check=False).returncode:
        progress(f"{_WITHOUT}: gRPC for C++ (Debian's libgrpc++-dev) is not installed")
        return None
    progress("compiling the minimal server in C++ ...")
    tensorflow = _folder_of("tensorflow")
    folder.mkdir(parents=True, exist_ok=True)
    program = folder / "floor_server"
    command = [compiler, "-std=c++17", "-O2", f"-I{tensorflow}/include", str(_SOURCE)]
    command += ["-o", str(program), f"-L{tensorflow}", f"-Wl,-rpath,{tensorflow}"]
    command += ["-l:libtensorflow_cc.so.2", "-l:libtensorflow_framework.so.2"]
    command += ["-lgrpc++", "-lgrpc", "-lgpr"]
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    if finished.returncode:
        reason = finished.stderr.strip().splitlines()[:1] or ["no message"]
        raise ValueError(f"`{_SOURCE.name}` must compile. Received: {reason[0]}")
    return program


@contextlib.contextmanager
def floor_server(program: Path, version: Path, model_server: str, log_path: Path) -> Iterator[int]:
    """Serves `retrieve` of a version until the `with` statement ends.

    Args:
      program: Program of `build_floor_server`.
      version: The version folder.
      model_server: Address, `host:port`, of a model server that serves the version; it is asked for
        the description of the signatures.
      log_path: Path of the server's log.

    Yields:
      The port of the server.

    Raises:
      ValueError: The server does not start.
    """
    from trainer.contract import signatures as s

    config, libraries = call_in_fresh_process(lambda text: None, "", _preparation, str(version))
    log_path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="floor-") as name, log_path.open("wb") as log:
        config_path, metadata_path = Path(name) / "config", Path(name) / "metadata"
        config_path.write_bytes(config)
        metadata_path.write_bytes(_metadata(model_server))
        command = [str(program), str(config_path), str(metadata_path), str(version), s.RETRIEVE]
        with subprocess.Popen(
            [*command, *libraries], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log
        ) as process:
            assert process.stdin is not None and process.stdout is not None
            try:
                line = process.stdout.readline()
                if not line:
                    raise ValueError(f"the minimal server in C++ does not start; see {log_path}")
                yield int(line)
            finally:
                process.stdin.close()


def _metadata(model_server: str) -> bytes:
    """Returns the model server's description of its signatures, as it is on the wire."""
    import grpc
    from tensorflow_serving.apis import get_model_metadata_pb2

    request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
    request.model_spec.name = "default"
    with grpc.insecure_channel(model_server) as channel:
        answer: bytes = channel.unary_unary(_METADATA_METHOD)(
            request.SerializeToString(), timeout=_TIMEOUT_S
        )
    return answer


def _preparation(version: str) -> tuple[bytes, list[str]]:
    """Returns the session's options, serialized, and the libraries of operations that it needs."""
    import tensorflow as tf
    from tensorflow.python.saved_model import loader_impl

    from serving.model_server.session.servable import session_options

    loader = loader_impl.SavedModelLoader(version)
    definition = loader.get_meta_graph_def_from_tags([tf.saved_model.SERVING])
    functions = definition.graph_def.library.function
    if not any(node.op.startswith(_SCANN) for function in functions for node in function.node_def):
        return session_options(definition).SerializeToString(), []
    library = Path(_folder_of("scann")) / _SCANN_LIBRARY
    return session_options(definition).SerializeToString(), [str(library)]


def _folder_of(package: str) -> str:
    spec = importlib.util.find_spec(package)
    assert spec is not None and spec.submodule_search_locations
    return spec.submodule_search_locations[0]
