"""Clients and servers that are far apart, hang, or come back: the effect of a 5 s deadline."""

import asyncio
import contextlib
import itertools
import time
from concurrent.futures import ThreadPoolExecutor

import grpc
import numpy as np
import pytest

from serving.client import AsyncTagClient, TagClient, TagClientError
from tagtower_client.transport import channel_options
from tests.serving.client.certificates import make_certificate
from tests.serving.client.flaky_service import FlakyService, serve
from tests.serving.client.relay import relay_to
from tests.serving.model_server.server_process import wait_until

X = {"x": np.array([1.0], np.float32)}
# A stranger's machine can stand still for longer than the second that a call has left.
NUM_TRIES = 3
WAIT_S = 60


def ask(target, **arguments):
    with TagClient(target, **arguments) as client:
        return client.predict(X).model_version


def ask_async(target, **arguments):
    async def once():
        async with AsyncTagClient(target, **arguments) as client:
            return (await client.predict(X)).model_version

    return asyncio.run(once())


@pytest.fixture(scope="module")
def servers():
    """Runs the same service without and with TLS, each with the credentials that it accepts."""
    certificate, key = make_certificate("127.0.0.1")
    with (
        serve(FlakyService()) as clear,
        serve(FlakyService(), grpc.ssl_server_credentials([(key, certificate)])) as encrypted,
    ):
        yield {
            "clear": (clear.target, None),
            "tls": (encrypted.target, grpc.ssl_channel_credentials(certificate)),
        }


def first_call(servers, asked, form, delay_s):
    """Makes the first call of a client; returns what is wrong with it, or ""."""
    target, credentials = servers[form]
    with relay_to(target, delay_s) as relay:
        for _ in range(NUM_TRIES):
            try:
                version = asked(relay.target, credentials=credentials, timeout_s=5)
                return "" if version == 7 else f"version {version}"
            except TagClientError as caught:
                error = caught
    return f"{asked.__name__}, {form}, {delay_s} s: {error}"


def test_first_call_over_a_distance_is_answered_within_its_deadline(servers):
    """With 0.5 s one way, TLS needs four round trips, 4 s: one second is left.

    Those wait side by side with nothing else; the near ones have time to wait for each other.
    """
    faults = []
    for delays_s in ([0.0, 0.05, 0.2], [0.5]):
        cases = list(itertools.product([ask, ask_async], ["clear", "tls"], delays_s))
        with ThreadPoolExecutor(len(cases)) as threads:
            faults += threads.map(lambda case: first_call(servers, *case), cases)
    assert not any(faults), list(filter(None, faults))


@pytest.mark.parametrize("asked", [ask, ask_async])
def test_server_that_takes_connections_and_says_nothing_costs_the_deadline_and_no_more(
    servers, asked
):
    target, _ = servers["clear"]
    with relay_to(target) as relay:
        relay.is_silent = True
        start = time.monotonic()
        with pytest.raises(TagClientError) as caught:
            asked(relay.target, timeout_s=0.5)
        assert 0.4 < time.monotonic() - start < 30
    assert caught.value.code is grpc.StatusCode.DEADLINE_EXCEEDED


@pytest.mark.parametrize("asked", [ask, ask_async])
@pytest.mark.parametrize("order", ["hangs first", "hangs last"])
def test_name_with_two_addresses_of_which_one_hangs(servers, asked, order):
    target, _ = servers["clear"]
    with relay_to(target) as silent, relay_to(target) as good:
        silent.is_silent = True
        # As gRPC sees a name that stands for two addresses.
        addresses = [silent.target, good.target]
        if order == "hangs last":
            addresses.reverse()
        assert asked(f"ipv4:{','.join(addresses)}", timeout_s=30) == 7


def test_server_that_was_restarted_is_found_again_by_the_same_client():
    """The relay accepts connections all the time and ends them at once, so none is refused."""
    certificate, key = make_certificate("127.0.0.1")
    server_credentials = grpc.ssl_server_credentials([(key, certificate)])
    credentials = grpc.ssl_channel_credentials(certificate)
    with contextlib.ExitStack() as stack:
        with serve(FlakyService(), server_credentials) as service:
            relay = stack.enter_context(relay_to(service.target, 0.02))
            client = TagClient(relay.target, credentials=credentials, timeout_s=30)
            stack.enter_context(client)
            assert client.predict(X).model_version == 7
        with pytest.raises(TagClientError) as gone:
            client.predict(X)
        assert gone.value.code is grpc.StatusCode.UNAVAILABLE
        stack.enter_context(serve(FlakyService(), server_credentials, service.port))
        deadline = time.monotonic() + 30
        while True:
            try:
                assert client.predict(X).model_version == 7
                break
            except TagClientError as error:
                assert error.code is grpc.StatusCode.UNAVAILABLE
                assert time.monotonic() < deadline
                time.sleep(0.05)


def test_server_that_dies_in_the_middle_of_a_call_is_asked_after_before_tls_is():
    with serve(FlakyService()) as service, contextlib.ExitStack() as stack:
        relay = stack.enter_context(relay_to(service.target))
        client = TagClient(relay.target, timeout_s=WAIT_S, max_attempts=1)
        stack.enter_context(client)
        assert client.predict(X).model_version == 7
        service.ended.clear()
        service.release.clear()
        with ThreadPoolExecutor(1) as thread:
            call = thread.submit(client.predict, X)
            assert wait_until(lambda: len(service.times) == 2, WAIT_S)
            relay.end_connections()
            with pytest.raises(TagClientError) as caught:
                call.result(WAIT_S)
    message = str(caught.value)
    assert caught.value.code is grpc.StatusCode.UNAVAILABLE
    assert f"{relay.target} ended the connection: was it stopped or restarted?" in message


def test_pauses_between_attempts_to_connect_are_short_and_an_attempt_has_seconds():
    """Each is set by one option of gRPC, and one of the two names is misleading."""
    options = dict(channel_options("tower.example:8500"))
    assert options["grpc.initial_reconnect_backoff_ms"] <= 100
    assert options["grpc.max_reconnect_backoff_ms"] <= 1000
    # Three round trips of a second, and what a busy machine adds.
    assert options["grpc.min_reconnect_backoff_ms"] >= 5000
