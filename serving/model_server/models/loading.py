"""Loading of a version: it is checked, loaded and warmed up before it serves."""

import logging
import os
import time
from collections.abc import Callable

import grpc

from serving.model_server.counts.metrics import Metrics
from serving.model_server.errors import ServingError
from serving.model_server.models.load_memory import LoadMemory, return_free_memory
from serving.model_server.models.warmup import replay_warmup
from serving.model_server.session.servable import Servable
from trainer.contract.manifest import MANIFEST_FILE, DamagedFolderError, check_manifest

_logger = logging.getLogger("tagtower.model_server")

# Folder to which users of TensorFlow Serving add their own warm-up records.
_CHANGED_ON_PURPOSE = "assets.extra/"


def load_servable(
    path: str,
    version: int,
    is_wanted: Callable[[], bool] = lambda: True,
    metrics: Metrics | None = None,
    memory: LoadMemory | None = None,
) -> Servable:
    """Compares a version with its manifest, loads it and answers its warm-up requests.

    The memory is checked first: a version that does not fit is tried again every minute, and should
    not be read completely each time.

    Args:
      path: Folder of the version.
      version: Number of the version.
      is_wanted: Function that tells whether the version is still wanted; called between the steps.
      metrics: Counts, for the time of the warm-up.
      memory: Memory limit of loads; None: no check.

    Returns:
      The loaded version.

    Raises:
      ServingError: If a step fails; DATA_LOSS if the files differ from the manifest; CANCELLED if
        the version is no longer wanted.
    """
    if memory is not None:
        memory.check(path)
    _check_files(path, version, is_wanted)
    servable = Servable(path)
    start, status = time.monotonic(), grpc.StatusCode.OK
    try:
        num_records = replay_warmup(servable, version, is_wanted)
    except BaseException as error:
        servable.close()
        num_records = 1
        status = error.code if isinstance(error, ServingError) else grpc.StatusCode.INTERNAL
        raise
    finally:
        if metrics and num_records:
            metrics.observe_warmup(path, status.name, time.monotonic() - start)
    return_free_memory()
    return servable


def _check_files(path: str, version: int, is_wanted: Callable[[], bool]) -> None:
    """Checks the files before TensorFlow reads them, which may accept a truncated file."""

    def stop_if_unwanted() -> None:
        if not is_wanted():
            raise ServingError(grpc.StatusCode.CANCELLED, "The version is no longer wanted.")

    remedy = "Push the version again, or roll back to another one."
    try:
        is_checked = check_manifest(path, remedy=remedy, after_file=stop_if_unwanted)
    except DamagedFolderError as error:
        message = str(error)
        if error.file.startswith(_CHANGED_ON_PURPOSE):
            message = (
                f"{message} If it was changed on purpose: remove "
                f"{os.path.join(path, MANIFEST_FILE)}, or call "
                "`trainer.contract.manifest.add_to_manifest`."
            )
        raise ServingError(grpc.StatusCode.DATA_LOSS, message) from error
    except OSError as error:
        raise ServingError(
            grpc.StatusCode.DATA_LOSS, f"{path} cannot be read: {error.strerror or error}."
        ) from error
    if not is_checked:
        _logger.info("Version %d has no manifest, not checked: %s", version, path)
