"""Checks the directions of imports between packages, and what every test file must have.

The checks read the direct imports from the source, in functions as well as at the top; what a
library imports in its turn does not count.
"""

import ast
import importlib.metadata
import itertools
import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("trainer", "serving", "tfx_pipeline", "client")
FORBIDDEN_FILE_NAMES = {"utils", "util", "helpers", "helper", "common", "base"}

# The folder of the light client has its package and its metadata.
FOLDERS = {"tagtower_client": "client/tagtower_client"}

# Modules that each package may import, with all below them, beside the standard library and itself.
ALLOWED = {
    "client": ("google.protobuf", "grpc", "numpy", "tagtower_client"),
    "trainer": (
        "numpy",
        "scipy",
        "tagtower_client",
        "tensorflow",
        "tensorflow_recommenders",
        "tensorflow_transform",
        "tf_keras",
        "tfx_bsl",
    ),
    "serving": (
        "google.protobuf",  # the messages of gRPC and TensorFlow Serving, as text and JSON
        "grpc",
        "grpc_health",
        "grpc_reflection",
        "numpy",
        "prometheus_client",
        "requests",
        "tagtower_client",
        "tensorflow",
        "tensorflow_recommenders",
        "tensorflow_serving.apis",
        "tensorflow_serving.config",
        "tornado",
    ),
}
# Modules that only the named files may import.
ALLOWED_IN_FILES = {
    "scann": r"serving/index/scann_index\.py",
    "orjson": r"serving/batch/output\.py",
    "rapidjson": r"serving/model_server/rest/json_parser\.py",
    "pydantic": r"trainer/contract/config_validator\.py",
    "pydantic_core": r"trainer/contract/config_(bounds|validator)\.py",
    "pyarrow": r"trainer/contract/arrow\.py|tfx_pipeline/.*",
    "pyarrow_hotfix": r"trainer/contract/arrow\.py",
    "trainer.contract.arrow": r"serving/batch/files\.py|tfx_pipeline/.*",  # it reads zstd
    "apache_beam": r"serving/batch/\w+\.py|tfx_pipeline/.*",
}
# What of the trainer serving may import; the package itself is there because importing it selects
# Keras 2. A test below holds that neither brings model code along. Who else may import whom is in
# `docs/rooms.toml`.
TRAINER_CONTRACT = ("trainer.contract",)


class Import(NamedTuple):
    """One imported name: `from a import b` is `a.b`, as `b` may be a module."""

    name: str
    line: int
    is_for_types: bool
    is_at_top: bool


def read_imports(path: str, source: str) -> list[Import]:
    """Returns the direct imports of the source of the file at `path`, relative ones resolved."""
    package = Path(path).with_suffix("").parts[:-1]
    found: list[Import] = []

    def visit(node: ast.AST, is_for_types: bool, is_at_top: bool) -> None:
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            parents = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join((*parents, *filter(None, [node.module])))
            names = [f"{module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            if ast.unparse(node.func) in ("__import__", "import_module", "importlib.import_module"):
                names = [str(node.args[0].value)]
        line = getattr(node, "lineno", 0)
        found.extend(Import(name, line, is_for_types, is_at_top) for name in names)
        if isinstance(node, ast.If) and ast.unparse(node.test) in (
            "TYPE_CHECKING",
            "typing.TYPE_CHECKING",
        ):
            for statement in node.body:
                visit(statement, True, is_at_top)
            for statement in node.orelse:
                visit(statement, is_for_types, is_at_top)
            return
        is_function = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        for child in ast.iter_child_nodes(node):
            visit(child, is_for_types, is_at_top and not is_function)

    visit(ast.parse(source), False, True)
    return found


def is_below(name: str, modules: tuple[str, ...]) -> bool:
    return any(name == module or name.startswith(module + ".") for module in modules)


def reason_against(package: str, path: str, imported: Import) -> str | None:
    """Returns why `path` of `package` must not import the name, or None where it may."""
    name = imported.name
    top = name.partition(".")[0]
    if top in ("tests", "benchmarks"):
        return "is not part of the distribution"
    for module, pattern in ALLOWED_IN_FILES.items():
        if is_below(name, (module,)):
            return None if re.fullmatch(pattern, path) else f"belongs to {pattern} alone"
    if top == package or top in sys.stdlib_module_names:
        return None
    if package == "tfx_pipeline":
        return None
    if top == "tfx_pipeline":
        return "nobody imports tfx_pipeline"
    if package == "serving" and top == "trainer":
        if name == "trainer" or is_below(name, TRAINER_CONTRACT):
            return None
        return f"is not in trainer's contract: {', '.join(TRAINER_CONTRACT)}"
    if package == "trainer" and imported.is_for_types and re.fullmatch(r"tfx\..*\bFnArgs", name):
        return None
    if is_below(name, ALLOWED[package]):
        return None
    return f"is not in the import table of {package}"


def find_violations(path: str, source: str) -> list[str]:
    package = path.partition("/")[0]
    found = []
    for imported in read_imports(path, source):
        reason = reason_against(package, path, imported)
        if reason:
            found.append(f"{path}:{imported.line}: `{imported.name}` {reason}")
    return found


def source_files(*folders: str) -> Iterator[tuple[str, str]]:
    for folder in folders:
        for path in sorted((ROOT / folder).rglob("*.py")):
            yield path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8")


def imports_without_hotfix(source: str, path: str) -> list[str]:
    """Imports of pyarrow, or of what reads files in it, past `trainer.contract.arrow`."""
    names = [imported.name for imported in read_imports(path, source)]
    found = [name for name in names if is_below(name, ("pyarrow",)) and name != "pyarrow.compute"]
    has_hotfix = any(is_below(name, ("trainer.contract.arrow",)) for name in names)
    if path == "trainer/contract/arrow.py" or (has_hotfix and "pyarrow" not in found):
        return []
    return found


@pytest.mark.parametrize("package", [*PACKAGES, "benchmarks"])
def test_nobody_reads_a_table_without_the_hotfix(package):
    found = {
        path: imports
        for path, source in source_files(package)
        if (imports := imports_without_hotfix(source, path))
    }
    assert not found


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("import pyarrow as pa", ["pyarrow"]),
        ("import pyarrow.parquet as pq", ["pyarrow.parquet"]),
        ("from pyarrow import csv", ["pyarrow.csv"]),
        ("import pyarrow as pa\nfrom trainer.contract.arrow import pa", ["pyarrow"]),
        ("from trainer.contract.arrow import pa\nimport pyarrow.parquet as pq", []),
    ],
)
def test_import_without_the_hotfix_is_seen(source, expected):
    assert imports_without_hotfix(source, "tfx_pipeline/some.py") == expected


# The import table.


@pytest.mark.parametrize("package", PACKAGES)
def test_direct_imports_keep_to_the_import_table(package):
    files = list(source_files(package))

    assert files, f"{package}/ has no source"
    violations = [line for path, source in files for line in find_violations(path, source)]
    assert not violations, "\n".join(violations)


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("trainer/task.py", "import tfx"),
        ("trainer/task.py", "from tfx.components.trainer.fn_args_utils import FnArgs"),
        ("trainer/model.py", "import apache_beam as beam"),
        ("trainer/model.py", "import scann"),
        ("trainer/model.py", "import grpc"),
        ("trainer/model.py", "from serving import index"),
        (
            "trainer/model.py",
            "def build():\n    from tfx_pipeline.config.pipeline import PipelineConfig",
        ),
        ("trainer/model.py", "import importlib\nimportlib.import_module('tfx_pipeline.cli')"),
        ("trainer/task.py", "if TYPE_CHECKING:\n    from tfx.components import Trainer"),
        ("trainer/model.py", "import pandas"),
        ("trainer/model.py", "from .. import serving"),
        ("serving/index/top_k.py", "import scann"),
        ("serving/model_server/server.py", "import apache_beam"),
        ("client/tagtower_client/dialogues.py", "from trainer.model import UserTower"),
        ("client/tagtower_client/dialogues.py", "from trainer import towers"),
        ("client/tagtower_client/dialogues.py", "import tfx.v1"),
        ("client/tagtower_client/dialogues.py", "from trainer.contract import signatures"),
        ("client/tagtower_client/dialogues.py", "import tensorflow as tf"),
        ("client/tagtower_client/dialogues.py", "from serving.client import TagClient"),
        ("client/tagtower_client/dialogues.py", "from tfx_pipeline import cli"),
        ("client/tagtower_client/dialogues.py", "from tensorflow_serving.core import server"),
        ("serving/batch/scann_index.py", "import scann"),
        ("tfx_pipeline/components/builder.py", "import scann"),
        ("tfx_pipeline/cli.py", "from tests.e2e import demo"),
    ],
)
def test_forbidden_import_is_reported_with_its_line(path, source):
    violations = find_violations(path, source)

    assert len(violations) == 1
    assert violations[0].startswith(f"{path}:{1 + source.count(chr(10))}: ")


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("trainer/model.py", "import os\nimport numpy as np\nfrom trainer import towers"),
        ("trainer/model.py", "from . import towers\nfrom .towers import UserTower"),
        (
            "trainer/task.py",
            "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n"
            "    from tfx.components.trainer.fn_args_utils import FnArgs",
        ),
        ("serving/index/scann_index.py", "import scann\nfrom scann import scann_ops"),
        ("serving/batch/batch_predict.py", "import apache_beam as beam"),
        ("serving/batch/input.py", "import apache_beam as beam"),
        ("serving/model_server/rest.py", "from tensorflow_serving.apis import predict_pb2"),
        ("serving/model_server/rest.py", "from ..client import Client"),
        ("serving/servable/export.py", "import trainer\nfrom trainer.contract import signatures"),
        ("serving/servable/export.py", "from trainer.contract.features import FeatureSpec"),
        ("tfx_pipeline/cli.py", "import tfx.v1\nimport apache_beam\nimport trainer.model"),
    ],
)
def test_allowed_import_is_not_reported(path, source):
    assert find_violations(path, source) == []


def test_trainer_contract_imports_no_model_code():
    files = ["trainer/__init__.py", *(path for path, _ in source_files("trainer/contract"))]
    found = []
    for path in files:
        for imported in read_imports(path, (ROOT / path).read_text(encoding="utf-8")):
            if is_below(imported.name, ("tf_keras", "tensorflow_recommenders")):
                found.append(f"{path}:{imported.line}: {imported.name}")

    assert not found, "\n".join(found)


@pytest.mark.parametrize("name", ["history", "tag_items", "tag_normalization"])
def test_what_a_live_caller_imports_needs_neither_tensorflow_nor_beam(name):
    # Fresh clicks become feature values, and tags items, in a process without either. pydantic
    # checks the description of a version, from its first use on.
    # What the light client brings along is imported with its classes only.
    ours = {"trainer", "tagtower_client"}
    allowed = {*ours, "numpy", "pydantic", "pydantic_core"} | sys.stdlib_module_names
    pending, seen = [f"trainer/contract/{name}.py"], set()
    while pending:
        path = pending.pop()
        seen.add(path)
        for imported in read_imports(path, (ROOT / path).read_text(encoding="utf-8")):
            if imported.is_for_types:
                continue
            top = imported.name.partition(".")[0]
            assert top in allowed, f"{path}: {imported.name}"
            pending.extend(set(module_files(imported.name)) - seen)


def test_start_of_the_command_line_imports_no_tfx():
    # It takes 20 seconds to import, and serve, query and batch prediction do not need it.
    pending, seen = ["tfx_pipeline/cli.py", "tfx_pipeline/terminal/command_line.py"], set()
    while pending:
        path = pending.pop()
        seen.add(path)
        for imported in read_imports(path, (ROOT / path).read_text(encoding="utf-8")):
            if imported.is_at_top and not imported.is_for_types:
                assert not is_below(imported.name, ("tfx",)), f"{path}:{imported.line}"
                pending.extend(set(module_files(imported.name)) - seen)


def module_files(name: str) -> Iterator[str]:
    """Yields this project's files that importing the dotted name runs."""
    parts = name.split(".")
    parts[:1] = FOLDERS.get(parts[0], parts[0]).split("/")
    if parts[0] not in PACKAGES:
        return
    for end in range(1, len(parts) + 1):
        stem = "/".join(parts[:end])
        yield from (
            path for path in (f"{stem}/__init__.py", f"{stem}.py") if (ROOT / path).exists()
        )


# Declared requirements, and the modules that are imported.


def declared_modules(with_extras: bool) -> set[str]:
    """Returns the top-level modules of what setup.py requires, with or without its extras."""
    modules: set[str] = set()
    for requirement in importlib.metadata.requires("tagtower") or []:
        if with_extras or "extra ==" not in requirement:
            name = re.split(r"[^\w.-]", requirement)[0]
            files = importlib.metadata.files(name) or []
            # A module may be a file of its own, `.py` or compiled.
            modules.update(path.parts[0].partition(".")[0] for path in files)
    return modules


@pytest.mark.parametrize(
    ("folders", "with_extras"),
    # Libraries that benchmarks compare with are installed only for development.
    [(PACKAGES, False), (("benchmarks",), True)],
    ids=["packages", "benchmarks"],
)
def test_every_imported_library_is_declared_in_setup(folders, with_extras):
    known = {
        *sys.stdlib_module_names,
        *PACKAGES,
        *FOLDERS,
        "benchmarks",
        *declared_modules(with_extras),
    }
    undeclared = [
        f"{path}:{imported.line}: {imported.name}"
        for path, source in source_files(*folders)
        for imported in read_imports(path, source)
        if imported.name.partition(".")[0] not in known
    ]

    assert not undeclared, "\n".join(undeclared)


def test_no_file_is_named_after_nothing():
    folders = (*PACKAGES, "tests", "benchmarks", "scripts")
    named = [
        path.relative_to(ROOT).as_posix()
        for folder in folders
        for path in (ROOT / folder).rglob("*")
        if path.name.split(".")[0].removesuffix("_test").lower() in FORBIDDEN_FILE_NAMES
    ]

    assert not named


# Length of functions.

MAX_FUNCTION_LINES = 60


def find_long_functions(path: str, source: str) -> list[str]:
    """Returns the functions above the limit, from `def` to their last line, docstring included."""
    return [
        f"{path}:{node.lineno}: `{node.name}` has {length} lines"
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (length := (node.end_lineno or 0) - node.lineno + 1) > MAX_FUNCTION_LINES
    ]


def test_no_function_is_longer_than_the_limit():
    found = [
        line
        for path, source in source_files(*PACKAGES, "benchmarks", "scripts")
        for line in find_long_functions(path, source)
    ]

    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("num_lines", "num_found"), [(MAX_FUNCTION_LINES, 0), (MAX_FUNCTION_LINES + 1, 1)]
)
@pytest.mark.parametrize("start", ["def f():\n", "class C:\n  @a\n  async def f():\n"])
def test_a_function_above_the_limit_is_reported(start, num_lines, num_found):
    source = start + "    0\n" * (num_lines - 1)

    found = find_long_functions("trainer/task.py", source)

    assert len(found) == num_found
    assert all(line.endswith(f"`f` has {num_lines} lines") for line in found)


# Tests and their lanes.


def read_lanes(makefile: str) -> list[str]:
    """Returns the marker expression of each of the Makefile's pytest runs; "" takes every test."""
    expressions = []
    for line in re.findall(r"^\t@?\$\(PYTEST\)(.*)$", makefile, flags=re.MULTILINE):
        words = shlex.split(line)
        rest = [word for word in words if not word.startswith("-")]
        expressions.append(words[words.index("-m") + 1] if "-m" in words else "")
        # A path would leave files out of the lane.
        assert rest in ([], [expressions[-1]]), line
    return expressions


def find_skip_faults(path: str, source: str) -> list[str]:
    """Returns the tests or files that no lane can run, and the skips that give no reason."""
    tree = ast.parse(source)
    faults = []

    def report(node: ast.expr | ast.stmt, what: str) -> None:
        faults.append(f"{path}:{node.lineno}: {what}")

    guarded = {
        id(child)
        for node in ast.walk(tree)
        if isinstance(node, ast.If | ast.FunctionDef | ast.Try | ast.ExceptHandler)
        for child in ast.walk(node)
        if child is not node
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and ast.unparse(node) == "pytest.mark.skip":
            report(node, "skipped on every lane")
        if isinstance(node, ast.Assign) and ast.unparse(node) == "__test__ = False":
            report(node, "collected by no lane")
        if not isinstance(node, ast.Call):
            continue
        name = ast.unparse(node.func)
        keywords = {keyword.arg: keyword.value for keyword in node.keywords}
        if name == "pytest.mark.skipif":
            if isinstance(node.args[0] if node.args else None, ast.Constant):
                report(node, "skipped on every lane")
            if "reason" not in keywords:
                report(node, "skip without a reason")
        if name == "pytest.skip":
            if id(node) not in guarded:
                report(node, "skipped on every lane")
            if not node.args and "reason" not in keywords:
                report(node, "skip without a reason")
        if name == "pytest.importorskip":
            report(
                node, "everything tests import is in the lock: a skip here hides a broken set-up"
            )
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
            first = next((s for s in node.body if not is_docstring(s)), None)
            if isinstance(first, ast.Expr) and ast.unparse(first).startswith("pytest.skip("):
                report(first, "skipped on every lane")
    return faults


def is_docstring(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)


def has_tests(source: str) -> bool:
    return any(
        isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
        for node in ast.walk(ast.parse(source))
    )


def test_every_test_file_is_collected():
    # pyproject.toml's testpaths and python_files say what a lane collects.
    settings = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert 'testpaths = ["tests"]' in settings
    assert 'python_files = ["*_test.py"]' in settings
    strays = [
        path
        for path, source in source_files("tests", "benchmarks", *PACKAGES)
        if has_tests(source) != (path.startswith("tests/") and path.endswith("_test.py"))
    ]
    ignoring = [
        path
        for path, source in source_files("tests")
        if re.search(r"^collect_ignore", source, re.M)
    ]

    assert not strays, f"tests outside tests/**/*_test.py, or such a file without any: {strays}"
    assert not ignoring


def test_no_conftest_imports_a_test_module():
    # Shared code must not fail with one test file, nor be collected twice.
    found = [
        f"{path}:{imported.line}: {imported.name}"
        for path, source in source_files("tests")
        if path.endswith("/conftest.py")
        for imported in read_imports(path, source)
        if any(part.endswith("_test") for part in imported.name.split("."))
    ]
    assert not found, "\n".join(found)


def test_lanes_together_run_every_test():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    lanes = read_lanes(makefile)
    markers = re.findall(
        r'^    "(\w+): .*",$', (ROOT / "pyproject.toml").read_text(encoding="utf-8"), re.MULTILINE
    )

    assert markers == ["clients", "e2e", "flink", "hostile", "movielens"]
    assert "" in lanes, "make test runs every lane"
    for values in itertools.product([False, True], repeat=len(markers)):
        given = dict(zip(markers, values, strict=True))
        running = [lane for lane in lanes if lane and eval(lane, {"__builtins__": {}}, given)]
        assert running, f"no lane of its own runs a test marked {given}"


def test_no_test_is_skipped_on_every_lane():
    faults = [
        fault for path, source in source_files("tests") for fault in find_skip_faults(path, source)
    ]

    assert not faults, "\n".join(faults)


@pytest.mark.parametrize(
    "source",
    [
        "@pytest.mark.skip(reason='later')\ndef test_a(): pass",
        "@pytest.mark.skipif(True, reason='later')\ndef test_a(): pass",
        "@pytest.mark.skipif(os.name == 'nt')\ndef test_a(): pass",
        "pytest.skip('later', allow_module_level=True)",
        "pytestmark = pytest.mark.skip",
        "def test_a():\n    pytest.skip('later')",
        "np = pytest.importorskip('numpy')",
    ],
)
def test_skip_on_every_lane_is_reported(source):
    assert len(find_skip_faults("tests/a_test.py", source)) == 1


def test_conditional_skip_with_a_reason_is_not_reported():
    source = "def test_a():\n    if not DATA.exists():\n        pytest.skip(f'no data in {DATA}')\n"

    assert find_skip_faults("tests/a_test.py", source) == []
