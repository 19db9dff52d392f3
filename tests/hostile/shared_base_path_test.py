"""Processes that push to and roll back one base path each get a version, or one line."""

import contextlib
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent import futures
from pathlib import Path
from typing import Any

import pytest

from tfx_pipeline.terminal.refusals import OutputInUse
from tfx_pipeline.versions import pushing
from tfx_pipeline.versions.base_path_lock import (
    LOCK_FILE,
    locked,
    new_staging,
    remove_abandoned_staging,
)
from tfx_pipeline.versions.pushed_versions import read_versions, roll_back
from tfx_pipeline.versions.pushing import push, push_sources

NUM_PROCESSES = 6
PUSHES_EACH = 6

# TFX, which the Pusher imports, is imported once for all of them.
_forks = multiprocessing.get_context("fork")

HOLDER = """
import sys
from tfx_pipeline.versions.base_path_lock import locked
with locked([sys.argv[1]]):
    print("mine", flush=True)
    sys.stdin.read()
"""


def start(script: str, *arguments: str) -> subprocess.Popen:
    command = [sys.executable, "-c", script, *arguments]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, **pipes)


def make_servable(folder: Path) -> str:
    for name in ("Format-Serving", "Format-Serving-exact"):
        (folder / name / "variables").mkdir(parents=True)
        (folder / name / "variables" / "data").write_text(f"{folder.name} {name}")
        (folder / name / "saved_model.pb").write_text(folder.name)
    (folder / "index.json").write_text(json.dumps({"kind": "scann"}))
    return str(folder)


@pytest.fixture
def base(tmp_path) -> Path:
    return tmp_path / "serving"


def push_often(servable: str, base: str, begin, results) -> None:
    """Does what the AtomicPusher and a reindex do, without the rest of a run."""
    sources = push_sources({"base_path": base, "exact_base_path": f"{base}_exact"}, servable)
    begin.wait()
    for _ in range(PUSHES_EACH):
        number = push(sources, {"kind": "run", "run": "log", "towers": servable})
        results.put((number, os.path.basename(servable)))


@contextlib.contextmanager
def pushers(servables: list[str], base: Path) -> Iterator[tuple[list, Any]]:
    """Starts processes that push at once; returns them and the queue of their versions."""
    begin, results = _forks.Barrier(len(servables)), _forks.Queue()
    processes = [
        _forks.Process(target=push_often, args=(servable, str(base), begin, results))
        for servable in servables
    ]
    try:
        for process in processes:
            process.start()
        yield processes, results
    finally:
        for process in processes:
            process.kill()


def test_each_of_many_pushes_gets_a_version_of_its_own_whole_at_both_base_paths(tmp_path, base):
    servables = [make_servable(tmp_path / f"servable{i}") for i in range(2)]
    with pushers([servables[i % 2] for i in range(NUM_PROCESSES)], base) as (processes, results):
        pushed = [results.get(timeout=300) for _ in range(NUM_PROCESSES * PUSHES_EACH)]
        for process in processes:
            process.join()

    assert [process.exitcode for process in processes] == [0] * NUM_PROCESSES
    assert len({number for number, _ in pushed}) == len(pushed)
    for folder, name in ((base, "Format-Serving"), (Path(f"{base}_exact"), "Format-Serving-exact")):
        assert sorted(os.listdir(folder)) == sorted([LOCK_FILE, *(str(n) for n, _ in pushed)])
        for number, servable in pushed:
            version = folder / str(number)
            assert (version / "variables" / "data").read_text() == f"{servable} {name}"
            assert (version / "saved_model.pb").read_text() == servable
    for version in read_versions(str(base)):
        assert version.provenance["version"] == version.number and version.damage is None


def test_pushes_and_roll_backs_at_once_lose_no_version(tmp_path, base):
    servable = make_servable(tmp_path / "servable")
    bases = [str(base), f"{base}_exact"]
    with pushers([servable] * 3, base) as (processes, results):
        first, _ = results.get(timeout=300)
        while any(process.is_alive() for process in processes):
            roll_back(bases, first)
            time.sleep(0.02)  # others may have the lock, too
        numbers = [first] + [results.get(timeout=300)[0] for _ in range(3 * PUSHES_EACH - 1)]

    assert [process.exitcode for process in processes] == [0] * 3
    for folder in bases:
        versions = read_versions(folder)
        assert sorted(version.number for version in versions) == sorted(numbers)
        assert all(version.damage is None and version.provenance for version in versions)


def test_roll_back_does_not_wait_for_the_copies_of_a_push(tmp_path, base, monkeypatch):
    servable = make_servable(tmp_path / "servable")
    bases = [f"{base}_exact", str(base)]
    sources = push_sources({"base_path": str(base), "exact_base_path": bases[0]}, servable)
    first, second = push(sources, {"kind": "run"}), push(sources, {"kind": "run"})
    copying, rolled_back = threading.Event(), threading.Event()
    copy = pushing.copy_folder

    def slow_copy(*arguments):
        copying.set()
        assert rolled_back.wait(60)
        copy(*arguments)

    monkeypatch.setattr(pushing, "copy_folder", slow_copy)
    with futures.ThreadPoolExecutor(1) as others:
        running = others.submit(push, sources, {"kind": "run"})
        assert copying.wait(60)
        roll_back(bases, first)
        rolled_back.set()
        third = running.result()

    assert third > second  # a number that a roll-back withdrew is not used again
    in_service = {v.number for v in read_versions(str(base)) if not v.is_withdrawn}
    assert in_service == {first, third}


def test_push_that_another_made_needless_while_it_copied_leaves_nothing(tmp_path, base):
    servable = make_servable(tmp_path / "servable")
    sources = {str(base): push_sources({"base_path": "", "exact_base_path": ""}, servable)[""]}
    answers = iter([None, pushing.PushOutcome(7)])

    outcome = pushing.push_unless(lambda: next(answers), sources, {})

    assert outcome == pushing.PushOutcome(7, is_new=False)
    assert os.listdir(base) == [LOCK_FILE]


def test_lock_is_waited_for_and_then_refused_in_one_line_with_its_owner(base):
    with start(HOLDER, str(base)) as holder:
        assert holder.stdout.readline() == "mine\n"
        with pytest.raises(OutputInUse) as error, locked([str(base)], patience_s=0.2):
            pass
        assert f"{base}, in use by process {holder.pid} on " in str(error.value)
        assert "\n" not in str(error.value)
        holder.send_signal(signal.SIGKILL)

    with locked([str(base)], patience_s=30.0):  # a dead process's lock is no more
        pass


def test_links_to_one_folder_are_one_base_path(tmp_path, base):
    base.mkdir()
    link = tmp_path / "link"
    link.symlink_to(base)

    def take(path: Path) -> None:
        with locked([str(path)], patience_s=0.2):
            pass

    with (
        locked([str(link), str(base)], patience_s=0.0),
        locked([str(base)], patience_s=0.0),
        futures.ThreadPoolExecutor(1) as others,  # a thread has locks of its own
        pytest.raises(OutputInUse),
    ):
        others.submit(take, link).result()
    with futures.ThreadPoolExecutor(1) as others:
        others.submit(take, link).result()


def test_only_staging_whose_owner_is_dead_or_long_silent_is_removed(base):
    base.mkdir()
    own = Path(new_staging(str(base)))
    script = (
        "import sys, os\n"
        "from tfx_pipeline.versions.base_path_lock import new_staging\n"
        "path = new_staging(sys.argv[1]); os.makedirs(path); print(path)\n"
    )
    dead = Path(start(script, str(base)).communicate()[0].strip())
    foreign = base / dead.name.replace(".staging-", ".staging-00000000-", 1).replace(
        dead.name.split("-")[1] + "-", "", 1
    )
    older = base / ".staging-0123456789abcdef0123456789abcdef"
    old_foreign = base / foreign.name.replace(foreign.name[-6:], "aaaaaa")
    for path in (own, foreign, older, old_foreign):
        path.mkdir()
    long_ago = time.time() - 48 * 3600
    os.utime(old_foreign, (long_ago, long_ago))

    assert remove_abandoned_staging(str(base)) == 2

    assert {path.name for path in base.iterdir()} == {own.name, foreign.name, older.name}
    os.utime(older, (long_ago, long_ago))
    assert remove_abandoned_staging(str(base)) == 1
