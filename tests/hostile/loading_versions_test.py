"""Versions that a server with little memory cannot load: the serving version keeps serving."""

import resource
import shutil

import numpy as np
import pytest
import tensorflow as tf

from serving.client import TagClient
from tests.hostile.limited_server import limited_server
from tests.serving.model_server.server_process import wait_until
from tests.serving.model_server.toy_models import save_toy

WAIT_S = 120
X = {"x": np.array([2.0], np.float32)}
LARGE_BYTES = 400_000_000
# Memory that the server may still take at the time of the push.
LEFT_BYTES = 300_000_000


class Large(tf.Module):
    def __init__(self):
        super().__init__()
        self.table = tf.Variable(tf.zeros([LARGE_BYTES // 4]))

    @tf.function(input_signature=[tf.TensorSpec([None], tf.int32, name="x")])
    def serve(self, x):
        return {"y": tf.gather(self.table, x)}


@pytest.fixture(scope="module")
def large_version(tmp_path_factory):
    folder = tmp_path_factory.mktemp("large") / "version"
    module = Large()
    tf.saved_model.save(module, str(folder), signatures={"serving_default": module.serve})
    return folder


def data_bytes(process):
    with open(f"/proc/{process.pid}/status") as file:
        (line,) = (line for line in file if line.startswith("VmData"))
    return int(line.split()[1]) * 1024


def cut(path):
    path.write_bytes(path.read_bytes()[:-20])


def test_server_starts_with_the_newest_that_loads_and_outlives_one_that_is_too_large(
    tmp_path, large_version
):
    base_path = tmp_path / "base"
    for version in (1, 2, 3):
        save_toy(base_path / str(version), version)
    cut(base_path / "2" / "variables" / "variables.data-00000-of-00001")
    cut(base_path / "3" / "saved_model.pb")
    with limited_server(base_path, "--file_system_poll_wait_seconds=0.05") as server:
        with TagClient(f"127.0.0.1:{server.port}", timeout_s=WAIT_S) as client:
            assert client.predict(X).outputs["y"].tolist() == [2.0]  # 0.5 x + version
            states = {status.version: status.state for status in client.model_status()}
            assert states == {3: "END", 2: "END", 1: "AVAILABLE"}
            assert "version 1 serves in the place of version 3, which does not load" in server.log

            left = data_bytes(server.process) + LEFT_BYTES
            resource.prlimit(server.process.pid, resource.RLIMIT_DATA, (left, left))
            shutil.copytree(large_version, base_path / "staged")
            (base_path / "staged").rename(base_path / "4")

            def refused():
                return [s for s in client.model_status() if s.version == 4 and s.error]

            assert wait_until(refused, WAIT_S)
            (status,) = refused()
            assert status.state == "END"
            assert "Loading it takes about" in status.error and "`ulimit -d`" in status.error
            assert server.log.count("Version 4 of default does not load") == 1
            assert client.predict(X).outputs["y"].tolist() == [2.0]
        assert server.is_alive
