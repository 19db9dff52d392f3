"""Snapshots as serialized `tf.Example`s, and the curated schema that describes them."""

import functools
from collections.abc import Mapping

import numpy as np
from tensorflow_metadata.proto.v0 import schema_pb2

from tfx_pipeline.examples import wire_format as wire
from tfx_pipeline.examples.columns import Column, TextColumn
from trainer.contract import features as f
from trainer.contract.arrow import pa
from trainer.contract.list_column import offsets_of

_INT, _FLOAT, _BYTES = schema_pb2.INT, schema_pb2.FLOAT, schema_pb2.BYTES

# Columns of an example that are no features: (name, type, whether it has exactly one value).
_LABEL_COLUMNS = (
    (f.LABEL_TAGS, _BYTES, False),
    (f.LABEL_TAG_WEIGHTS, _FLOAT, False),
    (f.IMPRESSION_TAGS, _BYTES, False),
    (f.IMPRESSION_NUM_TAGS, _INT, False),
    (f.IMPRESSION_CLICKED, _FLOAT, False),
    (f.IMPRESSION_WEIGHTS, _FLOAT, False),
    (f.HISTORY_TAGS, _BYTES, False),
    (f.HISTORY_TAG_COUNTS, _FLOAT, False),
    (f.HISTORY_NUM_EVENTS, _INT, True),
    (f.LABEL_ITEMS, _BYTES, False),
    (f.HISTORY_ITEMS, _BYTES, False),
)
_IDENTITY_COLUMNS = ((f.USER_ID, _BYTES, True), (f.SNAPSHOT_TIME, _INT, True))

# Tags of the fields of tf.train.Feature.
_BYTES_LIST, _FLOAT_LIST, _INT64_LIST = b"\x0a", b"\x12", b"\x1a"
_MAP_KEY, _MAP_VALUE = b"\x0a", b"\x12"
_FEATURES, _MAP_ENTRY, _PACKED = b"\x0a", b"\x0a", b"\x0a"
# Content lengths in bytes up to which there is a table of headers.
_SMALLEST_TABLE, _LARGEST_TABLE = 1 << 10, 1 << 16


def serialize_columns(columns: Mapping[str, Column]) -> pa.Array:
    """Serializes many snapshots at once, to the bytes of protobuf's deterministic serialization.

    Args:
      columns: Columns by feature name, at least one, all with the same number of examples.

    Returns:
      binary [num_examples], serialized `tf.Example`s.
    """
    pieces: list[pa.Array] = []
    for name in sorted(columns, key=str.encode):
        kind, content = _content(columns[name])
        pieces += [_headers(name.encode(), kind, wire.lengths_of(content)), content]
    sizes = np.sum([wire.lengths_of(piece) for piece in pieces], axis=0)
    return wire.join([_FEATURES, wire.varints(sizes), *pieces])


def _content(column: Column) -> tuple[bytes, pa.Array]:
    """Returns the tag of the field, and the content of the lists, binary [num_examples]."""
    if isinstance(column, TextColumn):
        entries = column.texts.wire.take(pa.array(column.codes))
        return _BYTES_LIST, wire.regroup(entries, column.offsets)
    if column.values.dtype == np.float32:
        return _FLOAT_LIST, wire.binary_array(column.values, column.offsets * 4)
    data, lengths = wire.varint_bytes(column.values)
    return _INT64_LIST, wire.binary_array(data, offsets_of(lengths)[column.offsets])


def _headers(name: bytes, kind: bytes, lengths: np.ndarray) -> pa.Array:
    """Returns the bytes before the content of a feature, which depend on its length alone.

    Args:
      name: Name of the feature, UTF-8.
      kind: Tag of the field of `tf.train.Feature`.
      lengths: int [n], lengths of the contents in bytes.

    Returns:
      binary [n], an entry of the map from names to features, up to the list's content.
    """
    longest = int(lengths.max(initial=0))
    if longest > _LARGEST_TABLE:
        return _headers_of(name, kind, lengths)
    # Built once for each length and looked up: an example has 20 of them.
    size = max(longest, _SMALLEST_TABLE).bit_length()
    return _header_table(name, kind, 1 << size).take(pa.array(lengths))


@functools.lru_cache(maxsize=512)
def _header_table(name: bytes, kind: bytes, size: int) -> pa.Array:
    return _headers_of(name, kind, np.arange(size))


def _headers_of(name: bytes, kind: bytes, lengths: np.ndarray) -> pa.Array:
    after: list[bytes | pa.Array] = []
    if kind != _BYTES_LIST:
        # Numbers are packed into one field, and a list without numbers has no field at all.
        packed = wire.join([_PACKED, wire.varints(lengths)])
        after = [wire.blank(packed, lengths == 0)]
        lengths = lengths + wire.lengths_of(after[0])
    for tag in (kind, _MAP_VALUE):
        before = wire.join([tag, wire.varints(lengths)])
        after = [before, *after]
        lengths = lengths + wire.lengths_of(before)
    key = _MAP_KEY + wire.varint_bytes(np.array([len(name)]))[0].tobytes() + name
    return wire.join([_MAP_ENTRY, wire.varints(lengths + len(key)), key, *after])


def build_schema(spec: f.FeatureSpec) -> schema_pb2.Schema:
    """Returns the curated schema of the examples of a feature specification.

    It is built from the configuration and not inferred from the data, so that data that departs
    from the declaration is an anomaly. Single-valued profile features and identity columns must be
    present exactly once, an unknown number as NaN; lists may be empty; a profile feature with
    declared `values` allows these and the empty string (unknown).
    """
    schema = schema_pb2.Schema()
    for name, kind, is_single in _IDENTITY_COLUMNS + _LABEL_COLUMNS:
        _add_feature(schema, name, kind, is_single)
    for profile in spec.profile:
        kind = _FLOAT if profile.is_number else _BYTES
        feature = _add_feature(schema, profile.name, kind, is_single=not profile.is_list)
        if profile.values:
            feature.string_domain.value.extend(["", *profile.values])
    for domain in spec.domains:
        _add_feature(schema, domain.name, _BYTES, is_single=False)
        _add_feature(schema, f.weights_name(domain.name), _FLOAT, is_single=False)
    return schema


def _add_feature(
    schema: schema_pb2.Schema, name: str, kind: int, is_single: bool
) -> schema_pb2.Feature:
    feature = schema.feature.add(name=name, type=kind)
    if is_single:
        feature.presence.min_fraction = 1.0
        feature.presence.min_count = 1
        feature.shape.dim.add(size=1)
    return feature
