"""The log of runs: states, reasons, and when a day that is started again is done."""

import dataclasses
import json
import subprocess
import sys

import pytest

from tests.tfx_pipeline.random_users import item_rows, write_jsonl
from tfx_pipeline.cli import main
from tfx_pipeline.config import (
    DataConfig,
    DistributionThreshold,
    PipelineConfig,
    ValidationConfig,
    WindowConfig,
    to_json,
)
from tfx_pipeline.refusals import NotPushed
from tfx_pipeline.run_lock import only_run
from tfx_pipeline.run_log import find_run, finished_run, logged_run, read_runs
from trainer.features import Domain, FeatureSpec

EVENT = {"user_id": "u", "item_id": "i0", "timestamp": 1_000_000_000, "clicked": 1}
DAYS = ("2024-05-01", "2024-05-02")


@pytest.fixture
def config(tmp_path):
    for day in DAYS:
        write_jsonl(tmp_path / "log" / f"{day}.jsonl", [EVENT])
    data = DataConfig(
        interactions=str(tmp_path / "log" / "{date}.jsonl"),
        items=write_jsonl(tmp_path / "items.jsonl", item_rows()),
        users=write_jsonl(tmp_path / "users.jsonl", [{"user_id": "u"}]),
        window=WindowConfig(days=2),
    )
    features = FeatureSpec(history_window_days=1.0, domains=(Domain("clicked"),))
    return PipelineConfig("log", data, features, output=str(tmp_path / "run"))


def push(config, version=7):
    """A run that pushes."""
    with logged_run(config) as run:
        path = f"{config.base_path}/{version}"
        subprocess.run(["mkdir", "-p", path], check=True)
        run.end({"push.version": version, "rows.read": 3}, ())
    return run.report


def fail(config, error):
    with pytest.raises(type(error)), logged_run(config):
        raise error


def test_run_is_in_the_log_while_it_runs_and_after_it(config, tmp_path):
    with logged_run(config) as run:
        (report,) = read_runs(config.output_dir)
        assert report["run.state"] == "running" and report["run.ended"] is None
        assert report["window.day"] == "2024-05-02"
        assert run.config.data.window.day == "2024-05-02"
        run.end({"push.version": 7}, ())

    (report,) = read_runs(config.output_dir)
    assert report["run.state"] == "pushed" and report["run.reason"] is None
    assert report["run.ended"] >= report["run.started"]
    assert report == json.loads((tmp_path / "run" / "report.json").read_text("utf-8"))


@pytest.mark.parametrize(
    ("error", "state", "reason"),
    [
        (NotPushed("DriftValidator: feature `a`"), "not pushed", "DriftValidator: feature `a`"),
        (ValueError("`days` must\n be"), "failed", "`days` must be"),
        (RuntimeError("engine\ndied"), "failed", "RuntimeError: engine died"),
        (KeyboardInterrupt(), "failed", "interrupted"),
    ],
)
def test_run_that_ends_with_an_error_keeps_the_reason_and_leaves_no_report(
    config, tmp_path, error, state, reason
):
    push(config)
    fail(config, error)

    report = read_runs(config.output_dir)[-1]
    assert (report["run.state"], report["run.reason"]) == (state, reason)
    assert not (tmp_path / "run" / "report.json").exists()


def test_gates_that_held_a_run_are_its_reason(config):
    with logged_run(config) as run:
        run.end({"push.version": None}, ("P@10: 0.1", "index recall: 0.5"))

    (report,) = read_runs(config.output_dir)
    assert report["run.state"] == "not pushed"
    assert report["run.reason"] == "P@10: 0.1; index recall: 0.5"


def test_missing_day_is_a_run_with_its_reason(config, tmp_path):
    (tmp_path / "log" / "2024-05-02.jsonl").rename(tmp_path / "log" / "2024-05-03.jsonl")
    wide = dataclasses.replace(
        config, data=dataclasses.replace(config.data, window=WindowConfig(days=3))
    )
    with pytest.raises(ValueError, match="max_missing_days"), logged_run(wide):
        pass

    (report,) = read_runs(config.output_dir)
    assert report["run.state"] == "failed" and "2024-05-02" in report["run.reason"]


def test_killed_run_is_told_from_one_that_runs(config):
    script = (
        "import os, signal, sys\n"
        "from tfx_pipeline.config import load_config\n"
        "from tfx_pipeline.run_log import logged_run\n"
        "with logged_run(load_config(sys.argv[1])):\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    path = config.data.items.replace("items.jsonl", "config.yaml")
    with open(path, "w", encoding="utf-8") as file:
        file.write(to_json(config))
    subprocess.run([sys.executable, "-c", script, path], check=False)

    (report,) = read_runs(config.output_dir)
    assert report["run.state"] == "killed"
    assert report["window.day"] == "2024-05-02"
    # The next run, which holds the lock, writes it down.
    push(config)
    folder = f"{config.output_dir}/runs/{report['run.id']}/report.json"
    with open(folder, encoding="utf-8") as file:
        assert json.load(file)["run.state"] == "killed"


def test_runs_of_one_second_have_ids_of_their_own(config):
    ids = [push(config)["run.id"] for _ in range(4)]

    assert len(set(ids)) == 4
    assert [report["run.id"] for report in read_runs(config.output_dir)] == ids


def test_pushed_day_is_done_until_something_changes(config, tmp_path):
    assert finished_run(config) is None
    report = push(config)
    assert finished_run(config) == report
    # A day is not another one, and thresholds are asked before anything is made.
    first = dataclasses.replace(config.data, window=WindowConfig(2, day="2024-05-01"))
    assert finished_run(dataclasses.replace(config, data=first)) is None
    drift = ValidationConfig(drift={"clicked": DistributionThreshold(l_infinity=0.5)})
    assert finished_run(dataclasses.replace(config, validation=drift)) == report
    assert finished_run(dataclasses.replace(config, seed=1)) is None
    # A later attempt that was broken off takes nothing back.
    fail(config, KeyboardInterrupt())
    assert finished_run(config) == report

    write_jsonl(tmp_path / "log" / "2024-05-01.jsonl", [EVENT, EVENT])
    assert finished_run(config) is None


def test_day_whose_version_is_gone_is_not_done_and_a_withdrawn_one_is(config):
    report = push(config)
    place = f"{config.base_path}/7"
    withdrawn = f"{config.base_path}/withdrawn"
    subprocess.run(["mkdir", withdrawn], check=True)
    subprocess.run(["mv", place, withdrawn], check=True)
    assert finished_run(config) == report
    subprocess.run(["rm", "-r", withdrawn], check=True)
    assert finished_run(config) is None


def test_held_day_is_done_and_a_failed_one_is_not(config):
    fail(config, ValueError("too many rejected rows"))
    assert finished_run(config) is None
    fail(config, NotPushed("feature `a`"))
    assert finished_run(config)["run.reason"] == "feature `a`"


def test_configuration_without_a_window_is_never_done(config, tmp_path):
    whole = DataConfig(str(tmp_path / "log"), config.data.items, config.data.users)
    config = dataclasses.replace(config, data=whole)
    push(config)

    assert finished_run(config) is None
    assert "window.day" not in read_runs(config.output_dir)[0]


def test_run_is_found_by_id_or_day(config):
    first, second = push(config), push(config)

    assert find_run(config.output_dir, first["run.id"]) == first
    assert find_run(config.output_dir, "2024-05-02") == second
    with pytest.raises(ValueError, match="`compare` must name runs of .* '2024-05-01'"):
        find_run(config.output_dir, "2024-05-01")


# The commands, as far as they need no TFX.


@pytest.fixture
def config_path(config, tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text(to_json(config), encoding="utf-8")
    return str(path)


def test_second_start_in_a_folder_in_use_is_one_line_and_4(config, config_path, capfd):
    (output := config.output_dir) and subprocess.run(["mkdir", "-p", output], check=True)
    with only_run(output):
        status = main(["run", "--config", config_path, "--day", "latest"])

    captured = capfd.readouterr()
    assert status == 4
    (line,) = captured.err.strip().splitlines()
    assert line.startswith("tagtower run: `output` must be a folder that no other run is using.")
    assert read_runs(output) == []


def test_held_day_started_again_is_one_line_and_3(config, config_path, capfd):
    fail(config, NotPushed("DriftValidator: feature `a`"))

    status = main(["run", "--config", config_path])

    assert status == 3
    (line,) = capfd.readouterr().out.strip().splitlines()
    assert line.startswith("2024-05-02 is done: run ") and line.endswith("feature `a`")
    assert len(read_runs(config.output_dir)) == 1


def test_day_that_is_no_date_is_a_mistake(config_path, capfd):
    assert main(["run", "--config", config_path, "--day", "yesterday"]) == 2
    assert "`day` must be latest or a date" in capfd.readouterr().err


def test_runs_are_listed_newest_first_with_reasons(config, config_path, capsys):
    push(config)
    fail(config, NotPushed("feature `a`"))

    assert main(["runs", "--config", config_path]) == 0
    lines = capsys.readouterr().out.splitlines()

    first, second = read_runs(config.output_dir)
    assert lines[2].split()[0] == second["run.id"] and lines[3].split()[0] == first["run.id"]
    assert lines[3].split()[1:4] == ["2024-05-01", "2024-05-02", "-"]
    assert lines[3].split()[-2:] == ["7", "pushed"]
    assert lines[4:] == [f"{second['run.id']} not pushed: feature `a`"]
    assert main(["runs", "--output", config.output_dir, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == [second, first]


def test_runs_compares_two_with_the_difference(config, capsys):
    with logged_run(config) as one:
        figures = {"eval_validation.model.precision_at_10": 0.25, "rows.read.interactions": 10}
        one.end({**figures, "push.version": 1}, ())
    with logged_run(config) as other:
        figures = {"eval_validation.model.precision_at_10": 0.5, "rows.read.interactions": 7}
        other.end({**figures, "cached.Trainer": True, "push.version": 2}, ())

    names = [one.report["run.id"], other.report["run.id"]]
    assert main(["runs", "compare", *names, "--output", config.output_dir]) == 0
    out = capsys.readouterr().out

    rows = {line.split()[0]: line.split()[1:] for line in out.splitlines()}
    assert rows["figure"] == [*names, "difference"]
    assert rows["eval_validation.model.precision_at_10"] == ["0.2500", "0.5000", "0.2500"]
    assert rows["rows.read.interactions"] == ["10", "7", "-3"]
    assert rows["run.state"] == ["pushed", "pushed", "-"]
    assert "cached.Trainer" not in rows


@pytest.mark.parametrize("words", [["compare"], ["compare", "a"], ["a", "b", "c"]])
def test_runs_with_other_words_is_a_mistake(config, words, capsys):
    push(config)

    assert main(["runs", *words, "--output", config.output_dir]) == 2
    assert "`runs` must be followed by nothing, or by compare" in capsys.readouterr().err


def test_runs_of_a_folder_without_any_is_a_mistake(tmp_path, capsys):
    assert main(["runs", "--output", str(tmp_path)]) == 2
    assert "must hold a run" in capsys.readouterr().err
    assert main(["runs"]) == 2


def test_looking_at_runs_imports_neither_tensorflow_nor_tfx(config, config_path):
    push(config)
    script = (
        "import sys\n"
        "from tfx_pipeline.cli import main\n"
        "assert main(['runs', '--config', sys.argv[1]]) == 0\n"
        "assert main(['run', '--config', sys.argv[1]]) == 0\n"
        "heavy = {'tensorflow', 'tfx', 'apache_beam'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )

    subprocess.run([sys.executable, "-c", script, config_path], check=True, capture_output=True)
