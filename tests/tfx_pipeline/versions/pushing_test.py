"""Pushes to one and two base paths: whole, under one number, and repaired when one is lost."""

import json
import os
import shutil
from pathlib import Path

import pytest

from tfx_pipeline.versions import pushing
from tfx_pipeline.versions.base_path_lock import LOCK_FILE
from tfx_pipeline.versions.pushing import ensure_newest, push
from tfx_pipeline.versions.servable_paths import exact_path, main_path


@pytest.fixture
def run(tmp_path):
    return Run(tmp_path)


class Run:
    """A servable artifact and a pushed one, as a run leaves them."""

    def __init__(self, folder: Path):
        self.servable, self.pushed = folder / "servable", folder / "pushed"
        self.base, self.exact_base = folder / "serving", folder / "serving_exact"
        self.pushed.mkdir()
        for name, text in (("Format-Serving", "scann"), ("Format-Serving-exact", "exact")):
            (self.servable / name / "variables").mkdir(parents=True)
            (self.servable / name / "variables" / "data").write_text(text)
        self.describe("scann")

    def describe(self, kind: str) -> None:
        (self.servable / "index.json").write_text(json.dumps({"kind": kind}))

    def push(self) -> int:
        uri = str(self.servable)
        version = push({str(self.exact_base): exact_path(uri), str(self.base): main_path(uri)})
        paths = {"base_path": str(self.base), "exact_base_path": str(self.exact_base)}
        (self.pushed / "pushed.json").write_text(json.dumps({"version": version, **paths}))
        return version

    def ensure(self) -> int | None:
        return ensure_newest(str(self.pushed), str(self.servable))

    def versions(self) -> tuple[list[str], list[str]]:
        base, exact = (
            sorted(name for name in os.listdir(path) if name != LOCK_FILE)
            for path in (self.base, self.exact_base)
        )
        return base, exact

    def contents(self, version: int) -> tuple[str, str]:
        base, exact = (
            (path / str(version) / "variables" / "data").read_text()
            for path in (self.base, self.exact_base)
        )
        return base, exact


def test_both_go_under_one_number_to_their_own_base_paths(run):
    version = run.push()

    assert run.versions() == ([str(version)], [str(version)])
    assert run.contents(version) == ("scann", "exact")


def test_exact_index_goes_to_both(run):
    run.describe("exact")
    shutil.rmtree(run.servable / "Format-Serving-exact")

    version = run.push()

    assert run.contents(version) == ("scann", "scann")  # the main one, twice


def test_number_is_above_those_of_either_base_path(run):
    future = 40_000_000_000
    (run.exact_base / str(future)).mkdir(parents=True)

    version = run.push()

    assert version == future + 1
    assert run.versions()[0] == [str(version)]


def test_missing_servable_pushes_nothing_anywhere(run):
    # A ScaNN version without its twin, where one was asked for.
    shutil.rmtree(run.servable / "Format-Serving-exact")

    with pytest.raises(OSError):
        run.push()

    for base in (run.base, run.exact_base):
        names = os.listdir(base) if base.exists() else []
        assert all(name.startswith(".") for name in names)


@pytest.mark.parametrize("lost", ["base", "exact_base"])
def test_version_lost_at_one_base_path_is_pushed_anew_to_both(run, lost):
    first = run.push()
    assert run.ensure() == first  # nothing to do
    shutil.rmtree(getattr(run, lost))

    second = run.ensure()

    assert second > first
    assert str(second) in run.versions()[0] and str(second) in run.versions()[1]
    assert run.contents(second) == ("scann", "exact")
    assert run.ensure() == second


@pytest.mark.parametrize("renames_done", [0, 1])
def test_push_killed_between_its_renames_is_healed_by_the_next(run, monkeypatch, renames_done):
    class Killed(BaseException):
        pass

    done = []
    rename = pushing.move_folder

    def killed(*arguments, **options):
        if len(done) == renames_done:
            raise Killed
        done.append(rename(*arguments, **options))

    with monkeypatch.context() as patch:
        patch.setattr(pushing, "move_folder", killed)
        with pytest.raises(Killed):
            run.push()
    # The base path that says what was pushed never has a version that the other one lacks.
    half = [name for name in run.versions()[0] if name.isdigit()]
    assert half == []

    version = run.push()

    assert [name for name in run.versions()[0]] == [str(version)]
    assert run.versions()[1][-1] == str(version)
    assert len(run.versions()[1]) == 1 + renames_done  # nothing staged is left
    assert run.contents(version) == ("scann", "exact")


def test_newer_version_of_another_run_is_followed_by_this_one(run):
    first = run.push()
    (run.base / str(first + 10)).mkdir()

    second = run.ensure()

    assert second == first + 11
    assert str(second) in run.versions()[1]


def test_held_push_stays_held(run):
    paths = {"base_path": str(run.base), "exact_base_path": ""}
    (run.pushed / "pushed.json").write_text(json.dumps({"version": None, **paths}))

    assert run.ensure() is None
    assert not run.base.exists() and not run.exact_base.exists()


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\0\0", b'{"version": "7"}', None])
def test_damaged_note_of_a_push_is_written_anew_and_pushes_nothing_twice(run, content):
    source = {"towers": "/towers", "servable": str(run.servable)}
    (run.servable / "source.json").write_text(json.dumps(source))
    (run.servable / "index.json").write_text(json.dumps({"kind": "scann", "num_tags": 3}))
    facts = {"run": "log", "recall": 1.0}
    known = pushing.unpushed((str(run.base), str(run.exact_base)), True, facts, str(run.servable))
    version = push(pushing.push_sources(known, str(run.servable)), known["provenance"])
    note = run.pushed / "pushed.json"
    if content is None:
        note.mkdir()
    else:
        note.write_bytes(content)
    with pytest.raises(ValueError, match=f"{note} is damaged: ") as error:
        run.ensure()
    assert "\n" not in str(error.value)

    pushing.mend_pushed(str(run.pushed), lambda: known)

    assert run.ensure() == version
    assert run.versions() == ([str(version)], [str(version)])
    assert pushing.rolled_back_version(str(run.pushed)) is None
