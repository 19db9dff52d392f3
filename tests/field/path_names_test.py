"""Names of folders and files as people choose them: every character is part of the name.

Paths as people write them, too: `~`, `$HOME`, `..` after a link, files given as `file://`.
"""

import os
from pathlib import Path

import pytest
import yaml

from serving.batch.input import find_shards
from tfx_pipeline.cli import main
from tfx_pipeline.config.data import DataConfig, WindowConfig
from tfx_pipeline.config.pipeline import load_config, load_local_config
from tfx_pipeline.tables import schema
from tfx_pipeline.tables.arrow_files import read_table
from tfx_pipeline.tables.daily_window import find_window, table_patterns
from tfx_pipeline.tables.table_files import list_files
from trainer.contract import file_system as fs
from trainer.contract.given_paths import given_path

NAMES = ["win [x]", "a*b", "what?", "é 漢字", "[0-9]", "!a]", "a{b}", "$cash", "~tilde", "-x", "#1"]


def fill(path: Path, user: str = "u") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"user_id\n{user}\n", encoding="utf-8")
    return path


def users_in(place) -> list[str]:
    return [
        row["user_id"]
        for batch in read_table(str(place), schema.USERS)
        for row in batch.rows.to_pylist()
    ]


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write_config(path: Path, **changes) -> str:
    """Writes a complete configuration, whose tables need not exist."""
    config = {
        "name": "small",
        "data": {"interactions": "log", "items": "items.csv", "users": "users.csv"},
        "features": {"domains": [{"name": "clicked"}]},
    }
    for key, value in changes.items():
        config[key] = {**config.get(key, {}), **value} if isinstance(value, dict) else value
    path.write_text(yaml.safe_dump(config, allow_unicode=True), encoding="utf-8")
    return str(path)


# An existing path is meant literally.


@pytest.mark.parametrize("name", NAMES)
def test_name_that_is_there_wins_over_a_pattern(here, name):
    fill(here / name / "sub" / "part-1.csv", "right")
    # A path that the name would match as a pattern.
    for other in ("win x", "aXb", "whatX", "7"):
        if not (here / other).exists():
            fill(here / other / "sub" / "part-1.csv", "wrong")

    for place in (name, f"{name}/sub", f"{name}/*", f"{name}/**", f"{name}/*/part-?.csv"):
        assert users_in(here / place) == ["right"], place
        assert users_in(f"./{place}") == ["right"], place
        assert len(find_shards(str(here / place), "jsonl", 99)[1]) == 1, place


@pytest.mark.parametrize("name", NAMES)
def test_file_that_is_there_wins_over_a_pattern(here, name):
    fill(here / f"{name}.csv", "right")
    fill(here / "7.csv", "wrong")

    assert users_in(here / f"{name}.csv") == ["right"]


def test_name_of_a_folder_that_a_pattern_finds_may_be_one_too(here):
    for year in ("2023", "2024"):
        fill(here / f"log-{year}" / "win [x]" / "a.csv", year)
        fill(here / f"log-{year}" / "win x" / "a.csv", "wrong")

    assert users_in("log-*/win [x]/*.csv") == ["2023", "2024"]
    assert users_in("log-202[4]/win [x]") == ["2024"]


@pytest.mark.parametrize(
    "pattern",
    [
        "win [x]/dt={date}",
        "win [x]/dt={date}/*.csv",
        "win [x]/dt={date}/part [1].csv",
        "win *]/dt={date}",
        "win [x]/day [x] {date}.csv",
        "win [x]/day * {date}.csv",
        "win [x]/{date}/{date}.csv",
    ],
)
def test_window_in_a_folder_of_any_name_has_its_days(here, pattern):
    days = ("2024-01-01", "2024-01-02", "2024-01-03")
    for day in days:
        name = pattern.replace("{date}", day).replace("win *]", "win [x]").replace("* ", "[x] ")
        path = here / name.replace("*", "part-0")
        fill(path if path.suffix else path / "part-0.csv", day)
        fill(here / "win x" / f"dt={day}" / "part-0.csv", "wrong")
        fill(here / "win x" / f"day x {day}.csv", "wrong")
    data = DataConfig(
        interactions=str(here / pattern), items="i.csv", users="u.csv", window=WindowConfig(days=3)
    )

    window = find_window(data)

    assert window.days == days
    patterns = table_patterns(data, window)["interactions"]
    assert [user for each in patterns for user in users_in(each)] == list(days)


def test_tables_are_found_in_a_working_directory_of_any_name(tmp_path, monkeypatch):
    folder = tmp_path / "my [proj] *é"
    fill(folder / "log" / "a.csv")
    monkeypatch.chdir(folder)

    assert list_files("log") == ["log/a.csv"]
    assert list_files("log/*.csv") == ["log/a.csv"]
    assert list_files(fs.absolute("log/*.csv")) == [str(folder / "log" / "a.csv")]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("", []),
        ("a", ["a"]),
        ("a/", ["a/"]),
        ("*", ["a", "b"]),
        ("?/x*", ["a/x1", "a/x2", "b/x1"]),
        ("a/../b/x[12]", ["a/../b/x1"]),
        ("**/x1", ["a/x1", "b/x1"]),
        ("./*/x2", ["./a/x2"]),
        ("absent/*", []),
        ("a/.*", ["a/.hidden"]),
    ],
)
def test_plain_patterns_match_as_before(here, pattern, expected):
    for name in ("a/x1", "a/x2", "a/.hidden", "b/x1"):
        fill(here / name)

    assert fs.matching(pattern) == expected
    if pattern and not pattern.startswith("."):
        assert fs.matching(str(here / "_")[:-1] + pattern) == [
            str(here / "_")[:-1] + e for e in expected
        ]


# `~`, `$HOME`, `file://`.


@pytest.fixture
def home(tmp_path, monkeypatch):
    folder = tmp_path / "home"
    folder.mkdir()
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.setenv("LOGS", "a/b")
    monkeypatch.delenv("ABSENT", raising=False)
    return folder


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("~", "{home}"),
        ("~/x", "{home}/x"),
        ("$HOME/x", "{home}/x"),
        ("${HOME}/x", "{home}/x"),
        ("y/$LOGS/*.csv", "y/a/b/*.csv"),
        ("gs://bucket/$LOGS/x", "gs://bucket/a/b/x"),
        ("x~/y", "x~/y"),
        ("a/~/b", "a/~/b"),
        ("x$", "x$"),
        ("5$1", "5$1"),
        ("file:///a/b", "/a/b"),
        ("a/../b", "a/../b"),
        ("a//b/", "a//b/"),
        ("gs://bucket/a", "gs://bucket/a"),
        ("movielens-1m", "movielens-1m"),
        ("", ""),
    ],
)
def test_home_and_variables_mean_what_the_shell_means(here, home, path, expected):
    assert given_path(path, "output") == expected.format(home=home)


@pytest.mark.parametrize("path", ["$ABSENT/x", "${ABSENT}", "gs://b/$ABSENT", "~nobody-here/x"])
def test_home_or_variable_that_is_not_there_is_refused_by_name(here, home, path):
    with pytest.raises(ValueError) as refused:
        given_path(path, "data.users")

    assert str(refused.value).startswith("`data.users` must name a")
    assert path in str(refused.value)


def test_file_named_as_a_variable_or_a_home_is_that_file(here, home):
    for name in ("$LOGS", "x/$ABSENT", "~nobody-here"):
        fill(here / name / "a.csv", name)

        assert given_path(f"{name}/*.csv", "data.users") == f"{name}/*.csv"


def test_every_path_of_a_configuration_is_expanded(here, home):
    path = write_config(
        here / "c.yaml",
        output="~/out",
        data={
            "interactions": "$HOME/log",
            "items": "~/items.csv",
            "users": "${HOME}/users.csv",
            "planted": "~/planted",
            "tag_vectors": "~/vectors",
        },
        serving={"base_path": "~/versions", "exact_base_path": "$HOME/exact"},
    )

    config = load_config(path)

    assert config.output_dir == f"{home}/out"
    assert config.data.interactions == f"{home}/log"
    assert config.data.items == f"{home}/items.csv"
    assert config.data.users == f"{home}/users.csv"
    assert config.data.planted == f"{home}/planted"
    assert config.data.tag_vectors == f"{home}/vectors"
    assert config.base_path == f"{home}/versions"
    assert config.exact_base_path == f"{home}/exact"
    assert load_config(path, output="~/other").output_dir == f"{home}/other"


def test_flags_are_expanded_where_the_shell_did_not(here, home, capsys):
    (home / "runs").mkdir()

    assert main(["runs", "--output=~/runs"]) == 2
    assert (
        f"`output` must hold a run. Received: {home}/runs without any." in capsys.readouterr().err
    )
    with pytest.raises(SystemExit) as ended:
        main(["runs", "--output=$ABSENT/runs"])
    assert ended.value.code == 2
    assert "`output` must name a variable that is set" in capsys.readouterr().err
    assert os.listdir(here) == ["home"]


# Every path of a command.


@pytest.fixture
def linked(here):
    """Makes the link `link` to `far/inner`: `link/..` is `far` to the system, not this folder."""
    (here / "far" / "inner").mkdir(parents=True)
    (here / "link").symlink_to(here / "far" / "inner")
    return here


def test_parent_of_a_linked_folder_is_the_one_that_the_system_opens(linked):
    fill(linked / "far" / "log" / "a.csv", "right")
    fill(linked / "log" / "a.csv", "wrong")

    assert fs.absolute("link/../log") == str(linked / "far" / "log")
    assert fs.absolute("link/..") == str(linked / "far")
    assert fs.absolute("link/inner/../../log") == str(linked / "far" / "log")
    assert fs.absolute("link") == str(linked / "link")
    assert users_in("link/../log") == users_in(fs.absolute("link/../log")) == ["right"]
    assert users_in("link/../l*/*.csv") == users_in(fs.absolute("link/../l*/*.csv")) == ["right"]


def test_output_behind_a_link_is_one_folder_from_the_configuration_on(linked):
    path = write_config(linked / "c.yaml", output="link/../out")

    config = load_local_config(path)

    assert config.output_dir == str(linked / "far" / "out")
    assert config.base_path == str(linked / "far" / "out" / "serving")
    assert os.path.abspath(config.output_dir) == os.path.realpath("link/../out")
    assert load_config(path, output="link/../x").output_dir == str(linked / "far" / "x")


def test_ordinary_parents_stay_as_they_are_written(linked):
    config = load_config(write_config(linked / "c.yaml", output="far/../out"))

    assert config.output_dir == "far/../out"


# TFX takes these for patterns.


@pytest.mark.parametrize("name", ["out [x]", "a*b", "what?", "a\\b"])
def test_output_in_which_tfx_would_not_find_its_files_is_refused_at_once(here, capsys, name):
    path = write_config(here / "c.yaml", output=name)
    (here / "v").mkdir()

    for command in (
        ["run", "--config", path],
        ["reindex", "--config", path, "--tags", "t.csv"],
        ["compile", "--config", path, "--output", "p.json"],
        ["demo", "--output", name],
        ["run", "--config", "demo", "--output", name],
        ["study", "--config", "demo", "--output", name],
    ):
        assert main(command) == 2, command
        message = capsys.readouterr().err
        assert "`output` must have none of * ? [ \\ in its path, the" in message, command
        assert repr(str(here / name)) in message, command
        assert message.count("\n") == 1, command
    assert sorted(os.listdir(here)) == ["c.yaml", "v"]


@pytest.mark.parametrize("name", ["out [x]", "a*b", "what?", "a\\b"])
def test_model_that_tensorflow_would_not_find_is_refused_at_once(here, capsys, name):
    (here / name).mkdir()
    path = write_config(here / "c.yaml", output="out", serving={"base_path": name})
    for command in (
        ["serve", "--model_base_path", name],
        ["batch-predict", "--model_base_path", name, "--input", "x", "--output", "y"],
        ["run", "--config", path],
    ):
        assert main(command) == 2, command
        message = capsys.readouterr().err
        assert "base_path` must have none of * ? [ \\ in its path, the" in message, command
        assert repr(str(here / name)) in message, command
        assert message.count("\n") == 1, command


def test_relative_output_in_a_working_directory_with_brackets_is_refused(tmp_path, monkeypatch):
    folder = tmp_path / "my [proj]"
    folder.mkdir()
    monkeypatch.chdir(folder)
    path = write_config(folder / "c.yaml", output="out")

    with pytest.raises(ValueError, match="the working directory included"):
        load_local_config(path)
    assert load_config(path).output_dir == "out"  # who only looks at tables needs no output
    elsewhere = str(tmp_path / "out")
    assert load_local_config(path, output=elsewhere).output_dir == elsewhere
