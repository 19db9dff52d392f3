"""A training in a process of its own, with others of its kind beside it.

A module of its own, because TFX reloads the module of the `run_fn` that it calls: whatever else is
defined there is another thing afterwards, and a component's specification is no more its own.
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
    """`trainer.task.run_fn` as the chief of the processes that `TF_CONFIG` names.

    Args:
      fn_args: Of `run_fn`; the others find them beside the checkpoints, see `trainer.worker`.

    Raises:
      ValueError: A user's mistake, as the process says it.
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
            # Standard error, the libraries' own, may fill its pipe while lines of progress come.
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
