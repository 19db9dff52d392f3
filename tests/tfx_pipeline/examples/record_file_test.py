"""Record files read by TensorFlow, and compared with those of its own writer."""

import gzip

import pyarrow as pa
import pytest
import tensorflow as tf

from tfx_pipeline.examples.record_file import RecordFile, frame

RECORDS = [b"", b"a", b"\x00" * 300, "ü𝄞".encode(), bytes(range(256)) * 300]


def test_framed_records_are_tensorflows(tmp_path):
    with tf.io.TFRecordWriter(str(tmp_path / "records")) as writer:
        for record in RECORDS:
            writer.write(record)
    assert frame(pa.array(RECORDS)).to_pybytes() == (tmp_path / "records").read_bytes()
    middle = frame(pa.array([b"zz", *RECORDS, b"zz"])[1:-1])
    assert middle.to_pybytes() == (tmp_path / "records").read_bytes()


@pytest.mark.parametrize("parts", [[], [RECORDS], [RECORDS[:2], [], RECORDS[2:]]])
def test_tensorflow_reads_what_was_written(tmp_path, parts):
    path = str(tmp_path / "folder" / "records.gz")
    file = RecordFile(path)
    for part in parts:
        file.write(pa.array(part, pa.binary()))
    assert not tf.io.gfile.exists(path)  # not whole yet
    file.close()
    found = tf.data.TFRecordDataset([path], "GZIP").as_numpy_iterator()
    assert list(found) == [record for part in parts for record in part]
    gzip.decompress((tmp_path / "folder" / "records.gz").read_bytes())  # one whole stream
    assert [path.name for path in (tmp_path / "folder").iterdir()] == ["records.gz"]


def test_same_records_give_the_same_file(tmp_path):
    for name in ("one", "other"):
        file = RecordFile(str(tmp_path / name))
        file.write(pa.array(RECORDS))
        file.close()
    assert (tmp_path / "one").read_bytes() == (tmp_path / "other").read_bytes()
