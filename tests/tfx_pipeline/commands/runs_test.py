"""`tagtower runs`: one line for each run, two runs compared, no large library imported."""

import json
import subprocess
import sys

import pytest

from tests.tfx_pipeline.run_log.logged_runs import fail, push
from tfx_pipeline.cli import main
from tfx_pipeline.run_log.log import logged_run, read_runs
from tfx_pipeline.terminal.refusals import NotPushed


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
