"""A mistake that needs no TFX is reported before TFX, Beam or TensorFlow is loaded.

All commands run in one process in which none of these can be imported.
"""

import json
import socket
import subprocess
import sys

import pytest
import yaml

from tfx_pipeline.datasets.demo import prepare_demo
from tfx_pipeline.datasets.demo_config import DemoConfig

SCRIPT = """
import contextlib, io, json, sys

HEAVY = {"tfx", "tensorflow", "apache_beam", "tensorflow_data_validation", "tfx_bsl"}

class Refuse:
    def find_spec(self, name, path=None, target=None):
        assert name.partition(".")[0] not in HEAVY, f"{name} is imported"

sys.meta_path.insert(0, Refuse())
from tfx_pipeline.cli import main

found = {}
for name, arguments in json.load(sys.stdin).items():
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = main(arguments)
    found[name] = status, err.getvalue()
with open(sys.argv[1], "w") as file:
    json.dump(found, file)
"""

CASES = {
    "compile, no image": (
        "compile --config good.yaml --output p.json",
        "`vertex.image` must name the image of the nodes.",
    ),
    "compile, relative path": (
        "compile --config relative.yaml --image i --output p.json",
        "`data.items` must be a path that every node reaches, such as gs://BUCKET/FOLDER, or an "
        "absolute one. Received: data.items='tables/items.parquet'.",
    ),
    "compile, no such table": (
        "compile --config missing.yaml --image i --output p.json",
        "No file or folder at {folder}/none.parquet.",
    ),
    "compile, no folder to write to": (
        "compile --config good.yaml --image i --output none/p.json",
        "`output` must be in a folder that exists. Received: output='none/p.json'.",
    ),
    "run, no such table": (
        "run --config missing.yaml",
        "No file or folder at {folder}/none.parquet.",
    ),
    "run, no such planted interests": (
        "run --config planted.yaml",
        "`data.planted` must be a file or null. Received: data.planted='none.jsonl'.",
    ),
    "run, column missing": ("run --config no-column.yaml", "no_such_column"),
    "run, nobody at the job server": (
        "run --config flink.yaml",
        "`beam.flink.job_endpoint` must be where Beam's job server answers. Received: "
        "localhost:{port}, ",
    ),
    "study, no such table": (
        "study --config study.yaml --output s",
        "No file or folder at {folder}/none.parquet.",
    ),
    "reindex, nothing pushed": (
        "reindex --config good.yaml --output . --tags none.csv",
        "`serving.base_path` must hold a pushed version. Received: {folder}/serving without any",
    ),
    "batch-predict, no version": (
        "batch-predict --model_base_path none --input x --output o",
        "`model_base_path` must hold the version. Received: none with the versions none",
    ),
    "batch-predict, no such version": (
        "batch-predict --model_base_path versions --version 8 --input x --output o",
        "with the versions 7, asked for 8.",
    ),
    "batch-predict, no input": (
        "batch-predict --model_base_path versions --input none*.jsonl --output o",
        "`input` must match at least one file. Received: input='none*.jsonl'.",
    ),
    "batch-predict, output exists": (
        "batch-predict --model_base_path versions --input good.yaml --output tables",
        "`output` must be a folder that does not exist yet. Received: output='tables'.",
    ),
    "batch-predict, nobody at the job server": (
        "batch-predict --model_base_path versions --input good.yaml --output o "
        "--beam_pipeline_args=--job_endpoint=localhost:{port}",
        "Received: localhost:{port}, ",
    ),
    "batch-predict, no tags": (
        "batch-predict --model_base_path versions --input good.yaml --output o --num_tags 0",
        "`num_tags` must be a positive integer. Received: num_tags=0.",
    ),
    "check-requests, no requests": (
        "check-requests --config good.yaml --requests none.jsonl",
        "`validation.skew` must have a threshold",
    ),
    "serve, port taken": (
        "serve --model_base_path versions --port {taken}",
        "`port` must be a free port of this machine; something listens on it already, or it is "
        "reserved. Received: port={taken}.",
    ),
    "serve, REST port out of range": (
        "serve --model_base_path versions --port 0 --rest_api_port 70000",
        "`rest_api_port` must be between 0 and 65535. Received: rest_api_port=70000.",
    ),
    "serve, no configuration": (
        "serve --model_config_file none.config --port 0",
        "none.config: No such file or directory.",
    ),
}


SMALL = {
    "num_users": 20,
    "num_tags": 60,
    "num_items": 60,
    "num_categories": 3,
    "interests_per_user": 3,
}


@pytest.fixture(scope="module")
def ends(tmp_path_factory):
    """Returns, by case, exit status, error output and what the message must say."""
    folder = tmp_path_factory.mktemp("early")
    prepare_demo(str(folder / "tables"), DemoConfig(**SMALL))
    (folder / "versions" / "7").mkdir(parents=True)
    tables = folder / "tables"
    data = {
        "interactions": str(tables / "interactions"),
        "items": str(tables / "items.parquet"),
        "users": str(tables / "users.parquet"),
    }
    good = {
        "name": "early",
        "output": str(folder / "out"),
        "data": data,
        "features": {"domains": [{"name": "clicked_tags"}]},
    }
    with socket.socket() as probe, socket.create_server(("0.0.0.0", 0)) as taken:
        probe.bind(("localhost", 0))  # and nobody listens
        facts = {
            "folder": str(folder),
            "port": probe.getsockname()[1],
            "taken": taken.getsockname()[1],
        }
        flink = {"runner": "flink", "flink": {"job_endpoint": f"localhost:{facts['port']}"}}
        configs = {
            "good": good,
            "relative": good | {"data": data | {"items": "tables/items.parquet"}},
            "missing": good | {"data": data | {"items": str(folder / "none.parquet")}},
            "planted": good | {"data": data | {"planted": "none.jsonl"}},
            "no-column": good
            | {
                "features": {
                    "domains": [{"name": "clicked_tags"}],
                    "profile": [{"name": "no_such_column"}],
                }
            },
            "flink": good | {"beam": flink},
            "study": {
                "name": "early",
                "output": "s",
                "base": {"config": "missing.yaml"},
                "seeds": [0],
                "towers": {"bag": {"interaction": "bag"}},
                "objectives": {"both": {}},
                "grid": [{"towers": ["bag"], "objectives": ["both"]}],
            },
        }
        for name, config in configs.items():
            (folder / f"{name}.yaml").write_text(yaml.safe_dump(config))
        commands = {name: words.format(**facts).split() for name, (words, _) in CASES.items()}
        finished = subprocess.run(
            [sys.executable, "-c", SCRIPT, "found.json"],
            input=json.dumps(commands),
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
        )
    assert finished.returncode == 0, finished.stderr
    found = json.loads((folder / "found.json").read_text())
    return {name: (*found[name], CASES[name][1].format(**facts)) for name in CASES}


@pytest.mark.parametrize("case", CASES)
def test_mistake_is_one_line_before_anything_heavy_is_loaded(case, ends):
    status, error, message = ends[case]

    assert status == 2
    assert len(error.splitlines()) == 1
    assert message in error
