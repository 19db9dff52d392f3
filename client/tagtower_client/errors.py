"""The exception of a failed call, with advice for the caller."""

from __future__ import annotations

import re

import grpc

from tagtower_client.proxies import exception_variable, host_of, proxy_variable

# Status codes that a proxy may have caused.
_OF_A_PROXY = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)
_ADVICE = {
    grpc.StatusCode.UNAVAILABLE: (
        "No model server answers at {target}: is it started (`tagtower serve`), and is this its "
        "gRPC port?"
    ),
    grpc.StatusCode.DEADLINE_EXCEEDED: (
        "{target} did not answer in time: raise `timeout_s`, look at its load, and whether it can "
        "be reached from here."
    ),
    grpc.StatusCode.NOT_FOUND: (
        "Is `{model_name}` the server's --model_name, and has a version been loaded? "
        "`model_status()` says so."
    ),
    grpc.StatusCode.UNIMPLEMENTED: (
        "Is {target} the gRPC port of a TensorFlow Serving model server?"
    ),
    grpc.StatusCode.RESOURCE_EXHAUSTED: "Send fewer instances at a time.",
    grpc.StatusCode.UNAUTHENTICATED: (
        "Give the token that {target} knows (`token` or `token_file` of `ChannelSecurity`)."
    ),
}
# Advice by pattern of gRPC's message for a connection that ended before the first call: here a
# server does answer, so the advice "No model server answers" would be wrong.
_HANDSHAKES = {
    "WRONG_VERSION_NUMBER": "{target} does not use TLS: leave `security` out, or ask its TLS port.",
    "CERTIFICATE_VERIFY_FAILED": (
        "No authority in `ca_file` has signed the certificate of {target}, or the certificate has "
        "expired."
    ),
    r"not\sin\speer\scertificate": (
        "The certificate of {target} is for another name: connect by that name, or give it as "
        "`server_name`."
    ),
    r"Socket\sclosed": (
        "{target} ended the connection: was it stopped or restarted? Where no call has succeeded "
        "yet: is that its gRPC port, does it ask for TLS (`ca_file` of `ChannelSecurity`), or for "
        "the certificate of a client (`certificate_file`)?"
    ),
}


class TagClientError(Exception):
    """The error of a failed call; its text says what to do.

    Attributes:
      code: gRPC status code.
      message: Message of the server or of gRPC.
    """

    def __init__(self, code: grpc.StatusCode, message: str, advice: str = ""):
        super().__init__(f"{code.name}: {message}" + (f" {advice}" if advice else ""))
        self.code = code
        self.message = message


def with_advice(error: grpc.RpcError, target: str, model_name: str) -> TagClientError:
    """Turns an error of gRPC into one that says what to do.

    Args:
      error: Error that gRPC raised.
      target: Server that was asked, `host:port`.
      model_name: Name of the model.

    Returns:
      The error to raise from `error`.
    """
    code, details = error.code(), (error.details() or "").rstrip(".")
    advice = _ADVICE.get(code, "")
    if code is grpc.StatusCode.UNAVAILABLE:
        advice = next(
            (text for sign, text in _HANDSHAKES.items() if re.search(sign, details)), advice
        )
    advice = advice.format(target=target, model_name=model_name)
    proxy = proxy_variable(target) if code in _OF_A_PROXY else None
    if proxy is not None:
        # The variable's value is not shown: it may hold a password.
        advice += (
            f" The call went through the proxy that the variable `{proxy}` names: add "
            f"{host_of(target)} to `{exception_variable()}` to go there directly."
        )
    return TagClientError(code, f"{details}.", advice)
