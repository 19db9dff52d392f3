"""CONTRIBUTING.md names existing files and valid Python; pre-commit checks what CI checks."""

import ast
import re
import textwrap
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
CODE = [
    textwrap.dedent(block)
    for block in re.findall(r"^ *```python\n(.*?)^ *```", PAGE, re.MULTILINE | re.DOTALL)
]
# A file or folder of the project, in backticks; `(new)` follows one that an example adds.
_PATH = re.compile(
    r"`((?:trainer|serving|client|tfx_pipeline|tests|docs|scripts|benchmarks)/[\w/.-]+)`(\s+\(new\))?"
)


def test_named_files_exist_but_those_that_an_example_adds():
    paths = _PATH.findall(PAGE)

    assert len(paths) > 30
    for path, is_new in paths:
        assert (ROOT / path).exists() != bool(is_new), path


def test_named_targets_are_those_of_the_makefile():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([\w-]+):", makefile, re.MULTILINE))
    named = set(re.findall(r"(?:`|^)make ([\w-]+)", PAGE, re.MULTILINE))

    assert {"setup", "lint", "test-unit", "docs"} <= named <= targets


@pytest.mark.parametrize("code", CODE, ids=lambda code: code.split("\n")[0][:40])
def test_code_of_an_example_is_python(code):
    # A line of a table.
    ast.parse(f"{{{code}}}" if re.match(r'"\w+":', code) else code)


def test_names_that_the_examples_import_are_there():
    missing = []
    for code in CODE:
        if "\nfrom " not in code:
            continue
        for node in ast.parse(code).body:
            if not isinstance(node, ast.ImportFrom) or node.module is None:
                continue
            path = ROOT / (node.module.replace(".", "/") + ".py")
            if node.module.partition(".")[0] in ("trainer", "serving", "tfx_pipeline"):
                source = path.read_text(encoding="utf-8")
                names = [alias.name for alias in node.names]
                # What another block of the page adds.
                missing += [n for n in names if n not in source and f"class {n}(" not in PAGE]

    assert missing == []


def test_pre_commit_checks_what_make_lint_checks_without_a_download():
    settings = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    (recipe,) = re.findall(r"^lint:.*\n((?:\t.*\n)+)", makefile, re.MULTILINE)
    commands = [
        line.strip().removeprefix("@").replace("$(VENV)", ".venv/bin").removesuffix(" .")
        for line in recipe.splitlines()
    ]

    assert [repo["repo"] for repo in settings["repos"]] == ["local"]
    hooks = settings["repos"][0]["hooks"]
    assert [hook["entry"] for hook in hooks] == commands
    assert {hook["language"] for hook in hooks} == {"system"}
    assert {hook["pass_filenames"] for hook in hooks} == {False}
