"""The asyncio client gives the blocking client's answers; and what only asyncio has."""

import asyncio
import threading
import time

import grpc
import numpy as np
import pytest

from serving.client import AsyncTagClient, TagClient, TagClientError
from tests.serving.client.certificates import make_certificate
from tests.serving.client.flaky_service import FlakyService, serve

X = {"x": np.array([1.0], np.float32)}
USERS = [
    {"country": "at", "clicked_tags": ["jazz", "folk"], "clicked_tags_weights": [2.0, 0.5]},
    {"clicked_tags": ["metal"]},
    {},
]


async def until(condition):
    """Waits until another thread has done something."""
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.005)


def call_of(target, **arguments):
    """Makes one `predict` by a separate client."""

    async def ask():
        async with AsyncTagClient(target, **{"timeout_s": 60} | arguments) as client:
            return await client.predict(X)

    return asyncio.run(ask())


# Against a real server.


@pytest.mark.parametrize(
    ("name", "positional", "named"),
    [
        ("retrieve", (USERS,), {"num_tags": 2}),
        ("retrieve", (USERS,), {}),
        (
            "retrieve_filtered",
            (USERS,),
            {"exclude_tags": [["jazz"], [], []], "allow_categories": [["old"], [], ["none"]]},
        ),
        ("score_tags", (USERS[:2], [["jazz", "folk"], ["blues"]]), {}),
        ("score_items", (USERS[:2], [[["jazz", "folk"], []], [["metal"]]]), {}),
        ("explain", (USERS[:2], ["jazz", "metal"]), {}),
        ("model_status", (), {}),
    ],
)
def test_answers_are_those_of_the_blocking_client(target, name, positional, named):
    async def ask():
        async with AsyncTagClient(target, timeout_s=60) as client:
            return await getattr(client, name)(*positional, **named)

    with TagClient(target, timeout_s=60) as client:
        expected = getattr(client, name)(*positional, **named)
    assert asyncio.run(ask()) == expected
    assert expected


def test_any_signature_is_called(target):
    inputs = {
        "country": np.array([b"at"], object),
        "clicked_tags": np.array([["jazz"]]),
        "clicked_tags_weights": np.array([[2]], np.float32),
    }

    async def ask():
        async with AsyncTagClient(target, timeout_s=60) as client:
            return await client.predict(inputs, "embed_users", ["query_embeddings"])

    answer = asyncio.run(ask())
    # Of Austria [0, 2, 0], of jazz twice [3, 1, 0].
    assert answer.outputs["query_embeddings"].tolist() == [[6, 4, 0]]
    assert list(answer.outputs) == ["query_embeddings"]


def test_many_calls_under_way_at_once_get_their_own_answers(target):
    weights = [float(weight) for weight in range(1, 101)]
    users = [{"clicked_tags": ["folk"], "clicked_tags_weights": [weight]} for weight in weights]

    async def ask():
        async with AsyncTagClient(target, timeout_s=120) as client:
            calls = [client.score_tags([user], [["folk"]]) for user in users]
            return await asyncio.gather(*calls)

    answers = asyncio.run(ask())
    # A user from nowhere is [1, 0, 0], and folk [1, -1, 2] times itself 6.
    assert [answer.users[0].scores for answer in answers] == [(1 + 6 * w,) for w in weights]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([],), "`features` must hold at least one instance"),
        (([{"gender": "F"}],), r"must name features of the model \(clicked_tags, .*, country\)"),
    ],
)
def test_callers_mistake_is_refused(target, arguments, message):
    async def ask():
        async with AsyncTagClient(target, timeout_s=60) as client:
            await client.retrieve(*arguments)

    with pytest.raises(ValueError, match=message):
        asyncio.run(ask())


def test_unknown_model_says_where_to_look(target):
    async def ask():
        async with AsyncTagClient(target, model_name="nope", timeout_s=60) as client:
            await client.retrieve([{}])

    with pytest.raises(TagClientError, match=r"nope.*--model_name"):
        asyncio.run(ask())


# Against a server that misbehaves.


def test_unavailable_twice_is_tried_again_with_growing_pauses(flaky):
    flaky.num_failures = 2

    assert call_of(flaky.target).model_version == 7

    first, second, third = flaky.times
    assert second - first >= 0.025  # half of the first pause, the least its random factor leaves
    assert third - second >= 0.05


def test_unavailable_too_often_is_an_error_that_names_the_server(flaky):
    flaky.num_failures = 3
    with pytest.raises(TagClientError, match=rf"{flaky.target}: is it started") as caught:
        call_of(flaky.target)
    assert caught.value.code is grpc.StatusCode.UNAVAILABLE
    assert len(flaky.times) == 3


def test_other_errors_are_not_tried_again(flaky):
    flaky.num_failures, flaky.code = 1, grpc.StatusCode.INTERNAL
    with pytest.raises(TagClientError, match="INTERNAL: not now") as caught:
        call_of(flaky.target)
    assert isinstance(caught.value.__cause__, grpc.RpcError)
    assert len(flaky.times) == 1


def test_late_answer_is_an_error_at_the_deadline(flaky):
    flaky.release.clear()
    start = time.monotonic()
    with pytest.raises(TagClientError, match="raise `timeout_s`") as caught:
        call_of(flaky.target, timeout_s=0.2)
    assert caught.value.code is grpc.StatusCode.DEADLINE_EXCEEDED
    assert 0.19 <= time.monotonic() - start < 10
    flaky.release.set()


def test_pause_between_attempts_does_not_hold_up_the_loop(flaky):
    flaky.num_failures = 10**6

    async def ask():
        async with AsyncTagClient(flaky.target, max_attempts=4, timeout_s=60) as client:
            failing = asyncio.create_task(client.predict(X))
            num_turns = 0
            while not failing.done():
                num_turns += 1
                await asyncio.sleep(0)
            with pytest.raises(TagClientError):
                await failing
            return num_turns

    # The loop turns thousands of times a second; held up, it would turn once an attempt.
    assert asyncio.run(ask()) > 100
    assert len(flaky.times) == 4


def test_cancelled_call_is_cancelled_at_the_server(flaky):
    flaky.release.clear()

    async def cancel():
        async with AsyncTagClient(flaky.target, timeout_s=60) as client:
            call = asyncio.create_task(client.predict(X))
            await until(lambda: flaky.times)
            assert not flaky.ended.is_set()
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
            # The service still waits, so only the caller has ended the call.
            await until(flaky.ended.is_set)

    asyncio.run(cancel())
    assert len(flaky.times) == 1


def test_calls_share_one_connection_that_close_ends(flaky):
    async def ask():
        client = AsyncTagClient(flaky.target)
        async with client:
            answers = await asyncio.gather(*(client.predict(X) for _ in range(20)))
        with pytest.raises(RuntimeError, match="`AsyncTagClient` is closed"):
            await client.predict(X)
        return answers

    assert [answer.model_version for answer in asyncio.run(ask())] == [7] * 20
    assert len(flaky.peers) == 20
    assert len(set(flaky.peers)) == 1


def test_client_made_outside_a_loop_belongs_to_the_loop_of_its_first_call(flaky):
    client = AsyncTagClient(flaky.target)

    async def ask():
        return (await client.predict(X)).model_version

    assert asyncio.run(ask()) == 7
    with pytest.raises(RuntimeError, match="one event loop.*Make one in each loop"):
        asyncio.run(ask())
    assert len(flaky.times) == 1


def test_client_made_in_a_thread_without_a_loop_is_used_in_another(flaky):
    clients = []
    thread = threading.Thread(target=lambda: clients.append(AsyncTagClient(flaky.target)))
    thread.start()
    thread.join()

    async def ask():
        async with clients[0] as client:
            return (await client.predict(X)).model_version

    assert asyncio.run(ask()) == 7


def test_server_with_a_certificate_is_asked_with_credentials():
    certificate, key = make_certificate("127.0.0.1")
    with serve(FlakyService(), grpc.ssl_server_credentials([(key, certificate)])) as service:
        credentials = grpc.ssl_channel_credentials(certificate)
        assert call_of(service.target, credentials=credentials).model_version == 7


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"target": ""}, "`target` must be host:port"),
        ({"timeout_s": -1}, "`timeout_s` must be positive. Received: timeout_s=-1."),
        ({"list_width": 0}, "`list_width` must be a positive integer"),
    ],
)
def test_argument_out_of_range_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        AsyncTagClient(**{"target": "localhost:8500"} | arguments)
