"""One version loaded and warmed up: what a model does before it serves one."""

import time
from collections.abc import Callable

import grpc

from serving.model_server.errors import ServingError
from serving.model_server.load_memory import LoadMemory
from serving.model_server.metrics import Metrics
from serving.model_server.servable import Servable
from serving.model_server.warmup import replay_warmup


def load_servable(
    path: str,
    version: int,
    is_wanted: Callable[[], bool] = lambda: True,
    metrics: Metrics | None = None,
    memory: LoadMemory | None = None,
) -> Servable:
    """Loads one version and answers its warm-up requests.

    Args:
      path: Its folder.
      version: Its number.
      is_wanted: Whether somebody still wants it; asked between the steps.
      metrics: Where the time of the warm-up is kept.
      memory: Whether it fits; None: nobody asks.

    Returns:
      The loaded version.

    Raises:
      ServingError: If either fails; CANCELLED if it is no longer wanted.
    """
    if memory is not None:
        memory.check(path)
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
