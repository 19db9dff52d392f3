"""Which calls give way to which others, with the time given as a number."""

from serving.model_server.grpc.request_peers import (
    STEADY_S,
    Peer,
    Peers,
    Wait,
    distrust,
    first_in_turn,
    giving_way,
)

SLOTS = 16


def opened(peer, number, since=0.0):
    waits = []
    for _ in range(number):
        wait = Wait(None, peer, since)
        wait.opened = since
        peer.num_open += 1
        waits.append(wait)
    return waits


def queued(number=1, since=0.0):
    peer = Peer()
    for _ in range(number):
        peer.queue[Wait(None, peer, since)] = None
    return peer


def ended(waits, peers, now, num_ending=0):
    result = []
    for wait in giving_way(waits, peers, num_ending, now):
        wait.peer.num_open -= 1
        result.append(wait)
    return result


def delivering():
    peer = Peer()
    peer.has_delivered = True
    return peer


def test_one_call_gives_way_to_one_connection_after_its_time():
    waits = opened(Peer(), SLOTS)
    assert not ended(waits, [queued()], 1.0)
    assert ended(waits, [queued()], 2.0) == waits[:1]


def test_who_has_just_come_waits_too_unless_the_others_are_known_to_be_silent():
    silent = Peer()
    waits = opened(silent, SLOTS)
    assert not ended(waits, [queued(since=5.0)], 5.1)
    distrust(silent, 0.0)
    assert ended(waits, [queued(since=5.0)], 5.1) == waits[:1]


def test_connections_have_equal_shares_and_then_end_none_of_each_other():
    first, second = queued(50), queued(50)
    waits = opened(first, 8) + opened(second, 8)
    assert not ended(waits, [second, first], STEADY_S - 1)


def test_of_a_delivering_connection_half_the_calls_have_longer():
    waits = opened(delivering(), SLOTS)
    late = ended(waits, [queued() for _ in range(SLOTS)], STEADY_S - 1)
    assert late == waits[SLOTS // 2 :]
    assert not ended(waits[: SLOTS // 2], [], STEADY_S - 1)


def test_many_connections_that_deliver_now_and_then_hold_half_at_most():
    waits = [opened(delivering(), 1)[0] for _ in range(SLOTS)]
    crowd = [queued() for _ in range(300)]
    assert ended(waits, crowd, 0.11) == waits[SLOTS // 2 :]


def test_those_that_are_ended_already_make_room_for_as_many():
    waits = opened(Peer(), SLOTS)
    assert len(ended(waits, [queued(), queued()], 3.0, num_ending=1)) == 1
    assert not ended(waits[1:], [queued()], 3.0, num_ending=1)


def test_own_connection_has_the_longest_time():
    peer = queued()
    waits = opened(peer, SLOTS)
    assert not ended(waits, [peer], STEADY_S - 0.1)
    assert ended(waits, [peer], STEADY_S) == waits[:1]


def test_turn_is_of_the_connection_with_least_then_the_trusted_then_the_oldest():
    busy, silent, older, newer = (queued(since=time) for time in (0.0, 1.0, 2.0, 3.0))
    opened(busy, 1)
    distrust(silent, 9.0)
    assert first_in_turn([busy, silent, newer, older], 10.0, 4) == [older, newer, silent, busy]
    assert first_in_turn([silent, newer, older], 100.0) == [silent]


def test_connections_are_remembered_and_forgotten_when_they_are_many():
    peers = Peers()
    first, idle = peers.get("first"), peers.get("idle")
    first.num_calls = 1
    for number in range(5000):
        peers.get(f"{number}")
    assert peers.get("first") is first
    assert peers.get("idle") is not idle
