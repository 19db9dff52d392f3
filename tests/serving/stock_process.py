"""A process with only TensorFlow: which ops of two exports it knows, and whether it loads them.

    python stock_process.py MODEL_DIR ...

Prints a JSON object by MODEL_DIR: every op of the graph and its functions, those of them that are
not registered, and why the model does not load.
"""

import json
import sys

import tensorflow as tf
from tensorflow.python.framework import op_def_registry
from tensorflow.python.saved_model import loader_impl


def main(*model_dirs: str) -> None:
    found = {}
    for model_dir in model_dirs:
        (meta_graph,) = loader_impl.parse_saved_model(model_dir).meta_graphs
        nodes = list(meta_graph.graph_def.node)
        for function in meta_graph.graph_def.library.function:
            nodes += function.node_def
        ops = sorted({node.op for node in nodes})
        functions = {f.signature.name for f in meta_graph.graph_def.library.function}
        unknown = [op for op in ops if op_def_registry.get(op) is None and op not in functions]
        error = None
        try:
            tf.saved_model.load(model_dir)
        except (tf.errors.OpError, FileNotFoundError, RuntimeError) as refused:
            error = str(refused)
        found[model_dir] = {"ops": ops, "unknown": unknown, "error": error}
    print(json.dumps({"found": found, "modules": sorted(sys.modules)}))


if __name__ == "__main__":
    main(*sys.argv[1:])
