"""How it answers: index, servable, local model server, client, batch prediction.

Imports `trainer` first, which selects Keras 2 before TensorFlow is loaded.
"""

import trainer as _trainer  # noqa: F401
