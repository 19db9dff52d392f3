"""Who may call: certificates of `--ssl_config_file` and tokens, the same for gRPC and REST."""

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
# Asked by whoever watches the process, and answered without a word about models.
_OPEN_METHODS = "/grpc.health.v1.Health/"
_HEADER = "authorization"


@dataclasses.dataclass(frozen=True)
class Certificates:
    """What a server shows and asks for in a TLS handshake, as PEM.

    Attributes:
      key: Its private key.
      certificate: Its certificate, and those between it and an authority.
      authorities: Who vouches for callers; empty: those of the system.
      requires_client: Whether a caller must show a certificate of theirs.
    """

    key: bytes = dataclasses.field(repr=False)
    certificate: bytes
    authorities: bytes = b""
    requires_client: bool = False


@dataclasses.dataclass(frozen=True)
class TransportSecurity:
    """How callers are known.

    Attributes:
      certificates: For TLS; None: plain text.
      tokens: Who has none of them is refused; None: nobody is.
    """

    certificates: Certificates | None = None
    tokens: TokenFile | None = None

    def grpc_credentials(self) -> grpc.ServerCredentials | None:
        """What gRPC takes; None: plain text."""
        given = self.certificates
        if given is None:
            return None
        return grpc.ssl_server_credentials(
            [(given.key, given.certificate)],
            given.authorities or None,
            given.requires_client,
        )

    def ssl_context(self) -> ssl.SSLContext | None:
        """What REST takes; None: plain text."""
        return None if self.certificates is None else _context(self.certificates)

    def authorize(
        self, method: str, metadata: Sequence[tuple[str, str | bytes]]
    ) -> ServingError | None:
        """Why a call over gRPC is not let in; None: it is.

        Args:
          method: Its full name, as `/tensorflow.serving.PredictionService/Predict`.
          metadata: What the caller sent before the message.
        """
        if self.tokens is None or method.startswith(_OPEN_METHODS):
            return None
        given = [value for key, value in metadata if key.lower() == _HEADER]
        return self.refusal(given[0] if len(given) == 1 else "")

    def refusal(self, header: str | bytes) -> ServingError | None:
        """Why a caller with this header `authorization` is not let in; None: they are."""
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
      path: The file.

    Returns:
      The certificates, which fit each other.

    Raises:
      ValueError: It is no such message, or its key, certificate or authorities are not usable.
      OSError: It cannot be read.
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
            f"`{SSL_FLAG}` must have `custom_ca`, who vouches for callers, where `client_verify` "
            f"is true. Received: {path}."
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
    """What Python takes, which knows better than gRPC to say what is wrong."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    with _as_file(certificates.certificate + b"\n" + certificates.key) as path:
        # Otherwise the password of a key that has one would be asked of the terminal.
        context.load_cert_chain(path, password=lambda: "")
    if certificates.authorities:
        context.load_verify_locations(cadata=certificates.authorities.decode())
    if certificates.requires_client:
        context.verify_mode = ssl.CERT_REQUIRED
    return context


@contextlib.contextmanager
def _as_file(content: bytes) -> Iterator[str]:
    """A file for who reads no memory; where the system can, it is on no disk."""
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
