"""What is to be served: the real server's ModelServerConfig, checked with its words."""

import dataclasses
import os
import re
from collections.abc import Mapping

from tensorflow_serving.config import model_server_config_pb2

from serving.model_server.errors import invalid_argument
from serving.model_server.version_policy import (
    AllVersions,
    LatestVersions,
    SpecificVersions,
    VersionPolicy,
)
from trainer.file_system import scheme_fault

PLATFORM = "tensorflow"
_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.]*://")


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """A model to serve.

    Attributes:
      name: What requests call it.
      base_path: Folder of its numbered versions.
      policy: Which of the versions are served.
      version_labels: Names for versions that requests may use instead of the number.
    """

    name: str
    base_path: str
    policy: VersionPolicy = LatestVersions()
    version_labels: Mapping[str, int] = dataclasses.field(default_factory=dict)


def read_model_configs(config: model_server_config_pb2.ModelServerConfig) -> list[ModelConfig]:
    """Reads a server's configuration.

    Args:
      config: The message, of a request or a file.

    Returns:
      The models in it.

    Raises:
      ServingError: INVALID_ARGUMENT if it is no list of models, one is there twice, a base path is
        relative, or a platform is not TensorFlow.
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
    for model in models:
        platform = _platform(model)
        if platform != PLATFORM:
            raise invalid_argument(f"Model {model.name} requests unsupported platform {platform}")
    return [
        ModelConfig(model.name, model.base_path, _policy(model), dict(model.version_labels))
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


def _policy(model: model_server_config_pb2.ModelConfig) -> VersionPolicy:
    policy = model.model_version_policy
    choice = policy.WhichOneof("policy_choice")
    if choice == "all":
        return AllVersions()
    if choice == "specific":
        return SpecificVersions(tuple(policy.specific.versions))
    return LatestVersions(max(policy.latest.num_versions, 1))
