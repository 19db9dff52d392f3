import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import hostile, hostile_files, hostile_kills, hostile_mutations
from benchmarks.hostile import faults, table
from benchmarks.hostile_files import read_mutated
from benchmarks.hostile_kills import kill_runs
from benchmarks.hostile_requests import request_figures, request_outcomes
from tests.report_keys import undocumented_keys, unwritten_keys

ROOT = str(Path(__file__).parents[2])

FIGURES = {
    **{f"hostile.files.{name}": 0 for name in hostile_files.OUTCOMES},
    "hostile.files.tried": 10,
    "hostile.files.read": 4,
    "hostile.files.refused": 6,
    "hostile.requests.tried": 8,
    **{
        f"hostile.requests.{transport}.{ending}": 2
        for transport in ("grpc", "rest")
        for ending in ("answered", "refused")
    },
    "hostile.requests.grpc.fault": 0,
    "hostile.requests.rest.fault": 0,
    "hostile.requests.wrong": 0,
    "hostile.requests.servers_lost": 0,
    "hostile.requests.memory_mb_first": 500.0,
    "hostile.requests.memory_mb_last": 600.0,
    "hostile.kills.tried": 4,
    "hostile.kills.runs": 2,
    "hostile.kills.equal": 2,
    "hostile.kills.different": 0,
    "hostile.kills.failed": 0,
    "hostile.kills.undisturbed_seconds": 60.0,
}


def test_keys_are_documented_and_in_the_table():
    assert undocumented_keys(FIGURES) == []
    assert (
        unwritten_keys(
            FIGURES,
            "benchmarks/hostile_files.py",
            "benchmarks/hostile_requests.py",
            "benchmarks/hostile_kills.py",
        )
        == []
    )
    assert [line.split() for line in table(FIGURES).splitlines()[2:]] == [
        ["damaged", "files", "10", "10", "0"],
        ["damaged", "requests", "8", "8", "0"],
        ["servers", "1", "1", "0"],
        ["kills", "4"],
        ["killed", "runs", "2", "2", "0"],
    ]


@pytest.mark.parametrize(
    ("figure", "value", "fault"),
    [
        ("files.crash", 1, "1 files ended as crash."),
        ("requests.rest.fault", 2, "2 requests over REST had no answer, or that of a fault."),
        ("requests.servers_lost", 1, "1 server was gone."),
        ("kills.different", 3, "3 killed runs ended with another report."),
        ("requests.memory_mb_last", 900.0, "the server grew from 500 to 900 MB."),
    ],
)
def test_whatever_is_lost_is_a_fault(figure, value, fault):
    assert faults(FIGURES) == []
    assert faults(FIGURES | {f"hostile.{figure}": value}) == [fault]


def test_too_many_sizes_are_refused(monkeypatch):
    monkeypatch.setenv("SIZE", "1,2,3,4")
    with pytest.raises(ValueError, match=r"^`SIZE` must be numbers of files, requests and kills"):
        hostile.run(print)


def test_same_number_is_the_same_file_of_every_format_in_turn():
    files = [hostile_mutations.mutated_file(number) for number in range(200)]

    assert files[:20] == [hostile_mutations.mutated_file(number) for number in range(20)]
    assert {suffix for suffix, _, _ in files} == set(hostile_mutations.FORMATS)
    assert {kind for _, kind, _ in files} == {"interactions", "items", "users", "instances"}


def test_damaged_files_are_read_or_refused(tmp_path):
    found = read_mutated(60, tmp_path / "kept", print)

    assert found.bad == []
    assert sum(found.counts.values()) == 60 and set(found.counts) == {"read", "refused"}


@pytest.mark.parametrize(
    ("code", "outcome"),
    [
        ("os.abort()", "crash"),
        ("raise KeyError('x')", "traceback"),
        ("raise ValueError('no file')", "unclear"),
        ("b'x' * (3 << 30)", "over_memory"),
        ("time.sleep(3600)", "hang"),
    ],
)
def test_whatever_a_reader_does_is_seen_and_the_next_file_is_read(
    tmp_path, monkeypatch, code, outcome
):
    reader = tmp_path / "reader.py"
    reader.write_text(
        "import os, sys, time\n"
        f"sys.path.insert(0, {ROOT!r})\n"
        "from benchmarks import hostile_reader\n"
        "read = hostile_reader.read_file\n"
        "def read_file(path, kind):\n"
        f"    if os.path.basename(path).startswith('0.'): {code}\n"
        "    return read(path, kind)\n"
        "hostile_reader.read_file = read_file\n"
        "hostile_reader.main()\n"
    )

    def start():
        return subprocess.Popen(
            [sys.executable, str(reader), "2000"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )

    monkeypatch.setattr(hostile_files._Reader, "_start", staticmethod(start))
    if outcome == "hang":
        monkeypatch.setattr(hostile_files, "_HANG_S", 1.0)
        monkeypatch.setattr(hostile_files._Reader, "ask", _patient_after_first())

    found = read_mutated(2, tmp_path / "kept", print)

    assert found.counts[outcome] == 1
    assert [number for number, _, _ in found.bad] == [0]
    assert found.counts["read"] + found.counts["refused"] == 1
    assert len(list((tmp_path / "kept").iterdir())) == 1


def _patient_after_first():
    """A start takes longer than what is taken for a hang here."""
    ask = hostile_files._Reader.ask
    turns = iter(range(10))

    def patient(self, path, kind):
        if next(turns):
            hostile_files._HANG_S = 300.0
        return ask(self, path, kind)

    return patient


# A run in steps, each of which is kept; its report says how often it was begun.
RUN = """
import json, os, sys, time
output = sys.argv[1]
os.makedirs(output, exist_ok=True)
for step in range(4):
    path = os.path.join(output, str(step))
    if not os.path.exists(path):
        time.sleep(0.2)
        with open(path + ".new", "w") as file:
            file.write("x")
        os.replace(path + ".new", path)
report = {"eval.x": 1.5 if LOSES or step == 3 else 0, "time.total_seconds": time.time()}
if LOSES and "undisturbed" not in output:
    report["eval.x"] = 2.5
with open(os.path.join(output, "report.json"), "w") as file:
    json.dump(report, file)
"""


def starter(folder, loses=False):
    script = folder / "run.py"
    script.write_text(f"LOSES = {loses}\n{RUN}")

    def start(output):
        return subprocess.Popen([sys.executable, str(script), str(output)], start_new_session=True)

    return start


def test_killed_runs_are_brought_to_their_end_and_compared(tmp_path):
    found = kill_runs(5, tmp_path / "kills", starter(tmp_path), print)

    assert found.kills == 5 and found.failed == found.different == 0
    assert found.equal == found.runs >= 1
    assert sorted(path.name for path in (tmp_path / "kills").iterdir()) == [
        "kills.json",
        "undisturbed",
    ]


def test_kills_go_on_after_those_that_were_counted(tmp_path):
    kill_runs(1, tmp_path / "kills", starter(tmp_path), print)
    (tmp_path / "kills" / "run-1").mkdir()  # as an interrupted benchmark leaves it

    found = kill_runs(2, tmp_path / "kills", starter(tmp_path), print)

    assert (found.kills, found.runs, found.equal) == (2, 2, 2)
    assert json.loads((tmp_path / "kills" / "kills.json").read_text())["runs"] == 2


def test_another_report_is_a_loss_and_its_run_is_kept(tmp_path):
    found = kill_runs(1, tmp_path / "kills", starter(tmp_path, loses=True), print)

    assert (found.different, found.equal) == (1, 0)
    assert "1 keys of the report differ (eval.x 1.5 2.5)" in found.said[0]
    assert (tmp_path / "kills" / "run-0" / "report.json").exists()


@pytest.mark.parametrize(("name", "is_odd"), [(".staging-x", True), (".lock", False), ("7", False)])
def test_unfinished_version_is_a_loss(tmp_path, name, is_odd):
    (tmp_path / "serving" / name).mkdir(parents=True)
    assert (name in hostile_kills._left_behind(tmp_path)) == is_odd


@pytest.mark.e2e
def test_damaged_requests_are_answered_by_a_server_that_lives(tmp_path):
    found = request_outcomes(200, tmp_path, print)

    figures = request_figures(found)
    assert figures["hostile.requests.tried"] == 200
    assert figures["hostile.requests.grpc.fault"] == 0
    assert figures["hostile.requests.wrong"] == figures["hostile.requests.servers_lost"] == 0
    assert undocumented_keys(figures) == []
