"""The configuration of models: TensorFlow Serving's ModelServerConfig and its error messages."""

import dataclasses
import os
import re
from collections.abc import Mapping

from google.protobuf import message
from tensorflow_serving.config import model_server_config_pb2

from serving.model_server.errors import invalid_argument
from serving.model_server.models.version_policy import (
    AllVersions,
    LatestVersions,
    SpecificVersions,
    VersionPolicy,
)
from serving.model_server.session.request_log import TYPE, RequestLogConfig
from trainer.contract.file_system import scheme_fault
from trainer.contract.given_paths import require_no_pattern

PLATFORM = "tensorflow"
_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.]*://")


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """The configuration of one model.

    Attributes:
      name: Name of the model in requests.
      base_path: Folder of the numbered versions.
      policy: Policy that chooses the versions to serve.
      version_labels: Version numbers by label; requests may use a label instead of a number.
      request_log: Configuration of the request log; None: no log.
    """

    name: str
    base_path: str
    policy: VersionPolicy = LatestVersions()
    version_labels: Mapping[str, int] = dataclasses.field(default_factory=dict)
    request_log: RequestLogConfig | None = None


def read_model_configs(config: model_server_config_pb2.ModelServerConfig) -> list[ModelConfig]:
    """Reads a server's configuration.

    Args:
      config: Message of a request or a file.

    Returns:
      The configurations of the models.

    Raises:
      ServingError: INVALID_ARGUMENT if the message is not a list of models, a model is listed
        twice, a base path is relative, a platform is not TensorFlow, or a field is wrong or not
        implemented.
    """
    if config.WhichOneof("config") != "model_config_list":
        raise invalid_argument(
            "ServerModelConfig type not supported by HandleReloadConfigRequest. Only "
            "ModelConfigList is currently supported"
        )
    models = config.model_config_list.config
    names = set()
    for model in models:
        if model.name in names:
            raise invalid_argument(
                f"Illegal to list model {model.name} multiple times in config list"
            )
        names.add(model.name)
    for model in models:
        if not os.path.isabs(model.base_path) and not _URI.match(model.base_path):
            raise invalid_argument(
                f"Expected model {model.name} to have an absolute path or URI; got "
                f"base_path()={model.base_path}"
            )
        fault = scheme_fault(model.base_path)
        if fault is not None:
            raise invalid_argument(
                f"The base_path of model {model.name} must {fault}. Received: {model.base_path}"
            )
        try:
            require_no_pattern(model.base_path, "base_path")
        except ValueError as error:
            raise invalid_argument(f"Model {model.name}: {error}") from error
    for model in models:
        platform = _platform(model)
        if platform != PLATFORM:
            raise invalid_argument(f"Model {model.name} requests unsupported platform {platform}")
    _refuse_unknown_fields(config)
    return [
        ModelConfig(
            model.name,
            model.base_path,
            _policy(model),
            dict(model.version_labels),
            _request_log(model),
        )
        for model in models
    ]


def _platform(model: model_server_config_pb2.ModelConfig) -> str:
    if model.model_type == model_server_config_pb2.MODEL_TYPE_UNSPECIFIED:
        if not model.model_platform:
            raise invalid_argument(
                "Illegal setting neither ModelServerConfig::model_type (deprecated) nor "
                "ModelServerConfig::model_platform."
            )
        return model.model_platform
    if model.model_platform:
        raise invalid_argument(
            "Illegal setting both ModelServerConfig::model_type (deprecated) and "
            "ModelServerConfig::model_platform."
        )
    if model.model_type != model_server_config_pb2.TENSORFLOW:
        raise invalid_argument(
            f"ModelServerConfig::model_type choice {model.model_type} not supported."
        )
    return PLATFORM


def _request_log(model: model_server_config_pb2.ModelConfig) -> RequestLogConfig | None:
    """Reads the request log; in TensorFlow Serving the build decides which log types exist."""
    if not model.HasField("logging_config"):
        return None
    collector = model.logging_config.log_collector_config
    sampling = model.logging_config.sampling_config
    prefix = collector.filename_prefix
    fault = scheme_fault(prefix)
    if fault is not None:
        raise invalid_argument(
            f"`logging_config.log_collector_config.filename_prefix` of model {model.name} must "
            f"{fault}. Received: {prefix!r}."
        )
    for field, demand, value, is_right in (
        (
            "log_collector_config.type",
            f'be "{TYPE}", the only type that this local model server has',
            collector.type,
            collector.type == TYPE,
        ),
        (
            "log_collector_config.filename_prefix",
            "be an absolute path or URI",
            prefix,
            (os.path.isabs(prefix) or _URI.match(prefix)) and not prefix.endswith("/"),
        ),
        (
            "sampling_config.sampling_rate",
            "be above 0 and at most 1; leave `logging_config` out to log nothing",
            sampling.sampling_rate,
            0 < sampling.sampling_rate <= 1,
        ),
        (
            "sampling_config.attributes",
            "be left out, as this local model server logs none of them",
            sampling.attributes,
            sampling.attributes == 0,
        ),
    ):
        if not is_right:
            raise invalid_argument(
                f"`logging_config.{field}` of model {model.name} must {demand}. Received: "
                f"{value!r}."
            )
    return RequestLogConfig(prefix, sampling.sampling_rate)


def _refuse_unknown_fields(config: message.Message) -> None:
    """Refuses fields that only later releases know; the text format refuses unknown names."""
    numbers = [field.field_number for field in config.UnknownFields()]
    if numbers:
        raise invalid_argument(
            f"{config.DESCRIPTOR.name} must have fields that this local model server knows. "
            f"Received: field number {', '.join(map(str, sorted(set(numbers))))}."
        )
    for field, value in config.ListFields():
        is_repeated = field.label == field.LABEL_REPEATED
        for part in value if is_repeated else [value]:
            if isinstance(part, message.Message):
                _refuse_unknown_fields(part)


def _policy(model: model_server_config_pb2.ModelConfig) -> VersionPolicy:
    policy = model.model_version_policy
    choice = policy.WhichOneof("policy_choice")
    if choice == "all":
        return AllVersions()
    if choice == "specific":
        return SpecificVersions(tuple(policy.specific.versions))
    return LatestVersions(max(policy.latest.num_versions, 1))
