"""Bytes of many messages equal protobuf's."""

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pyarrow as pa
import pytest
from google.protobuf.internal import encoder

from tests.trainer.random_logs import PROPERTY
from tfx_pipeline.examples import wire_format as wire

integers = st.integers(-(2**63), 2**63 - 1) | st.integers(0, 300)


def protobufs_varint(value):
    return encoder._VarintBytes(value % 2**64)


@PROPERTY
@hypothesis.given(st.lists(integers, max_size=20))
@hypothesis.example([])
@hypothesis.example([127])
@hypothesis.example([0, 127, 128, 2**14 - 1, 2**14, 2**21 - 1, 2**21, 2**63 - 1, -1])
def test_varints_are_protobufs(values):
    found = wire.varints(np.array(values, np.int64))
    assert found.to_pylist() == [protobufs_varint(value) for value in values]
    data, lengths = wire.varint_bytes(np.array(values, np.int64))
    assert data.tobytes() == b"".join(found.to_pylist())
    assert lengths.tolist() == [len(one) for one in found.to_pylist()]


@PROPERTY
@hypothesis.given(st.lists(st.binary(max_size=300), max_size=6))
def test_length_delimited_is_tag_length_content(contents):
    found = wire.length_delimited(b"\x12", pa.array(contents, pa.binary()))
    assert found.to_pylist() == [b"\x12" + protobufs_varint(len(c)) + c for c in contents]


def test_join_goes_element_by_element():
    found = wire.join([b"<", pa.array([b"a", b"", b"ccc"]), pa.array([b"1", b"2", b"3"]), b">"])
    assert found.to_pylist() == [b"<a1>", b"<2>", b"<ccc3>"]


def test_runs_are_joined_and_slices_are_seen():
    content = pa.array([b"zz", b"a", b"bb", b"", b"c", b"zz"])[1:5]
    assert wire.lengths_of(content).tolist() == [1, 2, 0, 1]
    assert wire.regroup(content, np.array([0, 0, 3, 4])).to_pylist() == [b"", b"abb", b"c"]


@pytest.mark.parametrize("values", [[], [1.5], [1.0, -2.0, 0.25]])
def test_numbers_are_cut_without_a_copy(values):
    floats = np.array(values, np.float32)
    found = wire.binary_array(floats, np.array([0, 4 * len(values)]))
    assert found.to_pylist() == [floats.tobytes()]


def test_blank_takes_bytes_away():
    found = wire.blank(pa.array([b"a", b"b"]), np.array([True, False]))
    assert found.to_pylist() == [b"", b"b"]
