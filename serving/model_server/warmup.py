"""Warm-up: the requests a version carries with it are answered before it serves.

The first call of a graph is slow, and an operation the process does not know is found only when it
is called: a version whose warm-up fails does not become available.
"""

import os
from collections.abc import Callable

import grpc
import tensorflow as tf
from tensorflow_serving.apis import prediction_log_pb2

from serving.model_server.errors import ServingError, invalid_argument, status_code, unimplemented
from serving.model_server.predict import predict
from serving.model_server.servable import Servable
from trainer.file_system import is_file
from trainer.signatures import WARMUP_FILE

MAX_RECORDS = 1000


def replay_warmup(
    servable: Servable, version: int, is_wanted: Callable[[], bool] = lambda: True
) -> int:
    """Answers the recorded requests of a version; the model and version they name do not matter.

    Args:
      servable: The loaded version.
      version: Its number.
      is_wanted: Whether the version is still wanted; asked before each record.

    Returns:
      How many records there were.

    Raises:
      ServingError: If a record is not one of Predict, fails, or there are more than 1,000;
        CANCELLED if the version is no longer wanted.
    """
    path = os.path.join(servable.path, WARMUP_FILE)
    if not is_file(path):
        return 0
    num_records = 0
    try:
        for record in tf.data.TFRecordDataset(path).as_numpy_iterator():
            num_records += 1
            if not is_wanted():
                raise ServingError(grpc.StatusCode.CANCELLED, "The version is no longer wanted.")
            if num_records > MAX_RECORDS:
                raise invalid_argument(
                    f"Number of warmup records exceeds the maximum ({MAX_RECORDS}) at {path}"
                )
            log = prediction_log_pb2.PredictionLog.FromString(record)
            kind = log.WhichOneof("log_type")
            if kind != "predict_log":
                raise unimplemented(f"Unsupported log_type for warmup: {kind}")
            predict(servable, version, log.predict_log.request)
    except tf.errors.OpError as error:
        raise ServingError(status_code(error.error_code), error.message) from error
    return num_records
