"""Certificates of `--ssl_config_file` and tokens, which gRPC and REST use alike."""

import contextlib
import dataclasses
import os
import ssl
import tempfile
from collections.abc import Iterator, Sequence
from typing import Any

import grpc

from serving.model_server.callers.tokens import TokenFile, warn_of_permissions
from serving.model_server.errors import ServingError
from serving.model_server.models.text_proto import new_ssl_config, read_text_proto

SSL_FLAG = "ssl_config_file"
# Health checks need no token: programs that monitor the process call them, and the answers tell
# nothing about models.
_OPEN_METHODS = "/grpc.health.v1.Health/"
_HEADER = "authorization"


@dataclasses.dataclass(frozen=True)
class Certificates:
    """The server's key and certificates for TLS, as PEM.

    Attributes:
      key: Private key of the server.
      certificate: Certificate of the server, and those between it and an authority.
      authorities: Certificates of the authorities that vouch for callers; empty: the system's.
      requires_client: Whether a caller must show a certificate.
    """

    key: bytes = dataclasses.field(repr=False)
    certificate: bytes
    authorities: bytes = b""
    requires_client: bool = False


@dataclasses.dataclass(frozen=True)
class TransportSecurity:
    """The certificates and tokens by which callers are authenticated.

    Attributes:
      certificates: Certificates for TLS; None: unencrypted connections.
      tokens: Tokens, of which a caller must send one; None: no token is needed.
    """

    certificates: Certificates | None = None
    tokens: TokenFile | None = None

    def grpc_credentials(self) -> grpc.ServerCredentials | None:
        """Returns the credentials for gRPC; None: unencrypted connections."""
        given = self.certificates
        if given is None:
            return None
        return grpc.ssl_server_credentials(
            [(given.key, given.certificate)],
            given.authorities or None,
            given.requires_client,
        )

    def ssl_context(self) -> ssl.SSLContext | None:
        """Returns the TLS context for REST; None: unencrypted connections."""
        return None if self.certificates is None else _context(self.certificates)

    def authorize(
        self, method: str, metadata: Sequence[tuple[str, str | bytes]]
    ) -> ServingError | None:
        """Returns the error for a gRPC call that is not allowed; None: it is allowed.

        Args:
          method: Full name of the method, as `/tensorflow.serving.PredictionService/Predict`.
          metadata: Metadata of the call, pairs of key and value.
        """
        if self.tokens is None or method.startswith(_OPEN_METHODS):
            return None
        given = [value for key, value in metadata if key.lower() == _HEADER]
        return self.refusal(given[0] if len(given) == 1 else "")

    def refusal(self, header: str | bytes) -> ServingError | None:
        """Returns the error for a caller with this `authorization`; None: the call is allowed."""
        text = header.decode("latin1") if isinstance(header, bytes) else header
        if self.tokens is None or self.tokens.knows(text):
            return None
        return ServingError(
            grpc.StatusCode.UNAUTHENTICATED,
            "`authorization` must be `Bearer ` and a token that the server knows.",
        )


def read_certificates(path: str) -> Certificates:
    """Reads a file of `--ssl_config_file`: the text of TensorFlow Serving's SSLConfig.

    Args:
      path: Path of the file.

    Returns:
      The certificates, checked to fit each other.

    Raises:
      ValueError: The file is not an SSLConfig, or its key, certificate or authorities are invalid.
      OSError: The file cannot be read.
    """
    config: Any = read_text_proto(SSL_FLAG, path, new_ssl_config())
    certificates = Certificates(
        config.server_key.encode(),
        config.server_cert.encode(),
        config.custom_ca.encode(),
        config.client_verify,
    )
    if certificates.requires_client and not certificates.authorities:
        raise ValueError(
            f"`{SSL_FLAG}` must have `custom_ca`, the authority that signs callers' "
            f"certificates, where `client_verify` is true. Received: {path}."
        )
    try:
        _context(certificates)
    except (ssl.SSLError, ValueError) as error:
        raise ValueError(
            f"`{SSL_FLAG}` must hold, as PEM, in `server_key` a private key without a password, in "
            "`server_cert` its certificate, and in `custom_ca` certificates or nothing. Received: "
            f"{path}: {getattr(error, 'reason', None) or error}."
        ) from error
    warn_of_permissions(path)
    return certificates


def _context(certificates: Certificates) -> ssl.SSLContext:
    """Makes a TLS context of Python, whose errors are clearer than those of gRPC."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    with _as_file(certificates.certificate + b"\n" + certificates.key) as path:
        # Without `password` OpenSSL would ask for a key's password on the terminal.
        context.load_cert_chain(path, password=lambda: "")
    if certificates.authorities:
        context.load_verify_locations(cadata=certificates.authorities.decode())
    if certificates.requires_client:
        context.verify_mode = ssl.CERT_REQUIRED
    return context


@contextlib.contextmanager
def _as_file(content: bytes) -> Iterator[str]:
    """Yields the path of a file with some content; it is in memory if the system supports that."""
    try:
        number = os.memfd_create("certificate")
        path = f"/proc/self/fd/{number}"
    except (AttributeError, OSError):
        number, path = tempfile.mkstemp()
        try:
            os.write(number, content)
            yield path
        finally:
            os.close(number)
            os.remove(path)
        return
    try:
        os.write(number, content)
        yield path
    finally:
        os.close(number)
