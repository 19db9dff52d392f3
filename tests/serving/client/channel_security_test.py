"""Certificates and tokens of the clients, against servers that ask for them."""

import asyncio
import contextlib
import os

import grpc
import numpy as np
import pytest

from serving.client import AsyncTagClient, ChannelSecurity, TagClient, TagClientError
from tests.serving.client.flaky_service import FlakyService, serve
from tests.serving.client.openssl_certificates import (
    add_password,
    make_authority,
    make_pair,
    needs_openssl,
)

X = {"x": np.array([1.0], np.float32)}


class Certificates:
    """The certificates of one authority, and of a stranger."""

    def __init__(self, folder):
        self.folder = folder
        self.authority = make_authority(folder, "authority")
        self.stranger = make_authority(folder, "stranger")
        self.server = make_pair(folder, "server", self.authority, "IP:127.0.0.1,DNS:localhost")
        self.named = make_pair(folder, "named", self.authority, "DNS:tower.test")
        self.expired = make_pair(folder, "expired", self.authority, "IP:127.0.0.1", days=-1)
        self.client = make_pair(folder, "client", self.authority)
        self.strange_client = make_pair(folder, "strange_client", self.stranger)

    def server_credentials(self, pair, is_mutual=False):
        authority = self.authority.certificate.read_bytes() if is_mutual else None
        return grpc.ssl_server_credentials([pair.read()], authority, is_mutual)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    return Certificates(tmp_path_factory.mktemp("certificates"))


def ask(target, **arguments):
    with TagClient(target, timeout_s=60, **arguments) as client:
        return client.predict(X).model_version


def ask_async(target, **arguments):
    async def once():
        async with AsyncTagClient(target, timeout_s=60, **arguments) as client:
            return (await client.predict(X)).model_version

    return asyncio.run(once())


both_clients = pytest.mark.parametrize("asked", [ask, ask_async])


@needs_openssl
@both_clients
def test_server_that_the_authority_vouches_for_is_asked(certificates, asked):
    security = ChannelSecurity(ca_file=certificates.authority.certificate)
    with serve(FlakyService(), certificates.server_credentials(certificates.server)) as service:
        assert asked(service.target, security=security) == 7


@needs_openssl
@both_clients
def test_client_shows_its_certificate(certificates, asked):
    own = certificates.client
    security = ChannelSecurity(certificates.authority.certificate, own.certificate, own.key)
    credentials = certificates.server_credentials(certificates.server, is_mutual=True)
    with serve(FlakyService(), credentials) as service:
        assert asked(service.target, security=security) == 7


@needs_openssl
def test_server_by_another_name(certificates):
    authority = certificates.authority.certificate
    with serve(FlakyService(), certificates.server_credentials(certificates.named)) as service:
        security = ChannelSecurity(authority, server_name="tower.test")
        assert ask(service.target, security=security) == 7
        with pytest.raises(TagClientError, match="is for another name: connect by that name"):
            ask(service.target, security=ChannelSecurity(authority))
    assert len(service.times) == 1


@needs_openssl
@both_clients
def test_server_that_nobody_vouches_for_gets_no_call_and_no_token(certificates, asked):
    credentials = certificates.server_credentials
    stranger = ChannelSecurity(ca_file=certificates.stranger.certificate, token="secret")
    authority = ChannelSecurity(ca_file=certificates.authority.certificate, token="secret")
    without_file = ChannelSecurity(uses_tls=True, token="secret")
    for pair, security in (
        (certificates.server, stranger),
        (certificates.server, without_file),
        (certificates.expired, authority),
    ):
        with serve(FlakyService(), credentials(pair)) as service:
            with pytest.raises(TagClientError, match="No authority in `ca_file`") as caught:
                asked(service.target, security=security)
        assert caught.value.code is grpc.StatusCode.UNAVAILABLE
        assert service.times == []


@needs_openssl
def test_client_without_a_certificate_or_with_a_strange_one_is_told_why(certificates):
    authority, strange = certificates.authority.certificate, certificates.strange_client
    credentials = certificates.server_credentials(certificates.server, is_mutual=True)
    with serve(FlakyService(), credentials) as service:
        for security in (
            None,
            ChannelSecurity(authority),
            ChannelSecurity(authority, strange.certificate, strange.key),
        ):
            with pytest.raises(TagClientError, match="certificate of a client") as caught:
                ask(service.target, security=security)
            assert service.target in str(caught.value)
    assert service.times == []


@needs_openssl
def test_server_in_clear_is_not_asked_over_tls(flaky, certificates):
    with pytest.raises(TagClientError, match=f"{flaky.target} does not use TLS"):
        ask(flaky.target, security=ChannelSecurity(certificates.authority.certificate))
    assert flaky.times == []


def tokens_of(service):
    return [dict(call).get("authorization") for call in service.metadata]


@both_clients
def test_token_goes_with_every_call(flaky, asked):
    assert asked(flaky.target, security=ChannelSecurity(token="t.0-k_e~n+/=")) == 7
    assert asked(flaky.target) == 7
    assert tokens_of(flaky) == ["Bearer t.0-k_e~n+/=", None]


@needs_openssl
@both_clients
def test_token_goes_over_tls_as_well(certificates, asked):
    security = ChannelSecurity(certificates.authority.certificate, token="secret")
    with serve(FlakyService(), certificates.server_credentials(certificates.server)) as service:
        assert asked(service.target, security=security) == 7
    assert tokens_of(service) == ["Bearer secret"]


def replace(path, text):
    """Replaces a file as tools that rotate tokens do: never by half a file."""
    new = path.with_name("new")
    new.write_text(text)
    os.replace(new, path)


def test_token_file_is_read_again_when_it_changes(flaky, tmp_path):
    path = tmp_path / "token"
    path.write_text("first\n")
    with TagClient(flaky.target, security=ChannelSecurity(token_file=path)) as client:
        client.predict(X)
        replace(path, "second\n")
        client.predict(X)
        client.predict(X)
        # Gone, cut, or no token: the last one holds until there is another.
        path.unlink()
        client.predict(X)
        path.write_text("")
        client.predict(X)
        path.write_text("two words")
        client.predict(X)
        replace(path, "third")
        client.predict(X)
    words = ["first", *["second"] * 5, "third"]
    assert tokens_of(flaky) == [f"Bearer {word}" for word in words]


def test_token_does_not_go_to_another_machine_in_clear():
    for target in ("10.0.0.1:8500", "tower.example:8500", "dns:///tower.example:8500"):
        with pytest.raises(
            ValueError, match=r"unencrypted: use TLS.*Received: target='.*tower|10\."
        ):
            TagClient(target, security=ChannelSecurity(token="secret"))
        with pytest.raises(ValueError, match="unencrypted"):
            AsyncTagClient(target, security=ChannelSecurity(token="secret"))
    allowing = ChannelSecurity(token="secret", allows_token_in_clear=True)
    TagClient("10.0.0.1:8500", security=allowing).close()
    TagClient("10.0.0.1:8500", security=ChannelSecurity(uses_tls=True, token="secret")).close()
    TagClient("localhost:8500", security=ChannelSecurity(token="secret")).close()


@pytest.mark.parametrize("token", ["", "two words", "line\nline", "ä", "x" * 4097, "a\0"])
def test_no_token_is_refused_and_never_shown(token, tmp_path):
    path = tmp_path / "token"
    path.write_text(f"{token}")
    for security in ({"token": token}, {"token_file": path}):
        with pytest.raises(ValueError, match="must hold one token") as caught:
            TagClient("localhost:8500", security=ChannelSecurity(**security))
        shown = str(caught.value)
        assert "\n" not in shown and (token == "" or token not in shown.partition("Received")[2])
    with contextlib.suppress(ValueError):
        assert token == "" or token not in repr(ChannelSecurity(token=token or "x"))


def test_unauthenticated_is_explained(flaky):
    flaky.num_failures, flaky.code = 1, grpc.StatusCode.UNAUTHENTICATED
    with pytest.raises(TagClientError, match="Give the token that .* knows"):
        ask(flaky.target)
    assert len(flaky.times) == 1


@needs_openssl
def test_wrong_files_are_one_line_that_names_them(certificates, tmp_path):
    own, other = certificates.client, certificates.server
    locked = add_password(own)
    torn = tmp_path / "torn.pem"
    torn.write_bytes(own.certificate.read_bytes()[:200])
    for arguments, message in (
        ({"ca_file": tmp_path / "none"}, r"`ca_file` must be a file .*none \(No such file"),
        ({"ca_file": tmp_path}, r"`ca_file` must be a file that can be read.*\(Is a directory"),
        ({"ca_file": own.key}, r"`ca_file` must be a PEM file with certificates.*client\.key"),
        ({"ca_file": torn}, r"`ca_file` must be a PEM file with certificates.*torn\.pem"),
        (
            {"certificate_file": own.certificate, "key_file": other.key},
            r"client\.pem and .*server\.key \(key values mismatch\)",
        ),
        (
            {"certificate_file": own.certificate, "key_file": locked},
            r"client\.locked \(the key has a password\)",
        ),
        ({"certificate_file": torn, "key_file": own.key}, r"`certificate_file` must be a PEM"),
        ({"token_file": tmp_path / "none"}, r"`token_file` must be a file that can be read"),
    ):
        with pytest.raises(ValueError, match=message) as caught:
            TagClient("localhost:8500", security=ChannelSecurity(**arguments))
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"certificate_file": "a"}, "given together. Received: only `certificate_file`"),
        ({"key_file": "a"}, "given together. Received: only `key_file`"),
        ({"token": "a", "token_file": "b"}, "`token` must be left out"),
        ({"server_name": "a"}, "`server_name` must be left out without TLS"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        ChannelSecurity(**arguments)


def test_credentials_and_files_are_not_both_given():
    with pytest.raises(ValueError, match="`credentials` must be left out"):
        TagClient(
            "localhost:8500",
            credentials=grpc.ssl_channel_credentials(),
            security=ChannelSecurity(uses_tls=True),
        )
