"""Files are on the disk before they get their name, and have one writer."""

import os
import stat
import threading
import uuid

import pytest

from trainer.contract import file_system as fs
from trainer.contract.owner_marks import is_abandoned
from trainer.contract.whole_files import (
    WholeFile,
    read_json,
    replace_link,
    unfinished,
    write_bytes,
    write_json,
    write_text,
)


@pytest.fixture(params=["local", "ram"])
def folder(request, tmp_path):
    if request.param == "local":
        yield str(tmp_path / "folder")
        return
    path = f"ram://{uuid.uuid4().hex}/folder"
    yield path
    fs.remove_folder(path)


def content(path: str) -> bytes:
    with fs.open_file(path, "rb") as file:
        return file.read()


def test_new_content_takes_the_place_of_the_old_and_leaves_nothing_beside_it(folder):
    path = f"{folder}/below/a"
    write_bytes(path, b"old")
    write_text(path, (piece for piece in ("né", "w\n")))
    assert content(path) == "néw\n".encode()
    write_text(path, "")
    assert content(path) == b""
    write_json(path, {"b": 1, "a": [None]})
    assert read_json(path, "do so") == {"a": [None], "b": 1}
    assert fs.names_in(f"{folder}/below") == ["a"]


def test_error_of_who_writes_leaves_the_old(folder):
    path = f"{folder}/a"
    write_bytes(path, b"old")
    with pytest.raises(KeyError), WholeFile(path) as file:
        file.write("half")
        raise KeyError
    with pytest.raises(TypeError):
        write_json(path, {"a": object()})
    assert (content(path), fs.names_in(folder)) == (b"old", ["a"])


def test_content_is_on_the_disk_before_the_name_and_the_name_before_the_end(tmp_path, monkeypatch):
    steps = []
    fsync, replace = os.fsync, os.replace

    def synced(descriptor):
        kind = "folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file"
        steps.append((kind, os.fstat(descriptor).st_size if kind == "file" else None))
        fsync(descriptor)

    def renamed(source, target):
        steps.append(("rename", os.path.basename(target)))
        replace(source, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "replace", renamed)
    write_bytes(tmp_path / "a", b"12345")
    assert steps == [("file", 5), ("rename", "a"), ("folder", None)]


def test_moved_folder_is_on_the_disk_before_its_name(tmp_path, monkeypatch):
    steps = []
    rename = os.rename
    monkeypatch.setattr(fs, "_bring_to_disk", lambda path: steps.append(os.path.basename(path)))
    monkeypatch.setattr(os, "rename", lambda *a: steps.append("rename") or rename(*a))
    (tmp_path / "staging" / "below").mkdir(parents=True)
    (tmp_path / "staging" / "below" / "x").write_text("x")

    fs.move_folder(str(tmp_path / "staging"), str(tmp_path / "7"))

    assert set(steps[: steps.index("rename")]) == {"staging", "below", "x"}
    assert steps[steps.index("rename") + 1 :] == [tmp_path.name]


def test_writers_of_one_file_at_once_leave_one_of_their_contents(tmp_path):
    path = tmp_path / "a.json"
    contents = [{"writer": i, "text": "x" * 10_000} for i in range(8)]

    def write(mine):
        for _ in range(10):
            write_json(path, mine)
            assert read_json(str(path), "do so") in contents

    errors = []
    threads = [
        threading.Thread(target=lambda c=c: errors.append(run(write, c)), daemon=True)
        for c in contents
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == [None] * 8
    assert os.listdir(tmp_path) == ["a.json"]


def run(function, argument):
    try:
        function(argument)
    except BaseException as error:
        return error
    return None


def test_name_of_an_unfinished_file_says_whose_it_is(tmp_path):
    first, second = (unfinished(str(tmp_path / "a")) for _ in range(2))
    assert first != second
    open(first, "w").close()
    assert not is_abandoned(first)
    process = os.fork()
    if process == 0:
        with open(tmp_path / "told", "w") as told:
            told.write(unfinished(str(tmp_path / "a")))
        os._exit(0)
    os.waitpid(process, 0)
    assert is_abandoned((tmp_path / "told").read_text())


def test_link_is_replaced_in_one_step_and_follows_its_folder(tmp_path):
    for name in ("old", "new"):
        (tmp_path / "out" / name).mkdir(parents=True)
        (tmp_path / "out" / name / "file").write_text(name)
    link = tmp_path / "out" / "link"
    for name in ("old", "new"):
        replace_link(str(tmp_path / "out" / name), str(link))
        assert (link / "file").read_text() == name

    (tmp_path / "out").rename(tmp_path / "moved")
    assert (tmp_path / "moved" / "link" / "file").read_text() == "new"
    assert sorted(os.listdir(tmp_path / "moved")) == ["link", "new", "old"]
