"""A Python worker: loads the libraries, waits for an assignment, works until it is stopped.

It imports nothing of the project before the assignment, so that code edited meanwhile is used.
"""

import importlib
import json
import logging
import sys

from serving.inference_environment import prefer_small_batches

_LIBRARIES = (
    "trainer",  # selects Keras 2 before TensorFlow is imported
    "apache_beam.runners.worker.sdk_worker",
    "tensorflow",
    "tensorflow_data_validation",
    "tensorflow_transform.beam",
    "tfx_bsl.public.tfxio",
)
# Size of the cache of side inputs between bundles.
_STATE_CACHE_BYTES = 100 << 20


def main() -> None:
    """Works for the task manager that a line of the standard input names."""
    logging.basicConfig(
        level=logging.WARNING, format="%(asctime)s worker %(process)d %(name)s: %(message)s"
    )
    # As in `tagtower batch-predict`, so that every engine computes alike.
    prefer_small_batches()
    for name in _LIBRARIES:
        importlib.import_module(name)
    line = sys.stdin.readline()
    if not line:
        return
    assignment = json.loads(line)
    from apache_beam.runners.worker.sdk_worker import SdkHarness

    SdkHarness(
        assignment["control_address"],
        worker_id=assignment["worker_id"],
        state_cache_size=_STATE_CACHE_BYTES,
    ).run()


if __name__ == "__main__":
    main()
