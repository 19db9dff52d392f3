"""Guard of HandleReloadConfigRequest: callers may load only models from the operator's folders.

A SavedModel is a program: a caller who chooses the folder chooses the code that runs. The request
log is restricted as well, because it writes files.
"""

import os
import posixpath
from collections.abc import Sequence

import grpc

from serving.model_server.errors import ServingError
from serving.model_server.models.model_config import ModelConfig
from trainer.contract.file_system import is_remote

_LOCAL_URI = "file://"
_DENIED = grpc.StatusCode.PERMISSION_DENIED


class ReloadGuard:
    """Checks configurations that come over the network.

    Args:
      is_allowed: Whether reloads are allowed at all.
      roots: Folders below which models may be; empty: the base paths of `configs`.
      configs: First configuration of the server; later ones may use its request logs.
    """

    def __init__(self, is_allowed: bool, roots: Sequence[str], configs: Sequence[ModelConfig]):
        self._is_allowed = is_allowed
        self._roots = [_resolved(root) for root in roots or [c.base_path for c in configs]]
        self._has_own_roots = bool(roots)
        self._logs = {c.request_log.filename_prefix for c in configs if c.request_log is not None}

    def check_allowed(self) -> None:
        """Checks that reloads are allowed; call this before the configuration is read.

        Raises:
          ServingError: PERMISSION_DENIED if reloads are not allowed.
        """
        if not self._is_allowed:
            raise ServingError(
                _DENIED,
                "HandleReloadConfigRequest must be allowed by the server's flag --allow_reload.",
            )

    def check(self, configs: Sequence[ModelConfig]) -> None:
        """Checks the folders of a configuration, with links and `..` resolved.

        Raises:
          ServingError: PERMISSION_DENIED if a folder is not below the roots.
        """
        for config in configs:
            if not self._is_below_root(config.base_path):
                raise ServingError(
                    _DENIED,
                    f"The base_path of model {config.name} must lie below the server's "
                    f"--model_roots. Received: {config.base_path}",
                )
            log = config.request_log
            if log is None or log.filename_prefix in self._logs:
                continue
            if not self._has_own_roots or not self._is_below_root(log.filename_prefix):
                raise ServingError(
                    _DENIED,
                    f"The filename_prefix of model {config.name} must be one that the server "
                    "started with, or lie below its --model_roots. Received: "
                    f"{log.filename_prefix}",
                )

    def _is_below_root(self, path: str) -> bool:
        place = _resolved(path)
        return any(
            place == root or place.startswith(f"{root.rstrip('/')}/") for root in self._roots
        )


def _resolved(path: str) -> str:
    """Returns a path with links and `..` resolved."""
    if path.startswith(_LOCAL_URI):
        path = path[len(_LOCAL_URI) :]
    if not is_remote(path):
        return os.path.realpath(path)
    scheme, _, rest = path.partition("://")
    return f"{scheme.lower()}://{posixpath.normpath(rest).lstrip('/')}"
