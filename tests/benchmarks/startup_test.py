import subprocess
import sys

from benchmarks.startup import OWN_STARTS, STARTS, faults, imports_tfx, table
from tests.report_keys import undocumented_keys

FIGURES = {f"startup.{start.key}_seconds": 1.5 for start in STARTS} | {
    f"startup.{start.key}_imports_tfx": start.key == "run" for start in OWN_STARTS
}


def imports_of(code):
    return subprocess.run(
        [sys.executable, "-X", "importtime", "-c", code], capture_output=True, text=True, check=True
    ).stderr


def test_module_of_tfx_is_found_among_imports(tmp_path):
    # A package of that name stands for the real one, which takes half a minute.
    (tmp_path / "tfx").mkdir()
    (tmp_path / "tfx" / "__init__.py").touch()
    path = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); "

    assert imports_tfx(imports_of(path + "import tfx"))
    assert not imports_tfx(imports_of(path + "import json"))


def test_module_whose_name_begins_alike_is_not_tfx():
    line = "import time:       100 |        200 |   {}"

    assert not imports_tfx("\n".join(map(line.format, ["tfx_bsl", "tfx_pipeline.cli", "a.tfx"])))
    assert imports_tfx(line.format("tfx.v1"))
    assert not imports_tfx("a library prints | tfx")


def test_only_what_needs_not_import_tfx_is_a_fault():
    assert faults(FIGURES) == []
    wrong = FIGURES | {"startup.query_help_imports_tfx": True}
    assert faults(wrong) == ["`tagtower query --help` must not import tfx."]


def test_table_and_keys_cover_every_start():
    lines = table(FIGURES).splitlines()[2:]

    assert [line.split()[-1] for line in lines] == ["-"] * 3 + ["no"] * 5 + ["yes"]
    assert lines[0].startswith("python -c pass (floor)")
    assert undocumented_keys(FIGURES) == []
