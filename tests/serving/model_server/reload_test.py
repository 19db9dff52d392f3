"""The served models change while serving: HandleReloadConfigRequest, labels, config file.

Source of codes and messages: TF Serving model_servers/server_core.cc, model_service_impl.cc.
"""

import http.client
import json
import shutil
import threading

import grpc
import numpy as np
import pytest
from google.protobuf import text_format
from tensorflow_serving.apis import (
    get_model_status_pb2,
    model_management_pb2,
    model_service_pb2_grpc,
)

from serving.client import TagClient, TagClientError
from serving.model_server.errors import ServingError
from serving.model_server.models.config_file import ConfigFileWatcher
from serving.model_server.models.model_config import ModelConfig
from serving.model_server.models.version_policy import AllVersions
from serving.model_server.server import ModelServer

X = {"x": np.array([1.0], np.float32)}
WAIT_S = 60.0
ALL = "model_version_policy { all { } }"


class Live:
    """A running server, and the calls of its caller."""

    def __init__(self, server, channel):
        self.server = server
        self.manager = server.manager
        self.models = model_service_pb2_grpc.ModelServiceStub(channel)

    def reload(self, *models, timeout=WAIT_S):
        request = model_management_pb2.ReloadConfigRequest()
        text = "model_config_list { " + " ".join(models) + " }"
        text_format.Parse(text, request.config)
        return self.models.HandleReloadConfigRequest(request, timeout=timeout)

    def refused_reload(self, *models):
        with pytest.raises(grpc.RpcError) as caught:
            self.reload(*models)
        return caught.value.code().name, caught.value.details()

    def states(self, name):
        request = get_model_status_pb2.GetModelStatusRequest()
        request.model_spec.name = name
        response = self.models.GetModelStatus(request)
        return {
            status.version: get_model_status_pb2.ModelVersionStatus.State.Name(status.state)
            for status in response.model_version_status
        }

    def wait_for_states(self, name, expected):
        def states():
            return {s.version: s.state.name for s in self.manager.models[name].statuses()}

        assert self.manager.wait_until(lambda: states() == expected, WAIT_S), states()

    def predict(self, place="toy"):
        return predict(self.server, place)


def predict(server, place):
    """Returns status and answer to x = 1 over REST; `place` such as `toy/labels/canary`."""
    connection = http.client.HTTPConnection("127.0.0.1", server.rest_api_port, timeout=WAIT_S)
    connection.request("POST", f"/v1/models/{place}:predict", '{"instances": [1.0]}')
    response = connection.getresponse()
    text = json.loads(response.read())
    connection.close()
    return response.status, text.get("predictions") or text["error"]


@pytest.fixture
def live(toy_versions):
    """Runs a server of the latest version of `toy`."""
    config = ModelConfig("toy", str(toy_versions))
    with ModelServer(
        [config],
        rest_api_port=0,
        poll_wait_s=0.02,
        allows_reload=True,
        model_roots=["/"],
    ) as server:
        server.wait_until_available(WAIT_S)
        with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
            yield Live(server, channel)


def model(path, rest="", name="toy", platform='model_platform: "tensorflow"'):
    return f'config {{ name: "{name}" base_path: "{path}" {platform} {rest} }}'


def labels(**versions):
    return " ".join(
        f'version_labels {{ key: "{label}" value: {version} }}'
        for label, version in versions.items()
    )


def test_reload_changes_policy_then_labels_then_drops_the_model(live, toy_versions):
    response = live.reload(model(toy_versions, ALL))
    assert response.HasField("status")
    assert (response.status.error_code, response.status.error_message) == (0, "")
    live.wait_for_states("toy", {2: "AVAILABLE", 1: "AVAILABLE"})

    live.reload(model(toy_versions, ALL + labels(canary=2, stable=1)))
    assert live.predict("toy/labels/canary") == (200, [2.5])
    assert live.predict("toy/labels/stable") == (200, [1.5])

    # A label that points nowhere: refused, and nothing changes.
    message = (
        "Request to assign label to version 77 of model toy, which is not currently available for "
        "inference"
    )
    refused = live.refused_reload(model(toy_versions, labels(canary=77)))
    assert refused == ("FAILED_PRECONDITION", message)
    assert live.predict("toy/labels/canary") == (200, [2.5])
    assert live.states("toy") == {2: "AVAILABLE", 1: "AVAILABLE"}

    # Labels that the next configuration leaves out are gone.
    specific = "model_version_policy { specific { versions: 1 } }"
    live.reload(model(toy_versions, specific + labels(stable=1)))
    live.wait_for_states("toy", {2: "END", 1: "AVAILABLE"})
    expected = (400, "Unrecognized servable version label: canary")
    assert live.predict("toy/labels/canary") == expected

    # A model that is left out answers nothing at once, is unloaded, and is remembered.
    live.reload()
    assert live.predict() == (404, "Servable not found for request: Latest(toy)")
    live.wait_for_states("toy", {2: "END", 1: "END"})
    assert live.states("toy") == {2: "END", 1: "END"}

    # It comes back when it is named again, and the answer comes when it serves.
    live.reload(model(toy_versions))
    assert live.predict() == (200, [2.5])


def test_new_model_serves_when_the_reload_is_answered(live, toy_versions):
    other = model(toy_versions, "model_version_policy { specific { versions: 1 } }", "other")
    live.reload(model(toy_versions), other)
    assert live.predict("other") == (200, [1.5])
    assert live.predict("toy") == (200, [2.5])


def test_label_of_a_version_still_to_be_loaded_takes_a_second_reload(live, toy_versions):
    with_label = model(toy_versions, ALL + labels(stable=1))
    code, _ = live.refused_reload(with_label)
    assert code == "FAILED_PRECONDITION"
    assert live.states("toy") == {2: "AVAILABLE"}
    live.reload(model(toy_versions, ALL))
    live.wait_for_states("toy", {2: "AVAILABLE", 1: "AVAILABLE"})
    live.reload(with_label)
    assert live.predict("toy/labels/stable") == (200, [1.5])


def test_broken_new_model_is_told_and_the_others_serve(live, toy_versions, tmp_path):
    (tmp_path / "broken" / "3").mkdir(parents=True)
    code, details = live.refused_reload(
        model(toy_versions), model(tmp_path / "broken", name="broken")
    )
    assert code == "UNKNOWN"
    assert details.startswith(
        "1 model(s) did not become available: {{{name: broken version: 3} due to error: "
        "NOT_FOUND: Specified file path does not appear to contain a SavedModel bundle"
    )
    assert live.predict() == (200, [2.5])
    assert live.states("broken") == {3: "END"}


def test_refused_configuration_changes_nothing_and_the_next_one_is_taken(live, toy_versions):
    # The real server stores a configuration without a platform, and refuses all later ones.
    for _ in range(2):
        code, details = live.refused_reload(model(toy_versions, platform=""))
        assert code == "INVALID_ARGUMENT"
        assert details.startswith("Illegal setting neither ModelServerConfig::model_type")
    assert live.predict() == (200, [2.5])
    live.reload(model(toy_versions))


def test_absent_base_path_is_waited_for_until_the_caller_gives_up(live, toy_versions, tmp_path):
    absent = model(tmp_path / "later" / "toy", name="later")
    with pytest.raises(grpc.RpcError) as caught:
        live.reload(model(toy_versions), absent, timeout=0.5)
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert live.predict() == (200, [2.5])
    # The next reload is not held up, and the model serves once it is there.
    live.reload(model(toy_versions), absent)
    (tmp_path / "later").mkdir()
    shutil.copytree(toy_versions, tmp_path / "staged")
    (tmp_path / "staged").rename(tmp_path / "later" / "toy")
    live.wait_for_states("later", {2: "AVAILABLE"})


def test_reloads_under_load_fail_no_request(live, toy_versions):
    failures, num_answers = [], 0
    is_over = threading.Event()

    def load():
        nonlocal num_answers
        client = TagClient(f"127.0.0.1:{live.server.port}", model_name="toy", max_attempts=1)
        with client:
            while not is_over.is_set():
                try:
                    answer = client.predict(X)
                    if answer.outputs["y"][0] != 0.5 + answer.model_version:
                        failures.append(answer)
                    num_answers += 1
                except TagClientError as error:
                    failures.append(error)

    threads = [threading.Thread(target=load) for _ in range(2)]
    for thread in threads:
        thread.start()
    policies = {1: "specific { versions: 1 }", 2: "latest { num_versions: 1 }"}
    try:
        for version in (1, 2, 1):
            live.reload(model(toy_versions, f"model_version_policy {{ {policies[version]} }}"))
            live.wait_for_states("toy", {version: "AVAILABLE", 3 - version: "END"})
    finally:
        is_over.set()
    for thread in threads:
        thread.join()
    assert failures == []
    assert num_answers > 0


# The first configuration.


def test_labels_of_the_first_configuration_are_given_when_its_models_are_loaded(toy_versions):
    config = ModelConfig("toy", str(toy_versions), AllVersions(), {"stable": 1})
    with ModelServer([config], rest_api_port=0, host="127.0.0.1") as server:
        assert server.wait_until_available(WAIT_S) == {"toy": 2}
        assert predict(server, "toy/labels/stable") == (200, [1.5])


def test_label_of_the_first_configuration_that_points_nowhere_is_told(toy_versions):
    config = ModelConfig("toy", str(toy_versions), version_labels={"stable": 77})
    with ModelServer([config], host="127.0.0.1") as server:
        with pytest.raises(ServingError, match="Request to assign label to version 77"):
            server.wait_until_available(WAIT_S)


def test_first_configuration_once_more_while_it_is_loading_changes_nothing(toy_versions):
    config = ModelConfig("toy", str(toy_versions), AllVersions(), {"stable": 1})
    server = ModelServer([config], rest_api_port=0, host="127.0.0.1")
    server.manager.reload([config])  # before its versions are there
    with server:
        server.wait_until_available(WAIT_S)
        assert predict(server, "toy/labels/stable") == (200, [1.5])


# The file.


def test_configuration_file_is_followed_and_a_wrong_one_changes_nothing(
    live, toy_versions, tmp_path, caplog
):
    path = tmp_path / "models.config"

    def write(text):
        staged = tmp_path / "staged"
        staged.write_text(text)
        staged.rename(path)

    write(f"model_config_list {{ {model(toy_versions, ALL)} }}")
    watcher = ConfigFileWatcher(str(path), live.manager, 0.02)
    watcher.start()
    try:
        live.wait_for_states("toy", {2: "AVAILABLE", 1: "AVAILABLE"})
        write("model_config_list { nonsense }")
        assert wait_for_log(live, caplog, "Reloading")
        assert live.predict("toy/versions/1") == (200, [1.5])
        write(f"model_config_list {{ {model(toy_versions, labels(new=2))} }}")
        live.wait_for_states("toy", {2: "AVAILABLE", 1: "END"})
        assert live.predict("toy/labels/new") == (200, [2.5])
    finally:
        watcher.stop()
    assert caplog.text.count("Reloading") == 1


def wait_for_log(live, caplog, text):
    """Waits until something was logged."""
    done = threading.Event()
    for _ in range(int(WAIT_S / 0.05)):
        if text in caplog.text:
            return True
        done.wait(0.05)
    return False
