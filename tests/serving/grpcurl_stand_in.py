"""What the pages ask of `grpcurl`, where it is not installed: JSON in, a call, JSON out.

    python -m tests.serving.grpcurl_stand_in -plaintext -d JSON HOST:PORT SERVICE/METHOD

grpcurl reads and writes JSON as protobuf prescribes it, and so does this.
"""

import sys

import grpc
from google.protobuf import json_format
from tensorflow_serving.apis import get_model_status_pb2, predict_pb2

_MESSAGES = {
    "Predict": (predict_pb2.PredictRequest, predict_pb2.PredictResponse),
    "GetModelStatus": (
        get_model_status_pb2.GetModelStatusRequest,
        get_model_status_pb2.GetModelStatusResponse,
    ),
}

if __name__ == "__main__":
    plaintext, data, body, target, method = sys.argv[1:]
    assert (plaintext, data) == ("-plaintext", "-d")
    request, response = _MESSAGES[method.partition("/")[2]]
    with grpc.insecure_channel(target) as channel:
        call = channel.unary_unary(
            f"/{method}",
            request_serializer=request.SerializeToString,
            response_deserializer=response.FromString,
        )
        print(json_format.MessageToJson(call(json_format.Parse(body, request()), timeout=60)))
