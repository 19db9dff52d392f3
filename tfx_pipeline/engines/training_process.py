"""A training in a separate process, as the chief of several.

It is a separate module, because TFX reloads the module of the `run_fn` that it calls: anything else
defined there would be another object afterwards, e.g. a component's specification.
"""

import concurrent.futures
import logging
import os
import subprocess
import sys

from tfx.components.trainer.fn_args_utils import FnArgs

from tfx_pipeline.engines.child_processes import tied_to_this_process
from trainer import task, worker
from trainer.contract.file_system import remove_file

_progress = logging.getLogger("tagtower.train")


def run_in_own_process(fn_args: FnArgs) -> None:
    """Runs `trainer.task.run_fn` in a process that is the chief of those in `TF_CONFIG`.

    Args:
      fn_args: Arguments of `run_fn`; the other processes read them beside the checkpoints, see
        `trainer.worker`.

    Raises:
      ValueError: A user's mistake, in the words of the process.
      RuntimeError: The process ended with another error, which the log has.
    """
    job = os.path.join(fn_args.custom_config[task.CHECKPOINTS_KEY], worker.JOB_FILE)
    worker.write_job(job, fn_args)
    try:
        with subprocess.Popen(
            tied_to_this_process([sys.executable, "-m", worker.__name__, job, "--attached"]),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            # Standard error, with the libraries' output, may fill its pipe while lines of progress
            # are read.
            with concurrent.futures.ThreadPoolExecutor(1) as thread:
                errors = thread.submit(process.stderr.read)  # type: ignore[union-attr]
                for line in process.stdout or ():
                    _progress.info(line.rstrip("\n"))
    finally:
        remove_file(job)
    text = errors.result()
    if process.returncode == worker.USERS_MISTAKE:
        raise ValueError(text.strip().splitlines()[-1])
    if process.returncode:
        raise RuntimeError(f"training ended with status {process.returncode}:\n{text}")
