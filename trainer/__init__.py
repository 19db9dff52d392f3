"""The model and its training: features, layers, towers, objectives, metrics and `run_fn`.

Importing this package selects Keras 2 (`tf_keras`): TensorFlow Recommenders and TensorFlow
Transform do not work with Keras 3, and TensorFlow reads the switch once, at its first import. A
process that has already loaded Keras 3 is refused here instead of failing later inside a layer.
"""

import os
import sys

if os.environ.setdefault("TF_USE_LEGACY_KERAS", "1") != "1":
    raise ImportError(
        "`TF_USE_LEGACY_KERAS` must be 1: TensorFlow Recommenders needs Keras 2 (tf_keras). "
        f"Received: TF_USE_LEGACY_KERAS={os.environ['TF_USE_LEGACY_KERAS']}."
    )
if "keras" in sys.modules and "tf_keras" not in sys.modules and "tensorflow" in sys.modules:
    raise ImportError(
        "TensorFlow was imported with Keras 3 before `trainer`. Import `trainer` first, "
        "or set TF_USE_LEGACY_KERAS=1 before the first TensorFlow import."
    )
