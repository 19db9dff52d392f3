"""The whole server over a base path that changes under load."""

import http.client
import os
import shutil
import threading
import time

import grpc
import numpy as np
import pytest

from serving.client import TagClient, TagClientError
from serving.model_server.models.model_config import ModelConfig
from serving.model_server.models.version_state import VersionState
from serving.model_server.server import ModelServer

X = {"x": np.array([1.0], np.float32)}
WAIT_S = 30.0


@pytest.fixture
def base_path(tmp_path, toy_versions):
    """Makes a base path with version 1 of `toy`; version 2 is beside it, ready to be renamed."""
    base_path = tmp_path / "toy"
    shutil.copytree(toy_versions / "1", base_path / "1")
    shutil.copytree(toy_versions / "2", tmp_path / "staged")
    return base_path


@pytest.fixture
def live(base_path):
    config = ModelConfig("toy", str(base_path))
    with ModelServer([config], rest_api_port=0, host="127.0.0.1", poll_wait_s=0.02) as server:
        server.wait_until_available(WAIT_S)
        with TagClient(f"127.0.0.1:{server.port}", model_name="toy", max_attempts=1) as client:
            yield server, client


def wait_for_states(server, expected):
    """Waits until the versions' states are `expected`, version -> state."""

    def states():
        return {s.version: s.state.name for s in server.manager.models["toy"].statuses()}

    assert server.manager.wait_until(lambda: states() == expected, WAIT_S), states()


def publish(base_path, version):
    os.rename(base_path.parent / "staged", base_path / str(version))


def test_new_version_by_rename_under_load_fails_no_request(base_path, live):
    server, client = live
    seen, failures, has_second = [], [], threading.Event()

    def load():
        connection = http.client.HTTPConnection("127.0.0.1", server.rest_api_port, timeout=WAIT_S)
        end = time.monotonic() + WAIT_S
        num_after = 0
        while num_after < 20 and time.monotonic() < end:
            try:
                answer = client.predict(X)
                seen.append((answer.model_version, float(answer.outputs["y"][0])))
                connection.request("POST", "/v1/models/toy:predict", '{"instances": [1.0]}')
                response = connection.getresponse()
                body = response.read()
                if response.status != 200:
                    failures.append(body)
            except TagClientError as error:
                failures.append(error)
            num_after += has_second.is_set()

    threads = [threading.Thread(target=load) for _ in range(4)]
    for thread in threads:
        thread.start()
    publish(base_path, 2)
    wait_for_states(server, {2: "AVAILABLE", 1: "END"})
    has_second.set()
    for thread in threads:
        thread.join()

    assert failures == []
    assert set(seen) == {(1, 1.5), (2, 2.5)}


def test_broken_new_version_ends_and_the_old_one_serves(base_path, live):
    server, client = live
    staged = base_path.parent / "staged"
    (data,) = (staged / "variables").glob("variables.data*")
    os.truncate(data, 5)
    publish(base_path, 2)
    wait_for_states(server, {2: "END", 1: "AVAILABLE"})

    broken = server.manager.models["toy"].statuses()[0]
    assert broken.code is grpc.StatusCode.OUT_OF_RANGE
    assert broken.message.startswith("Read less bytes than requested")
    assert client.predict(X).model_version == 1
    assert client.model_status()[0].error == broken.message


def test_empty_version_folder_ends_with_the_real_servers_words(base_path, live):
    server, client = live
    (base_path / "3").mkdir()
    wait_for_states(server, {3: "END", 1: "AVAILABLE"})
    broken = server.manager.models["toy"].statuses()[0]
    assert broken.code is grpc.StatusCode.NOT_FOUND
    assert broken.message.startswith(
        "Specified file path does not appear to contain a SavedModel bundle "
        "(should have a file called `saved_model.pb`)"
    )


def test_version_written_beside_and_renamed_is_never_seen_half_copied(base_path, live):
    server, client = live
    half = base_path / "2.tmp"
    half.mkdir()
    shutil.copytree(base_path.parent / "staged" / "variables", half / "variables")
    polls = count_polls(server)
    assert server.manager.wait_until(lambda: len(polls) >= 3, WAIT_S)
    shutil.copy(base_path.parent / "staged" / "saved_model.pb", half)
    os.rename(half, base_path / "2")
    wait_for_states(server, {2: "AVAILABLE", 1: "END"})
    assert client.predict(X).outputs["y"].tolist() == [2.5]


def count_polls(server):
    """Returns a list that grows with every poll of the base path."""
    polls = []
    model = server.manager.models["toy"]
    poll = model.poll

    def counted():
        poll()
        with model._changed:
            polls.append(None)
            model._changed.notify_all()

    model.poll = counted
    return polls


def test_version_that_disappears_is_unloaded(base_path, live):
    server, client = live
    shutil.rmtree(base_path / "1")
    wait_for_states(server, {1: "END"})
    with pytest.raises(TagClientError) as caught:
        client.predict(X)
    assert caught.value.code is grpc.StatusCode.NOT_FOUND


def test_absent_base_path_is_waited_for(tmp_path, toy_versions):
    base_path = tmp_path / "later"
    config = ModelConfig("toy", str(base_path))
    with ModelServer([config], host="127.0.0.1", poll_wait_s=0.02) as server:
        with pytest.raises(TimeoutError, match="Could not find base path"):
            server.wait_until_available(0.1)
        shutil.copytree(toy_versions / "1", tmp_path / "staged" / "1")
        os.rename(tmp_path / "staged", base_path)
        assert server.wait_until_available(WAIT_S) == {"toy": 1}


def test_broken_only_version_is_named_when_waiting_ends(tmp_path):
    (tmp_path / "1").mkdir()
    with ModelServer([ModelConfig("toy", str(tmp_path))], host="127.0.0.1") as server:
        assert server.manager.wait_until(
            lambda: any(
                status.state is VersionState.END
                for status in server.manager.models["toy"].statuses()
            ),
            WAIT_S,
        )
        with pytest.raises(TimeoutError, match="toy: version 1: Specified file path"):
            server.wait_until_available(0.01)


def test_stop_lets_requests_under_way_finish(live):
    server, client = live
    model = server.manager.models["toy"]
    entered, leave = threading.Event(), threading.Event()
    acquire = model.acquire

    def slow_acquire(version=None):
        entered.set()
        assert leave.wait(WAIT_S)
        return acquire(version)

    model.acquire = slow_acquire
    answers = []
    request = threading.Thread(target=lambda: answers.append(client.predict(X).model_version))
    request.start()
    assert entered.wait(WAIT_S)
    stop = threading.Thread(target=server.stop, args=(WAIT_S,))
    stop.start()
    leave.set()
    request.join()
    stop.join()
    assert answers == [1]
    assert [status.state.name for status in model.statuses()] == ["END"]
    with pytest.raises(TagClientError) as caught:
        client.predict(X)
    assert caught.value.code is grpc.StatusCode.UNAVAILABLE


@pytest.mark.parametrize("name", ["port", "rest_api_port"])
def test_taken_port_is_refused(live, name):
    server, _ = live
    taken = getattr(server, name)
    ports = {"port": 0, "rest_api_port": None} | {name: taken}
    second = ModelServer([ModelConfig("toy", "/nowhere")], host="127.0.0.1", **ports)
    with pytest.raises(ValueError, match=f"`{name}` must be a free port.*Received: {name}={taken}"):
        second.start()


def test_two_models_of_one_name_are_refused():
    configs = [ModelConfig("toy", "/a"), ModelConfig("toy", "/b")]
    with pytest.raises(ValueError, match="`name` must be different for each model"):
        ModelServer(configs)
