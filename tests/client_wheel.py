"""The wheel of the light client, built from a copy, so that no earlier build can get into it."""

import email.message
import email.parser
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def build_client_wheel(folder: Path) -> Path:
    """Builds the wheel.

    Args:
      folder: Empty folder for the copy and the wheel.

    Returns:
      Path of the wheel.
    """
    source = folder / "client"
    ignored = shutil.ignore_patterns("__pycache__", "*.pyc", "build", "*.egg-info")
    shutil.copytree(ROOT / "client", source, ignore=ignored)
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder)]
    built = subprocess.run([*command, str(source)], capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stdout + built.stderr
    (wheel,) = folder.glob("*.whl")
    return wheel


def read_metadata(wheel: Path) -> email.message.Message:
    """Reads the metadata of a wheel.

    Args:
      wheel: Path of the wheel.

    Returns:
      The fields of its METADATA.
    """
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (n for n in archive.namelist() if n.endswith(".dist-info/METADATA"))
        return email.parser.Parser().parsestr(archive.read(name).decode())
