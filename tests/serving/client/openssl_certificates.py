"""Certificates made as engineers make them, by the command `openssl`."""

import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

import pytest

needs_openssl = pytest.mark.skipif(
    shutil.which("openssl") is None, reason="the command `openssl` is not installed"
)


class Pair(NamedTuple):
    """PEM files of a certificate and its key."""

    certificate: Path
    key: Path

    def read(self) -> tuple[bytes, bytes]:
        """Returns key and certificate, in the order in which gRPC's servers take them."""
        return self.key.read_bytes(), self.certificate.read_bytes()


def make_authority(folder: Path, name: str) -> Pair:
    """Makes an authority that signs other certificates."""
    pair = Pair(folder / f"{name}.pem", folder / f"{name}.key")
    _openssl(
        *("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"),
        *("-subj", f"/CN={name}", "-days", "2", "-keyout", pair.key, "-out", pair.certificate),
    )
    return pair


def make_pair(folder: Path, name: str, authority: Pair, names: str = "", days: int = 2) -> Pair:
    """Makes a certificate that an authority has signed.

    Args:
      folder: Folder for the files.
      name: Name of the files and of the holder.
      authority: Authority that signs it.
      names: Names that it is valid for, as `IP:127.0.0.1,DNS:tower.test`.
      days: Days for which it is valid; negative: it has expired.
    """
    pair, request = Pair(folder / f"{name}.pem", folder / f"{name}.key"), folder / f"{name}.csr"
    _openssl(
        *("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"),
        *("-subj", f"/CN={name}", "-keyout", pair.key, "-out", request),
    )
    extensions = folder / f"{name}.ext"
    extensions.write_text(f"subjectAltName={names}\n" if names else "")
    _openssl(
        *("x509", "-req", "-in", request, "-out", pair.certificate, "-extfile", extensions),
        *("-CA", authority.certificate, "-CAkey", authority.key, "-CAcreateserial"),
        *("-days", days),
    )
    return pair


def add_password(pair: Pair) -> Path:
    """Returns the key of a pair, encrypted with a password."""
    locked = pair.key.with_suffix(".locked")
    _openssl("ec", "-in", pair.key, "-aes256", "-passout", "pass:secret", "-out", locked)
    return locked


def _openssl(*arguments: object) -> None:
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)
