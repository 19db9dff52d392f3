"""Benchmarks of the pipeline and the server: `python -m benchmarks [NAME ...]`.

Each benchmark is a module with `run(progress) -> figures`; docs/report.md lists its flat keys. Not
part of the distribution.
"""

import trainer as _trainer  # noqa: F401  (selects Keras 2 before anything imports TensorFlow)
