"""Answers to Predict requests: inputs, outputs, and the errors of TensorFlow Serving."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

import grpc
import numpy as np
from tensorflow.core.framework import tensor_pb2, types_pb2
from tensorflow_serving.apis import predict_pb2

from serving.model_server.errors import ServingError, invalid_argument
from serving.model_server.session.request_limits import RequestLimits
from serving.model_server.session.servable import Servable
from serving.model_server.session.signature import Signature, TensorSlot
from serving.wire.feature_weights import wrong_weight
from tagtower_client.tensor_proto import (
    data_type_name,
    data_type_of,
    is_readable,
    to_numpy,
    write_numpy,
)

DEFAULT_SIGNATURE = "serving_default"

# Function that computes the outputs of a signature from the values of its inputs, both in order.
Run = Callable[[Signature, Sequence[np.ndarray]], list[np.ndarray]]


def predict(
    servable: Servable,
    version: int,
    request: predict_pb2.PredictRequest,
    write: Callable[[tensor_pb2.TensorProto, np.ndarray], None] = write_numpy,
    limits: RequestLimits | None = None,
    run: Run | None = None,
) -> predict_pb2.PredictResponse:
    """Answers one Predict request.

    Args:
      servable: Loaded version of the model.
      version: Number of the version, for the answer.
      request: Request, whose `model_spec` has been resolved to `servable` already.
      write: Function that writes the answer's tensors; by default into their `*_val` fields, as
        TensorFlow Serving does.
      limits: Limits on the cost of the request; None: no limits, for trusted requests.
      run: Function that computes the outputs, such as one that joins requests; None:
        `servable.run`.

    Returns:
      The answer, with a complete `model_spec`.

    Raises:
      ServingError: The request is refused, with TensorFlow Serving's code and message.
    """
    signature_name = request.model_spec.signature_name or DEFAULT_SIGNATURE
    signature = servable.signatures.get(signature_name)
    if signature is None:
        raise ServingError(
            grpc.StatusCode.FAILED_PRECONDITION,
            f'Serving signature key "{signature_name}" not found.',
        )
    tensors = dict(request.inputs.items())
    if limits is not None:
        limits.check_tensors(signature, tensors)
    inputs = _read_inputs(signature, tensors)
    outputs = run_signature(servable, signature, inputs, request.output_filter, run=run)
    response = predict_pb2.PredictResponse()
    response.model_spec.name = request.model_spec.name
    response.model_spec.signature_name = signature_name
    response.model_spec.version.value = version
    for name, array in outputs.items():
        write(response.outputs[name], array)
    return response


def existing_signature(servable: Servable, name: str) -> str:
    """Returns the signature that a request names, or the default one; empty: there is none."""
    name = name or DEFAULT_SIGNATURE
    return name if name in servable.signatures else ""


def run_signature(
    servable: Servable,
    signature: Signature,
    inputs: Mapping[str, np.ndarray],
    output_filter: Sequence[str] = (),
    limits: RequestLimits | None = None,
    run: Run | None = None,
) -> dict[str, np.ndarray]:
    """Runs one signature of a servable.

    Args:
      servable: Loaded version of the model.
      signature: Signature of the servable.
      inputs: Arrays by name, for exactly the signature's inputs.
      output_filter: Names of the outputs to return; empty: all.
      limits: Limits on the cost of the values; None: no limits, for trusted values or those of a
        message that was checked before.
      run: Function that computes the outputs; None: `servable.run`.

    Returns:
      Arrays by output name.

    Raises:
      ServingError: If an output is unknown or named twice, an input has another type than the
        signature says, a weight is negative, infinite or NaN, or the model refuses the values.
    """
    if limits is not None:
        limits.check_arrays(signature, inputs)
    wanted = _wanted(signature, output_filter)
    for position, slot in enumerate(signature.inputs.values()):
        received = data_type_of(inputs[slot.name])
        if received != slot.data_type:
            raise _wrong_type(position, slot, received)
    for name in signature.weights:
        weight = wrong_weight(inputs[name])
        if weight is not None:
            raise invalid_argument(
                f"`{name}` must hold finite numbers, 0 or more. Received: {weight}."
            )
    values = (run or servable.run)(signature, [inputs[name] for name in signature.inputs])
    return {
        slot.name: _as_array(value, slot.data_type)
        for slot, value in zip(signature.outputs.values(), values, strict=True)
        if slot.name in wanted
    }


def _read_inputs(
    signature: Signature, tensors: Mapping[str, tensor_pb2.TensorProto]
) -> dict[str, np.ndarray]:
    """Reads the signature's inputs from the request or from the signature's defaults."""
    slots = enumerate(signature.inputs.values())
    if tensors.keys() == signature.inputs.keys():
        return {slot.name: _parse(position, slot, tensors[slot.name]) for position, slot in slots}
    sent, required = set(tensors), set(signature.inputs)
    if len(sent) > len(required) or (len(sent) < len(required) and not signature.defaults):
        raise invalid_argument(
            f"input size does not match signature: {len(sent)}!={len(required)} "
            f"len({_braced(sent)}) != len({_braced(required)}). "
            f"Sent extra: {_braced(sent - required)}. "
            f"Missing but required: {_braced(required - sent)}."
        )
    values = {}
    for position, slot in slots:
        tensor = tensors.get(slot.name, signature.defaults.get(slot.name))
        if tensor is None:
            raise invalid_argument(
                f"Signature input alias: {slot.name}(feed name: {slot.tensor_name}) not found in "
                "request and no default value provided. Inputs expected to be in the request "
                f"{_braced(sent)}, or default input alias set: "
                f"{','.join(sorted(signature.defaults))}"
            )
        values[slot.name] = _parse(position, slot, tensor)
    if not sent <= required:
        raise invalid_argument(
            "Inputs contains invalid name. Used request inputs: "
            f"{','.join(sorted(sent & required))}, request input: {','.join(sorted(sent))}"
        )
    return values


def _wanted(signature: Signature, output_filter: Sequence[str]) -> Collection[str]:
    if not output_filter:
        return signature.outputs
    for position, name in enumerate(output_filter):
        if name not in signature.outputs:
            raise invalid_argument(
                f"output tensor alias not found in signature: {name} Outputs expected to be in the "
                f"set {_braced(signature.outputs)}."
            )
        if name in output_filter[:position]:
            raise invalid_argument(f"duplicate output tensor alias: {name}")
    return output_filter


def _parse(position: int, slot: TensorSlot, tensor: tensor_pb2.TensorProto) -> np.ndarray:
    try:
        return to_numpy(tensor)
    except (ValueError, MemoryError) as error:
        # If TensorFlow has the type and numpy has not, the tensor is valid but of a wrong type.
        is_known = (
            tensor.dtype in types_pb2.DataType.values() and tensor.dtype != types_pb2.DT_INVALID
        )
        if is_known and not is_readable(tensor.dtype) and tensor.dtype != slot.data_type:
            raise _wrong_type(position, slot, tensor.dtype) from error
        raise invalid_argument(f"tensor parsing error: {slot.name}") from error


def _wrong_type(position: int, slot: TensorSlot, received: int) -> ServingError:
    return invalid_argument(
        f"Expects arg[{position}] to be {data_type_name(slot.data_type)} "
        f"but {data_type_name(received)} is provided"
    )


def _as_array(value: np.ndarray | bytes, data_type: int) -> np.ndarray:
    # A session returns a string of rank 0 as bytes, which numpy would cut at a zero byte.
    return np.array(value, dtype=object if data_type == types_pb2.DT_STRING else None, copy=False)


def _braced(names: Iterable[str]) -> str:
    return "{" + ",".join(sorted(names)) + "}"
