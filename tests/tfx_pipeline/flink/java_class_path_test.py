import os
import re
from pathlib import Path

import apache_beam
import pytest

from tests.tfx_pipeline.flink.programs import write_program
from tfx_pipeline.flink.java_class_path import POM, find_java, jars_folder, resolve_class_path


@pytest.fixture
def programs(tmp_path, monkeypatch) -> Path:
    """Returns the only folder on PATH; the user's cache is empty."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    return folder


def test_runner_and_sdk_are_one_version():
    version = re.search(
        r"<artifactId>beam-runners-flink-[\d.]+</artifactId>\s*<version>(.+)</version>",
        POM.read_text(encoding="utf-8"),
    )

    assert version is not None and version[1] == apache_beam.__version__


def test_missing_java_is_one_clear_line(programs, monkeypatch):
    with pytest.raises(ValueError, match=r"^Java is missing: no `java` on PATH\. Install .*\.$"):
        find_java()

    monkeypatch.setenv("JAVA_HOME", "/nowhere")
    with pytest.raises(ValueError, match="^Java is missing: no `java` in JAVA_HOME, /nowhere"):
        find_java()


@pytest.mark.parametrize(("version", "found"), [("1.8.0_392", "8"), ("10.0.2", "10")])
def test_old_java_is_refused(programs, version, found):
    path = write_program(programs / "java", f"""echo 'openjdk version "{version}"' >&2""")

    with pytest.raises(ValueError, match=rf"^Java must be 11 or newer\. Received: {found} from "):
        find_java()

    write_program(path, """echo 'openjdk version "17.0.15" 2025-04-15' >&2""")
    assert find_java() == str(path)


def test_missing_maven_is_one_clear_line(programs, tmp_path):
    with pytest.raises(ValueError, match="^Maven is missing: `mvn`, which"):
        resolve_class_path(tmp_path / "maven.log")


def test_failing_maven_is_named_with_its_first_error_and_leaves_nothing(programs, tmp_path):
    write_program(
        programs / "mvn", "echo '[ERROR] Could not find x -> [Help 1]'; echo '[ERROR] y'; exit 1"
    )
    log = tmp_path / "maven.log"

    with pytest.raises(ValueError, match=rf"Flink's jars: Could not find x \(see {log}\)$"):
        resolve_class_path(log)

    assert os.listdir(jars_folder().parent) == []


def test_jars_are_asked_for_once(programs, tmp_path):
    # Does what Maven is told to, with one jar.
    script = """for word; do case $word in -DoutputDirectory=*) folder=${word#*=};; esac; done
/bin/mkdir -p "$folder" && echo x > "$folder/a.jar" """
    maven = write_program(programs / "mvn", script)

    first = resolve_class_path(tmp_path / "maven.log")
    maven.unlink()

    assert resolve_class_path(tmp_path / "maven.log") == first
    folder, _, pattern = first.rpartition("/")
    assert pattern == "*" and os.listdir(folder) == ["a.jar"]
    # The same jar, where Beam leaves it and where Beam sends it along.
    sent = resolve_class_path(tmp_path / "maven.log", is_sent_along=True).removesuffix("*")
    assert "gradle/wrapper" in folder and "gradle/wrapper" not in sent
    assert os.path.samefile(os.path.join(sent, "a.jar"), os.path.join(folder, "a.jar"))
