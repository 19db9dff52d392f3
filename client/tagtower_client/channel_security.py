"""Security of a client's connection: TLS certificates and tokens.

Files are read and checked when the client is made, so that a mistake is reported in one line that
names the file. gRPC itself accepts any bytes, and then reports at every call that no server is
there.
"""

from __future__ import annotations

import dataclasses
import os
import re
import ssl
import threading

import grpc

from tagtower_client.proxies import is_loopback
from tagtower_client.requirement import require

Metadata = tuple[tuple[str, str], ...]

# Keys and bundles of certificates are smaller; a larger file is something else.
_MAX_FILE_BYTES = 16 << 20
# gRPC servers accept 8 KiB of headers.
_MAX_TOKEN_CHARACTERS = 4096
_HAS_PASSWORD = "the key has a password"
_TOKEN = re.compile(r"[!-~]+")


@dataclasses.dataclass(frozen=True)
class ChannelSecurity:
    """Certificates and tokens of a client's connection.

    Attributes:
      ca_file: PEM file with the certificates of the authorities that may vouch for the server; it
        turns TLS on. None: the authorities that gRPC brings along.
      certificate_file: PEM file with the certificate that the client shows, followed by the
        certificates of its issuers.
      key_file: PEM file with the private key of that certificate, without a password.
      server_name: Name that the server's certificate must have, if it differs from the host of
        `target`.
      uses_tls: Whether the connection is encrypted; true if one of the files above is given.
      token: Token that is sent with every call, as `authorization: Bearer`.
      token_file: File that holds the token on its only line. It is read again when it changes;
        while it is missing or incomplete, the last token is used.
      allows_token_in_clear: Whether a token may be sent to another machine without TLS.

    Raises:
      ValueError: If settings do not fit together, or the token is not valid.
    """

    ca_file: str | os.PathLike[str] | None = None
    certificate_file: str | os.PathLike[str] | None = None
    key_file: str | os.PathLike[str] | None = None
    server_name: str | None = None
    uses_tls: bool = False
    token: str | None = dataclasses.field(default=None, repr=False)
    token_file: str | os.PathLike[str] | None = None
    allows_token_in_clear: bool = False

    def __post_init__(self) -> None:
        if (self.certificate_file is None) != (self.key_file is None):
            given = "certificate_file" if self.key_file is None else "key_file"
            raise ValueError(
                "`certificate_file` and `key_file` must be given together. Received: only "
                f"`{given}`."
            )
        if self.ca_file is not None or self.certificate_file is not None:
            object.__setattr__(self, "uses_tls", True)
        require(
            self.uses_tls or self.server_name is None,
            "server_name",
            "be left out without TLS: only TLS compares it",
            self.server_name,
        )
        if self.token is not None and self.token_file is not None:
            raise ValueError("`token` must be left out where a `token_file` is given.")
        if self.token is not None:
            _check_token(self.token, "token")


class SecuredTarget:
    """The credentials, options and token of a channel to one target; safe to share between threads.

    Args:
      target: `host:port` of the server.
      credentials: Ready-made TLS credentials; None: the credentials that `security` describes.
      security: Certificates and tokens; None: neither.

    Attributes:
      credentials: Channel credentials; None: an unencrypted connection.
      options: Channel options that TLS needs.

    Raises:
      ValueError: If a file cannot be read or has the wrong content, or a token would be sent to
        another machine unencrypted.
    """

    def __init__(
        self,
        target: str,
        credentials: grpc.ChannelCredentials | None = None,
        security: ChannelSecurity | None = None,
    ):
        security = security or ChannelSecurity()
        if credentials is not None and security.uses_tls:
            raise ValueError("`credentials` must be left out where `security` has those of TLS.")
        self.credentials = credentials or _credentials(security)
        self.options: list[tuple[str, str]] = []
        if security.server_name is not None:
            self.options.append(("grpc.ssl_target_name_override", security.server_name))
        has_token = security.token is not None or security.token_file is not None
        if has_token and not (
            self.credentials or security.allows_token_in_clear or is_loopback(target)
        ):
            raise ValueError(
                "`token` must not be sent to another machine unencrypted: use TLS (`ca_file`), or "
                f"allow it (`allows_token_in_clear`). Received: target={target!r}."
            )
        self._fixed: Metadata = () if security.token is None else _header(security.token)
        self._file = None if security.token_file is None else _TokenFile(security.token_file)

    def metadata(self) -> Metadata:
        """Returns the metadata of a call: the current token."""
        return self._fixed if self._file is None else _header(self._file.token())


class _TokenFile:
    """A file with a token, checked at every call and read again if it has changed."""

    def __init__(self, path: str | os.PathLike[str]):
        self._path = os.fspath(path)
        self._lock = threading.Lock()
        self._seen = self._state()
        self._token = self._read()

    def token(self) -> str:
        """Returns the current token; the last valid one while the file is being replaced."""
        seen = self._state()
        if seen != self._seen:
            with self._lock:
                try:
                    self._token = self._read()
                except ValueError:
                    return self._token  # the next call reads again, as `_seen` stays
                self._seen = seen
        return self._token

    def _state(self) -> tuple[int, ...] | None:
        """Returns values that change whenever the file changes; None: the file is missing."""
        try:
            found = os.stat(self._path)
        except OSError:
            return None
        return found.st_ino, found.st_size, found.st_mtime_ns

    def _read(self) -> str:
        text = _read_file("token_file", self._path).decode("ascii", "replace").strip()
        _check_token(text, "token_file", self._path)
        return text


def _header(token: str) -> Metadata:
    return (("authorization", f"Bearer {token}"),)


def _check_token(token: str, name: str, path: str = "") -> None:
    # The value is not shown: a token with a typing error is still a secret.
    received = f"{path}: " if path else ""
    if len(token) > _MAX_TOKEN_CHARACTERS or not _TOKEN.fullmatch(token):
        raise ValueError(
            f"`{name}` must hold one token: 1 to {_MAX_TOKEN_CHARACTERS} printable ASCII "
            f"characters without spaces. Received: {received}{len(token)} characters."
        )


def _credentials(security: ChannelSecurity) -> grpc.ChannelCredentials | None:
    if not security.uses_tls:
        return None
    authorities = certificate = key = None
    if security.ca_file is not None:
        authorities = _read_file("ca_file", security.ca_file)
        _check_authorities(authorities, os.fspath(security.ca_file))
    if security.certificate_file is not None and security.key_file is not None:
        certificate = _read_file("certificate_file", security.certificate_file)
        key = _read_file("key_file", security.key_file)
        _check_pair(security.certificate_file, security.key_file)
    return grpc.ssl_channel_credentials(authorities, key, certificate)


def _check_authorities(content: bytes, path: str) -> None:
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(
            cadata=content.decode("ascii", "replace")
        )
    except (ssl.SSLError, ValueError) as error:
        raise ValueError(
            f"`ca_file` must be a PEM file with certificates. Received: {path} ({_reason(error)})."
        ) from error


def _check_pair(certificate_file: str | os.PathLike[str], key_file: str | os.PathLike[str]) -> None:
    def no_password() -> str:
        # Without this function OpenSSL asks for the password on the terminal.
        raise ValueError(_HAS_PASSWORD)

    paths = os.fspath(certificate_file), os.fspath(key_file)
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_cert_chain(*paths, password=no_password)
    except (ssl.SSLError, ValueError) as error:
        raise ValueError(
            "`certificate_file` must be a PEM file with a certificate, and `key_file` one with its "
            f"private key, without a password. Received: {paths[0]} and {paths[1]} "
            f"({_reason(error)})."
        ) from error


def _reason(error: Exception) -> str:
    reason = getattr(error, "reason", None) or re.sub(r" \(_ssl\.c:\d+\)", "", str(error))
    return str(reason).lower().replace("_", " ")


def _read_file(name: str, path: str | os.PathLike[str]) -> bytes:
    try:
        with open(path, "rb") as file:
            content = file.read(_MAX_FILE_BYTES + 1)
    except OSError as error:
        raise ValueError(
            f"`{name}` must be a file that can be read. Received: {os.fspath(path)} "
            f"({error.strerror or error})."
        ) from error
    require(len(content) <= _MAX_FILE_BYTES, name, "be a file of at most 16 MB", os.fspath(path))
    return content
