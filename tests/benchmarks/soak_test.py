import pytest

from benchmarks import soak
from benchmarks.soak import Soak, faults, push, table
from tests.report_keys import undocumented_keys, unwritten_keys

FIGURES = {
    "soak.seconds": 180,
    "soak.requests": 1000,
    "soak.failed_requests": 0,
    "soak.versions": 40,
    "soak.memory_mb_first": 700.0,
    "soak.memory_mb_last": 701.0,
    "soak.memory_mb_per_version": 0.02,
}


def test_version_is_copied_whole_and_the_oldest_go(tmp_path):
    source, base_path = tmp_path / "source", tmp_path / "models"
    (source / "variables").mkdir(parents=True)
    (source / "variables" / "x").write_text("a")
    base_path.mkdir()
    for version in (8, 9, 10, 11):
        push(source, base_path, version)

    assert sorted(path.name for path in base_path.iterdir()) == ["10", "11", "9"]
    assert (base_path / "11" / "variables" / "x").read_text() == "a"


def test_memory_is_told_without_the_warm_up():
    # Five versions of warm-up, then twelve that grow by 2 MB each.
    found = Soak(memory_mb=[100.0, 300, 400, 450, 480] + [500.0 + 2 * i for i in range(12)])

    assert found.memory_mb_first == 502
    assert found.memory_mb_last == 520
    assert found.memory_mb_per_version == pytest.approx(2)


def test_memory_of_less_than_a_warm_up_is_that_of_its_last_version():
    found = Soak(memory_mb=[100.0, 300.0])

    assert (found.memory_mb_first, found.memory_mb_last) == (300, 300)
    assert found.memory_mb_per_version == 0


def test_failed_request_is_a_fault_and_memory_is_none():
    assert faults(FIGURES | {"soak.memory_mb_last": 900.0}) == []
    assert faults(FIGURES | {"soak.failed_requests": 3}) == [
        "3 requests failed while versions changed."
    ]


def test_keys_are_documented_and_in_the_table():
    assert undocumented_keys(FIGURES) == []
    assert unwritten_keys(FIGURES, "benchmarks/soak.py") == []
    assert len(table(FIGURES).splitlines()) == 2 + 6


def test_base_path_without_a_version_says_what_to_run(tmp_path, monkeypatch):
    monkeypatch.setenv("MODEL_BASE_PATH", str(tmp_path / "nowhere"))
    with pytest.raises(ValueError, match="^`MODEL_BASE_PATH` must be .* `make run` makes one"):
        soak.run(print)
