"""The command of the benchmarks: names, files, exit statuses; it runs an invented benchmark."""

import json
import logging
import os
import sys
import types

import pytest

from benchmarks.command_line import main
from benchmarks.registry import BENCHMARKS, Entry


@pytest.fixture
def register(monkeypatch):
    """Registers a function as a benchmark; returns the benchmarks by name."""
    found = {}

    def register_one(name, run, faults=()):
        module = types.ModuleType(f"made_up_{name}")
        module.run = run
        module.table = lambda figures: f"table of {figures}"
        module.faults = lambda figures: list(faults)
        monkeypatch.setitem(sys.modules, module.__name__, module)
        found[name] = Entry(module.__name__, f"measures {name}")
        return found

    return register_one


def count(progress):
    progress("counting ...")
    return {"count.value": 3, "count.nothing": None}


def fail(progress):
    raise ValueError("`X` must be there. Received: nothing.")


def test_run_writes_figures_and_shows_progress_and_table(register, tmp_path, capfd):
    assert main(["count"], register("count", count), tmp_path) == 0

    figures = json.loads((tmp_path / "count.json").read_text())
    assert figures["count.value"] == 3
    assert figures["count.nothing"] is None
    assert figures["bench.name"] == "count"
    assert figures["bench.seconds"] >= 0
    assert figures["machine.cores"] >= 1
    output = capfd.readouterr().out
    assert "  counting ...\n" in output
    assert "table of {'count.value': 3, 'count.nothing': None}" in output


def test_no_name_runs_all(register, tmp_path):
    register("first", count)

    assert main([], register("second", count), tmp_path) == 0
    assert {path.name for path in tmp_path.glob("*.json")} == {"first.json", "second.json"}


def test_unknown_name_is_one_line_and_runs_nothing(register, tmp_path, capfd):
    status = main(["count", "nothing"], register("count", count), tmp_path)

    assert status == 2
    captured = capfd.readouterr()
    assert captured.err == "benchmarks: `NAME` must be one of count. Received: nothing.\n"
    assert captured.out == ""
    assert not list(tmp_path.iterdir())


def test_benchmark_that_cannot_run_is_one_line_and_keeps_no_other_from_running(
    register, tmp_path, capfd
):
    register("broken", fail)

    assert main([], register("count", count), tmp_path) == 2
    assert capfd.readouterr().err == "benchmarks: broken: `X` must be there. Received: nothing.\n"
    assert {path.name for path in tmp_path.glob("*.json")} == {"count.json"}


def test_fault_is_named_after_the_file_is_written(register, tmp_path, capfd):
    assert main([], register("count", count, faults=["a is not b."]), tmp_path) == 1
    assert capfd.readouterr().err == "benchmarks: count: a is not b.\n"
    assert (tmp_path / "count.json").exists()


def test_noise_of_libraries_goes_to_a_log(register, tmp_path, capfd):
    def noisy(progress):
        os.write(2, b"a library's notice")  # as C++ does, past sys.stderr
        logging.getLogger("tagtower.noisy").info("a line of our own")
        return {}

    assert main([], register("noisy", noisy), tmp_path) == 0
    captured = capfd.readouterr()
    assert "notice" not in captured.out + captured.err
    assert "a line of our own" in captured.out
    assert "a library's notice" in (tmp_path / "logs" / "noisy.log").read_text()


def test_help_lists_every_benchmark(capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["--help"])
    assert stopped.value.code == 0
    output = capsys.readouterr().out
    for name, entry in BENCHMARKS.items():
        assert f"  {name:<11} {entry.summary}\n" in output


@pytest.mark.parametrize("name", BENCHMARKS)
def test_registered_benchmark_has_what_the_harness_calls(name):
    benchmark = BENCHMARKS[name].load()

    assert {"run", "table", "faults"} <= set(vars(benchmark))
