"""Answers of saved signatures in a fresh Python process, as files of tensors.

    python -m tests.serving.python_answers LIBRARY MODEL_DIR INPUTS.npz OUTPUT_DIR ...

Three arguments a model: INPUTS holds arrays named `<signature>.<input>`; OUTPUT_DIR gets a file for
each signature. It uses one thread, as the program does that is compared with it.
"""

import sys
from pathlib import Path

import numpy as np
import tensorflow as tf

from tests.serving.wire.tensor_file import write_tensors


def main(library: str, *arguments: str) -> None:
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    tf.load_op_library(library)
    for model_dir, inputs, output_dir in zip(*[iter(arguments)] * 3, strict=True):
        calls: dict[str, dict] = {}
        for key, array in np.load(inputs, allow_pickle=True).items():
            signature, _, name = key.partition(".")
            dtype = tf.string if array.dtype.kind == "O" else None
            calls.setdefault(signature, {})[name] = tf.constant(array, dtype)
        signatures = tf.saved_model.load(model_dir).signatures
        for signature, tensors in calls.items():
            answer = signatures[signature](**tensors)
            write_tensors(
                Path(output_dir) / signature, {name: t.numpy() for name, t in answer.items()}
            )


if __name__ == "__main__":
    main(*sys.argv[1:])
