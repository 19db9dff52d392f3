"""Configuration files: messages of TensorFlow Serving in text format."""

import re
from typing import TypeVar

from google.protobuf import descriptor_pb2, descriptor_pool, message, message_factory, text_format

from trainer.contract.file_system import open_file

# A list of models has a few kilobytes and four levels.
_MOST_BYTES, _MOST_LEVELS = 4 << 20, 64
_BRACES = re.compile(r"[{}<>\[\]]")
_Message = TypeVar("_Message", bound=message.Message)


def read_text_proto(flag: str, path: str, empty: _Message) -> _Message:
    """Reads a text file into a message.

    Args:
      flag: Name of the flag that gives the file, for error messages.
      path: Path of the file.
      empty: Empty message of the expected type, which is filled.

    Returns:
      The message that was read.

    Raises:
      ValueError: If the file does not hold a message of this type.
      OSError: If the file cannot be read.
    """
    with open_file(path, "rb") as file:
        content = file.read(_MOST_BYTES + 1)
    try:
        if len(content) > _MOST_BYTES:
            raise ValueError(f"it has more than {_MOST_BYTES >> 20} MB")
        text = content.decode()
        if (level := _deepest(text)) > _MOST_LEVELS:
            raise ValueError(
                f"it is nested {level} levels deep, at most {_MOST_LEVELS} are allowed"
            )
        return text_format.Parse(text, empty)
    except (text_format.ParseError, ValueError, RecursionError) as error:
        raise ValueError(
            f"`--{flag}` must name a file with a {empty.DESCRIPTOR.name} as text. Received: "
            f"{path}: {error}."
        ) from error


def _deepest(text: str) -> int:
    """Returns the maximum depth of nested braces; those in strings and comments count as well."""
    level = deepest = 0
    for mark in _BRACES.finditer(text):
        level += 1 if mark[0] in "{<[" else -1
        deepest = max(deepest, level)
    return deepest


def new_monitoring_config() -> message.Message:
    """Makes an empty MonitoringConfig, which the package of TensorFlow Serving's messages lacks.

    Its only field is `prometheus_config { enable: true path: "..." }`.
    """
    return _MonitoringConfig()


def new_ssl_config() -> message.Message:
    """Makes an empty SSLConfig, which the package of TensorFlow Serving's messages lacks.

    Its fields are `server_key`, `server_cert` and `custom_ca`, each PEM, and `client_verify`.
    """
    return _SSLConfig()


def new_batching_parameters() -> message.Message:
    """Makes an empty BatchingParameters, which the package of TensorFlow Serving's messages lacks.

    A parameter is a message with the field `value`, except `allowed_batch_sizes` and
    `pad_variable_length_inputs`.
    """
    return _BatchingParameters()


def _monitoring_config_type() -> type[message.Message]:
    file = descriptor_pb2.FileDescriptorProto(name="monitoring_config", syntax="proto3")
    prometheus = file.message_type.add(name="PrometheusConfig")
    _add_fields(prometheus, enable=_FIELD.TYPE_BOOL, path=_FIELD.TYPE_STRING)
    monitoring = file.message_type.add(name="MonitoringConfig")
    monitoring.field.add(
        name="prometheus_config",
        number=1,
        type=_FIELD.TYPE_MESSAGE,
        type_name=".PrometheusConfig",
        label=_FIELD.LABEL_OPTIONAL,
    )
    return _message_type(file, "MonitoringConfig")


def _ssl_config_type() -> type[message.Message]:
    file = descriptor_pb2.FileDescriptorProto(name="ssl_config", syntax="proto3")
    text = _FIELD.TYPE_STRING
    _add_fields(
        file.message_type.add(name="SSLConfig"),
        server_key=text,
        server_cert=text,
        custom_ca=text,
        client_verify=_FIELD.TYPE_BOOL,
    )
    return _message_type(file, "SSLConfig")


def _batching_parameters_type() -> type[message.Message]:
    file = descriptor_pb2.FileDescriptorProto(name="batching_parameters", syntax="proto3")
    wrappers = {"Int64Value": _FIELD.TYPE_INT64, "BoolValue": _FIELD.TYPE_BOOL}
    wrappers["StringValue"] = _FIELD.TYPE_STRING
    for name, kind in wrappers.items():
        _add_fields(file.message_type.add(name=name), value=kind)
    parameters = file.message_type.add(name="BatchingParameters")
    for number, (name, wrapper) in enumerate(_WRAPPED_PARAMETERS.items(), 1):
        parameters.field.add(
            name=name,
            number=number,
            type=_FIELD.TYPE_MESSAGE,
            type_name=f".{wrapper}",
            label=_FIELD.LABEL_OPTIONAL,
        )
    number = len(_WRAPPED_PARAMETERS) + 1
    parameters.field.add(
        name="allowed_batch_sizes",
        number=number,
        type=_FIELD.TYPE_INT64,
        label=_FIELD.LABEL_REPEATED,
    )
    parameters.field.add(
        name="pad_variable_length_inputs",
        number=number + 1,
        type=_FIELD.TYPE_BOOL,
        label=_FIELD.LABEL_OPTIONAL,
    )
    return _message_type(file, "BatchingParameters")


def _add_fields(to: descriptor_pb2.DescriptorProto, **types: int) -> None:
    """Adds fields to a message type, numbered from 1 on."""
    for number, (name, kind) in enumerate(types.items(), 1):
        to.field.add(name=name, number=number, type=kind, label=_FIELD.LABEL_OPTIONAL)


def _message_type(file: descriptor_pb2.FileDescriptorProto, name: str) -> type[message.Message]:
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.MessageFactory(pool).GetPrototype(pool.FindMessageTypeByName(name))


_FIELD = descriptor_pb2.FieldDescriptorProto
# Only the text format is read, so that the numbers of the fields do not matter.
_WRAPPED_PARAMETERS = {
    "max_batch_size": "Int64Value",
    "batch_timeout_micros": "Int64Value",
    "max_enqueued_batches": "Int64Value",
    "num_batch_threads": "Int64Value",
    "thread_pool_name": "StringValue",
    "enable_large_batch_splitting": "BoolValue",
    "max_execution_batch_size": "Int64Value",
}
_MonitoringConfig = _monitoring_config_type()
_SSLConfig = _ssl_config_type()
_BatchingParameters = _batching_parameters_type()
