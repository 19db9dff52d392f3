"""The life of versions, with loads that are recorded and not done, without TensorFlow."""

import shutil
import threading

import grpc
import pytest

from serving.model_server.counts.metrics import Metrics
from serving.model_server.errors import ServingError
from serving.model_server.models.known_version import LOAD_RETRY_INTERVAL_S, MAX_LOAD_RETRIES
from serving.model_server.models.load_memory import NotEnoughMemoryError
from serving.model_server.models.model_config import ModelConfig
from serving.model_server.models.version_lifecycle import ServedModel
from serving.model_server.models.version_policy import AllVersions, LatestVersions, SpecificVersions
from serving.model_server.models.version_state import VersionState

LATEST = LatestVersions(1)


class FakeServable:
    def __init__(self, log, version):
        self.log = log
        self.version = version

    def close(self):
        self.log.append(f"close {self.version}")


class Fixture:
    """A served model over a folder, whose loads fail for the versions in `broken`."""

    def __init__(self, base_path, policy=LATEST):
        self.base_path = base_path
        self.log = []
        self.broken = set()
        self.now = 0.0
        self.model = ServedModel(
            ModelConfig("toy", str(base_path), policy),
            threading.Condition(threading.RLock()),
            Metrics(),
            load=self.load,
            clock=lambda: self.now,
        )

    def load(self, path, version, is_wanted):
        self.log.append(f"load {version}")
        if version in self.broken:
            raise ServingError(grpc.StatusCode.OUT_OF_RANGE, "Read less bytes than requested")
        return FakeServable(self.log, version)

    def add(self, *versions):
        for version in versions:
            (self.base_path / str(version)).mkdir(parents=True)

    def remove(self, version):
        shutil.rmtree(self.base_path / str(version))

    def states(self):
        return {status.version: status.state.name for status in self.model.statuses()}


@pytest.fixture
def fixture(tmp_path):
    return Fixture(tmp_path / "base")


def latest(model):
    with model.acquire() as lease:
        return lease.version


def test_highest_version_is_served(fixture):
    fixture.add(1, 2, 10)
    fixture.model.poll()
    assert fixture.states() == {10: "AVAILABLE"}
    assert latest(fixture.model) == 10


def test_new_version_is_loaded_before_the_old_one_goes(fixture):
    fixture.add(1)
    fixture.model.poll()
    fixture.add(2)
    fixture.model.poll()
    assert fixture.log == ["load 1", "load 2", "close 1"]
    assert fixture.states() == {2: "AVAILABLE", 1: "END"}


def test_broken_new_version_ends_with_its_error_and_the_old_one_serves_on(fixture):
    fixture.add(1)
    fixture.model.poll()
    fixture.broken = {2}
    fixture.add(2)
    fixture.model.poll()
    fixture.model.poll()

    broken, old = fixture.model.statuses()
    assert (broken.version, broken.state) == (2, VersionState.END)
    assert (broken.code, broken.message) == (
        grpc.StatusCode.OUT_OF_RANGE,
        "Read less bytes than requested",
    )
    assert (old.version, old.state) == (1, VersionState.AVAILABLE)
    assert latest(fixture.model) == 1


def test_broken_version_is_tried_again_after_a_minute_five_times(fixture):
    fixture.broken = {1}
    fixture.add(1)
    fixture.model.poll()
    fixture.now = LOAD_RETRY_INTERVAL_S - 1
    fixture.model.poll()
    assert fixture.log == ["load 1"]

    for _ in range(10):
        fixture.now += LOAD_RETRY_INTERVAL_S
        fixture.model.poll()
    assert fixture.log == ["load 1"] * (1 + MAX_LOAD_RETRIES)


def test_broken_version_that_is_mended_serves(fixture):
    fixture.broken = {1}
    fixture.add(1)
    fixture.model.poll()
    fixture.broken = set()
    fixture.now = LOAD_RETRY_INTERVAL_S
    fixture.model.poll()
    (status,) = fixture.model.statuses()
    assert (status.state, status.code) == (VersionState.AVAILABLE, grpc.StatusCode.OK)


def test_broken_version_that_was_removed_and_put_back_is_loaded_at_once(fixture):
    fixture.broken = {1}
    fixture.add(1)
    fixture.model.poll()
    fixture.remove(1)
    fixture.model.poll()
    fixture.broken = set()
    fixture.add(1)
    fixture.model.poll()
    assert fixture.states() == {1: "AVAILABLE"}


def test_unexpected_error_of_a_load_is_the_versions_status(fixture, caplog):
    fixture.add(1)
    fixture.model._load = lambda path, version, is_wanted: 1 / 0
    fixture.model.poll()
    (status,) = fixture.model.statuses()
    assert (status.state, status.code) == (VersionState.END, grpc.StatusCode.INTERNAL)
    assert status.message == "ZeroDivisionError: division by zero"


def test_removed_newest_version_gives_way_to_the_one_before(fixture):
    fixture.add(1, 2)
    fixture.model.poll()
    fixture.remove(2)
    fixture.model.poll()
    assert fixture.log == ["load 2", "load 1", "close 2"]
    assert latest(fixture.model) == 1


def test_removed_only_version_is_unloaded(fixture):
    fixture.add(1)
    fixture.model.poll()
    fixture.remove(1)
    fixture.model.poll()
    assert fixture.states() == {1: "END"}
    with pytest.raises(ServingError, match=r"Servable not found for request: Latest\(toy\)"):
        fixture.model.acquire()


def test_base_path_that_vanishes_changes_nothing(fixture, caplog):
    fixture.add(1)
    fixture.model.poll()
    shutil.rmtree(fixture.base_path)
    fixture.model.poll()
    fixture.model.poll()
    assert latest(fixture.model) == 1
    assert caplog.text.count("Could not find base path") == 1


def test_version_in_use_is_unloaded_by_its_last_request(fixture):
    fixture.add(1)
    fixture.model.poll()
    first, second = fixture.model.acquire(), fixture.model.acquire(1)
    fixture.add(2)
    fixture.model.poll()
    assert fixture.states() == {2: "AVAILABLE", 1: "UNLOADING"}
    with pytest.raises(ServingError, match=r"Specific\(toy, 1\)"):
        fixture.model.acquire(1)

    with first:
        pass
    assert "close 1" not in fixture.log
    with second:
        assert second.servable.version == 1
    assert fixture.log[-1] == "close 1"
    assert fixture.states()[1] == "END"


def test_several_latest_versions_are_served_side_by_side(tmp_path):
    fixture = Fixture(tmp_path, LatestVersions(2))
    fixture.add(1, 2, 3)
    fixture.model.poll()
    assert fixture.states() == {3: "AVAILABLE", 2: "AVAILABLE"}
    with fixture.model.acquire(2) as lease:
        assert lease.version == 2
    assert latest(fixture.model) == 3


def test_unload_all_ends_every_version(fixture):
    fixture.add(1)
    fixture.model.poll()
    fixture.model.unload_all()
    assert fixture.states() == {1: "END"}


def test_all_versions_are_served_side_by_side(tmp_path):
    fixture = Fixture(tmp_path, AllVersions())
    fixture.add(1, 2)
    fixture.model.poll()
    fixture.add(7)
    fixture.model.poll()
    assert fixture.states() == {7: "AVAILABLE", 2: "AVAILABLE", 1: "AVAILABLE"}


def test_specific_versions_are_served_and_newer_ones_are_not(tmp_path):
    fixture = Fixture(tmp_path, SpecificVersions((1, 2, 9)))
    fixture.add(1, 2, 3)
    fixture.model.poll()
    assert fixture.states() == {2: "AVAILABLE", 1: "AVAILABLE"}
    assert latest(fixture.model) == 2


def test_specific_versions_that_are_not_there_say_so(tmp_path):
    fixture = Fixture(tmp_path, SpecificVersions((9,)))
    fixture.add(1)
    fixture.model.poll()
    assert fixture.states() == {}
    assert "No versions of servable toy to serve found" in fixture.model.problem


def test_other_policy_takes_hold_with_the_next_look(tmp_path):
    fixture = Fixture(tmp_path, SpecificVersions((1,)))
    fixture.add(1, 2)
    fixture.model.poll()
    fixture.model.reconfigure(ModelConfig("toy", str(tmp_path), SpecificVersions((2,))))
    assert latest(fixture.model) == 1
    fixture.model.poll()
    assert fixture.log == ["load 1", "load 2", "close 1"]
    assert fixture.states() == {2: "AVAILABLE", 1: "END"}


def test_removed_model_answers_nothing_at_once_and_is_unloaded_by_the_next_look(fixture):
    fixture.add(1)
    fixture.model.poll()
    fixture.model.remove()
    with pytest.raises(ServingError, match=r"Servable not found for request: Specific\(toy, 1\)"):
        fixture.model.acquire(1)
    assert fixture.log == ["load 1"]
    fixture.model.poll()
    assert fixture.log == ["load 1", "close 1"]
    assert fixture.states() == {1: "END"}


def test_model_that_comes_back_forgets_what_ended(fixture):
    fixture.broken = {2}
    fixture.add(1, 2)
    fixture.model.poll()
    assert [status.version for status in fixture.model.failures()] == [2]
    fixture.model.remove()
    fixture.model.poll()
    fixture.broken = set()
    fixture.model.reconfigure(fixture.model.config)
    assert fixture.states() == {}
    fixture.model.poll()
    assert fixture.states() == {2: "AVAILABLE"}


# The newest does not load, and nothing serves yet.


def test_newest_that_loads_serves_where_newer_ones_do_not(fixture, caplog):
    fixture.add(1, 2, 3, 4)
    fixture.broken = {3, 4}
    fixture.model.poll()
    assert fixture.log == ["load 4", "load 3", "load 2"]
    assert fixture.states() == {4: "END", 3: "END", 2: "AVAILABLE"}
    assert latest(fixture.model) == 2
    warning = (
        "toy: version 2 serves in the place of version 4, which does not load: Read less bytes"
    )
    assert warning in caplog.text
    fixture.model.poll()
    assert fixture.log == ["load 4", "load 3", "load 2"]


def test_version_that_was_mended_takes_over_from_the_one_in_its_place(fixture):
    fixture.add(1, 2)
    fixture.broken = {2}
    fixture.model.poll()
    assert latest(fixture.model) == 1
    fixture.broken.clear()
    fixture.now = LOAD_RETRY_INTERVAL_S
    fixture.model.poll()
    assert fixture.states() == {2: "AVAILABLE", 1: "END"}


def test_newer_version_takes_over_from_the_one_in_place_of_a_broken_one(fixture):
    fixture.add(1, 2)
    fixture.broken = {2}
    fixture.model.poll()
    fixture.add(3)
    fixture.model.poll()
    assert fixture.states() == {3: "AVAILABLE", 2: "END", 1: "END"}


def test_only_named_versions_take_the_place_of_a_named_one(tmp_path):
    fixture = Fixture(tmp_path / "base", SpecificVersions((3, 2)))
    fixture.add(1, 2, 3, 4)
    fixture.broken = {2, 3}
    fixture.model.poll()
    assert fixture.states() == {3: "END", 2: "END"}


def test_broken_version_beside_one_that_serves_is_not_replaced_by_an_older_one(tmp_path):
    fixture = Fixture(tmp_path / "base", LatestVersions(2))
    fixture.add(1, 2, 3)
    fixture.broken = {3}
    fixture.model.poll()
    assert fixture.states() == {3: "END", 2: "AVAILABLE"}


def test_where_nothing_loads_each_is_tried_as_often_as_the_newest(fixture):
    fixture.add(1, 2)
    fixture.broken = {1, 2}
    for _ in range(3 * MAX_LOAD_RETRIES):
        fixture.model.poll()
        fixture.now += LOAD_RETRY_INTERVAL_S
    assert sorted(fixture.log) == ["load 1"] * (1 + MAX_LOAD_RETRIES) + ["load 2"] * (
        1 + MAX_LOAD_RETRIES
    )


def test_folder_that_was_replaced_is_loaded_without_waiting(fixture):
    fixture.add(1)
    (fixture.base_path / "1" / "saved_model.pb").write_bytes(b"cut")
    fixture.broken = {1}
    fixture.model.poll()
    (fixture.base_path / "1" / "saved_model.pb").write_bytes(b"whole")
    fixture.broken.clear()
    # It may still be written to: it is loaded only when two polls find the same.
    fixture.model.poll()
    assert fixture.log == ["load 1"]
    fixture.model.poll()
    assert fixture.states() == {1: "AVAILABLE"}


# Memory.


def too_large(path, version, is_wanted):
    raise NotEnoughMemoryError("It takes about 2 MB of 1 MB.")


def test_version_too_large_leaves_the_old_one_and_comes_when_there_is_memory(fixture, caplog):
    fixture.add(1)
    fixture.model.poll()
    fixture.add(2)
    load, fixture.model._load = fixture.model._load, too_large
    for _ in range(2 * MAX_LOAD_RETRIES):
        fixture.model.poll()
        fixture.now += LOAD_RETRY_INTERVAL_S
    assert latest(fixture.model) == 1
    (status,) = fixture.model.failures()
    assert (status.version, status.code) == (2, grpc.StatusCode.RESOURCE_EXHAUSTED)
    assert caplog.text.count("Version 2 of toy does not load: It takes about 2 MB") == 1
    fixture.model._load = load
    fixture.model.poll()
    assert fixture.states() == {2: "AVAILABLE", 1: "END"}


def test_version_too_large_is_not_tried_before_a_minute_is_over(fixture):
    fixture.add(1)
    tries = []
    fixture.model._load = lambda *given: tries.append(given) or too_large(*given)
    for _ in range(3):
        fixture.model.poll()
    assert len(tries) == 1
    fixture.now += LOAD_RETRY_INTERVAL_S
    fixture.model.poll()
    assert len(tries) == 2
