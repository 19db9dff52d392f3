"""Labels: names for versions that a configuration gives, such as `canary` -> 2."""

from collections.abc import Callable, Iterable, Mapping

import grpc

from serving.model_server.errors import ServingError, invalid_argument
from serving.model_server.models.model_config import ModelConfig


class VersionLabels:
    """The labels of all models; replaced as a whole, so that reading takes no lock.

    Args:
      allows_unavailable: Whether a new label may name a version that is not available. One that
        exists never moves to such a version.
    """

    def __init__(self, allows_unavailable: bool = False):
        self._allows_unavailable = allows_unavailable
        self._versions: Mapping[tuple[str, str], int] = {}

    def assign(
        self, configs: Iterable[ModelConfig], is_available: Callable[[str, int], bool]
    ) -> None:
        """Replaces all labels by those of a configuration.

        Args:
          configs: The models with their labels.
          is_available: Tells of a model's name and a version whether it can be asked.

        Raises:
          ServingError: FAILED_PRECONDITION if a label names a version that is not available; then
            all labels stay as they were.
        """
        versions: dict[tuple[str, str], int] = {}
        for config in configs:
            for label, version in config.version_labels.items():
                is_new = self._versions.get((config.name, label), version) == version
                if not is_available(config.name, version) and not (
                    self._allows_unavailable and is_new
                ):
                    raise ServingError(
                        grpc.StatusCode.FAILED_PRECONDITION,
                        f"Request to assign label to version {version} of model {config.name}, "
                        "which is not currently available for inference",
                    )
                versions[config.name, label] = version
        self._versions = versions

    def version_of(self, model_name: str, label: str) -> int:
        """The version a label stands for.

        Args:
          model_name: The model.
          label: The label.

        Returns:
          The version.

        Raises:
          ServingError: INVALID_ARGUMENT if the model has no such label.
        """
        version = self._versions.get((model_name, label))
        if version is None:
            raise invalid_argument(f"Unrecognized servable version label: {label}")
        return version
