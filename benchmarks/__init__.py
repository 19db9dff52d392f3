"""What is timed, and against what: `python -m benchmarks [NAME ...]`.

Each benchmark is a module with `run(progress) -> figures`; its flat keys are those of
docs/report.md. Not part of the distribution.
"""

import trainer as _trainer  # noqa: F401  (selects Keras 2 before anything imports TensorFlow)
