"""Version labels: names that a configuration gives to versions, such as `canary` for 2."""

from collections.abc import Callable, Iterable, Mapping

import grpc

from serving.model_server.errors import ServingError, invalid_argument
from serving.model_server.models.model_config import ModelConfig


class VersionLabels:
    """The labels of all models, replaced as a whole, so that a look-up needs no lock.

    Args:
      allows_unavailable: Whether a new label may name a version that is not available; an existing
        label never moves to an unavailable version.
    """

    def __init__(self, allows_unavailable: bool = False):
        self._allows_unavailable = allows_unavailable
        self._versions: Mapping[tuple[str, str], int] = {}

    def assign(
        self, configs: Iterable[ModelConfig], is_available: Callable[[str, int], bool]
    ) -> None:
        """Replaces all labels by those of a configuration.

        Args:
          configs: Configurations of the models, with their labels.
          is_available: Function that tells whether a version is available, given the model's name
            and the version.

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
        """Returns the version that a label names.

        Args:
          model_name: Name of the model.
          label: Label of the version.

        Returns:
          Number of the version.

        Raises:
          ServingError: INVALID_ARGUMENT if the model has no such label.
        """
        version = self._versions.get((model_name, label))
        if version is None:
            raise invalid_argument(f"Unrecognized servable version label: {label}")
        return version
