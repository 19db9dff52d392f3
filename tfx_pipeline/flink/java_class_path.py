"""Java, and the class path of Flink and Beam's job server, resolved once by Maven and stored."""

import hashlib
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

from tfx_pipeline.engines.child_processes import tied_to_this_process
from tfx_pipeline.engines.process_progress import ProcessProgress, log_text, stop_process
from trainer.contract.file_system import is_folder, move_folder, remove_folder

POM = Path(__file__).with_name("pom.xml")
MIN_JAVA = 11
_JARS = "jars"
# Beam's job server sends the jars of its class path with every job, 150 MB and 20 seconds, even if
# every process has them; except those with this in their path, which Beam takes for its own build.
_NOT_SENT_ALONG = os.path.join("gradle", "wrapper")
# Maven may be slow, but not without any progress for longer than this.
_MAVEN_PATIENCE_S = 300.0
_POLL_S = 0.5


def find_java() -> str:
    """Returns the path of Java, from `JAVA_HOME` or on PATH.

    Raises:
      ValueError: There is no Java, or it is too old.
    """
    home = os.environ.get("JAVA_HOME")
    java = shutil.which(os.path.join(home, "bin", "java") if home else "java")
    if java is None:
        where = f"in JAVA_HOME, {home}" if home else "on PATH"
        raise ValueError(f"Java is missing: no `java` {where}. Install a JRE {MIN_JAVA} or newer.")
    printed = subprocess.run([java, "-version"], capture_output=True, text=True, check=False).stderr
    version = re.search(r'version "(?:1\.)?(\d+)', printed)
    if version is None or int(version[1]) < MIN_JAVA:
        found = version[1] if version else printed.strip() or "nothing"
        raise ValueError(f"Java must be {MIN_JAVA} or newer. Received: {found} from {java}.")
    return java


def jars_folder() -> Path:
    """Returns the folder of this pom's jars in the user's cache, shared by all checkouts."""
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    digest = hashlib.blake2b(POM.read_bytes(), digest_size=8).hexdigest()
    return Path(cache) / "tagtower" / f"flink-{digest}"


def resolve_class_path(log_path: Path, is_sent_along: bool = False) -> str:
    """Returns the class path; asks Maven for it unless it is stored.

    Args:
      log_path: File for the output of Maven.
      is_sent_along: Whether a job server sends the jars to the cluster with each job: needed for a
        cluster that has only Flink.

    Returns:
      The class path in Java's form.

    Raises:
      ValueError: Maven is missing, or did not find all jars.
    """
    folder = jars_folder()
    if not folder.is_dir():
        _copy_jars(folder, log_path)
    return os.path.join(folder, _JARS if is_sent_along else _NOT_SENT_ALONG, "*")


def _copy_jars(folder: Path, log_path: Path) -> None:
    maven = shutil.which("mvn")
    if maven is None:
        raise ValueError(
            "Maven is missing: `mvn`, which fetches Flink's jars (150 MB), is not "
            "on PATH. Install it."
        )
    folder.parent.mkdir(parents=True, exist_ok=True)
    made = tempfile.mkdtemp(prefix="flink-", dir=folder.parent)
    jars = os.path.join(made, _JARS)
    try:
        command = [maven, "--batch-mode", "--file", str(POM), "dependency:copy-dependencies"]
        status = _run_maven([*command, f"-DoutputDirectory={jars}"], log_path)
        if status != 0 or not is_folder(jars):
            raise ValueError(f"Maven did not fetch Flink's jars: {_reason(log_path)}")
        # Beam resolves symbolic links, so hard links are used.
        shutil.copytree(jars, os.path.join(made, _NOT_SENT_ALONG), copy_function=os.link)
        if not folder.is_dir():
            move_folder(made, str(folder))
    finally:
        remove_folder(made)


def _run_maven(command: list[str], log_path: Path) -> int:
    """Runs Maven as long as it makes progress; returns its exit status."""
    with open(log_path, "wb") as log:
        process = subprocess.Popen(
            tied_to_this_process(command, signal.SIGTERM),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    progress = ProcessProgress(lambda: [process.pid], _MAVEN_PATIENCE_S)
    try:
        while process.poll() is None:
            if progress.is_standing_still():
                raise ValueError(
                    "Maven is not fetching Flink's jars: nothing arrived for "
                    f"{_MAVEN_PATIENCE_S:g} s; see {log_path}."
                )
            time.sleep(_POLL_S)
        return process.returncode
    finally:
        stop_process(process)


def _reason(log_path: Path) -> str:
    """Returns the first error that Maven names, and the path of its log."""
    errors = re.findall(r"^\[ERROR\] (.+)$", log_text(log_path), flags=re.MULTILINE)
    first = errors[0].partition(" -> [Help")[0].strip() if errors else "no error named"
    return f"{first[:300]} (see {log_path})"
