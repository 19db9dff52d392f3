"""The file of `--model_config_file`, read at the start and then at regular intervals."""

import logging
import threading

from tensorflow_serving.config import model_server_config_pb2

from serving.model_server.errors import ServingError
from serving.model_server.models.manager import ModelManager
from serving.model_server.models.model_config import ModelConfig, read_model_configs
from serving.model_server.models.text_proto import read_text_proto

_logger = logging.getLogger("tagtower.model_server")

FLAG = "model_config_file"


def read_config_file(path: str) -> list[ModelConfig]:
    """Reads a ModelServerConfig from a text file.

    Args:
      path: Path of the file.

    Returns:
      The configurations of the models.

    Raises:
      ServingError: If the configuration is refused.
      ValueError: If the file is not a ModelServerConfig.
      OSError: If the file cannot be read.
    """
    return read_model_configs(
        read_text_proto(FLAG, path, model_server_config_pb2.ModelServerConfig())
    )


class ConfigFileWatcher:
    """Reads the file again and again, and reloads the manager's configuration.

    A file that cannot be read or is refused changes nothing, and is reported once.

    Args:
      path: Path of the file.
      manager: Manager whose configuration is reloaded.
      wait_s: Seconds between two checks of the file.
    """

    def __init__(self, path: str, manager: ModelManager, wait_s: float):
        self._path = path
        self._manager = manager
        self._wait_s = wait_s
        self._problem = ""
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="poll-config-file", daemon=True)

    def start(self) -> None:
        """Starts to watch the file; returns at once."""
        self._thread.start()

    def stop(self) -> None:
        """Stops watching the file."""
        self._stopping.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stopping.wait(self._wait_s):
            problem = ""
            try:
                configs = read_config_file(self._path)
                self._manager.reload(configs, lambda: not self._stopping.is_set())
            except ServingError as error:
                problem = error.message
            except (OSError, ValueError) as error:
                problem = str(error)
            if problem and problem != self._problem:
                _logger.error("Reloading %s failed: %s", self._path, problem)
            self._problem = problem
