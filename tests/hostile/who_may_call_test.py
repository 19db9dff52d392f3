"""TLS, callers' certificates, tokens and reload, over gRPC and REST, right and wrong."""

import contextlib
import http.client
import socket
import ssl

import grpc
import pytest
from google.protobuf import text_format
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tensorflow_serving.apis import (
    get_model_status_pb2,
    model_management_pb2,
    model_service_pb2_grpc,
)

from serving.client import ChannelSecurity, TagClient, TagClientError
from serving.model_server.callers.tokens import TokenFile
from serving.model_server.callers.transport_security import TransportSecurity, read_certificates
from serving.model_server.models.model_config import ModelConfig
from serving.model_server.ports import numeric_address
from serving.model_server.server import ModelServer
from tests.hostile.certificates import Authority, ssl_config

WAIT_S = 60.0
TOKEN, OTHER = "t" * 32, "u" * 32
STATUS = "/v1/models/none"


class Files:
    """Certificates of two authorities, and configurations of servers."""

    def __init__(self, folder):
        self.ca, self.stranger = Authority(folder), Authority(folder, "stranger")
        self.client = self.ca.issue("client")
        self.expired = self.ca.issue_expired("expired")
        self.strange = self.stranger.issue("client")
        server = self.ca.issue("server")
        self.tls = ssl_config(folder, *server)
        self.mutual = ssl_config(folder, *server, self.ca.path, True)
        self.expired_tls = ssl_config(folder, *self.ca.issue_expired("old-server"))


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return Files(tmp_path_factory.mktemp("certificates"))


@contextlib.contextmanager
def serving(config=None, token_path=None, **arguments):
    """Runs a server without models: an admitted caller is told that there is none."""
    security = TransportSecurity(
        read_certificates(str(config)) if config else None,
        TokenFile(str(token_path)) if token_path else None,
    )
    with ModelServer([], rest_api_port=0, security=security, **arguments) as server:
        yield server


@pytest.fixture(scope="module")
def tls(files):
    with serving(files.tls) as server:
        yield server


@pytest.fixture(scope="module")
def mutual(files):
    with serving(files.mutual) as server:
        yield server


def over_grpc(server, authority=None, pair=None, metadata=()):
    """Returns the gRPC code of a call; NOT_FOUND means that the caller was admitted."""
    place = f"localhost:{server.port}"
    if authority is None:
        channel = grpc.insecure_channel(place)
    else:
        key, certificate = (path.read_bytes() for path in pair) if pair else (None, None)
        channel = grpc.secure_channel(
            place, grpc.ssl_channel_credentials(authority.read_bytes(), key, certificate)
        )
    request = get_model_status_pb2.GetModelStatusRequest()
    request.model_spec.name = "none"
    with channel:
        stub = model_service_pb2_grpc.ModelServiceStub(channel)
        with pytest.raises(grpc.RpcError) as caught:
            stub.GetModelStatus(request, timeout=WAIT_S, metadata=metadata)
    return caught.value.code().name


def over_rest(server, authority=None, pair=None, path=STATUS, timeout_s=WAIT_S, **headers):
    """Returns the REST status of a call; 404: the caller was admitted, None: no answer."""
    place = "localhost", server.rest_api_port
    if authority is None:
        connection = http.client.HTTPConnection(*place, timeout=timeout_s)
    else:
        context = ssl.create_default_context(cafile=str(authority))
        if pair:
            context.load_cert_chain(pair[1], pair[0])
        connection = http.client.HTTPSConnection(*place, timeout=timeout_s, context=context)
    with contextlib.closing(connection):
        try:
            connection.request("GET", path, headers=headers)
            response = connection.getresponse()
        except (OSError, http.client.HTTPException):
            return None
        if response.status == 401:
            assert response.getheader("WWW-Authenticate") == "Bearer"
        return response.status


# TLS.


def test_right_caller_is_answered_over_tls(tls, files):
    assert over_grpc(tls, files.ca.path) == "NOT_FOUND"
    assert over_rest(tls, files.ca.path) == 404


def test_caller_who_trusts_another_authority_hangs_up(tls, files):
    assert over_grpc(tls, files.stranger.path) == "UNAVAILABLE"
    assert over_rest(tls, files.stranger.path) is None


def test_expired_server_is_not_trusted(files):
    with serving(files.expired_tls) as server:
        assert over_grpc(server, files.ca.path) == "UNAVAILABLE"
        assert over_rest(server, files.ca.path) is None


def test_plain_text_to_a_port_of_tls_and_the_other_way_round(tls, files):
    assert over_grpc(tls) == "UNAVAILABLE"
    assert over_rest(tls) is None
    with serving() as plain:
        assert over_grpc(plain, files.ca.path) == "UNAVAILABLE"
        # A TLS handshake looks like the start of a very long HTTP line: it gets no answer.
        assert over_rest(plain, files.ca.path, timeout_s=1) is None
        assert over_rest(plain) == 404


def test_old_tls_is_refused(tls, files):
    context = ssl.create_default_context(cafile=str(files.ca.path))
    context.minimum_version, context.maximum_version = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1
    for port in (tls.port, tls.rest_api_port):
        with socket.create_connection(("localhost", port)) as sock, pytest.raises(OSError):
            context.wrap_socket(sock, server_hostname="localhost")


def test_handshakes_that_do_not_go_on_hold_up_nobody(tls, files):
    with contextlib.ExitStack() as stack:
        for port in (tls.port, tls.rest_api_port):
            for start in (
                b"",
                b"\x16\x03\x01\x02\x00\x01",
                b"GET / HTTP/1.1\r\n\r\n",
                b"\xff" * 99,
            ):
                for _ in range(8):
                    sock = stack.enter_context(socket.create_connection(("127.0.0.1", port)))
                    sock.sendall(start)
        assert over_grpc(tls, files.ca.path) == "NOT_FOUND"
        assert over_rest(tls, files.ca.path) == 404


# Certificates of callers.


def test_caller_must_have_a_certificate_of_the_authority(mutual, files):
    assert over_grpc(mutual, files.ca.path, files.client) == "NOT_FOUND"
    assert over_rest(mutual, files.ca.path, files.client) == 404


@pytest.mark.parametrize("pair", ["none", "strange", "expired"])
def test_caller_without_one_is_not_answered(mutual, files, pair):
    given = getattr(files, pair, None)
    assert over_grpc(mutual, files.ca.path, given) == "UNAVAILABLE"
    assert over_rest(mutual, files.ca.path, given) is None


# Tokens.


@pytest.fixture
def token_path(tmp_path):
    path = tmp_path / "tokens"
    path.write_text(f"{TOKEN}\n")
    path.chmod(0o600)
    return path


def bearer(token):
    return {"Authorization": f"Bearer {token}"}


def test_caller_must_know_a_token(token_path):
    with serving(token_path=token_path) as server:
        assert over_rest(server, **bearer(TOKEN)) == 404
        assert over_rest(server) == 401
        assert over_rest(server, **bearer(OTHER)) == 401
        # A caller without a token learns nothing: neither whether a path exists, nor the counts.
        for path in ("/", "/v1/models/x:predict", "/monitoring/prometheus/metrics"):
            assert over_rest(server, path=path) == 401
        assert over_rest(server, path="/monitoring/prometheus/metrics", **bearer(TOKEN)) == 200

        right = (("authorization", f"Bearer {TOKEN}"),)
        assert over_grpc(server, metadata=right) == "NOT_FOUND"
        assert over_grpc(server) == "UNAUTHENTICATED"
        assert over_grpc(server, metadata=(("authorization", OTHER),)) == "UNAUTHENTICATED"
        assert over_grpc(server, metadata=right * 2) == "UNAUTHENTICATED"


def test_body_of_a_caller_without_a_token_is_not_read(token_path):
    with serving(token_path=token_path) as server:
        with socket.create_connection(("127.0.0.1", server.rest_api_port)) as sock:
            sock.settimeout(WAIT_S)
            sock.sendall(b"POST /v1/models/m:predict HTTP/1.1\r\nContent-Length: 1000000\r\n\r\n")
            assert sock.recv(100).startswith(b"HTTP/1.1 401 ")


def test_health_needs_no_token(token_path):
    with serving(token_path=token_path) as server:
        with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
            stub = health_pb2_grpc.HealthStub(channel)
            response = stub.Check(health_pb2.HealthCheckRequest(), timeout=WAIT_S)
    assert response.status == health_pb2.HealthCheckResponse.SERVING


def test_our_client_has_certificates_and_a_token(files, token_path):
    key, certificate = files.client
    security = ChannelSecurity(
        ca_file=str(files.ca.path),
        certificate_file=str(certificate),
        key_file=str(key),
        token=TOKEN,
    )
    with serving(files.mutual, token_path) as server:
        with TagClient(f"localhost:{server.port}", security=security) as client:
            with pytest.raises(TagClientError) as caught:
                client.model_status()
    assert caught.value.code is grpc.StatusCode.NOT_FOUND


# Where it listens.


def test_server_listens_where_it_was_told(files):
    with serving() as server:
        assert _listens("127.0.0.1", server.port) and _listens("127.0.0.1", server.rest_api_port)
        assert not _listens("127.0.0.2", server.port)
        assert not _listens("127.0.0.2", server.rest_api_port)
    with serving(host="0.0.0.0") as server:
        assert _listens("127.0.0.2", server.port) and _listens("127.0.0.2", server.rest_api_port)


def test_server_listens_on_ipv6():
    try:
        numeric_address("::1")
    except ValueError:
        pytest.skip("this machine has no IPv6")
    with serving(host="::1") as server:
        assert _listens("::1", server.port) and _listens("::1", server.rest_api_port)
        assert not _listens("127.0.0.1", server.rest_api_port)


def _listens(host, port):
    try:
        socket.create_connection((host, port), WAIT_S).close()
    except ConnectionRefusedError:
        return False
    return True


# Reload.


def reload(server, *paths):
    request = model_management_pb2.ReloadConfigRequest()
    models = "".join(
        f'config {{ name: "m{i}" base_path: "{path}" model_platform: "tensorflow" }} '
        for i, path in enumerate(paths)
    )
    text_format.Parse(f"model_config_list {{ {models} }}", request.config)
    with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        stub = model_service_pb2_grpc.ModelServiceStub(channel)
        try:
            # The call does not wait for models that do not exist.
            stub.HandleReloadConfigRequest(request, timeout=2)
        except grpc.RpcError as error:
            return error.code().name, error.details()
    return "OK", ""


def test_nobody_reloads_a_server_that_does_not_say_so(tmp_path):
    with ModelServer([ModelConfig("m0", str(tmp_path))]) as server:
        code, message = reload(server, tmp_path)
        assert code == "PERMISSION_DENIED"
        assert "--allow_reload" in message
        assert list(server.manager.models) == ["m0"]


def test_reload_loads_from_below_the_roots_alone(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "link").symlink_to("/")
    roots = [str(tmp_path / "in")]
    with ModelServer([], allows_reload=True, model_roots=roots) as server:
        for path in ("/", "/etc", tmp_path, tmp_path / "in" / ".." / "out", tmp_path / "in/link"):
            code, message = reload(server, tmp_path / "in" / "a", path)
            assert code == "PERMISSION_DENIED", path
            assert "--model_roots" in message
        assert not server.manager.models
        assert reload(server, tmp_path / "in" / "a")[0] in ("OK", "DEADLINE_EXCEEDED")
        assert list(server.manager.models) == ["m0"]


# Files that are wrong.


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda files, text: "", "must hold, as PEM"),
        (lambda files, text: text.replace("server_key", "key"), "SSLConfig as text"),
        (lambda files, text: text.replace("BEGIN", "BEGUN"), "must hold, as PEM"),
        (lambda files, text: _other_key(files, text), "KEY_VALUES_MISMATCH"),
        (lambda files, text: text.replace("false", "true"), "must have `custom_ca`"),
        (lambda files, text: text + 'custom_ca: "none"', "must hold, as PEM"),
    ],
    ids=["empty", "no such field", "no PEM", "another's key", "no authority", "no certificate"],
)
def test_wrong_file_of_certificates_is_one_line(files, tmp_path, change, reason):
    path = tmp_path / "ssl.config"
    path.write_text(change(files, files.tls.read_text()))
    with pytest.raises(ValueError, match=reason) as caught:
        read_certificates(str(path))
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)
    assert "PRIVATE" not in str(caught.value)


def _other_key(files, text):
    key = "\n".join(f'"{line}\\n"' for line in files.client[0].read_text().splitlines())
    return f"server_key: {key}\n{text[text.index('server_cert') :]}"


def test_absent_file_of_certificates_is_named():
    with pytest.raises(FileNotFoundError) as caught:
        read_certificates("/no/such/file")
    assert caught.value.filename == "/no/such/file"
