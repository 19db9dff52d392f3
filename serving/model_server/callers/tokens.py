"""The file of `--bearer_token_file`: whoever asks must know one of its tokens."""

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
# What may stand in a header behind `Bearer` (RFC 6750), and is hardly guessed.
_TOKEN = re.compile(r"[A-Za-z0-9._~+/-]+=*", re.ASCII)
_MIN_LENGTH = 16
_BEARER = re.compile(r"Bearer +(\S+) *", re.IGNORECASE | re.ASCII)
_MAX_FILE_BYTES = 1 << 20
# Between two looks whether the file has changed, seconds.
_LOOK_S = 1.0


class TokenFile:
    """The tokens of a file, one a line; read again when it has changed.

    A file that is gone or damaged later leaves the tokens as they were, which is said once.

    Args:
      path: The file; empty lines and those that begin with `#` do not count.

    Raises:
      ValueError: It has no token, or one that is too short or does not fit a header.
      OSError: It cannot be read.
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
        """Whether the value of a header `authorization` is `Bearer` and one of the tokens.

        Takes the same time whichever token it is not.
        """
        self._look()
        match = _BEARER.fullmatch(header)
        given = _digest(match[1] if match else "")
        is_known = False
        for digest in self._digests:
            is_known |= hmac.compare_digest(digest, given)
        return is_known and match is not None

    def _look(self) -> None:
        """Reads the file again, if it is another one than that which was read."""
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
        """What differs between two states of the file; a remote one is read once."""
        if is_remote(self._path):
            return ()
        found = os.stat(self._path)
        return (found.st_mtime_ns, found.st_size, found.st_ino)


def _read(path: str) -> list[bytes]:
    """The digests of a file's tokens: what is compared has one length, and is not the secret."""
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
            # Not the token itself: this goes to a log.
            raise ValueError(
                f"`{FLAG}` must hold tokens of {_MIN_LENGTH} or more of the characters A-Z a-z 0-9 "
                f"- . _ ~ + / (`openssl rand -hex 32` makes one). Received: {path}: token {number} "
                f"of {len(tokens)} has {len(token)} characters."
            )
    return [_digest(token) for token in tokens]


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()


def warn_of_permissions(path: str) -> None:
    """Writes a line where others than its owner may read or write a file with a secret."""
    if is_remote(path):
        return
    mode = stat.S_IMODE(os.stat(path).st_mode)
    if mode & 0o077:
        _logger.warning(
            "Others on this machine may read or write the secret in %s (mode %s): chmod 600.",
            path,
            format(mode, "03o"),
        )
