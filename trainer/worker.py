"""One process of a training in several processes: `python -m trainer.worker JOB`.

`tagtower run` starts the chief's process, since TensorFlow forms a cluster only in a process in
which it has done nothing else; a user or a cluster's launcher starts the others. `TF_CONFIG` says
which process this one is, `JOB` is a file that all processes can read: the arguments of `run_fn`.
"""

import argparse
import logging
import os
import sys
import threading
import time
import types
from collections.abc import Sequence
from typing import TYPE_CHECKING

from trainer.contract.file_system import exists
from trainer.contract.whole_files import read_json, write_json
from trainer.fitting.distribution import Replicas
from trainer.task import run_fn

if TYPE_CHECKING:
    from tfx.components.trainer.fn_args_utils import FnArgs

JOB_FILE = "job.json"  # in the folder of checkpoints
USERS_MISTAKE = 2  # exit status, the same as that of `tagtower`

_ARGUMENTS = (
    "train_files",
    "eval_files",
    "transform_output",
    "serving_model_dir",
    "model_run_dir",
    "base_model",
    "custom_config",
)
_SECONDS_BETWEEN_LOOKS = 1.0

_progress = logging.getLogger("tagtower.train")


def write_job(path: str, fn_args: "FnArgs") -> None:
    """Writes the arguments of `run_fn`, all of them paths or text, for other processes.

    Args:
      path: Path of the job file.
      fn_args: Arguments that TFX gives to `run_fn`.
    """
    write_json(path, {name: getattr(fn_args, name) for name in _ARGUMENTS})


def main(arguments: Sequence[str]) -> int:
    """Waits for a job and takes part in it.

    Args:
      arguments: Arguments of the command line.

    Returns:
      Exit status: 0, or 2 after a user's mistake, which the last line of the error output explains.
    """
    parser = argparse.ArgumentParser(description="Takes part in a training in several processes.")
    parser.add_argument(
        "job", help="file with the arguments of run_fn; the worker waits until it exists"
    )
    parser.add_argument("--attached", action="store_true", help="end when standard input is closed")
    options = parser.parse_args(arguments)
    if options.attached:
        threading.Thread(target=_end_with_input, daemon=True).start()
    logger = logging.getLogger("tagtower")
    logger.addHandler(logging.StreamHandler(sys.stdout))
    logger.setLevel(logging.INFO)
    logger.propagate = False
    if not exists(options.job):
        _progress.info("waiting for %s", options.job)
    while not exists(options.job):
        time.sleep(_SECONDS_BETWEEN_LOOKS)
    try:
        # The chief writes the job before it joins: after all have joined, the file is this job's.
        replicas = Replicas.of("multi_worker")
        job = read_json(options.job, "start the chief again, which writes it")
        run_fn(types.SimpleNamespace(**job), replicas)
    except ValueError as error:
        print(error, file=sys.stderr)
        return USERS_MISTAKE
    return 0


def _end_with_input() -> None:
    """Ends this process when the process that started it has ended, for whatever reason."""
    sys.stdin.read()
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
