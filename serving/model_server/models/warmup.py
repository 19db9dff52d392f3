"""Warm-up of a version: its recorded requests are answered before it becomes available.

The first call of a graph is slow, and an operation that the process lacks is detected only when it
is called: a version whose warm-up fails does not become available. Neither does a version whose
answers differ from those recorded at its export, if its records have answers.
"""

import json
import os
from collections.abc import Callable

import grpc
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

from serving.model_server.errors import ServingError, invalid_argument, status_code, unimplemented
from serving.model_server.session.inference import Inference
from serving.model_server.session.predict import predict
from serving.model_server.session.servable import Servable
from serving.wire.recorded_answers import RECORDED, difference
from trainer.contract.file_system import is_file, open_file
from trainer.contract.signatures import DESCRIPTION_FILE, WARMUP_FILE

MAX_RECORDS = 1000


def replay_warmup(
    servable: Servable, version: int, is_wanted: Callable[[], bool] = lambda: True
) -> int:
    """Answers the recorded requests of a version; the model and version that they name are ignored.

    Args:
      servable: Loaded version.
      version: Number of the version.
      is_wanted: Function that tells whether the version is still wanted; called before each record.

    Returns:
      The number of records.

    Raises:
      ServingError: If a record is a session's run, fails, or has an answer that differs from
        the recorded one, or if there are more than 1,000 records; CANCELLED if the version is no
        longer wanted.
    """
    path = os.path.join(servable.path, WARMUP_FILE)
    if not is_file(path):
        return 0
    num_records = 0
    is_approximate = _is_approximate(servable.path)
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
            if log.WhichOneof("log_type") != "predict_log":
                _infer(Inference(servable, version), log)
                continue
            recorded = log.predict_log.response
            answered = predict(servable, version, log.predict_log.request)
            if recorded.model_spec.version_label == RECORDED:
                _compare(recorded, answered, is_approximate)
    except tf.errors.OpError as error:
        raise ServingError(status_code(error.error_code), error.message) from error
    return num_records


def _infer(inference: Inference, log: prediction_log_pb2.PredictionLog) -> None:
    """Answers a recorded request for examples."""
    kind = log.WhichOneof("log_type")
    if kind == "classify_log":
        inference.classify(log.classify_log.request)
    elif kind == "regress_log":
        inference.regress(log.regress_log.request)
    elif kind == "multi_inference_log":
        inference.infer(log.multi_inference_log.request)
    else:
        raise unimplemented(f"Unsupported log_type for warmup: {kind}")


def _compare(
    recorded: predict_pb2.PredictResponse,
    answered: predict_pb2.PredictResponse,
    is_approximate: bool,
) -> None:
    fault = difference(recorded, answered, is_approximate)
    if fault is not None:
        raise ServingError(
            grpc.StatusCode.DATA_LOSS,
            f"Warm-up: signature `{answered.model_spec.signature_name}` answers differently than "
            f"when it was exported: {fault}. Push the version again.",
        )


def _is_approximate(path: str) -> bool:
    """Returns whether a version's index is approximate; true if its description is damaged."""
    file_path = os.path.join(path, DESCRIPTION_FILE)
    try:
        if not is_file(file_path):
            return False  # not a servable of this project
        with open_file(file_path) as file:
            return json.load(file)["index"]["kind"] == "scann"
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return True
