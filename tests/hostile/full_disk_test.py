"""A full disk is one line that names the folder, and leaves nothing half written."""

import errno
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from tfx_pipeline.cli import main
from tfx_pipeline.run_log.log import read_runs
from tfx_pipeline.terminal import command_line
from tfx_pipeline.terminal.full_disk import FullDiskError, full_disk, in_one_line
from tfx_pipeline.versions import pushing
from trainer.contract import file_system, whole_files
from trainer.contract.whole_files import write_json
from trainer.fitting.model_state import write_arrays

ENOSPC = "No space left on device"


def raised(*errors: BaseException) -> BaseException:
    """Returns the last error, raised while the one before it was handled."""
    try:
        raise errors[0]
    except BaseException as error:
        if len(errors) == 1:
            return error
        errors[1].__context__ = error
        return raised(*errors[1:])


@pytest.mark.parametrize(
    "make",
    [
        lambda path: OSError(errno.ENOSPC, ENOSPC, f"{path}/a/file"),
        lambda path: OSError(errno.EDQUOT, "Disk quota exceeded", f"{path}/file"),
        lambda path: OSError(errno.EFBIG, "File too large", f"{path}/file"),
        # TensorFlow's, Beam's, SQLite's.
        lambda path: RuntimeError(f"{{{{node Save}}}} {path}/v/data-00000; {ENOSPC} [Op:SaveV2]"),
        lambda path: RuntimeError(f"OSError: [Errno 28] {ENOSPC}: '{path}/x' [while running 'W']"),
        lambda path: ValueError(f"the job failed: OSError: {path}/x: {ENOSPC}"),
        lambda path: raised(OSError(errno.ENOSPC, ENOSPC, f"{path}/x"), KeyError("clean-up")),
        lambda path: raised(KeyError("a"), RuntimeError(f"{path}/x; {ENOSPC}"), TypeError("b")),
    ],
)
def test_any_error_of_a_full_disk_is_a_line_with_its_folder(tmp_path, make):
    line = full_disk(make(tmp_path))
    assert line.startswith(f"{tmp_path} must have room to write: ") and "\n" not in line
    with pytest.raises(FullDiskError, match="must have room"), in_one_line(str(tmp_path)):
        raise make(tmp_path)


def test_error_without_a_name_is_of_the_folder_that_is_written_to(tmp_path):
    for error in (OSError(errno.ENOSPC, ENOSPC), RuntimeError("database or disk is full")):
        line = full_disk(error, [str(tmp_path / "not" / "there")])
        assert "must have room to write" in line


def test_other_errors_are_others():
    for error in (OSError(errno.EACCES, "x", "/a"), ValueError("full"), KeyError(28)):
        assert full_disk(error) is None


@pytest.mark.parametrize(
    "error", [OSError(errno.ENOSPC, ENOSPC), RuntimeError(f"/tmp/x; {ENOSPC}")]
)
def test_command_ends_with_the_line(monkeypatch, capsys, error, tmp_path):
    def full(parsed):
        raise error

    monkeypatch.setattr("tfx_pipeline.commands.runs.run", full)
    assert main(["runs", "--output", str(tmp_path)]) == command_line.EXIT_MISTAKE
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("tagtower runs: ") and ENOSPC in line and "Traceback" not in line


@pytest.fixture
def full(monkeypatch, tmp_path):
    """Makes every file below the folder `disk` fail for lack of space from its second byte on."""
    opened = file_system.open_file

    class Full:
        def __init__(self, file):
            self._file = file

        def write(self, data):
            if not data:
                return 0
            self._file.write(data[:1])
            raise OSError(errno.ENOSPC, ENOSPC)

        def __getattr__(self, name):
            return getattr(self._file, name)

        def __enter__(self):
            return self

        def __exit__(self, *details):
            self._file.close()

    def open_file(path, mode="r"):
        file = opened(path, mode)
        return Full(file) if "w" in mode and "/disk/" in path else file

    monkeypatch.setattr(file_system, "open_file", open_file)
    monkeypatch.setattr(whole_files, "open_file", open_file)
    folder = tmp_path / "disk"
    folder.mkdir()
    return folder


def test_whole_files_stay_as_they_were(full):
    path = full / "a.json"
    path.write_text("before")
    for write in (lambda: write_json(path, {"a": 1}), lambda: write_arrays(str(path), {}, {})):
        with pytest.raises(OSError) as error:
            write()
        assert error.value.errno == errno.ENOSPC
        assert [(p.name, p.read_text()) for p in full.iterdir()] == [("a.json", "before")]


def test_push_leaves_no_version_and_no_staging(full, tmp_path):
    servable = tmp_path / "servable"
    servable.mkdir()
    (servable / "saved_model.pb").write_text("model")
    with pytest.raises(OSError):
        pushing.push({str(full / "serving"): str(servable), str(full / "exact"): str(servable)})
    left = [path.name for path in full.rglob("*") if path.is_file()]
    assert set(left) <= {".lock"}
    assert sorted(path.name for path in full.rglob("*") if path.is_dir()) == [
        "exact",
        "serving",
    ] or (sorted(path.name for path in full.rglob("*") if path.is_dir()) == ["serving"])


# Files larger than the limit cannot be written: the system says "File too large".
LIMITED = """
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]),) * 2)
from tfx_pipeline.cli import main
sys.argv = ["tagtower", *sys.argv[2:]]
sys.exit(main())
"""


@pytest.mark.parametrize("limit", [0, 3000])
def test_tables_that_find_no_room_are_a_line_and_leave_nothing(tmp_path, limit):
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY
    command = ["prepare", "demo", "--output", str(tmp_path / "out"), "--num_users=50"]
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(limit), *command],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )
    assert done.returncode == 2, done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith("tagtower prepare: ") and "File too large" in line
    assert list(tmp_path.iterdir()) == []


def test_run_that_cannot_write_its_report_is_a_line(tmp_path):
    config = _small_config(tmp_path)
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, "100", "run", "--config", str(config)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith("tagtower run: ") and "must have room to write: File too large" in line
    assert read_runs(str(tmp_path / "run")) == []


def _small_config(folder: Path) -> Path:
    from tests.tfx_pipeline.run_log.logged_runs import daily_config
    from tfx_pipeline.config.pipeline import to_json

    path = folder / "config.yaml"
    path.write_text(to_json(daily_config(folder)))
    return path
