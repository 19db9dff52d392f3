import json
import subprocess
import sys

from benchmarks.startup import OWN_STARTS, STARTS, faults, is_imported, table
from benchmarks.startup_stages import QUERY_STAGES, SERVE_STAGES
from tests.report_keys import undocumented_keys, unwritten_keys

FIGURES = (
    {f"startup.{start.key}_seconds": 1.5 for start in STARTS}
    | {
        f"startup.{start.key}_imports_{package}": package in start.may_import
        for start in OWN_STARTS
        for package in ("tfx", "tensorflow")
    }
    | {
        f"startup.{command}.{stage}_{kind}": 0.25
        for command, stages in (("serve", SERVE_STAGES), ("query", QUERY_STAGES))
        for stage in stages
        for kind in ("seconds", "cpu_seconds")
    }
)


def imports_of(code):
    return subprocess.run(
        [sys.executable, "-X", "importtime", "-c", code], capture_output=True, text=True, check=True
    ).stderr


def test_module_of_tfx_is_found_among_imports(tmp_path):
    # A package of that name stands for the real one, which takes half a minute.
    (tmp_path / "tfx").mkdir()
    for name in ("__init__.py", "v1.py"):
        (tmp_path / "tfx" / name).touch()
    path = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); "

    assert is_imported("tfx", imports_of(path + "import tfx.v1"))
    assert not is_imported("tfx", imports_of(path + "import json"))


def test_module_whose_name_begins_alike_is_not_tfx():
    line = "import time:       100 |        200 |   {}"

    names = ["tfx_bsl", "tfx_pipeline.cli", "a.tfx", "tensorflow.core.framework"]
    alike = "\n".join(map(line.format, names))
    assert not is_imported("tfx", alike) and not is_imported("tensorflow", alike)
    assert is_imported("tfx", line.format("tfx"))
    assert not is_imported("tfx", "a library prints | tfx")


def test_client_is_seen_to_import_messages_and_no_tensorflow():
    imported = imports_of("import serving.client")
    assert is_imported("tagtower_client.messages", imported)
    assert not is_imported("tensorflow", imported)


def test_only_what_needs_not_import_tfx_or_tensorflow_is_a_fault():
    assert faults(FIGURES) == []
    wrong = FIGURES | {
        "startup.query_help_imports_tfx": True,
        "startup.client_imports_tensorflow": True,
        "startup.batch_predict_imports_tfx": True,
    }
    assert faults(wrong) == [
        "`tagtower query --help` must not import tfx.",
        "`import serving.client` must not import tensorflow.",
        "`import serving.batch.batch_predict` must not import tfx.",
    ]


def test_table_and_keys_cover_every_start():
    starts, stages = table(FIGURES).split("\n\n")
    lines = starts.splitlines()[2:]

    assert [line.split()[-2] for line in lines] == ["-"] * 3 + ["no"] * 5 + ["yes"]
    assert [line.split()[-1] for line in lines] == ["-"] * 3 + ["no"] * 3 + ["yes"] * 3
    assert lines[0].startswith("python -c pass (floor)")
    assert [line.split()[:3] for line in stages.splitlines()[2:]] == [
        [command, stage, "0.250"]
        for command, names in (("serve", SERVE_STAGES), ("query", QUERY_STAGES))
        for stage in names
    ]
    assert undocumented_keys(FIGURES) == []
    assert unwritten_keys(FIGURES, "benchmarks/startup.py") == []


def test_stages_of_a_query_are_measured_in_a_process_of_their_own():
    command = [sys.executable, "-m", "benchmarks.startup_stages", "query"]
    stages = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)

    assert tuple(stages) == QUERY_STAGES
    assert all(0 <= taken["cpu_seconds"] <= taken["seconds"] + 0.1 for taken in stages.values())
    assert stages["client"]["cpu_seconds"] > 0.02
