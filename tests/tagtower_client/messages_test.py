"""The client's messages beside TensorFlow's own: fields, numbers, names, bytes both ways."""

import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from google.protobuf import any_pb2, wrappers_pb2
from tensorflow.core.framework import tensor_pb2, tensor_shape_pb2, types_pb2
from tensorflow.core.protobuf import error_codes_pb2, meta_graph_pb2
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_pb2,
    model_service_pb2,
    predict_pb2,
    prediction_service_pb2,
)

from tagtower_client import messages
from tagtower_client.tensor_proto import (
    data_type_name,
    data_type_of,
    to_numpy,
    write_compact,
    write_numpy,
)

ORIGINALS = {
    "Dim": tensor_shape_pb2.TensorShapeProto.Dim,
    "TensorShapeProto": tensor_shape_pb2.TensorShapeProto,
    "TensorProto": tensor_pb2.TensorProto,
    "Int64Value": wrappers_pb2.Int64Value,
    "ModelSpec": model_pb2.ModelSpec,
    "PredictRequest": predict_pb2.PredictRequest,
    "PredictResponse": predict_pb2.PredictResponse,
    "TensorInfo": meta_graph_pb2.TensorInfo,
    "SignatureDef": meta_graph_pb2.SignatureDef,
    "SignatureDefMap": get_model_metadata_pb2.SignatureDefMap,
    "Any": any_pb2.Any,
    "GetModelMetadataRequest": get_model_metadata_pb2.GetModelMetadataRequest,
    "GetModelMetadataResponse": get_model_metadata_pb2.GetModelMetadataResponse,
    "StatusProto": type(get_model_status_pb2.ModelVersionStatus().status),
    "ModelVersionStatus": get_model_status_pb2.ModelVersionStatus,
    "GetModelStatusRequest": get_model_status_pb2.GetModelStatusRequest,
    "GetModelStatusResponse": get_model_status_pb2.GetModelStatusResponse,
}
ARRAYS = [
    np.array([[1.5, -2.0], [np.inf, 0.0]], np.float32),
    np.array([1e300, -0.0]),
    np.array([3, -(2**40)], np.int64),
    np.array([-7, 7], np.int32),
    np.array([0.5, 2.0], np.float16),
    np.array([True, False]),
    np.array(2**63, np.uint64),
    np.array([1 + 2j], np.complex64),
    np.array([b"jazz", b"", b"x" * 300], object),
    np.zeros((0, 3), np.float32),
]


def form(field):
    """Returns what decides the bytes of a field: its number, its type, whether it repeats."""
    kind = field.TYPE_INT32 if field.type == field.TYPE_ENUM else field.type
    is_map = kind == field.TYPE_MESSAGE and field.message_type.GetOptions().map_entry
    inner = field.message_type.name if kind == field.TYPE_MESSAGE and not is_map else None
    entry = [form(part) for part in field.message_type.fields] if is_map else None
    return field.number, kind, field.label, inner, entry


def array_type(array):
    return tf.string if array.dtype == object else array.dtype


def test_every_message_is_compared():
    assert messages._CLASSES.keys() == ORIGINALS.keys()


@pytest.mark.parametrize("name", ORIGINALS)
def test_fields_have_the_numbers_and_types_of_tensorflow_servings(name):
    own = messages._CLASSES[name].DESCRIPTOR.fields_by_name
    originals = ORIGINALS[name].DESCRIPTOR.fields_by_name

    assert own
    assert {n: form(field) for n, field in own.items()} == {n: form(originals[n]) for n in own}


def test_enums_have_the_names_and_numbers_of_tensorflows():
    data_types = {name: number for name, number in types_pb2.DataType.items() if number < 100}
    assert {member.name: member.value for member in messages.DataType} == data_types
    states = dict(get_model_status_pb2.ModelVersionStatus.State.items())
    assert {member.name: member.value for member in messages.VersionState} == states
    assert [str(data_type_of(array)) for array in (np.zeros(1), np.array([b"a"], object))] == [
        str(types_pb2.DT_DOUBLE),
        str(types_pb2.DT_STRING),
    ]
    assert (data_type_name(types_pb2.DT_FLOAT), data_type_name(types_pb2.DT_STRING_REF)) == (
        "float",
        "string_ref",
    )


def test_methods_have_the_paths_and_messages_of_the_services():
    services = {**{}, **prediction_service_pb2.DESCRIPTOR.services_by_name}
    services.update(model_service_pb2.DESCRIPTOR.services_by_name)
    for path, (request, response) in messages.METHODS.items():
        service, method = path.removeprefix("/tensorflow.serving.").split("/")
        found = services[service].methods_by_name[method]
        assert found.input_type.name == request.DESCRIPTOR.name
        assert found.output_type.name == response.DESCRIPTOR.name


@pytest.mark.parametrize("write", [write_numpy, write_compact])
@pytest.mark.parametrize("array", ARRAYS, ids=lambda array: f"{array.dtype}{list(array.shape)}")
def test_a_request_has_the_same_bytes_and_is_read_by_both(array, write):
    def fill(request):
        request.model_spec.name, request.model_spec.signature_name = "tags", "retrieve"
        request.model_spec.version.value = 3
        request.output_filter.append("scores")
        write(request.inputs["x"], array)
        return request

    own = fill(messages.PredictRequest()).SerializeToString(deterministic=True)
    original = fill(predict_pb2.PredictRequest()).SerializeToString(deterministic=True)

    assert own == original
    parsed = predict_pb2.PredictRequest.FromString(own)
    by_tensorflow = tf.io.parse_tensor(parsed.inputs["x"].SerializeToString(), array_type(array))
    np.testing.assert_array_equal(by_tensorflow.numpy(), array)
    read = to_numpy(messages.PredictRequest.FromString(original).inputs["x"])
    np.testing.assert_array_equal(read, array)
    assert read.dtype == array.dtype


def test_an_answer_of_tensorflow_serving_is_read_and_unknown_fields_do_no_harm():
    response = predict_pb2.PredictResponse()
    response.model_spec.version.value = 2**40
    tensor = response.outputs["scores"]
    tensor.CopyFrom(tf.make_tensor_proto([[1.5, 2.5]]))
    tensor.resource_handle_val.add(name="a field that the client does not know")

    read = messages.PredictResponse.FromString(response.SerializeToString())

    assert read.model_spec.version.value == 2**40
    assert to_numpy(read.outputs["scores"]).tolist() == [[1.5, 2.5]]


def test_a_failed_version_is_read_with_its_error():
    response = get_model_status_pb2.GetModelStatusResponse()
    status = response.model_version_status.add(version=7, state=50)
    status.status.error_code = error_codes_pb2.NOT_FOUND
    status.status.error_message = "gone"

    (read,) = messages.GetModelStatusResponse.FromString(
        response.SerializeToString()
    ).model_version_status

    assert (read.version, messages.VersionState(read.state).name) == (7, "END")
    assert read.status.error_message == "gone"


BESIDE_TENSORFLOW = """
import sys
import numpy as np
{first}
{second}
from tagtower_client import TagClient, messages
from tagtower_client.tensor_proto import to_numpy, write_compact
from tensorflow_serving.apis import predict_pb2
assert tf.constant([1.0]).numpy().tolist() == [1.0]
request = predict_pb2.PredictRequest()
write_compact(request.inputs["y"], np.array([2.5]))
own = messages.PredictRequest.FromString(request.SerializeToString())
assert to_numpy(own.inputs["y"]).tolist() == [2.5]
assert type(own) is not type(request)
TagClient("127.0.0.1:1").close()
print("both")
"""
WITHOUT_TENSORFLOW = """
import sys
import tagtower_client
assert "grpc" not in sys.modules  # the trainer takes names from it
for name in tagtower_client.__all__:
    getattr(tagtower_client, name)
heavy = {"tensorflow", "tensorflow_serving", "keras", "trainer", "serving", "pydantic", "pyarrow"}
print(sorted(heavy & {name.partition(".")[0] for name in sys.modules}))
"""


def run(code):
    finished = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert finished.returncode == 0, finished.stderr
    return finished.stdout.splitlines()[-1]


@pytest.mark.parametrize("order", ["tensorflow first", "client first"])
def test_client_works_beside_tensorflow_in_one_process(order):
    imports = ["import tensorflow as tf", "from tagtower_client import TagClient"]
    first, second = imports if order == "tensorflow first" else imports[::-1]

    assert run(BESIDE_TENSORFLOW.format(first=first, second=second)) == "both"


def test_client_imports_nothing_of_tensorflow_nor_of_the_project():
    assert run(WITHOUT_TENSORFLOW) == "[]"
