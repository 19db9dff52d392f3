"""Certificates made by `openssl`, as an operator makes them."""

import shutil
import subprocess

import pytest

# `openssl x509` takes no date in the past: an expired one is made with days below 0.
_MINUS_ONE_DAY = "-1"


class Authority:
    """Who vouches for servers and callers of the tests.

    Args:
      folder: Where its files go.
      name: Its name, and what their names begin with.
    """

    def __init__(self, folder, name="ca"):
        self._folder, self._name = folder, name
        self.path = folder / f"{name}.pem"
        self._key = folder / f"{name}.key"
        openssl(
            "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
            "-keyout", self._key, "-out", self.path, "-days", "1", "-subj", f"/CN={name}",
        )  # fmt: skip

    def issue(self, name, days="1"):
        """Paths of key and certificate of somebody at 127.0.0.1, ::1 and localhost."""
        stem = self._folder / f"{self._name}-{name}"
        key, request, certificate = (stem.with_suffix(end) for end in (".key", ".csr", ".pem"))
        names = stem.with_suffix(".ext")
        names.write_text("subjectAltName=IP:127.0.0.1,IP:::1,DNS:localhost\n")
        openssl(
            "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
            "-keyout", key, "-out", request, "-subj", f"/CN={name}",
        )  # fmt: skip
        openssl(
            "x509", "-req", "-in", request, "-CA", self.path, "-CAkey", self._key,
            "-set_serial", str(abs(hash(name)) % 10**9), "-days", days, "-out", certificate,
            "-extfile", names,
        )  # fmt: skip
        return key, certificate

    def issue_expired(self, name):
        """As `issue`, but its time is over."""
        return self.issue(name, _MINUS_ONE_DAY)


def openssl(*arguments):
    if shutil.which("openssl") is None:
        pytest.skip("the command `openssl` is missing, which makes the certificates")
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)


def ssl_config(folder, key, certificate, authority=None, client_verify=False):
    """A file for `--ssl_config_file`."""

    def quoted(path):
        lines = path.read_text().splitlines()
        return "\n  ".join(f'"{line}\\n"' for line in lines)

    text = f"server_key:\n  {quoted(key)}\nserver_cert:\n  {quoted(certificate)}\n"
    if authority is not None:
        text += f"custom_ca:\n  {quoted(authority)}\n"
    text += f"client_verify: {str(client_verify).lower()}\n"
    path = folder / f"{certificate.stem}-{client_verify}.config"
    path.write_text(text)
    return path
