"""Versions on disk: which one serves, what a roll-back moves, and the traces of a killed one."""

import json
import os
import re

import pytest

from tfx_pipeline.cli import main
from tfx_pipeline.versions.pushed_versions import (
    read_versions,
    roll_back,
    rolled_back_towers,
    serving_version,
    version_before,
)


def make(base, *numbers, **provenance):
    for number in numbers:
        folder = base / str(number) / "assets.extra"
        folder.mkdir(parents=True)
        (base / str(number) / "saved_model.pb").write_text(f"model {number}")
        if provenance:
            (folder / "version.json").write_text(json.dumps(provenance))


@pytest.fixture
def bases(tmp_path):
    main_base, exact = tmp_path / "serving", tmp_path / "serving_exact"
    for base in (main_base, exact):
        make(base, 3, 20, 100)
        (base / ".staging-dead").mkdir()
    return main_base, exact


def in_place(base) -> list[int]:
    return sorted(v.number for v in read_versions(str(base)) if not v.is_withdrawn)


def withdrawn(base) -> list[int]:
    return sorted(v.number for v in read_versions(str(base)) if v.is_withdrawn)


def back(bases, version) -> list[int]:
    return roll_back([str(base) for base in bases], version)


def test_versions_are_ordered_by_number_and_the_highest_serves(bases):
    assert [v.number for v in read_versions(str(bases[0]))] == [3, 20, 100]
    assert serving_version(str(bases[0])).number == 100
    assert version_before(str(bases[0])) == 20


def test_roll_back_withdraws_newer_versions_whole_at_both_base_paths(bases):
    assert back(bases, 3) == [20, 100]

    for base in bases:
        assert (in_place(base), withdrawn(base)) == ([3], [20, 100])
        assert (base / "withdrawn" / "100" / "saved_model.pb").read_text() == "model 100"


def test_roll_back_to_a_withdrawn_version_brings_it_back(bases):
    back(bases, 3)

    assert back(bases, 20) == []

    for base in bases:
        assert (in_place(base), withdrawn(base)) == ([3, 20], [100])
    back(bases, 100)
    assert not (bases[0] / "withdrawn").exists()  # nothing is left in it
    assert in_place(bases[1]) == [3, 20, 100]


def test_unknown_version_moves_nothing(bases):
    make(bases[0], 50)  # that the second base path lacks

    for version in (4, 50):
        with pytest.raises(ValueError, match="`to` must be one of"):
            back(bases, version)

    assert in_place(bases[0]) == [3, 20, 50, 100] and in_place(bases[1]) == [3, 20, 100]


def test_only_version_has_none_before(tmp_path):
    make(tmp_path / "serving", 3)
    with pytest.raises(ValueError, match="hold a version before the one that serves"):
        version_before(str(tmp_path / "serving"))


@pytest.mark.parametrize("target", [3, 20])
@pytest.mark.parametrize("renames_done", range(5))
def test_roll_back_killed_at_any_rename_is_ended_by_the_same_again(
    bases, monkeypatch, target, renames_done
):
    class Killed(BaseException):
        pass

    make(bases[0], 200)
    make(bases[1], 200)
    back(bases, 3)
    back(bases, 200)  # 3 and 200 in place, 20 and 100 withdrawn
    rename, done = os.rename, []

    def killed(source, goal):
        if len(done) == renames_done:
            raise Killed
        done.append(rename(source, goal))

    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", killed)
        try:
            back(bases, target)
        except Killed:
            pass
        else:
            assert len(done) <= renames_done
    # The serving version is whole, and has its twin.
    assert in_place(bases[0])[-1] in (target, 200)
    assert set(in_place(bases[0])) <= set(in_place(bases[1]))

    back(bases, target)

    for base in bases:
        assert in_place(base)[-1] == target
        assert sorted(in_place(base) + withdrawn(base)) == [3, 20, 100, 200]


def test_towers_are_rolled_back_when_no_version_of_theirs_is_in_place(tmp_path):
    base = tmp_path / "serving"
    make(base, 1, towers="/a")
    make(base, 2, 3, towers="/b")
    make(base, 4, towers="/b", kind="reindex")

    roll_back([str(base)], 2)
    assert rolled_back_towers(str(base)) == {}  # 2 is of the same towers
    roll_back([str(base)], 1)
    assert rolled_back_towers(str(base)) == {"/b": 4}


def test_commands_show_and_roll_back(tmp_path, capsys):
    base = tmp_path / "serving"
    facts = {"run": "log", "towers_fingerprint": "abcdef0123", "recall": 1.0, "num_tags": 7}
    make(base, 1)
    make(base, 2, kind="run", made="2026-11-25T10:00:00Z", index="exact", **facts)
    counts = {"num_new": 4, "num_retired": 5, "num_reweighted": 6, "tag_file": "9876543210"}
    make(base, 3, kind="reindex", **facts, **counts)
    flags = ["--model_base_path", str(base)]

    assert main(["versions", *flags]) == 0
    before = capsys.readouterr().out
    assert main(["rollback", *flags]) == 0
    told = capsys.readouterr().out
    assert main(["versions", *flags, "--json"]) == 0
    after = json.loads(capsys.readouterr().out)

    lines = before.splitlines()[2:]
    assert [line.split()[0] for line in lines] == ["3", "2", "1"]
    assert "log towers abcdef01 +4 -5 ~6 file 98765432" in lines[0] and "serves" in lines[0]
    assert re.search(r"2026-11-25T10:00:00Z +run +log towers abcdef01 +7 +exact +1.0000$", lines[1])
    assert f"serves     version 2 in {base}" in told and "rollback --to 3" in told
    assert [(row["version"], row["state"]) for row in after] == [
        (3, "withdrawn"),
        (2, "serves"),
        (1, ""),
    ]


@pytest.mark.parametrize(
    "arguments, named",
    [
        (["versions"], "--config"),
        (["versions", "--model_base_path", "nowhere"], "model_base_path"),
        (["rollback", "--model_base_path", "nowhere"], "model_base_path"),
        (["rollback", "--model_base_path", "nowhere", "--to", "3"], "`to`"),
        (["reindex", "--config", "demo", "--output", "nowhere", "--tags", "t.csv"], "output"),
    ],
)
def test_mistake_is_one_line(arguments, named, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)

    status = main(arguments)

    (line,) = capsys.readouterr().err.strip().splitlines()
    assert status == 2
    assert named in line
