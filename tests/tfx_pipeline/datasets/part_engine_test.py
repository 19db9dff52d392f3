"""Every engine writes the same bytes of tables, and leaves nothing else."""

import os
import pickle

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.mind_data import MIND_DIR, needs_mind
from tests.tfx_pipeline.datasets.failing_parts import FailingParts
from tests.tfx_pipeline.datasets.mind_folder import BEHAVIORS, NEWS, OPTIONS, write_source
from tests.tfx_pipeline.datasets.written_files import files_below
from tfx_pipeline.config.beam import BeamConfig
from tfx_pipeline.datasets.demo import DemoParts, prepare_demo
from tfx_pipeline.datasets.demo_config import DemoConfig
from tfx_pipeline.datasets.mind import prepare_mind
from tfx_pipeline.datasets.part_engine import write_parts
from tfx_pipeline.datasets.part_files import open_part
from tfx_pipeline.datasets.table_writer import TableWriter
from tfx_pipeline.engines.beam_failure import BeamJobError, one_line_failures

WORKERS = BeamConfig("multi_process").pipeline_args()
IN_MEMORY = BeamConfig("local").pipeline_args()
COMMAND = "tagtower prepare test"
# Three chunks of users.
LOG = DemoConfig(
    num_users=4_100, num_tags=200, num_items=300, num_categories=5, events_per_user=6, seed=3
)


def assert_same(found, wanted, folders):
    """Checks that summaries differ only in the output, and that the files are equal."""
    assert vars(found) == {**vars(wanted), "output": found.output}
    one, other = map(files_below, folders)
    assert one.keys() == other.keys()
    for name in other:
        assert one[name] == other[name], name


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    output = tmp_path_factory.mktemp("demo") / "local"
    return output, prepare_demo(str(output), LOG, rows_per_part=1)


def test_demo_log_of_worker_processes_is_the_same_files(demo, tmp_path):
    wanted, summary = demo

    found = prepare_demo(str(tmp_path / "out"), LOG, WORKERS, rows_per_part=1)

    assert len(os.listdir(wanted / "interactions")) == 3
    assert_same(found, summary, (tmp_path / "out", wanted))
    assert os.listdir(tmp_path) == ["out"]


def test_parts_change_the_files_of_interactions_alone(demo, tmp_path):
    wanted, summary = demo

    whole = prepare_demo(str(tmp_path / "out"), LOG)

    assert vars(whole) == {**vars(summary), "output": str(tmp_path / "out")}
    found, parts = files_below(tmp_path / "out"), files_below(wanted)
    assert found.keys() - parts.keys() == set()
    for name in found.keys() - {"interactions/part-00000.parquet"}:
        assert found[name] == parts[name], name
    assert pq.read_table(tmp_path / "out/interactions").equals(
        pq.read_table(wanted / "interactions")
    )


def test_workers_are_sent_no_world():
    parts = DemoParts(LOG)
    assert len(parts.item_ids) == 300 and len(parts.world.tags) == 200

    sent = pickle.dumps(parts)

    assert len(sent) < 2_000
    assert pickle.loads(sent).world.tags == parts.world.tags


@pytest.mark.parametrize("is_compressed", [False, True])
def test_hand_written_mind_in_parts_is_the_same(tmp_path, is_compressed):
    source = str(write_source(tmp_path / "source", NEWS, BEHAVIORS, is_compressed))
    outputs = [tmp_path / name for name in ("whole", "local", "beam")]
    whole, local, beam = map(str, outputs)

    wanted = prepare_mind(source, whole, OPTIONS)
    parts = prepare_mind(source, local, OPTIONS, block_bytes=60)
    found = prepare_mind(source, beam, OPTIONS, IN_MEMORY, block_bytes=60)

    assert len(os.listdir(outputs[1] / "interactions")) == 4
    assert_same(found, parts, outputs[::-1][:2])
    assert vars(parts) == {**vars(wanted), "output": local}
    tables = [pq.read_table(output / "interactions") for output in outputs]
    assert tables[1].equals(tables[0])
    for name in ("items.parquet", "users.parquet", "rejected.jsonl"):
        assert (outputs[1] / name).read_bytes() == (outputs[0] / name).read_bytes()


@needs_mind
def test_published_mind_of_worker_processes_is_the_same_files(tmp_path):
    found, wanted = (tmp_path / name for name in ("found", "wanted"))

    summary = prepare_mind(str(MIND_DIR), str(wanted), block_bytes=1 << 19)
    other = prepare_mind(str(MIND_DIR), str(found), None, WORKERS, block_bytes=1 << 19)

    assert summary.num_interactions == 189_359 + 138_932
    assert len(os.listdir(wanted / "interactions")) == 6
    assert_same(other, summary, (found, wanted))


def test_part_that_fails_in_a_worker_leaves_nothing_but_one_line(tmp_path):
    with (
        pytest.raises(BeamJobError, match=r"^the job failed: `part` must be another one\. .*=b$"),
        one_line_failures(None),
        TableWriter(str(tmp_path / "out"), command=COMMAND) as writer,
    ):
        write_parts(FailingParts("b"), ["a", "b"], writer.staging, WORKERS)
    assert os.listdir(tmp_path) == []


def test_part_that_fails_here_leaves_nothing(tmp_path):
    with (
        pytest.raises(ValueError, match=r"^`part` must be another one\. Received: part=b\.$"),
        TableWriter(str(tmp_path / "out"), command=COMMAND) as writer,
    ):
        write_parts(FailingParts("b"), ["a", "b"], writer.staging, None)
    assert os.listdir(tmp_path) == []


def write_part(staging, index, ids):
    with open_part(staging, index) as files:
        files.write_users(pa.table({"user_id": ids}))
        files.write_json_lines("lines.jsonl", [{"id": one} for one in ids])
        files.counts["x"] += len(ids)


def test_part_that_is_tried_again_counts_once_and_a_dead_workers_files_go(tmp_path):
    with TableWriter(str(tmp_path / "out"), command=COMMAND) as writer:
        writer.write_json_lines("lines.jsonl", [{"id": "before"}])
        # Written in another order than that of the parts.
        write_part(writer.staging, 1, ["b", "c"])
        with pytest.raises(KeyError), open_part(writer.staging, 0) as files:  # noqa: PT012
            files.write_users(pa.table({"user_id": ["half"]}))
            raise KeyError("the worker lost its connection")
        names = sorted(os.listdir(os.path.join(writer.staging, "pieces")))
        dead = open_part(writer.staging, 0)
        dead.__enter__().write_interactions(
            pa.table({"user_id": ["d"], "item_id": ["d"], "timestamp": [1], "clicked": [1]})
        )
        write_part(writer.staging, 0, ["a"])
        write_part(writer.staging, 0, ["a"])
        counts = writer.take_parts(2)

    assert names == ["00001-counts.json", "00001-lines.jsonl", "00001-users.parquet"]
    assert counts == {"rows.users": 3, "x": 3} and writer.num_rows["users"] == 3
    found = files_below(tmp_path / "out")
    assert found.keys() == {"lines.jsonl", "prepared.json", "users.parquet"}
    lines = [b'{"id": "%s"}\n' % one for one in (b"before", b"a", b"b", b"c")]
    assert found["lines.jsonl"] == b"".join(lines)
    assert pq.read_table(tmp_path / "out/users.parquet").to_pydict() == {"user_id": ["a", "b", "c"]}


def test_part_that_went_elsewhere_is_missed(tmp_path):
    with (  # noqa: PT012
        pytest.raises(ValueError, match="all workers reach .* in which part 1 of 2 is missing"),
        TableWriter(str(tmp_path / "out"), command=COMMAND) as writer,
    ):
        write_part(writer.staging, 0, ["a"])
        writer.take_parts(2)
    assert os.listdir(tmp_path) == []
