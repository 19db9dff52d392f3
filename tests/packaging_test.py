"""Checks what a newcomer uses first: version, locks, wheel, `make help`, the set-up script.

The set-up script runs with stand-ins for Python, pip and uv that record their calls: the tests
check its decisions, not the answers of package sources.
"""

import configparser
import email.message
import os
import re
import shutil
import stat
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import NormalizedName, canonicalize_name
from packaging.version import Version

from tests.client_wheel import build_client_wheel, read_metadata

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("trainer", "serving", "tfx_pipeline")
LOCKS = ("requirements.lock", "requirements-setup.lock")
SETUP_FILES = ("setup.py", "client/pyproject.toml", "scripts/setup.sh", *LOCKS)
# It is of this checkout and in no index, so no lock has it.
CLIENT = "tagtower-client"


def read(path: str) -> str:
    return (ROOT / path).read_text(encoding="utf-8")


def read_lock(path: str) -> dict[NormalizedName, tuple[Version, list[str]]]:
    """Returns the version and the hashes of each requirement of a lock."""
    locked = {}
    logical_lines = read(path).replace("\\\n", " ").splitlines()
    for line in (line for line in logical_lines if re.match(r"\w", line)):
        name, version = line.split()[0].split("==")
        locked[canonicalize_name(name)] = (
            Version(version),
            re.findall(r"--hash=sha256:([0-9a-f]{64})(?=\s|$)", line),
        )
    return locked


# The locks.


@pytest.mark.parametrize("path", LOCKS)
def test_every_locked_requirement_has_hashes(path):
    locked = read_lock(path)

    assert locked
    assert [name for name, (_, hashes) in locked.items() if not hashes] == []


@pytest.mark.parametrize("path", LOCKS)
def test_lock_names_no_index_host_and_no_path(path):
    for line in read(path).splitlines():
        assert not re.search(r"://|--(extra-)?index-url|--find-links|--trusted-host", line), line
        assert not re.search(r"(^|[\s=@])(/|file:)", line), line


def test_locks_agree_on_what_both_name():
    setup, main = (read_lock(path) for path in reversed(LOCKS))

    assert {"uv", "setuptools", "wheel"} <= setup.keys()
    shared = setup.keys() & main.keys()
    assert {name: setup[name] for name in shared} == {name: main[name] for name in shared}


def test_lock_satisfies_every_requirement_of_setup(metadata):
    locked = read_lock("requirements.lock")
    for text in metadata.get_all("Requires-Dist"):
        requirement = Requirement(text)
        name = canonicalize_name(requirement.name)
        if name == CLIENT:
            continue
        assert name in locked, text
        assert requirement.specifier.contains(locked[name][0]), (text, locked[name][0])


def test_requirements_in_names_what_setup_names(metadata):
    # Two files with one list: ranges for who installs the wheel, tested versions for the lock.
    lines = (line.partition("#")[0].strip() for line in read("requirements.in").splitlines())
    solved = {canonicalize_name(Requirement(line).name) for line in lines if line}
    declared = {canonicalize_name(Requirement(t).name) for t in metadata.get_all("Requires-Dist")}

    assert solved == declared - {CLIENT}


# The wheel.


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """Builds the wheel from a copy, so that nothing of an earlier build can get into it."""
    source = tmp_path_factory.mktemp("source")
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        if (ROOT / name).exists():
            shutil.copy(ROOT / name, source)
    for package in PACKAGES:
        ignored = shutil.ignore_patterns("__pycache__", "*.pyc")
        shutil.copytree(ROOT / package, source / package, ignore=ignored)
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", "dist"]
    built = subprocess.run([*command, "."], cwd=source, capture_output=True, text=True)
    assert built.returncode == 0, built.stdout + built.stderr
    (path,) = (source / "dist").glob("*.whl")
    return path


@pytest.fixture(scope="module")
def client_wheel(tmp_path_factory) -> Path:
    return build_client_wheel(tmp_path_factory.mktemp("client"))


@pytest.fixture(scope="module")
def metadata(wheel) -> email.message.Message:
    return read_metadata(wheel)


@pytest.fixture(scope="module")
def installed(wheel, client_wheel, tmp_path_factory) -> Path:
    """Installs only the two wheels, into a new folder; the requirements are in this .venv."""
    target = tmp_path_factory.mktemp("installed")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index"]
    subprocess.run([*command, "--target", str(target), str(wheel), str(client_wheel)], check=True)
    return target


def run_outside(installed: Path, tmp_path: Path, *command: str) -> subprocess.CompletedProcess:
    # PYTHONPATH comes before the editable install of this checkout.
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)


def test_wheel_has_the_declared_name_python_and_extras(metadata):
    assert metadata["Name"] == "tagtower"
    assert set(metadata["Requires-Python"].split(",")) == {">=3.10", "<3.11"}
    assert set(metadata.get_all("Provides-Extra")) == {"dev"}


def test_wheel_holds_every_file_of_the_packages_and_nothing_else(wheel):
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if ".dist-info/" not in name}
    ours = {
        path.relative_to(ROOT).as_posix()
        for package in PACKAGES
        for path in (ROOT / package).rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }

    assert held == ours


def test_client_wheel_has_its_package_alone_and_needs_no_tensorflow(client_wheel):
    metadata = read_metadata(client_wheel)
    with zipfile.ZipFile(client_wheel) as archive:
        names = set(archive.namelist())
    folder = ROOT / "client"
    ours = {path.relative_to(folder).as_posix() for path in (folder / "tagtower_client").glob("*")}

    assert {name for name in names if ".dist-info/" not in name} == ours - {
        "tagtower_client/__pycache__"
    }
    assert any(name.endswith("/LICENSE") for name in names)
    assert (metadata["License"], metadata["Requires-Python"]) == ("Apache-2.0", ">=3.9")
    required = {Requirement(text).name for text in metadata.get_all("Requires-Dist")}
    assert required == {"grpcio", "numpy", "protobuf"}


def test_wheel_requires_the_client_of_its_own_version(metadata, client_wheel):
    version = read_metadata(client_wheel)["Version"]

    assert version == metadata["Version"]
    assert f"{CLIENT}=={version}" in metadata.get_all("Requires-Dist")


def test_command_of_the_wheel_prints_its_version_outside_the_checkout(
    installed, metadata, tmp_path
):
    completed = run_outside(installed, tmp_path, str(installed / "bin" / "tagtower"), "--version")

    assert completed.returncode == 0, completed.stderr
    assert metadata["Version"] in completed.stdout.split()


def test_entry_point_of_the_wheel_runs_the_wheels_code(installed, tmp_path):
    entry_points = configparser.ConfigParser()
    (path,) = installed.glob("tagtower-*.dist-info/entry_points.txt")
    entry_points.read(path)
    assert dict(entry_points["console_scripts"]) == {"tagtower": "tfx_pipeline.cli:main"}

    program = "import tfx_pipeline.cli as cli; print(callable(cli.main), cli.__file__)"
    completed = run_outside(installed, tmp_path, sys.executable, "-c", program)

    assert completed.returncode == 0, completed.stderr
    assert completed.stdout.split() == ["True", str(installed / "tfx_pipeline" / "cli.py")]


# The version.


def test_version_stands_in_setup_alone(metadata):
    version = metadata["Version"]
    (declared,) = re.findall(r'^    version="(.+)",$', read("setup.py"), re.MULTILINE)
    assert declared == version
    assert read("CHANGELOG.md").count(f"\n## {version}\n") == 1
    # Compared by name, not by value: another package's version may look the same.
    pattern = re.compile(r"^\s*(__version__|version)\s*(:\s*\w+\s*)?=\s*[\"']\d", re.IGNORECASE)
    sources = [path for package in PACKAGES for path in (ROOT / package).rglob("*.py")]
    repeated = [
        f"{path.relative_to(ROOT)}: {line.strip()}"
        for path in (*sources, ROOT / "pyproject.toml")
        for line in path.read_text(encoding="utf-8").splitlines()
        if pattern.match(line)
    ]

    assert not repeated


# The Makefile.


@pytest.mark.parametrize("command", [["make", "help"], ["make"]])
def test_make_help_lists_every_target_in_a_line(command):
    targets = set(re.findall(r"^([a-zA-Z0-9_%-]+)\s*:(?!=)", read("Makefile"), re.MULTILINE))
    # `make test` runs this test: the inner make must not behave, and print, as its child.
    environment = {
        name: value
        for name, value in os.environ.items()
        if name not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")
    }

    completed = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )

    lines = [line.split(maxsplit=1) for line in completed.stdout.splitlines()]
    assert {"run", "test", "lint", "bench", "bench-%", "clean", "help"} <= targets
    assert sorted(target for target, _ in lines) == sorted(targets)


# The set-up script.

# Stands for Python, and for the uv that its pip "installs": writes down each call but the question
# for its version, and fails in the call named in $FAIL.
STAND_IN = """#!/usr/bin/env bash
[[ $1 == -c ]] && { echo "$0"; exit 0; }
echo "$(basename "$0") $*" >>"$CALLS"
[[ $* == '-m pip config list' ]] && { echo "global.index-url='file:///mirror'"; exit 0; }
[[ $0 == */uv ]] && echo "index: ${UV_DEFAULT_INDEX:-}" >>"$CALLS"
[[ -n ${FAIL:-} && "$*" == *"$FAIL"* ]] && { echo 'error: the wire is cut'; exit 1; }
if [[ $* == '-m venv'* ]]; then
  rm -rf .venv && mkdir -p .venv/bin && cp "$0" .venv/bin/python
elif [[ $* == *requirements-setup.lock* ]]; then
  cp "$0" .venv/bin/uv
fi
exit 0
"""
# What the script calls beside Python, pip and uv.
TOOLS = "basename bash cat cp dirname flock grep head mkdir mv rm sha256sum sort tail uname".split()


class Checkout:
    """The files of the set-up in a separate folder, on a PATH without Python."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "checkout"
        self.tools = folder / "bin"
        self.home = folder / "home"
        self.calls_file = folder / "calls"
        for directory in (self.root / "scripts", self.root / "client", self.tools, self.home):
            directory.mkdir(parents=True)
        for name in SETUP_FILES:
            shutil.copy(ROOT / name, self.root / name)
        for tool in TOOLS:
            found = shutil.which(tool)
            if found:
                (self.tools / tool).symlink_to(found)

    def write_program(self, path: Path, text: str) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)

    def run(self, **environment: str) -> subprocess.CompletedProcess:
        # Called from elsewhere: the script finds its checkout by itself.
        return subprocess.run(
            ["bash", str(self.root / "scripts" / "setup.sh")],
            cwd=self.home,
            env={
                "PATH": str(self.tools),
                "HOME": str(self.home),
                "CALLS": str(self.calls_file),
                **environment,
            },
            capture_output=True,
            text=True,
        )

    def take_calls(self) -> list[str]:
        """Returns the calls of the stand-ins since the last time."""
        if not self.calls_file.exists():
            return []
        calls = self.calls_file.read_text(encoding="utf-8").splitlines()
        self.calls_file.unlink()
        return calls


@pytest.fixture
def bare_checkout(tmp_path) -> Checkout:
    return Checkout(tmp_path)


@pytest.fixture
def checkout(bare_checkout) -> Checkout:
    """A checkout with a working stand-in for Python 3.10 on PATH."""
    bare_checkout.write_program(bare_checkout.tools / "python3.10", STAND_IN)
    return bare_checkout


def test_set_up_without_python_says_in_one_line_what_to_install(bare_checkout):
    completed = bare_checkout.run()

    assert completed.returncode == 2
    assert completed.stdout == ""
    assert len(completed.stderr.splitlines()) == 1
    assert "Python 3.10" in completed.stderr and "install" in completed.stderr
    assert not (bare_checkout.root / ".venv").exists()


def test_set_up_with_a_failing_shim_alone_says_what_to_install(bare_checkout):
    bare_checkout.write_program(
        bare_checkout.tools / "python3.10",
        "#!/usr/bin/env bash\necho pyenv: not found >&2; exit 127",
    )

    completed = bare_checkout.run()

    assert completed.returncode == 2
    assert len(completed.stderr.splitlines()) == 1
    assert "pyenv: not found" not in completed.stderr


def test_failing_shim_before_a_pyenv_version_takes_the_version(bare_checkout):
    bare_checkout.write_program(bare_checkout.tools / "python3.10", "#!/usr/bin/env bash\nexit 127")
    versions = bare_checkout.home / ".pyenv" / "versions"
    for version in ("3.10.9", "3.10.13", "3.11.7"):
        name = f"python{version.rpartition('.')[0]}"
        bare_checkout.write_program(versions / version / "bin" / name, STAND_IN)

    completed = bare_checkout.run()

    assert completed.returncode == 0, completed.stderr
    assert str(versions / "3.10.13" / "bin" / "python3.10") in completed.stdout


def test_uv_on_path_alone_installs_python(bare_checkout):
    python = bare_checkout.home / "uv" / "python3.10"
    bare_checkout.write_program(python.with_name("later"), STAND_IN)
    uv = f"""#!/usr/bin/env bash
[[ "$1 $2" == 'python install' ]] && mv '{python.with_name("later")}' '{python}'
[[ "$1 $2" == 'python find' ]] && echo '{python}'
exit 0
"""
    bare_checkout.write_program(bare_checkout.tools / "uv", uv)

    completed = bare_checkout.run()

    assert completed.returncode == 0, completed.stderr
    assert "installing Python 3.10 with uv" in completed.stderr
    assert str(python) in completed.stdout


def test_set_up_on_another_platform_is_refused(checkout):
    (checkout.tools / "uname").unlink()
    checkout.write_program(checkout.tools / "uname", "#!/usr/bin/env bash\necho Darwin arm64")

    completed = checkout.run()

    assert completed.returncode == 2
    (line,) = completed.stderr.splitlines()
    assert line.endswith("Received: Darwin arm64.")


def test_set_up_hands_uv_the_index_of_pip(checkout):
    checkout.run()

    assert "index: file:///mirror" in checkout.take_calls()


def test_set_up_leaves_an_index_of_uvs_own_alone(checkout):
    checkout.run(UV_INDEX_URL="file:///own")

    calls = checkout.take_calls()
    assert "index: " in calls and "index: file:///mirror" not in calls


def test_set_up_installs_from_the_locks_with_hashes(checkout):
    completed = checkout.run()

    assert completed.returncode == 0, completed.stdout + completed.stderr
    calls = [call for call in checkout.take_calls() if " install " in f"{call} "]
    bootstrap, requirements, project = calls
    assert bootstrap.startswith("python -m pip install --require-hashes")
    assert bootstrap.endswith("requirements-setup.lock")
    assert requirements.startswith("uv pip install") and "--require-hashes" in requirements
    assert requirements.endswith("requirements.lock")
    assert "--no-deps --no-build-isolation --no-index" in project
    assert project.endswith("--editable ./client --editable .")


def test_second_set_up_installs_nothing_and_says_nothing(checkout):
    checkout.run()
    checkout.take_calls()

    completed = checkout.run()

    assert (completed.returncode, completed.stdout, completed.stderr) == (0, "", "")
    assert checkout.take_calls() == []


@pytest.mark.parametrize("fault", ["-m venv", "requirements-setup.lock", "--editable"])
def test_failed_set_up_names_reason_and_log_and_is_repaired(checkout, fault):
    failed = checkout.run(FAIL=fault)

    assert failed.returncode == 1
    (line,) = failed.stderr.splitlines()
    assert "the wire is cut" in line and "build/logs/setup.log" in line
    checkout.take_calls()

    repaired = checkout.run()

    assert repaired.returncode == 0, repaired.stderr
    # In a new environment: a half installed package would count as installed.
    assert checkout.take_calls()[0].startswith("python3.10 -m venv --clear")
    assert checkout.run().stdout == ""


def test_set_up_falls_back_to_pip_where_uv_fails(checkout):
    completed = checkout.run(FAIL="pip install --python")

    assert completed.returncode == 0, completed.stderr
    _, fallback = (call for call in checkout.take_calls() if call.endswith(" requirements.lock"))
    assert fallback.startswith("python -m pip install --no-deps")
    assert "--require-hashes" in fallback


def test_changed_lock_sets_up_afresh(checkout):
    checkout.run()
    checkout.take_calls()
    lock = checkout.root / "requirements.lock"
    lock.write_text(lock.read_text(encoding="utf-8") + "# another\n", encoding="utf-8")

    checkout.run()

    assert checkout.take_calls()[0].startswith("python3.10 -m venv --clear")


def test_moved_checkout_sets_up_afresh(checkout):
    # The commands in .venv/bin name the folder they were installed in.
    checkout.run()
    checkout.take_calls()
    checkout.root = checkout.root.rename(checkout.root.with_name("moved"))

    checkout.run()

    assert checkout.take_calls()[0].startswith("python3.10 -m venv --clear")


@pytest.mark.parametrize("file", ["setup.py", "client/pyproject.toml"])
def test_changed_metadata_installs_the_project_alone(checkout, file):
    checkout.run()
    checkout.take_calls()
    setup = checkout.root / file
    setup.write_text(setup.read_text(encoding="utf-8") + "# another\n", encoding="utf-8")

    checkout.run()

    (call,) = checkout.take_calls()
    assert call.endswith("--editable .")
