"""One version checked, loaded and warmed up: what a model does before it serves one."""

import logging
import os
import time
from collections.abc import Callable

import grpc

from serving.model_server.counts.metrics import Metrics
from serving.model_server.errors import ServingError
from serving.model_server.models.load_memory import LoadMemory
from serving.model_server.models.warmup import replay_warmup
from serving.model_server.session.servable import Servable
from trainer.contract.manifest import MANIFEST_FILE, DamagedFolderError, check_manifest

_logger = logging.getLogger("tagtower.model_server")

# With TensorFlow Serving one puts warm-up records of one's own there.
_CHANGED_ON_PURPOSE = "assets.extra/"


def load_servable(
    path: str,
    version: int,
    is_wanted: Callable[[], bool] = lambda: True,
    metrics: Metrics | None = None,
    memory: LoadMemory | None = None,
) -> Servable:
    """Compares one version with its manifest, loads it and answers its warm-up requests.

    Whether it fits is asked first: one that does not is tried again every minute, and is not to be
    read whole each time.

    Args:
      path: Its folder.
      version: Its number.
      is_wanted: Whether somebody still wants it; asked between the steps.
      metrics: Where the time of the warm-up is kept.
      memory: Whether it fits; None: nobody asks.

    Returns:
      The loaded version.

    Raises:
      ServingError: If any of it fails, DATA_LOSS if its files are not those of its manifest;
        CANCELLED if it is no longer wanted.
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
    return servable


def _check_files(path: str, version: int, is_wanted: Callable[[], bool]) -> None:
    """Before TensorFlow reads them: of a cut file it may take what is left."""

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
