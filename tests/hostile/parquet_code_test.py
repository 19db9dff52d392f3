"""No command reads a Parquet file whose column would run code (CVE-2023-47248).

Each command runs in a separate process, because importing Beam adds the same protection.
"""

import os
import pickle
import subprocess
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from tfx_pipeline.tables.arrow_files import check_table, read_batches
from tfx_pipeline.tables.schema import ITEMS

GOOD = {
    "interactions": {
        "user_id": ["u"],
        "item_id": ["i"],
        "timestamp": [1_700_000_000],
        "clicked": [1],
    },
    "items": {"item_id": ["i"], "tags": [["a"]], "category": ["c"]},
    "users": {"user_id": ["u"], "country": ["x"]},
    "tag_vectors": {"tag": ["a"], "vector": [[1.0, 2.0]]},
    "events": {"item_id": ["i"], "timestamp": [1_700_000_000], "clicked": [1]},
}
COMMANDS = {
    "run": ["run"],
    "query --user": ["query", "--server", "localhost:1", "--user", "u"],
    "study": ["study"],
}
READ_BY = {
    "run": ("interactions", "items", "users", "tag_vectors"),
    "query --user": ("interactions", "items", "users"),
    "study": ("interactions",),
}


class _Touch:
    """Creates a file when it is unpickled."""

    def __init__(self, path):
        self._path = path

    def __reduce__(self):
        return open, (self._path, "w")


def unsafe_field(field, content):
    """Returns the field whose type is made by unpickling `content`."""
    metadata = {
        "ARROW:extension:name": "arrow.py_extension_type",
        "ARROW:extension:metadata": content,
    }
    return field.with_metadata(metadata)


def write_table(path, name, trap=None):
    """Writes a table; with `trap` its first column creates that file when its type is read."""
    table = pa.table(GOOD[name])
    if trap is not None:
        unsafe = unsafe_field(table.schema.field(0), pickle.dumps(_Touch(str(trap))))
        table = table.cast(table.schema.set(0, unsafe))
    pq.write_table(table, path)


@pytest.fixture
def project(tmp_path):
    """Writes a configuration and its tables, one of them a trap; returns the trap's file."""

    def write(trapped):
        trap = tmp_path / "code ran"
        for name in GOOD:
            write_table(tmp_path / f"{name}.parquet", name, trap if name == trapped else None)
        config = {
            "name": "log",
            "output": str(tmp_path / "run"),
            "data": {name: str(tmp_path / f"{name}.parquet") for name in GOOD if name != "events"},
            "features": {"profile": [{"name": "country"}], "domains": [{"name": "clicked"}]},
            "model": {"tag_views": ["vectors"]},
        }
        (tmp_path / "log.yaml").write_text(yaml.safe_dump(config))
        study = {
            "name": "s",
            "base": {"config": str(tmp_path / "log.yaml")},
            "output": str(tmp_path / "study"),
            "towers": {"bag": {"interaction": "bag"}},
            "objectives": {"both": {}},
            "grid": [{"towers": ["bag"], "objectives": ["both"]}],
        }
        (tmp_path / "study.yaml").write_text(yaml.safe_dump(study))
        return trap

    return write


def run(*arguments):
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    return subprocess.run(
        [sys.executable, "-m", "tfx_pipeline.cli", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
    )


def test_trap_works_where_nothing_protects(tmp_path):
    trap = tmp_path / "code ran"
    write_table(tmp_path / "items.parquet", "items", trap)
    code = f"import pyarrow.parquet as pq; pq.read_table({str(tmp_path / 'items.parquet')!r})"

    subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)

    assert trap.exists()


@pytest.mark.parametrize(
    ("command", "table"),
    [(command, table) for command, tables in READ_BY.items() for table in tables],
)
def test_no_command_runs_the_code_of_a_table(project, tmp_path, command, table):
    trap = project(table)
    config = "study.yaml" if command == "study" else "log.yaml"

    finished = run(*COMMANDS[command], "--config", tmp_path / config)

    path = tmp_path / f"{table}.parquet"
    assert_refused(finished, trap, path)
    assert not (tmp_path / "run" / "report.json").exists()


@pytest.mark.parametrize("content", [b"hello", b"", b"\xff", pickle.dumps("harmless")])
def test_type_is_refused_whatever_it_holds(tmp_path, content):
    schema = pa.schema([unsafe_field(pa.field("item_id", pa.string()), content)])
    path = str(tmp_path / "items.parquet")
    pq.write_table(pa.table([["i"]], schema=schema), path)

    with pytest.raises(ValueError, match=r"items.parquet must have no column of the type `arrow"):
        list(read_batches(path, ITEMS))


def test_type_within_a_list_is_refused(tmp_path):
    tags = pa.list_(unsafe_field(pa.field("item", pa.string()), b"hello"))
    path = str(tmp_path / "items.parquet")
    table = pa.table([["i"], [["a"]]], schema=pa.schema([("item_id", pa.string()), ("tags", tags)]))
    pq.write_table(table, path)

    with pytest.raises(ValueError, match=r"items.parquet must have no column of the type `arrow"):
        list(read_batches(path, ITEMS))


def test_query_does_not_run_the_code_of_fresh_events(project, tmp_path):
    trap = project("events")
    events = tmp_path / "events.parquet"

    finished = run(
        "query", "--server", "localhost:1", "--config", tmp_path / "log.yaml", "--events", events
    )

    assert_refused(finished, trap, events)


def assert_refused(finished, trap, path):
    assert not trap.exists()
    assert finished.returncode in (1, 2)
    output = finished.stdout + finished.stderr
    assert "Traceback" not in output
    line = next(line for line in output.splitlines() if "arrow.py_extension_type" in line)
    assert f"{path} must have no column of the type `arrow.py_extension_type`" in line


# What every other command reads files by, each in a process that imports this function alone.
READERS = {
    "compile": (
        "interactions",
        "from tfx_pipeline.config.pipeline import load_config\n"
        "from tfx_pipeline.tables.inputs import find_tables\n"
        "config = load_config(FOLDER + '/log.yaml')\n"
        "find_tables(config.data, config.features)",
    ),
    "run, the tags' vectors": (
        "tag_vectors",
        "from tfx_pipeline.config.pipeline import load_config\n"
        "from tfx_pipeline.tables.tag_vectors import read_tag_vectors\n"
        "read_tag_vectors(load_config(FOLDER + '/log.yaml').data, PATH)",
    ),
    "reindex --tags": (
        "tag_vectors",
        "from tfx_pipeline.config.pipeline import load_config\n"
        "from tfx_pipeline.runs.tag_file import read_tag_file\n"
        "read_tag_file(PATH, load_config(FOLDER + '/log.yaml').data)",
    ),
    "batch-predict --input": (
        "events",
        "from serving.batch.files import check_lines\ncheck_lines(PATH)",
    ),
    "check-requests --requests": (
        "events",
        "from serving.batch.files import check_lines\ncheck_lines(PATH, 'requests')",
    ),
    "prepare, a part's file": (
        "items",
        "from tfx_pipeline.datasets.growing_files import GrowingFiles\n"
        "GrowingFiles().add_file(FOLDER + '/out.parquet', PATH)",
    ),
    "study, the tables of some users": (
        "users",
        "from tfx_pipeline.datasets.user_cut import cut_users\n"
        "cut_users(FOLDER, FOLDER + '/out', 1, 0)",
    ),
}


@pytest.mark.parametrize("command", READERS)
def test_no_reader_runs_the_code_of_a_file(project, tmp_path, command):
    table, code = READERS[command]
    trap = project(table)
    path = tmp_path / f"{table}.parquet"
    names = f"FOLDER, PATH = {str(tmp_path)!r}, {str(path)!r}\n"

    finished = subprocess.run(
        [sys.executable, "-c", names + code], capture_output=True, text=True, check=False
    )

    assert not trap.exists()
    assert finished.returncode == 1
    # The file was refused, by our check or by the protection.
    assert "arrow.py_extension_type" in finished.stderr or "which is Parquet" in finished.stderr


@pytest.mark.parametrize("suffix", [".feather", ".arrow", ".ipc", ".orc"])
def test_other_files_of_arrow_are_refused_by_their_names(tmp_path, suffix):
    path = tmp_path / f"items{suffix}"
    unsafe = unsafe_field(pa.field("item_id", pa.string()), pickle.dumps("harmless"))
    with pa.ipc.new_file(str(path), pa.schema([unsafe])):
        pass

    with pytest.raises(ValueError, match="must be a table file, by its suffix"):
        check_table(str(path), ITEMS)
