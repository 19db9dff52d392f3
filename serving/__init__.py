"""Serving of a trained model: index, servable, model server, client, batch prediction.

This package imports `trainer` first, which selects Keras 2 before TensorFlow is loaded.
"""

import trainer as _trainer  # noqa: F401
