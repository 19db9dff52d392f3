"""A local disk and a file system of TensorFlow, `ram://`, behave alike."""

import gzip
import io
import os
import subprocess
import sys
import uuid

import pytest
import tensorflow as tf

from trainer.contract import file_system as fs


@pytest.fixture(params=["local", "ram"])
def folder(request, tmp_path):
    if request.param == "local":
        yield str(tmp_path / "folder")
        return
    path = f"ram://{uuid.uuid4().hex}/folder"
    yield path
    fs.remove_folder(path)


def write(path: str, text: str) -> str:
    fs.make_folders(os.path.dirname(path))
    with fs.open_file(path, "w") as file:
        file.write(text)
    return path


def read(path: str) -> str:
    with fs.open_file(path) as file:
        return file.read()


def test_paths_with_a_scheme_are_remote_and_stay_as_they_are(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)

    assert fs.is_remote("gs://bucket/a") and fs.is_remote("s3://b") and fs.is_remote("ram://x")
    assert not any(map(fs.is_remote, ["a/b", "/a", "./gs:/x", "C:", "a//b", ""]))
    assert fs.absolute("gs://bucket/a/") == "gs://bucket/a"
    assert fs.absolute("a/../b") == str(tmp_path / "b")


def test_text_comes_back_as_it_was_written(folder):
    text = "é 漢字\nsecond line\n\nlast"
    path = write(f"{folder}/a/text", text)

    assert read(path) == text
    with fs.open_file(path) as file:
        assert list(file) == ["é 漢字\n", "second line\n", "\n", "last"]
    assert fs.file_size(path) == len(text.encode())
    assert read(write(f"{folder}/empty", "")) == ""


def test_bytes_are_read_from_anywhere_in_a_file(folder):
    content = bytes(range(256)) * 9000  # more than one buffer
    fs.make_folders(folder)
    with fs.open_file(f"{folder}/bytes", "wb") as file:
        for start in range(0, len(content), 100_000):
            file.write(content[start : start + 100_000])

    with fs.open_file(f"{folder}/bytes", "rb") as file:
        assert file.seekable()
        assert file.seek(-10, io.SEEK_END) == len(content) - 10
        assert file.read() == content[-10:]
        assert file.read(1) == b""
        file.seek(300)
        assert file.read(5) == content[300:305]
        assert file.seek(10, io.SEEK_CUR) == 315
        assert file.read(2_000_000) == content[315 : 315 + 2_000_000]


def test_gzip_reads_what_gzip_wrote(folder):
    fs.make_folders(folder)
    with fs.open_file(f"{folder}/x.gz", "wb") as file, gzip.open(file, "wb") as packed:
        packed.write(b"line\n" * 1000)

    with fs.open_file(f"{folder}/x.gz", "rb") as file, gzip.open(file) as unpacked:
        assert unpacked.read() == b"line\n" * 1000


def test_what_is_not_there_is_said_as_python_says_it(folder):
    for look in (fs.open_file, fs.names_in):
        with pytest.raises(FileNotFoundError) as caught:
            look(f"{folder}/absent")
        assert caught.value.filename == f"{folder}/absent"
    assert not fs.exists(f"{folder}/absent")
    assert not fs.is_file(f"{folder}/absent") and not fs.is_folder(f"{folder}/absent")
    assert fs.matching(f"{folder}/absent*") == []
    fs.remove_folder(f"{folder}/absent")


def test_files_and_folders_are_told_apart_and_listed_in_order(folder):
    for name in ("b/2", "b/1", "a", "b/c/3", ".hidden"):
        write(f"{folder}/{name}", name)

    assert fs.names_in(folder) == [".hidden", "a", "b"]
    assert fs.is_folder(f"{folder}/b") and not fs.is_file(f"{folder}/b")
    assert fs.is_file(f"{folder}/a") and not fs.is_folder(f"{folder}/a")
    below = [path[len(folder) + 1 :] for path in fs.files_below(folder)]
    assert below == [".hidden", "a", "b/1", "b/2", "b/c/3"]
    assert fs.matching(f"{folder}/b/[12]") == [f"{folder}/b/1", f"{folder}/b/2"]
    fs.remove_file(f"{folder}/a")
    assert not fs.exists(f"{folder}/a")
    fs.remove_folder(f"{folder}/b")
    assert fs.names_in(folder) == [".hidden"]


def test_name_that_is_there_is_no_pattern(folder):
    for name in ("win [x]/1", "win [x]/2", "win x/1", "a*/1", "ab/1"):
        write(f"{folder}/{name}", name)

    assert fs.matching(f"{folder}/win [x]/*") == [f"{folder}/win [x]/1", f"{folder}/win [x]/2"]
    assert fs.matching(f"{folder}/win [x]/[1]") == [f"{folder}/win [x]/1"]
    assert fs.matching(f"{folder}/win [x]") == [f"{folder}/win [x]"]
    assert fs.matching(f"{folder}/a*/?") == [f"{folder}/a*/1"]
    assert fs.matching(f"{folder}/win ?/1") == [f"{folder}/win x/1"]
    assert fs.split_glob(f"{folder}/win [x]/*/[1]") == (f"{folder}/win [x]", ["*", "[1]"])


def test_missing_file_is_removed_only_where_it_may_be_missing(folder):
    path = write(f"{folder}/file", "x")
    fs.remove_file(path, missing_ok=True)
    assert not fs.exists(path)
    fs.remove_file(path, missing_ok=True)
    with pytest.raises(FileNotFoundError):
        fs.remove_file(path)


def test_replaced_file_is_the_new_one_alone(folder):
    write(f"{folder}/new", "new")
    write(f"{folder}/old", "old")

    fs.replace_file(f"{folder}/new", f"{folder}/old")

    assert fs.names_in(folder) == ["old"]
    assert read(f"{folder}/old") == "new"


def test_moved_folder_is_whole_at_its_new_place_and_gone_from_the_old(folder):
    names = ("saved_model.pb", "variables/data", "assets/deep/er/x")
    for name in names:
        write(f"{folder}/.staging/{name}", name)

    fs.move_folder(f"{folder}/.staging", f"{folder}/17", last=("saved_model.pb",))

    assert fs.names_in(folder) == ["17"]
    moved = {path[len(folder) + 4 :]: read(path) for path in fs.files_below(f"{folder}/17")}
    assert moved == {
        name: name for name in ("saved_model.pb", "variables/data", "assets/deep/er/x")
    }


def test_files_named_last_are_copied_after_all_others(tmp_path, monkeypatch):
    source, target = f"ram://{uuid.uuid4().hex}/source", str(tmp_path / "target")
    for name in ("a", "saved_model.pb", "variables/z"):
        write(f"{source}/{name}", name)
    opened = []
    monkeypatch.setattr(fs, "open_file", lambda *a, real=fs.open_file: opened.append(a) or real(*a))

    fs.copy_folder(source, target, last=("saved_model.pb",))

    written = [os.path.relpath(path, target) for path, mode in opened if mode == "wb"]
    assert written == ["a", "variables/z", "saved_model.pb"]


def test_local_paths_need_no_tensorflow(tmp_path):
    code = (
        "import sys; from trainer.contract import file_system as fs\n"
        f"root = {str(tmp_path)!r}\n"
        "with fs.open_file(root + '/x', 'w') as file: file.write('x')\n"
        "fs.move_folder(root, root + '.moved'); assert fs.names_in(root + '.moved') == ['x']\n"
        "assert 'tensorflow' not in sys.modules"
    )

    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)

    assert finished.returncode == 0, finished.stderr


def test_tensorflow_of_the_lock_knows_cloud_storage():
    assert "gs" in tf.io.gfile.get_registered_schemes()
