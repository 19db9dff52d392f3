"""Available memory on simulated systems, and what a version takes, by its files."""

import resource

import grpc
import pytest
import tensorflow as tf

from serving.model_server.models import load_memory
from serving.model_server.models.load_memory import (
    LoadMemory,
    NotEnoughMemoryError,
    VersionSizes,
    available_memory,
)

V1 = "4:memory:/pod/one\n0::/\n"
V2 = "0::/pod/one\n"


@pytest.fixture(autouse=True)
def no_own_limits(monkeypatch):
    unlimited = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
    monkeypatch.setattr(resource, "getrlimit", lambda limit: unlimited)


def system(root, files):
    """Writes the files of a system; by default 8 of its 9 GB of memory are available."""
    files = {"proc/meminfo": "MemTotal: 9000000 kB\nMemAvailable:  8000000 kB\n"} | files
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return str(root)


def test_machine_without_limits(tmp_path):
    memory = available_memory(system(tmp_path, {}))
    assert memory.num_bytes == 8_000_000 * 1024
    assert memory.limit == "memory of the machine"


def test_system_that_does_not_tell_refuses_nothing(tmp_path):
    assert available_memory(str(tmp_path)) is None
    LoadMemory(root=str(tmp_path)).check(str(tmp_path))


@pytest.mark.parametrize(
    "files",
    [
        {
            "proc/self/cgroup": V2,
            "sys/fs/cgroup/pod/one/memory.max": "max\n",
            "sys/fs/cgroup/pod/one/memory.current": "700000000\n",
            "sys/fs/cgroup/pod/memory.max": "2000000000\n",
            "sys/fs/cgroup/pod/memory.current": "1500000000\n",
            "sys/fs/cgroup/pod/memory.stat": "anon 7\ninactive_file 100000000\n",
        },
        {
            "proc/self/cgroup": V1,
            "sys/fs/cgroup/memory/pod/one/memory.limit_in_bytes": "2000000000\n",
            "sys/fs/cgroup/memory/pod/one/memory.usage_in_bytes": "1500000000\n",
            "sys/fs/cgroup/memory/pod/one/memory.stat": "total_inactive_file 100000000\n",
            "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
            "sys/fs/cgroup/memory/memory.usage_in_bytes": "9000000000\n",
        },
        # In a container, whose path is the host's.
        {
            "proc/self/cgroup": "4:cpu,memory:/docker/abc\n",
            "sys/fs/cgroup/memory/memory.limit_in_bytes": "2000000000\n",
            "sys/fs/cgroup/memory/memory.usage_in_bytes": "1500000000\n",
            "sys/fs/cgroup/memory/memory.stat": "total_inactive_file 100000000\n",
        },
    ],
    ids=["v2, the group above", "v1", "v1 in a container"],
)
def test_control_group_leaves_less_than_the_machine(tmp_path, files):
    memory = available_memory(system(tmp_path, files))
    assert memory.num_bytes == 600e6
    assert memory.limit == "limit of 2,000 MB of the container"


@pytest.mark.parametrize(
    "files",
    [
        {
            "proc/self/cgroup": V2,
            "sys/fs/cgroup/pod/one/memory.max": "4000000000\n",
            "sys/fs/cgroup/pod/one/memory.current": "3820000000\n",
            "sys/fs/cgroup/pod/one/memory.stat": (
                "anon 600000000\nfile 3200000000\ninactive_file 0\nactive_file 3200000000\n"
                "slab_reclaimable 20000000\nslab_unreclaimable 7\n"
            ),
        },
        {
            "proc/self/cgroup": V1,
            "sys/fs/cgroup/memory/pod/one/memory.limit_in_bytes": "4000000000\n",
            "sys/fs/cgroup/memory/pod/one/memory.usage_in_bytes": "3800000000\n",
            "sys/fs/cgroup/memory/pod/one/memory.stat": (
                "active_file 7\ntotal_rss 600000000\ntotal_inactive_file 200000000\n"
                "total_active_file 3000000000\n"
            ),
        },
    ],
    ids=["v2", "v1"],
)
def test_files_that_were_read_twice_take_no_memory_for_ever(tmp_path, files):
    """The manifest's check and TensorFlow read each file, so its pages are active."""
    assert available_memory(system(tmp_path, files)).num_bytes == 3.4e9


def test_no_more_is_given_back_than_is_used(tmp_path):
    """The two numbers are read at different moments."""
    files = {
        "proc/self/cgroup": V2,
        "sys/fs/cgroup/pod/one/memory.max": "2000000000\n",
        "sys/fs/cgroup/pod/one/memory.current": "1000000\n",
        "sys/fs/cgroup/pod/one/memory.stat": "inactive_file 900000\nactive_file 900000\n",
    }
    assert available_memory(system(tmp_path, files)).num_bytes == 2e9


@pytest.mark.parametrize(
    ("limit", "name"), [(resource.RLIMIT_AS, "`ulimit -v`"), (resource.RLIMIT_DATA, "`ulimit -d`")]
)
def test_limits_of_the_process(tmp_path, monkeypatch, limit, name):
    def getrlimit(asked):
        soft = 3_000_000_000 if asked == limit else resource.RLIM_INFINITY
        return soft, resource.RLIM_INFINITY

    monkeypatch.setattr(resource, "getrlimit", getrlimit)
    status = "VmSize:\t1000000 kB\nVmData:\t1000000 kB\n"
    memory = available_memory(system(tmp_path, {"proc/self/status": status}))
    assert (memory.num_bytes, memory.limit) == (3e9 - 1_000_000 * 1024, name)


def test_this_system_tells():
    assert available_memory().num_bytes > 0


class Table(tf.Module):
    def __init__(self, num_rows):
        super().__init__()
        self.table = tf.Variable(tf.zeros([num_rows, 25]))

    @tf.function(input_signature=[tf.TensorSpec([None], tf.int32, name="rows")])
    def look_up(self, rows):
        return {"values": tf.gather(self.table, rows)}


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    """Makes versions with tables of 1 MB and of 3 MB."""
    folder = tmp_path_factory.mktemp("tables")
    for version in (1, 3):
        module = Table(version * 10_000)
        signatures = {"serving_default": module.look_up}
        tf.saved_model.save(module, str(folder / str(version)), signatures=signatures)
    return folder


def estimate(folder):
    return VersionSizes.of(str(folder)).estimated_bytes()


def test_estimate_grows_with_tables_and_vocabularies(tables):
    small, large = estimate(tables / "1"), estimate(tables / "3")
    assert 60e6 < small < 70e6
    # Two megabytes more, once as a variable and once for the op that reads it.
    assert 4e6 < large - small < 5e6
    (tables / "1" / "assets" / "words").write_bytes(b"x" * 1_000_000)
    assert 7e6 < estimate(tables / "1") - small < 9e6


def test_version_that_does_not_fit_is_refused_with_the_numbers(tables):
    path = str(tables / "3")
    LoadMemory(100).check(path)
    LoadMemory(0).check(path)
    with pytest.raises(NotEnoughMemoryError) as caught:
        LoadMemory(10).check(path)
    assert caught.value.code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "takes about 67 MB, of which 10 MB are available (--max_load_memory_mb)" in str(
        caught.value.message
    )


def test_memory_that_was_freed_is_returned_before_a_version_is_refused(
    tables, tmp_path, monkeypatch
):
    meminfo = "MemAvailable: 10000 kB\n"
    root = system(tmp_path, {"proc/meminfo": meminfo})
    with pytest.raises(NotEnoughMemoryError, match="of which 10 MB are available .memory of the m"):
        LoadMemory(root=root).check(str(tables / "3"))
    monkeypatch.setattr(
        load_memory,
        "return_free_memory",
        lambda: (tmp_path / "proc/meminfo").write_text("MemAvailable: 100000 kB\n"),
    )
    LoadMemory(root=root).check(str(tables / "3"))


def test_graph_that_does_not_fit_is_not_read(tmp_path, monkeypatch):
    (tmp_path / "saved_model.pb").write_bytes(b"\xff" * 2_000_000)
    with pytest.raises(NotEnoughMemoryError, match="about 2 MB, of which 1 MB"):
        LoadMemory(1).check(str(tmp_path))
    # The load itself refuses a file that is not a graph, or is missing.
    LoadMemory(100).check(str(tmp_path))
    LoadMemory(100).check(str(tmp_path / "none"))


def test_limit_below_zero_is_refused():
    with pytest.raises(ValueError, match="`max_load_memory_mb` must not be negative"):
        LoadMemory(-1)
