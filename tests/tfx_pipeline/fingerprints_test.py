"""Tests what changes a fingerprint, and what must not change it."""

import os
import pathlib
import shutil

import pytest

from tfx_pipeline import fingerprints
from tfx_pipeline.fingerprints import code_fingerprint, files_fingerprint

# --- files ---


@pytest.fixture
def files(tmp_path):
    folder = tmp_path / "log"
    folder.mkdir()
    for name, content in (("a.csv", b"1,2\n"), ("b.csv", b"3,4\n")):
        (folder / name).write_bytes(content)
    return [str(folder / "a.csv"), str(folder / "b.csv")]


def test_touching_ordering_and_moving_files_changes_nothing(files, tmp_path):
    before = files_fingerprint(files)
    os.utime(files[0], (1, 1))
    assert files_fingerprint(files) == before
    assert files_fingerprint(reversed(files)) == before
    moved = tmp_path / "elsewhere"
    shutil.move(tmp_path / "log", moved)
    assert files_fingerprint([str(moved / "a.csv"), str(moved / "b.csv")]) == before


def test_content_name_and_number_of_files_change_it(files, tmp_path):
    seen = {files_fingerprint(files), files_fingerprint(files[:1]), files_fingerprint([])}
    with open(files[1], "ab") as file:
        file.write(b"\n")
    seen.add(files_fingerprint(files))
    renamed = str(tmp_path / "log" / "c.csv")
    os.rename(files[1], renamed)
    seen.add(files_fingerprint([files[0], renamed]))
    assert len(seen) == 5


def test_content_that_moves_between_files_changes_it(files):
    before = files_fingerprint(files)
    contents = [pathlib.Path(path).read_bytes() for path in files]
    for path, content in zip(files, reversed(contents), strict=True):
        pathlib.Path(path).write_bytes(content)
    assert files_fingerprint(files) != before


def test_file_larger_than_a_block_counts_to_its_end(tmp_path, monkeypatch):
    monkeypatch.setattr(fingerprints, "_BLOCK", 4)
    path = tmp_path / "a.csv"
    path.write_bytes(b"0123456789")
    before = files_fingerprint([str(path)])
    path.write_bytes(b"012345678X")
    assert files_fingerprint([str(path)]) != before


# --- code ---

SOURCES = {
    "__init__.py": "",
    "top.py": "import json\nimport housepkg.middle\n",
    "middle.py": "def work():\n    from housepkg.rooms import deep\n    return deep\n",
    "rooms/__init__.py": "NAME = 1\n",
    "rooms/deep.py": "from housepkg.rooms.leaf import VALUE\nfrom housepkg import top\n",
    "rooms/leaf.py": "VALUE = 1\n",
    "other.py": "OTHER = 1\n",
}


@pytest.fixture
def package(tmp_path, monkeypatch):
    folder = tmp_path / "housepkg"
    for name, source in SOURCES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(source)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(fingerprints, "PROJECT_PACKAGES", ("housepkg",))
    return folder


@pytest.mark.parametrize("name", ["top.py", "middle.py", "rooms/__init__.py", "rooms/leaf.py"])
def test_edited_module_changes_what_imports_it(package, name):
    before = code_fingerprint("housepkg.top")
    (package / name).write_text(SOURCES[name] + "# edited\n")
    assert code_fingerprint("housepkg.top") != before


def test_edited_module_leaves_what_does_not_import_it(package):
    before = code_fingerprint("housepkg.top")
    (package / "other.py").write_text("OTHER = 2\n")
    assert code_fingerprint("housepkg.top") == before
    assert code_fingerprint("housepkg.rooms.leaf") != before
    leaf = code_fingerprint("housepkg.rooms.leaf")
    (package / "middle.py").write_text("# edited\n")
    assert code_fingerprint("housepkg.rooms.leaf") == leaf


def test_several_modules_are_one_fingerprint_in_any_order(package):
    both = code_fingerprint("housepkg.rooms.leaf", "housepkg.other")
    assert both == code_fingerprint("housepkg.other", "housepkg.rooms.leaf")
    (package / "other.py").write_text("OTHER = 2\n")
    assert code_fingerprint("housepkg.rooms.leaf", "housepkg.other") != both


@pytest.mark.parametrize(
    ("module", "edited", "is_affected"),
    [
        ("tfx_pipeline.examples.write_examples", "trainer/contract/history.py", True),
        ("tfx_pipeline.examples.write_examples", "tfx_pipeline/tables/csv_rows.py", True),
        ("tfx_pipeline.examples.write_examples", "trainer/towers/user_tower.py", False),
        ("tfx_pipeline.preprocessing", "trainer/contract/features.py", True),
        ("tfx_pipeline.preprocessing", "trainer/contract/history.py", False),
        ("trainer.task", "trainer/towers/user_tower.py", True),
    ],
)
def test_real_modules_depend_on_what_they_import(monkeypatch, module, edited, is_affected):
    before = code_fingerprint(module)
    read_bytes = pathlib.Path.read_bytes

    def read_edited(path):
        source = read_bytes(path)
        return source + b"\n# edited\n" if str(path).endswith(edited) else source

    monkeypatch.setattr(pathlib.Path, "read_bytes", read_edited)
    assert (code_fingerprint(module) != before) == is_affected
