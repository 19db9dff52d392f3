"""Messages and methods of TensorFlow Serving's gRPC API, as far as the client needs them.

The messages are the client's own, in a package name and a descriptor pool of their own: protobuf's
one pool for a process refuses a second definition of TensorFlow's files, so the client works beside
TensorFlow, imported before or after it, and without it. On the wire they are the same: a message is
its field numbers and types, and a method is its path. Fields that the client does not use are left
out; enums are `int32`, which has the same bytes. A test compares all of it with TensorFlow's own.

The descriptors are built when the module is imported, by functions that protobuf has had since
3.20: code that `protoc` generates works with the next major version at most.
"""

from __future__ import annotations

import enum
import re
from typing import Any, Callable

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

_PACKAGE = "tagtower_client"
# One message a row, its fields as in a `.proto` file.
_MESSAGES = {
    "Dim": "int64 size = 1; string name = 2",
    "TensorShapeProto": "repeated Dim dim = 2; bool unknown_rank = 3",
    "TensorProto": (
        "int32 dtype = 1; TensorShapeProto tensor_shape = 2; int32 version_number = 3; "
        "bytes tensor_content = 4; repeated float float_val = 5; repeated double double_val = 6; "
        "repeated int32 int_val = 7; repeated bytes string_val = 8; "
        "repeated float scomplex_val = 9; repeated int64 int64_val = 10; "
        "repeated bool bool_val = 11; repeated double dcomplex_val = 12; "
        "repeated int32 half_val = 13; repeated uint32 uint32_val = 16; "
        "repeated uint64 uint64_val = 17"
    ),
    "Int64Value": "int64 value = 1",
    "ModelSpec": (
        "string name = 1; Int64Value version = 2; string signature_name = 3; "
        "string version_label = 4"
    ),
    "PredictRequest": (
        "ModelSpec model_spec = 1; map<string, TensorProto> inputs = 2; "
        "repeated string output_filter = 3"
    ),
    "PredictResponse": "map<string, TensorProto> outputs = 1; ModelSpec model_spec = 2",
    "TensorInfo": "string name = 1; int32 dtype = 2; TensorShapeProto tensor_shape = 3",
    "SignatureDef": (
        "map<string, TensorInfo> inputs = 1; map<string, TensorInfo> outputs = 2; "
        "string method_name = 3"
    ),
    "SignatureDefMap": "map<string, SignatureDef> signature_def = 1",
    "Any": "string type_url = 1; bytes value = 2",
    "GetModelMetadataRequest": "ModelSpec model_spec = 1; repeated string metadata_field = 2",
    "GetModelMetadataResponse": "ModelSpec model_spec = 1; map<string, Any> metadata = 2",
    "StatusProto": "int32 error_code = 1; string error_message = 2",
    "ModelVersionStatus": "int64 version = 1; int32 state = 2; StatusProto status = 3",
    "GetModelStatusRequest": "ModelSpec model_spec = 1",
    "GetModelStatusResponse": "repeated ModelVersionStatus model_version_status = 1",
}
_FIELD = re.compile(
    r"(?:map<string, (?P<map>\w+)>|(?P<repeated>repeated )?(?P<type>\w+)) "
    r"(?P<name>\w+) = (?P<number>\d+)"
)


class DataType(enum.IntEnum):
    """The types of tensors, as TensorFlow numbers them."""

    DT_INVALID = 0
    DT_FLOAT = 1
    DT_DOUBLE = 2
    DT_INT32 = 3
    DT_UINT8 = 4
    DT_INT16 = 5
    DT_INT8 = 6
    DT_STRING = 7
    DT_COMPLEX64 = 8
    DT_INT64 = 9
    DT_BOOL = 10
    DT_QINT8 = 11
    DT_QUINT8 = 12
    DT_QINT32 = 13
    DT_BFLOAT16 = 14
    DT_QINT16 = 15
    DT_QUINT16 = 16
    DT_UINT16 = 17
    DT_COMPLEX128 = 18
    DT_HALF = 19
    DT_RESOURCE = 20
    DT_VARIANT = 21
    DT_UINT32 = 22
    DT_UINT64 = 23
    DT_FLOAT8_E5M2 = 24
    DT_FLOAT8_E4M3FN = 25
    DT_INT4 = 29
    DT_UINT4 = 30


class VersionState(enum.IntEnum):
    """The states of a version, as TensorFlow Serving numbers them."""

    UNKNOWN = 0
    START = 10
    LOADING = 20
    AVAILABLE = 30
    UNLOADING = 40
    END = 50


def _add_field(message: Any, row: str) -> None:
    found = _FIELD.fullmatch(row)
    if found is None:
        raise ValueError(f"`_MESSAGES` must have fields as in a .proto file. Received: {row!r}.")
    name, type_name = found["name"], found["map"] or found["type"]
    field = message.field.add(name=name, number=int(found["number"]))
    is_repeated = bool(found["repeated"] or found["map"])
    field.label = field.LABEL_REPEATED if is_repeated else field.LABEL_OPTIONAL
    if found["map"]:
        # What a map is in a descriptor: a list of messages with a key and a value.
        entry = message.nested_type.add(name=name.title().replace("_", "") + "Entry")
        entry.options.map_entry = True
        _add_field(entry, "string key = 1")
        _add_field(entry, f"{type_name} value = 2")
        type_name = f"{message.name}.{entry.name}"
    if found["map"] or type_name in _MESSAGES:
        field.type, field.type_name = field.TYPE_MESSAGE, f".{_PACKAGE}.{type_name}"
    else:
        field.type = getattr(field, f"TYPE_{type_name.upper()}")


def _make_classes() -> dict[str, Any]:
    file = descriptor_pb2.FileDescriptorProto(
        name=f"{_PACKAGE}/messages.proto", package=_PACKAGE, syntax="proto3"
    )
    for name, rows in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for row in rows.split("; "):
            _add_field(message, row)
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(file.SerializeToString())
    make: Callable[[Any], Any] | None = getattr(message_factory, "GetMessageClass", None)
    if make is None:  # protobuf before 4.22
        make = message_factory.MessageFactory(pool).GetPrototype
    return {name: make(pool.FindMessageTypeByName(f"{_PACKAGE}.{name}")) for name in _MESSAGES}


_CLASSES = _make_classes()
TensorProto = _CLASSES["TensorProto"]
ModelSpec = _CLASSES["ModelSpec"]
PredictRequest = _CLASSES["PredictRequest"]
PredictResponse = _CLASSES["PredictResponse"]
SignatureDef = _CLASSES["SignatureDef"]
SignatureDefMap = _CLASSES["SignatureDefMap"]
GetModelMetadataRequest = _CLASSES["GetModelMetadataRequest"]
GetModelMetadataResponse = _CLASSES["GetModelMetadataResponse"]
GetModelStatusRequest = _CLASSES["GetModelStatusRequest"]
GetModelStatusResponse = _CLASSES["GetModelStatusResponse"]

PREDICT = "/tensorflow.serving.PredictionService/Predict"
GET_MODEL_METADATA = "/tensorflow.serving.PredictionService/GetModelMetadata"
GET_MODEL_STATUS = "/tensorflow.serving.ModelService/GetModelStatus"
# The messages of each method: its request and its response.
METHODS: dict[str, tuple[Any, Any]] = {
    PREDICT: (PredictRequest, PredictResponse),
    GET_MODEL_METADATA: (GetModelMetadataRequest, GetModelMetadataResponse),
    GET_MODEL_STATUS: (GetModelStatusRequest, GetModelStatusResponse),
}
