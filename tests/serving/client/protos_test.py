"""The protos for callers in other languages, field by field against TensorFlow Serving's own."""

import re

import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from tensorflow.core.framework import tensor_pb2, tensor_shape_pb2, types_pb2
from tensorflow.core.protobuf import meta_graph_pb2
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    model_pb2,
    predict_pb2,
    prediction_service_pb2,
)

from tests.serving.client.other_languages import PROTOS

API = "tensorflow_serving/apis"
# The modules that were generated from TensorFlow Serving's own files.
OWN = {
    "tensorflow/core/framework/tensor.proto": tensor_pb2,
    "tensorflow/core/framework/tensor_shape.proto": tensor_shape_pb2,
    "tensorflow/core/framework/types.proto": types_pb2,
    "tensorflow/core/protobuf/meta_graph.proto": meta_graph_pb2,
    f"{API}/get_model_metadata.proto": get_model_metadata_pb2,
    f"{API}/model.proto": model_pb2,
    f"{API}/predict.proto": predict_pb2,
    f"{API}/prediction_service.proto": prediction_service_pb2,
}
# What our messages leave out of their fields: no caller sends or gets it.
LEFT_OUT = {
    "TensorProto": {
        "repeated ResourceHandleProto resource_handle_val = 14",
        "repeated VariantTensorDataProto variant_val = 15",
    },
    "TensorInfo": {
        "encoding: CooSparse coo_sparse = 4",
        "encoding: CompositeTensor composite_tensor = 5",
    },
    "PredictRequest": {
        "PredictStreamedOptions predict_streamed_options = 5",
        "_client_id: bytes client_id = 6",
    },
}
TYPES = {
    getattr(FieldDescriptor, name): name.removeprefix("TYPE_").lower()
    for name in dir(FieldDescriptor)
    if name.startswith("TYPE_")
}


def declared(path: str) -> dict[str, set[str]]:
    """Reads one of our files: the lines of each message, enum and service, by name.

    A field is `[<oneof>: ][repeated ]<type> <name> = <number>`, each type without its package.
    """
    text = re.sub(r"//.*", "", (PROTOS / path).read_text("utf-8"))
    found, open_blocks = {}, []
    for statement, end in re.findall(r"([^{};]*)([{};])", text):
        words = statement.split()
        if end == "{":
            open_blocks.append(words)
        elif end == "}":
            open_blocks.pop()
        elif open_blocks:
            line = re.sub(r"\b(?:\w+\.)+(?=\w)", "", " ".join(words))
            names = [name for kind, name in open_blocks if kind != "oneof"]
            oneof = "".join(f"{name}: " for kind, name in open_blocks if kind == "oneof")
            found.setdefault(".".join(names), set()).add(oneof + line)
    return found


def generated(module) -> dict[str, set[str]]:
    """Reads a generated module in the same form."""
    file = module.DESCRIPTOR
    found = {}
    for name, message in file.message_types_by_name.items():
        found |= lines_of(name, message)
    for name, enum in file.enum_types_by_name.items():
        found[name] = {f"{value.name} = {value.number}" for value in enum.values}
    for name, service in file.services_by_name.items():
        found[name] = {
            f"rpc {method.name}({method.input_type.name}) returns ({method.output_type.name})"
            for method in service.methods
        }
    return found


def lines_of(name: str, message: Descriptor) -> dict[str, set[str]]:
    found = {name: {line_of(field) for field in message.fields}}
    for nested in message.nested_types:
        if not nested.GetOptions().map_entry:
            found |= lines_of(f"{name}.{nested.name}", nested)
    return found


def line_of(field: FieldDescriptor) -> str:
    is_list = field.label == FieldDescriptor.LABEL_REPEATED
    oneof = f"{field.containing_oneof.name}: " if field.containing_oneof else ""
    if is_list and field.message_type and field.message_type.GetOptions().map_entry:
        key, value = field.message_type.fields
        return f"map<{type_of(key)}, {type_of(value)}> {field.name} = {field.number}"
    repeated = "repeated " if is_list else ""
    return f"{oneof}{repeated}{type_of(field)} {field.name} = {field.number}"


def type_of(field: FieldDescriptor) -> str:
    named = field.message_type or field.enum_type
    return named.name if named else TYPES[field.type]


def test_every_file_has_a_counterpart():
    assert {str(path.relative_to(PROTOS)) for path in PROTOS.rglob("*.proto")} == set(OWN)


@pytest.mark.parametrize("path", OWN)
def test_package_is_that_of_tensorflow_serving(path):
    # The package is part of the gRPC method's path.
    text = (PROTOS / path).read_text("utf-8")
    assert re.findall(r"^package (.*);$", text, re.MULTILINE) == [OWN[path].DESCRIPTOR.package]
    assert 'syntax = "proto3";' in text


@pytest.mark.parametrize("path", OWN)
def test_what_is_declared_is_what_tensorflow_serving_declares(path):
    ours, own = declared(path), generated(OWN[path])

    for name, lines in ours.items():
        if name == "DataType":
            expected = {line for line in own[name] if "_REF = " not in line}
        elif name == "PredictionService":
            expected = {line for line in own[name] if re.match(r"rpc (Predict|GetModelM)", line)}
        else:
            expected = own[name] - LEFT_OUT.get(name, set())
        assert lines == expected, name


def test_the_form_of_a_line():
    assert "version_choice: Int64Value version = 2" in declared(f"{API}/model.proto")["ModelSpec"]
    tensor = declared("tensorflow/core/framework/tensor.proto")["TensorProto"]
    assert "repeated bytes string_val = 8" in tensor
    assert generated(predict_pb2)["PredictResponse"] == {
        "ModelSpec model_spec = 2",
        "map<string, TensorProto> outputs = 1",
    }
