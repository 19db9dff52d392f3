"""A certificate authority of the tests, and server files that name its certificates."""

import shutil

import pytest

from tests.serving.client.openssl_certificates import make_authority, make_pair


class Authority:
    """Signs certificates of servers and callers of the tests.

    Args:
      folder: Folder for its files.
      name: Its name, and the prefix of its files' names.
    """

    def __init__(self, folder, name="ca"):
        if shutil.which("openssl") is None:
            pytest.skip("the command `openssl` is missing, which makes the certificates")
        self._folder, self._name = folder, name
        self._pair = make_authority(folder, name)
        self.path = self._pair.certificate

    def issue(self, name, days=1):
        """Issues key and certificate for 127.0.0.1, ::1 and localhost; returns their paths."""
        names = "IP:127.0.0.1,IP:::1,DNS:localhost"
        pair = make_pair(self._folder, f"{self._name}-{name}", self._pair, names, days)
        return pair.key, pair.certificate

    def issue_expired(self, name):
        """Issues an expired certificate, else as `issue` does."""
        return self.issue(name, -1)


def ssl_config(folder, key, certificate, authority=None, client_verify=False):
    """Writes a file for `--ssl_config_file`."""

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
