"""What is wanted may change while a version loads: only what is wanted then may answer."""

import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import grpc
import numpy as np
import pytest
from google.protobuf import text_format
from tensorflow_serving.apis import model_management_pb2, model_service_pb2_grpc

from serving.client import TagClient
from serving.model_server.counts.metrics import Metrics
from serving.model_server.errors import ServingError
from serving.model_server.models.model_config import ModelConfig
from serving.model_server.models.version_lifecycle import ServedModel
from serving.model_server.models.version_policy import AllVersions, LatestVersions, SpecificVersions
from serving.model_server.server import ModelServer
from tests.serving.model_server import toy_models
from tests.serving.model_server.server_process import wait_until
from tfx_pipeline.versions.pushed_versions import roll_back

X = {"x": np.array([1.0], np.float32)}
WAIT_S = 60.0


# What happens in the middle of a load, without a model: loads are recorded, and call back.


class World:
    """A model over a folder; `during` is called while version 2 is loaded for the first time."""

    def __init__(self, base_path: Path, policy, during, is_broken=False):
        self.base_path, self.log = base_path, []
        self._during, self._is_broken = during, is_broken
        self.model = ServedModel(
            ModelConfig("toy", str(base_path), policy),
            threading.Condition(threading.RLock()),
            Metrics(),
            load=self._load,
        )

    def _load(self, path, version, is_wanted):
        self.log.append(f"load {version}")
        if version == 2 and self._during:
            during, self._during = self._during, None
            during(self)
            self.log.append(f"wanted {is_wanted()}")
            if self._is_broken:
                raise ServingError(grpc.StatusCode.NOT_FOUND, "no such file")
        return Loaded(self.log, version)

    def add(self, *versions):
        for version in versions:
            (self.base_path / str(version)).mkdir(parents=True)

    def delete(self, version):
        shutil.rmtree(self.base_path / str(version))

    def configure(self, policy, base_path=None):
        path = str(base_path or self.base_path)
        self.model.reconfigure(ModelConfig("toy", path, policy))

    def states(self):
        return {s.version: s.state.name for s in self.model.statuses()}


class Loaded:
    def __init__(self, log, version):
        self._log, self.version = log, version

    def close(self):
        self._log.append(f"close {self.version}")


def withdraw(world):
    roll_back([str(world.base_path)], 1)


def withdraw_and_bring_back(world):
    roll_back([str(world.base_path)], 1)
    roll_back([str(world.base_path)], 2)


def lose_folder(world):
    world.base_path.rename(world.base_path.with_name("away"))


def move(world):
    """Lets the configuration name another folder, with another version 2."""
    other = world.base_path.with_name("other")
    (other / "2").mkdir(parents=True)
    world.configure(LatestVersions(), other)


CASES = {
    "withdrawn": (LatestVersions(), withdraw, ["wanted False", "close 2"], {2: "END"}),
    "deleted": (LatestVersions(), lambda w: w.delete(2), ["wanted False", "close 2"], {2: "END"}),
    "brought back": (
        LatestVersions(),
        withdraw_and_bring_back,
        ["wanted True", "close 1"],
        {2: "AVAILABLE", 1: "END"},
    ),
    # It is newer than what serves, and in place: it serves until the next one is loaded.
    "newer one pushed": (
        LatestVersions(),
        lambda w: w.add(3),
        ["wanted True", "close 1", "load 3", "close 2"],
        {3: "AVAILABLE", 2: "END", 1: "END"},
    ),
    "newer one pushed and itself withdrawn": (
        LatestVersions(),
        lambda w: (w.add(3), w.delete(2)),
        ["wanted False", "close 2", "load 3", "close 1"],
        {3: "AVAILABLE", 2: "END", 1: "END"},
    ),
    "older one deleted": (
        LatestVersions(),
        lambda w: w.delete(1),
        ["wanted True", "close 1"],
        {2: "AVAILABLE", 1: "END"},
    ),
    "configuration names the older one": (
        LatestVersions(),
        lambda w: w.configure(SpecificVersions((1,))),
        ["wanted False", "close 2"],
        {2: "END"},
    ),
    "configuration names both": (
        LatestVersions(),
        lambda w: w.configure(AllVersions()),
        ["wanted True"],
        {2: "AVAILABLE"},
    ),
    "configuration names another folder": (
        LatestVersions(),
        move,
        ["wanted False", "close 2", "load 2", "close 1"],
        {2: "AVAILABLE", 1: "END"},
    ),
    "model removed": (
        LatestVersions(),
        lambda w: w.model.remove(),
        ["wanted False", "close 2", "close 1"],
        {2: "END", 1: "END"},
    ),
    "model removed and added": (
        LatestVersions(),
        lambda w: (w.model.remove(), w.configure(LatestVersions())),
        ["wanted True", "close 1"],
        {2: "AVAILABLE", 1: "END"},
    ),
    "server stops": (
        LatestVersions(),
        lambda w: w.model.close(),
        ["wanted False", "close 2", "close 1"],
        {2: "END", 1: "END"},
    ),
    "of all versions, the one that loads withdrawn": (
        AllVersions(),
        withdraw,
        ["wanted False", "close 2"],
        {2: "END"},
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_what_is_wanted_is_asked_again_when_a_load_ends(tmp_path, case):
    policy, during, rest, states = CASES[case]
    world = World(tmp_path / "base", policy, during)
    world.add(1)
    world.model.poll()
    world.add(2)

    world.model.poll()

    assert world.log == ["load 1", "load 2", *rest]
    assert world.states() == {1: "AVAILABLE"} | states
    assert world.model.failures() == []
    world.model.poll()  # and nothing is left to be done
    assert world.log == ["load 1", "load 2", *rest]


FAILURES = {
    # A version that is removed while it loads has not failed, and is not retried.
    "withdrawn": (withdraw, {2: "END", 1: "AVAILABLE"}, []),
    "older one deleted": (lambda w: w.delete(1), {2: "END", 1: "AVAILABLE"}, [2]),
    "newer one pushed": (lambda w: w.add(3), {3: "AVAILABLE", 2: "END", 1: "END"}, [2]),
    "nothing": (lambda w: None, {2: "END", 1: "AVAILABLE"}, [2]),
}


@pytest.mark.parametrize("case", FAILURES)
def test_load_that_fails_leaves_what_serves(tmp_path, case):
    during, states, failures = FAILURES[case]
    world = World(tmp_path / "base", LatestVersions(), during, is_broken=True)
    world.add(1)
    world.model.poll()
    world.add(2)

    world.model.poll()

    assert world.states() == states
    assert [status.version for status in world.model.failures()] == failures


def test_version_is_held_back_while_nobody_can_tell_whether_it_is_wanted(tmp_path):
    world = World(tmp_path / "base", LatestVersions(), lose_folder)
    world.add(1)
    world.model.poll()
    world.add(2)
    world.model.poll()
    assert world.states() == {2: "LOADING", 1: "AVAILABLE"}

    (tmp_path / "away").rename(tmp_path / "base")
    world.model.poll()

    assert world.log == ["load 1", "load 2", "wanted True", "close 1"]
    assert world.states() == {2: "AVAILABLE", 1: "END"}


def test_version_that_is_held_back_is_closed_with_the_server(tmp_path):
    world = World(tmp_path / "base", LatestVersions(), lose_folder)
    world.add(1)
    world.model.poll()
    world.add(2)
    world.model.poll()

    world.model.unload_all()

    assert sorted(world.log[-2:]) == ["close 1", "close 2"]
    assert world.states() == {2: "END", 1: "END"}


# A real server, and models that take as long to load as a file is not there.


class Live:
    """A server of `toy` version 1 that is loading version 2, which waits for `gate`."""

    def __init__(self, folder: Path, server: ModelServer, client: TagClient):
        self.base_path, self.gate = folder / "toy", folder / "gate"
        self.server, self.client = server, client

    def states(self):
        return {s.version: s.state.name for s in self.server.manager.models["toy"].statuses()}

    def wait_for(self, states):
        wait = self.server.manager.wait_until
        assert wait(lambda: self.states() == states, WAIT_S), self.states()

    def version(self):
        answer = self.client.predict(X)
        assert answer.outputs["y"] == [0.5 + answer.model_version]
        return answer.model_version

    def reload(self, text):
        request = model_management_pb2.ReloadConfigRequest()
        text_format.Parse(f"model_config_list {{ {text} }}", request.config)
        with grpc.insecure_channel(f"127.0.0.1:{self.server.port}") as channel:
            stub = model_service_pb2_grpc.ModelServiceStub(channel)
            stub.HandleReloadConfigRequest(request, timeout=WAIT_S)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Makes folders `1` and `2` of a toy; the second waits for `gate` in the test's folder."""
    folder = tmp_path_factory.mktemp("saved")
    toy_models.save_toy(folder / "1", 1)
    toy_models.save_gated(folder / "2", 2, "gate")
    return folder


@pytest.fixture
def live(tmp_path, saved, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(saved / "1", tmp_path / "toy" / "1")
    config = ModelConfig("toy", str(tmp_path / "toy"))
    with ModelServer([config], poll_wait_s=0.02, allows_reload=True) as server:
        server.wait_until_available(WAIT_S)
        shutil.copytree(saved / "2", tmp_path / "staged")
        (tmp_path / "staged").rename(tmp_path / "toy" / "2")
        with TagClient(f"127.0.0.1:{server.port}", model_name="toy", max_attempts=1) as client:
            live = Live(tmp_path, server, client)
            live.wait_for({2: "LOADING", 1: "AVAILABLE"})
            assert wait_until((tmp_path / "gate.awaited").exists, WAIT_S)
            yield live
            live.gate.touch()  # of a test that has failed


class Watcher:
    """Calls a server repeatedly; records which versions answered and what failed."""

    def __init__(self, live):
        self._live, self._is_over = live, threading.Event()
        self.versions, self.failures = set(), []
        self._thread = threading.Thread(target=self._ask)

    def _ask(self):
        while not self._is_over.is_set():
            try:
                self.versions.add(self._live.version())
            except Exception as error:
                self.failures.append(error)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *exception):
        self._is_over.set()
        self._thread.join()


def test_version_rolled_back_while_it_loads_never_answers_and_the_good_one_always_does(live):
    with Watcher(live) as watcher:
        roll_back([str(live.base_path)], 1)
        live.gate.touch()
        live.wait_for({2: "END", 1: "AVAILABLE"})
        time.sleep(0.2)  # some looks later

    assert (watcher.versions, watcher.failures) == ({1}, [])
    assert live.states() == {2: "END", 1: "AVAILABLE"}
    # When it is brought back it is loaded again, and serves.
    roll_back([str(live.base_path)], 2)
    live.wait_for({2: "AVAILABLE", 1: "END"})
    assert live.version() == 2


def test_version_that_is_wanted_serves_when_its_load_ends(live):
    assert live.version() == 1
    live.gate.touch()
    live.wait_for({2: "AVAILABLE", 1: "END"})
    assert live.version() == 2


def test_reload_while_a_version_loads_holds_when_the_load_ends(live):
    with Watcher(live) as watcher:
        live.reload(
            f'config {{ name: "toy" base_path: "{live.base_path}" model_platform: "tensorflow" '
            "model_version_policy { specific { versions: 1 } } "
            'version_labels { key: "stable" value: 1 } }'
        )
        live.gate.touch()
        live.wait_for({2: "END", 1: "AVAILABLE"})

    assert (watcher.versions, watcher.failures) == ({1}, [])


def test_label_of_a_version_that_is_being_loaded_is_refused_and_changes_nothing(live):
    with pytest.raises(grpc.RpcError) as caught:
        live.reload(
            f'config {{ name: "toy" base_path: "{live.base_path}" model_platform: "tensorflow" '
            'version_labels { key: "new" value: 2 } }'
        )
    assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    live.gate.touch()
    live.wait_for({2: "AVAILABLE", 1: "END"})


def test_server_that_stops_during_a_load_keeps_nothing(live):
    live.server.manager.stop(0.0)
    assert live.server.manager.is_loading
    live.gate.touch()
    live.wait_for({2: "END", 1: "END"})
    assert not live.server.manager.is_loading


def test_serve_ends_at_once_when_told_to_during_a_load(tmp_path, saved):
    shutil.copytree(saved / "2", tmp_path / "toy" / "2")
    command = [sys.executable, "-m", "tfx_pipeline.cli", "serve", "--port=0", "--rest_api_port=0"]
    command += ["--model_base_path=toy", "--drain_seconds=60"]
    log = tmp_path / "log"
    with open(log, "wb") as file:
        process = subprocess.Popen(command, cwd=tmp_path, stdout=file, stderr=file)

    try:
        assert wait_until((tmp_path / "gate.awaited").exists, 2 * WAIT_S), log.read_text()
        process.send_signal(signal.SIGTERM)
        start = time.monotonic()
        assert process.wait(WAIT_S) == 0, log.read_text()
        assert time.monotonic() - start < 30
    finally:
        process.kill()
        process.wait()
    assert "Traceback" not in log.read_text()
