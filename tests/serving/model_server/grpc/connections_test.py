"""Connections that carry many calls stay usable."""

import gc

import grpc
from tensorflow_serving.apis import get_model_status_pb2, model_service_pb2_grpc

NUM_REFUSED = 600  # more than the calls that one connection may have at once


def test_connection_on_which_many_calls_were_refused_takes_further_ones(server):
    unknown = get_model_status_pb2.GetModelStatusRequest()
    unknown.model_spec.name = "nobody"
    known = get_model_status_pb2.GetModelStatusRequest()
    known.model_spec.name = "toy"
    codes = set()
    # The library keeps a refused call until Python's garbage collector finds it, and took kept ones
    # for running ones.
    gc.disable()
    try:
        with grpc.insecure_channel(f"localhost:{server.port}") as channel:
            stub = model_service_pb2_grpc.ModelServiceStub(channel)
            for _ in range(NUM_REFUSED):
                codes.add(stub.GetModelStatus.future(unknown, timeout=60).code())
            answer = stub.GetModelStatus(known, timeout=60)
    finally:
        gc.enable()

    assert codes == {grpc.StatusCode.NOT_FOUND}
    assert [state.version for state in answer.model_version_status] == [2, 1]
