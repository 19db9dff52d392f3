"""The one error of a call, with what to do about it."""

import re

import grpc

from serving.client.proxies import exception_variable, host_of, proxy_variable

# What may be the proxy's doing.
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
# Patterns of what gRPC says of a connection that was given up before the first call, and what to do
# then: somebody does answer there.
_HANDSHAKES = {
    "WRONG_VERSION_NUMBER": "{target} speaks no TLS: leave `security` out, or ask its TLS port.",
    "CERTIFICATE_VERIFY_FAILED": (
        "No authority in `ca_file` vouches for the certificate of {target}, or the certificate has "
        "expired."
    ),
    r"not\sin\speer\scertificate": (
        "The certificate of {target} is another name's: ask it by that name, or give it as "
        "`server_name`."
    ),
    r"Socket\sclosed": (
        "{target} ended the connection: was it stopped or restarted? Where no call has succeeded "
        "yet: is that its gRPC port, does it ask for TLS (`ca_file` of `ChannelSecurity`), or for "
        "the certificate of a client (`certificate_file`)?"
    ),
}


class TagClientError(Exception):
    """A call that failed; the text says what to do.

    Attributes:
      code: The status code.
      message: What the server, or gRPC, said.
    """

    def __init__(self, code: grpc.StatusCode, message: str, advice: str = ""):
        super().__init__(f"{code.name}: {message}" + (f" {advice}" if advice else ""))
        self.code = code
        self.message = message


def with_advice(error: grpc.RpcError, target: str, model_name: str) -> TagClientError:
    """Says what to do about a call that failed.

    Args:
      error: What gRPC raised.
      target: The server that was asked.
      model_name: The model.

    Returns:
      The error to raise from it.
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
        # Its value is not shown: it may hold a password.
        advice += (
            f" The call went through the proxy that the variable `{proxy}` names: add "
            f"{host_of(target)} to `{exception_variable()}` to go there directly."
        )
    return TagClientError(code, f"{details}.", advice)
