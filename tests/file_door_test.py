"""Files go through one door: `file_system` opens and moves them, `whole_files` writes them whole.

A direct call of Python, TensorFlow or TFX reads local paths alone, or only remote ones in its own
words, or leaves half a file where a process is killed. The few that must be are in `EXCEPTIONS`,
each with its reason.
"""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("trainer", "serving", "tfx_pipeline", "client")
_ROOM = "trainer/contract/"
DOOR = (f"{_ROOM}file_system.py", f"{_ROOM}whole_files.py", f"{_ROOM}file_lock.py")

# Direct calls, and what says the same. A name that begins with "." is a method of a path.
WRITING = {
    "os.replace": "file_system.replace_file",
    "os.rename": "file_system.move_folder",
    "os.symlink": "whole_files.replace_link",
    ".rename": "file_system.move_folder",
    "json.dump": "whole_files.write_json",
    "shutil.move": "file_system.move_folder",
    "shutil.copy": "whole_files.write_bytes",
    "shutil.copyfile": "whole_files.write_bytes",
    "shutil.copytree": "file_system.copy_folder",
}
INSTEAD = WRITING | {
    "open": "file_system.open_file",
    "os.makedirs": "file_system.make_folders",
    "os.listdir": "file_system.names_in",
    "os.remove": "file_system.remove_file",
    "os.unlink": "file_system.remove_file",
    "os.path.exists": "file_system.exists",
    "os.path.isfile": "file_system.is_file",
    "os.path.isdir": "file_system.is_folder",
    "os.path.getsize": "file_system.file_size",
    "shutil.rmtree": "file_system.remove_folder",
    "glob.glob": "file_system.matching",
    "tf.io.gfile.": "file_system",
    "fileio.": "file_system",
    "fcntl.flock": "file_lock.take_lock",
    "tempfile.": "whole_files.WholeFile",
    ".read_text": "file_system.open_file",
    ".read_bytes": "file_system.open_file",
    ".write_text": "whole_files.write_text",
    ".write_bytes": "whole_files.write_bytes",
    ".unlink": "file_system.remove_file",
}
_KERNEL = "/proc and /sys are no files of a disk"
_OUTPUT = "a process writes its output to the descriptor"
_PACKAGE = "the file is part of the package, wherever that is installed"
EXCEPTIONS = {
    "client/tagtower_client/channel_security.py": (
        {"open"},
        "the light client has no TensorFlow, which would open other than local files",
    ),
    "trainer/contract/owner_marks.py": ({"open"}, _KERNEL),
    "trainer/contract/tag_items.py": ({"open"}, "a live caller imports it without TensorFlow"),
    "trainer/fitting/memory_estimate.py": ({"open"}, _KERNEL),
    "serving/batch/staging.py": ({"json.dump"}, "an unfinished file must lie in its folder `work`"),
    "serving/model_server/callers/transport_security.py": (
        {"tempfile.", "os.remove"},
        "OpenSSL reads a certificate from a path alone, which nobody else may read",
    ),
    "serving/model_server/models/load_memory.py": ({".read_text"}, _KERNEL),
    "serving/model_server/rest/request.py": ({".read_bytes"}, "it reads a connection"),
    "tfx_pipeline/config/pipeline.py": ({".read_text"}, _PACKAGE),
    "tfx_pipeline/examples/shuffle.py": ({"tempfile."}, "its files end with the Beam job"),
    "tfx_pipeline/fingerprints.py": ({".read_bytes"}, _PACKAGE),
    "tfx_pipeline/flink/java_class_path.py": (
        {"open", ".read_bytes", "shutil.copytree", "tempfile."},
        "Maven writes to descriptor and folder, pom.xml is of the package, jars are hard links",
    ),
    "tfx_pipeline/flink/processes.py": ({"open"}, _OUTPUT),
    "tfx_pipeline/runs/local_server.py": ({"open"}, _OUTPUT),
    "tfx_pipeline/terminal/console.py": ({"open", "tempfile."}, _OUTPUT),
    "tfx_pipeline/terminal/interrupts.py": ({"open", "os.listdir"}, _KERNEL),
    "tfx_pipeline/versions/base_path_lock.py": (
        {"open"},
        "a lock file of another account is opened for reading, by its descriptor",
    ),
}
# Benchmarks and scripts work in local folders of their own, but rename and write JSON as we do.
OUTSIDE = ("benchmarks", "scripts")
OUTSIDE_EXCEPTIONS = {
    "benchmarks/scale_skew.py": ({"os.rename", "shutil.copy"}, "tables of gigabytes, made anew"),
    "benchmarks/soak.py": (
        {"shutil.copytree", ".rename"},
        "somebody else's program pushes a version",
    ),
    "benchmarks/version_memory.py": (
        {"shutil.copytree", ".rename"},
        "somebody else's program pushes a version",
    ),
}


def direct_calls(source: str, forbidden: dict[str, str]) -> dict[str, list[int]]:
    """Returns the lines of the calls past the door by their key in `forbidden`."""
    found: dict[str, list[int]] = {}
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            for key in forbidden:
                is_method = key[0] == "." and name.endswith(key) and name not in forbidden
                if name == key or is_method or (key.endswith(".") and name.startswith(key)):
                    found.setdefault(key, []).append(node.lineno)
    return found


def calls_by_file(folders: tuple[str, ...], forbidden: dict[str, str]) -> dict[str, dict]:
    paths = sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))
    found = {
        path.relative_to(ROOT).as_posix(): direct_calls(path.read_text("utf-8"), forbidden)
        for path in paths
    }
    assert found, folders
    return {path: calls for path, calls in found.items() if calls and path not in DOOR}


@pytest.mark.parametrize(
    ("folders", "forbidden", "exceptions"),
    [(PACKAGES, INSTEAD, EXCEPTIONS), (OUTSIDE, WRITING, OUTSIDE_EXCEPTIONS)],
    ids=["packages", "outside"],
)
def test_files_go_through_the_door(folders, forbidden, exceptions):
    found = calls_by_file(folders, forbidden)
    past = [
        f"{path}:{lines[0]}: `{key}` must be {forbidden[key]}"
        for path, calls in found.items()
        for key, lines in calls.items()
        if key not in exceptions.get(path, (set(), ""))[0]
    ]
    assert not past, "\n".join(past)
    # An exception that nobody needs any more would hide the next direct call.
    needless = {path: keys - found.get(path, {}).keys() for path, (keys, _) in exceptions.items()}
    assert not any(needless.values()), needless


@pytest.mark.parametrize(
    ("source", "key"),
    [
        ("with open(path) as file:\n    pass", "open"),
        ("os.replace(a, b)", "os.replace"),
        ("import tensorflow as tf\ntf.io.gfile.GFile(path)", "tf.io.gfile."),
        ("fileio.listdir(folder)", "fileio."),
        ("fcntl.flock(file, fcntl.LOCK_EX)", "fcntl.flock"),
        ("Path(folder, name).write_text(text)", ".write_text"),
        ("json.dump(content, file)", "json.dump"),
        ("tempfile.mkdtemp()", "tempfile."),
    ],
)
def test_call_past_the_door_is_seen(source, key):
    assert direct_calls(source, INSTEAD) == {key: [1 + source.count("\n") * ("tf." in source)]}


@pytest.mark.parametrize(
    "source", ["open_file(path)", "write_text(path, text)", "json.dumps(row)", "image.open()"]
)
def test_call_through_the_door_is_not_seen(source):
    assert direct_calls(source, INSTEAD) == {}
