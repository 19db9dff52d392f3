"""With a proxy in the environment this machine is called directly; other errors name it."""

import asyncio
import socket
import threading
import urllib.request

import numpy as np
import pytest

from serving.client import AsyncTagClient, TagClient, TagClientError
from tagtower_client.proxies import host_of, is_loopback, proxy_variable
from tests.serving.client.flaky_service import FlakyService, serve
from tfx_pipeline.cli import main
from tfx_pipeline.engines.direct_loopback import reach_loopback_directly

VARIABLES = ("grpc_proxy", "https_proxy", "http_proxy", "no_grpc_proxy", "no_proxy", "all_proxy")
X = {"x": np.array([1.5, 2.0], np.float32)}
SECRET = "user:secret"


class Proxy:
    """Accepts connections, records what is asked, and refuses it."""

    def __init__(self):
        self.asked = []
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://{SECRET}@127.0.0.1:{self._socket.getsockname()[1]}"
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self):
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            with connection:
                self.asked.append(connection.recv(1000).split(b"\r\n")[0].decode())
                connection.sendall(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")

    def close(self):
        self._socket.close()


@pytest.fixture
def proxy(monkeypatch):
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    made = Proxy()
    yield made
    made.close()


@pytest.fixture(scope="module")
def port():
    with serve(FlakyService()) as service:
        yield service.target.rpartition(":")[2]


def ask(target):
    with TagClient(target, max_attempts=1, timeout_s=20) as client:
        return client.predict(X).outputs["y"].tolist()


async def ask_async(target):
    async with AsyncTagClient(target, max_attempts=1, timeout_s=20) as client:
        return (await client.predict(X)).outputs["y"].tolist()


@pytest.mark.parametrize("variable", ["http_proxy", "https_proxy", "grpc_proxy"])
@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "dns:///localhost"])
def test_this_machine_is_asked_directly(proxy, port, monkeypatch, variable, host):
    monkeypatch.setenv(variable, proxy.url)

    assert ask(f"{host}:{port}") == [1.5, 2.0]
    assert asyncio.run(ask_async(f"{host}:{port}")) == [1.5, 2.0]
    assert proxy.asked == []


@pytest.mark.parametrize(
    ("variables", "named"),
    [
        (["http_proxy"], "http_proxy"),
        (["https_proxy", "http_proxy"], "https_proxy"),
        (["grpc_proxy", "https_proxy"], "grpc_proxy"),
    ],
)
def test_error_of_another_host_names_the_variable_and_not_its_value(
    proxy, monkeypatch, variables, named
):
    for variable in variables:
        monkeypatch.setenv(variable, proxy.url)

    for call in (ask, lambda target: asyncio.run(ask_async(target))):
        with pytest.raises(TagClientError) as caught:
            call("models.example:8500")
        text = str(caught.value)
        assert f"the proxy that the variable `{named}` names: add models.example to `no_proxy`" in (
            text
        )
        assert "secret" not in text
    assert set(proxy.asked) == {"CONNECT models.example:8500 HTTP/1.1"}


def test_query_asks_this_machine_directly_and_tells_of_the_proxy_of_others(
    proxy, port, monkeypatch, capsys
):
    monkeypatch.setenv("http_proxy", proxy.url)
    arguments = ["query", "--features", "{}", "--timeout", "2", "--server"]

    # It answers, although not to this: it knows no metadata.
    assert main([*arguments, f"localhost:{port}"]) == 2
    assert "UNIMPLEMENTED" in capsys.readouterr().err
    assert proxy.asked == []

    assert main([*arguments, "models.example:8500"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("tagtower query: ") and "`http_proxy`" in line


def test_other_libraries_of_a_command_reach_this_machine_directly(proxy, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", proxy.url)
    monkeypatch.setenv("NO_PROXY", "intra.example")
    reach_loopback_directly()

    # Not `urlopen`: it keeps the variables of its first call in this process.
    opener = urllib.request.build_opener()
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        port = nobody.getsockname()[1]
    with pytest.raises(OSError, match="refused"):
        opener.open(f"http://127.0.0.1:{port}/", timeout=5)
    assert proxy.asked == []
    with pytest.raises(OSError, match="403"):
        opener.open("http://models.example/", timeout=5)


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, {}),
        ({"no_proxy": "a"}, {"no_proxy": "a"}),
        ({"http_proxy": "p"}, {"no_proxy": "localhost,127.0.0.1,::1"}),
        ({"HTTPS_PROXY": "p", "NO_PROXY": "a, b"}, {"no_proxy": "a,b,localhost,127.0.0.1,::1"}),
        ({"http_proxy": "p", "no_proxy": "*"}, {"no_proxy": "*"}),
        ({"http_proxy": "p", "no_proxy": "localhost"}, {"no_proxy": "localhost,127.0.0.1,::1"}),
        (
            {"http_proxy": "p", "no_grpc_proxy": "a"},
            {
                "no_proxy": "localhost,127.0.0.1,::1",
                "no_grpc_proxy": "a,localhost,127.0.0.1,::1",
            },
        ),
    ],
)
def test_this_machine_is_added_to_what_needs_no_proxy(environment, expected):
    changed = dict(environment)
    reach_loopback_directly(changed)

    assert changed == environment | expected


@pytest.mark.parametrize(
    ("target", "host", "is_local"),
    [
        ("localhost:8500", "localhost", True),
        ("LOCALHOST:8500", "LOCALHOST", True),
        ("localhost", "localhost", True),
        ("127.3.2.1:8500", "127.3.2.1", True),
        ("[::1]:8500", "::1", True),
        ("::1", "::1", True),
        ("0.0.0.0:8500", "0.0.0.0", True),
        ("[::]:8500", "::", True),
        ("ipv4:127.0.0.1:8500", "127.0.0.1", True),
        ("ipv6:[::1]:8500", "::1", True),
        ("dns:///localhost:8500", "localhost", True),
        ("dns:localhost:8500", "localhost", True),
        ("dns://8.8.8.8/models.example:8500", "models.example", False),
        ("models.localhost:8500", "models.localhost", True),
        ("unix:/run/models.sock", None, True),
        ("unix-abstract:models", None, True),
        ("models.example:8500", "models.example", False),
        ("localhost.example:8500", "localhost.example", False),
        ("notlocalhost:8500", "notlocalhost", False),
        ("10.0.0.1:8500", "10.0.0.1", False),
        ("[2001:db8::1]:8500", "2001:db8::1", False),
    ],
)
def test_targets_of_this_machine_are_told_from_others(target, host, is_local):
    assert is_loopback(target) == is_local
    if host is not None:
        assert host_of(target) == host


@pytest.mark.parametrize(
    ("variables", "target", "expected"),
    [
        ({}, "m.example:1", None),
        ({"http_proxy": "http://p"}, "m.example:1", "http_proxy"),
        ({"http_proxy": "http://p"}, "localhost:1", None),
        ({"HTTP_PROXY": "http://p"}, "m.example:1", None),
        ({"all_proxy": "http://p"}, "m.example:1", None),
        ({"grpc_proxy": "", "http_proxy": "http://p"}, "m.example:1", None),
        ({"https_proxy": "https://p"}, "m.example:1", None),
        ({"http_proxy": "http://p", "no_proxy": "example"}, "m.example:1", None),
        ({"http_proxy": "http://p", "no_proxy": "other, .EXAMPLE"}, "m.example:1", None),
        ({"http_proxy": "http://p", "no_proxy": "*"}, "m.example:1", "http_proxy"),
        ({"http_proxy": "http://p", "no_proxy": "10.0.0.0/8"}, "10.1.2.3:1", None),
        ({"http_proxy": "http://p", "no_proxy": "10.0.0.0/8"}, "11.1.2.3:1", "http_proxy"),
        (
            {"http_proxy": "http://p", "no_grpc_proxy": "x", "no_proxy": "m.example"},
            "m.example:1",
            "http_proxy",
        ),
    ],
)
def test_variable_is_the_one_that_grpc_reads(proxy, monkeypatch, variables, target, expected):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)

    assert proxy_variable(target) == expected
