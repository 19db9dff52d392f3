"""The file of `--bearer_token_file`: a caller must send one of its tokens."""

import hashlib
import hmac
import logging
import os
import re
import stat
import threading
import time

from trainer.contract.file_system import is_remote, open_file

_logger = logging.getLogger("tagtower.model_server")

FLAG = "bearer_token_file"
# A token may follow `Bearer` in a header (RFC 6750), and is long enough to be hard to guess.
_TOKEN = re.compile(r"[A-Za-z0-9._~+/-]+=*", re.ASCII)
_MIN_LENGTH = 16
_BEARER = re.compile(r"Bearer +(\S+) *", re.IGNORECASE | re.ASCII)
_MAX_FILE_BYTES = 1 << 20
# Seconds between two checks whether the file has changed.
_LOOK_S = 1.0


class TokenFile:
    """The tokens of a file, one per line, read again when the file has changed.

    If the file is later removed or damaged, the tokens stay valid, and an error is logged once.

    Args:
      path: Path of the file; empty lines and lines that begin with `#` are ignored.

    Raises:
      ValueError: The file has no token, or a token is too short or does not fit into a header.
      OSError: The file cannot be read.
    """

    def __init__(self, path: str):
        self._path = path
        self._lock = threading.Lock()
        self._problem = ""
        self._seen = self._version()
        self._digests = _read(path)
        self._next_look = time.monotonic() + _LOOK_S
        warn_of_permissions(path)

    def knows(self, header: str) -> bool:
        """Returns whether the value of a header `authorization` is `Bearer` and one of the tokens.

        The time that this takes does not depend on the tokens.
        """
        self._look()
        match = _BEARER.fullmatch(header)
        given = _digest(match[1] if match else "")
        is_known = False
        for digest in self._digests:
            is_known |= hmac.compare_digest(digest, given)
        return is_known and match is not None

    def _look(self) -> None:
        """Reads the file again if it has changed."""
        now = time.monotonic()
        if now < self._next_look or not self._lock.acquire(blocking=False):
            return
        try:
            self._next_look = now + _LOOK_S
            version = self._version()
            if version == self._seen:
                return
            digests = _read(self._path)
            self._digests, self._seen, self._problem = digests, version, ""
            _logger.info("Read %s again: %d tokens.", self._path, len(digests))
            warn_of_permissions(self._path)
        except (OSError, ValueError) as error:
            problem = str(error)
            if problem != self._problem:
                _logger.error("The tokens stay as they were: %s", problem)
            self._problem = problem
        finally:
            self._lock.release()

    def _version(self) -> tuple[int, ...]:
        """Returns values that change when the file changes; a remote file is read only once."""
        if is_remote(self._path):
            return ()
        found = os.stat(self._path)
        return (found.st_mtime_ns, found.st_size, found.st_ino)


def _read(path: str) -> list[bytes]:
    """Reads the digests of a file's tokens, which have one length and do not show the secrets."""
    with open_file(path, "rb") as file:
        content = file.read(_MAX_FILE_BYTES + 1)
    lines = content.decode("utf-8", "replace").splitlines()
    tokens = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
    if len(content) > _MAX_FILE_BYTES or not tokens:
        raise ValueError(
            f"`{FLAG}` must name a file with one token a line, at most 1 MiB. Received: {path}: "
            f"{len(tokens)} tokens."
        )
    for number, token in enumerate(tokens, 1):
        if len(token) < _MIN_LENGTH or not _TOKEN.fullmatch(token):
            # The message does not show the token, because it goes to a log.
            raise ValueError(
                f"`{FLAG}` must hold tokens of {_MIN_LENGTH} or more of the characters A-Z a-z 0-9 "
                f"- . _ ~ + / (`openssl rand -hex 32` makes one). Received: {path}: token {number} "
                f"of {len(tokens)} has {len(token)} characters."
            )
    return [_digest(token) for token in tokens]


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()


def warn_of_permissions(path: str) -> None:
    """Logs a warning if other users than the owner may read or write a file with a secret."""
    if is_remote(path):
        return
    mode = stat.S_IMODE(os.stat(path).st_mode)
    if mode & 0o077:
        _logger.warning(
            "Others on this machine may read or write the secret in %s (mode %s): chmod 600.",
            path,
            format(mode, "03o"),
        )
