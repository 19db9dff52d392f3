"""Calls that wait for their message, by simulated calls."""

import asyncio

import grpc
import pytest

from serving.model_server.errors import ServingError
from serving.model_server.grpc.request_memory import LargeRequests, WaitingCalls

SIZE = 100
# Much longer than anything here takes on a busy machine.
WAIT_S = 30.0


class Played:
    """A simulated call: its message comes when the test says so, and it can be ended."""

    def __init__(self, peer):
        self.peer = lambda: peer
        self.message = asyncio.get_running_loop().create_future()
        self.ended = None
        self.is_read = asyncio.Event()

    async def read(self):
        self.is_read.set()
        return await self.message


async def end(call, error):
    call.ended = error
    call.message.set_exception(grpc.aio.AbortError())


async def as_it_is(message):
    return message


def waiting(num_open=2, max_calls=100, timeout_s=WAIT_S, free_bytes=0):
    return WaitingCalls(
        max_message_bytes=SIZE,
        budget_bytes=num_open * SIZE,
        max_calls=max_calls,
        timeout_s=timeout_s,
        end=end,
        free_bytes=free_bytes,
    )


def start(calls, peer="one"):
    call = Played(peer)
    return call, asyncio.ensure_future(calls.read(call, as_it_is))


def play(scene):
    asyncio.run(asyncio.wait_for(scene(), WAIT_S))


def test_message_is_held_until_it_is_let_go():
    async def scene():
        calls = waiting()
        call, reading = start(calls)
        call.message.set_result(b"12345")
        assert await reading == b"12345"
        assert (calls.held_bytes, calls.num_waiting) == (5, 0)
        calls.release(b"12345")
        assert calls.held_bytes == 0
        silent, reading = start(calls)
        silent.message.set_result(grpc.aio.EOF)
        assert await reading is None

    play(scene)


def test_call_without_room_is_read_when_another_is_done():
    async def scene():
        calls = waiting(num_open=1)
        first, reading = start(calls)
        await first.is_read.wait()
        second, later = start(calls)
        await asyncio.sleep(0)
        assert not second.is_read.is_set()
        first.message.set_result(b"x" * SIZE)
        message = await reading
        await asyncio.sleep(0)
        assert not second.is_read.is_set()  # the message takes the room that the call took
        calls.release(message)
        await second.is_read.wait()
        second.message.set_result(b"y")
        assert await later == b"y"

    play(scene)


def test_silent_calls_make_room_for_another_connection_the_oldest_first():
    async def scene():
        calls = waiting(num_open=2)
        silent = [start(calls) for _ in range(6)]
        honest, reading = start(calls, "another")
        honest.message.set_result(b"x")
        assert await reading == b"x"
        assert [call.ended is not None for call, _ in silent] == [True] + [False] * 5
        assert silent[0][0].ended.code is grpc.StatusCode.RESOURCE_EXHAUSTED
        for _, task in silent:
            task.cancel()

    play(scene)


def test_silent_connections_make_room_for_one_that_came_last():
    async def scene():
        calls = waiting(num_open=2)
        silent = [start(calls, f"silent {number}") for number in range(20)]
        honest, reading = start(calls, "honest")
        honest.message.set_result(b"x")
        assert await reading == b"x"
        assert all(call.ended for call, _ in silent[:18])
        for _, task in silent:
            task.cancel()

    play(scene)


def test_connections_take_turns():
    async def scene():
        calls = waiting(num_open=2)
        first = [start(calls, "busy") for _ in range(10)]
        honest, reading = start(calls, "honest")
        await first[0][0].is_read.wait()
        first[0][0].message.set_result(b"")
        await first[0][1]
        await honest.is_read.wait()
        assert not first[2][0].is_read.is_set()
        honest.message.set_result(b"x")
        assert await reading == b"x"
        assert not any(call.ended for call, _ in first)
        for _, task in first:
            task.cancel()

    play(scene)


def test_call_waits_for_those_of_its_own_connection():
    async def scene():
        calls = waiting(num_open=1)
        slow, reading = start(calls)
        later, last = start(calls)
        await slow.is_read.wait()
        calls._look()
        await asyncio.sleep(0.2)
        assert slow.ended is None
        slow.message.set_result(b"slow")
        later.message.set_result(b"y")
        calls.release(await reading)
        assert await last == b"y"

    play(scene)


def test_call_without_room_is_not_told_that_its_message_did_not_come():
    async def scene():
        calls = waiting(num_open=1, timeout_s=0.05)
        first, reading = start(calls)
        first.message.set_result(b"x" * SIZE)
        message = await reading
        second, later = start(calls)
        second.message.set_result(b"y")
        await asyncio.sleep(0.3)  # many times its time
        assert not later.done()
        calls.release(message)
        assert await later == b"y"

    play(scene)


def test_small_messages_that_are_held_keep_nobody_out():
    async def scene():
        calls = waiting(num_open=1, free_bytes=SIZE // 2)
        for _ in range(5):
            call, reading = start(calls)
            call.message.set_result(b"x" * (SIZE // 2))
            await reading
        assert calls.held_bytes == 5 * SIZE // 2
        large, reading = start(calls)
        large.message.set_result(b"x" * SIZE)
        await reading
        _, last = start(calls)
        await asyncio.sleep(0)
        assert not last.done()
        last.cancel()

    play(scene)


def test_call_that_stays_silent_is_ended_in_its_time():
    async def scene():
        calls = waiting(timeout_s=0.1)
        call, reading = start(calls)
        with pytest.raises(grpc.aio.AbortError):
            await reading
        assert call.ended.code is grpc.StatusCode.DEADLINE_EXCEEDED
        assert "--request_read_timeout_seconds=0.1" in call.ended.message
        assert calls.num_waiting == 0

    play(scene)


def test_more_calls_than_may_wait_end_the_oldest():
    async def scene():
        calls = waiting(num_open=1, max_calls=2)
        call, first = start(calls)
        _, queued = start(calls)
        await asyncio.sleep(0)
        start(calls)
        with pytest.raises(grpc.aio.AbortError):
            await first
        assert call.ended.message == "Concurrent RPC limit exceeded!"
        start(calls)
        with pytest.raises((ServingError, grpc.aio.AbortError)):  # read by now, or not
            await queued

    play(scene)


def test_stopping_gives_a_silent_call_a_moment():
    async def scene():
        calls = waiting()
        call, reading = start(calls)
        await call.is_read.wait()
        calls.stop()
        with pytest.raises(grpc.aio.AbortError):
            await reading
        assert call.ended.code is grpc.StatusCode.UNAVAILABLE

    play(scene)


def test_call_that_goes_gives_its_room_back():
    async def scene():
        calls = waiting(num_open=1)
        first, reading = start(calls)
        await first.is_read.wait()
        second, later = start(calls)
        third, last = start(calls)
        await asyncio.sleep(0)
        later.cancel()
        reading.cancel()
        await third.is_read.wait()
        assert not second.is_read.is_set()
        third.message.set_result(b"z")
        assert await last == b"z"

    play(scene)


def test_large_requests_take_turns_and_one_that_never_fits_is_refused():
    async def scene():
        large = LargeRequests(10 << 20)
        await large.acquire(6 << 20)
        second = asyncio.ensure_future(large.acquire(6 << 20))
        third = asyncio.ensure_future(large.acquire(1 << 20))
        await asyncio.sleep(0)
        assert not second.done() and not third.done()  # in their order: none waits for ever
        second.cancel()
        large.release(6 << 20)
        await third
        with pytest.raises(ServingError, match="would take 11 MB .*--max_request_memory_mb=10"):
            await large.acquire(11 << 20)

    play(scene)
