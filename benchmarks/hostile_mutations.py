"""Makes good files of every table format and damages them; a file depends on its number alone."""

import bz2
import functools
import gzip
import io
import json
import random
import struct
from collections.abc import Callable, Mapping

import numpy as np

from trainer.contract.arrow import pa

_NUM_ROWS = 120
_MAGIC = (b"PAR1", b"\x1f\x8b\x08", b"BZh9", b"\x28\xb5\x2f\xfd", b"ORC", b"\xff\xfe", b"{", b'"')
# Extreme numbers that replace lengths and counts.
_EXTREMES = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1)


def _rows(kind: str, rng: random.Random) -> list[dict[str, object]]:
    tags = [f"tag {i}" for i in range(20)] + ["é", 'a "b"', "c,d"]
    if kind == "items":
        return [
            {
                "item_id": f"i{n}",
                "tags": rng.sample(tags, rng.randint(1, 5)),
                "category": rng.choice(["a", "b", None]),
            }
            for n in range(_NUM_ROWS)
        ]
    if kind == "users":
        return [{"user_id": f"u{n}", "segment": f"s{n % 5}"} for n in range(_NUM_ROWS)]
    if kind == "instances":
        return [
            {
                "user_id": f"u{n}",
                "segment": "a",
                "clicked_tags": rng.sample(tags, 3),
                "clicked_tags_weights": [1.0, 2.5, 3.0],
            }
            for n in range(_NUM_ROWS)
        ]
    return [
        {
            "user_id": f"u{rng.randrange(20)}",
            "item_id": f"i{rng.randrange(30)}",
            "timestamp": 1_700_000_000 + rng.randrange(10**6),
            "clicked": rng.randrange(2),
            "weight": rng.random(),
        }
        for _ in range(_NUM_ROWS)
    ]


def _csv(rows: list[dict[str, object]]) -> bytes:
    import csv

    file = io.StringIO(newline="")
    writer = csv.DictWriter(file, list(rows[0]))
    writer.writeheader()
    for row in rows:
        writer.writerow({n: "|".join(v) if isinstance(v, list) else v for n, v in row.items()})
    return file.getvalue().encode()


def _json_lines(rows: list[dict[str, object]]) -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def _parquet(rows: list[dict[str, object]], rng: random.Random) -> bytes:
    import pyarrow.parquet as pq

    sink = io.BytesIO()
    pq.write_table(
        pa.Table.from_pylist(rows),
        sink,
        row_group_size=rng.choice([10, 50, 1000]),
        compression=rng.choice(["none", "snappy", "gzip", "zstd"]),
        use_dictionary=rng.random() < 0.5,
        data_page_version=rng.choice(["1.0", "2.0"]),
        version=rng.choice(["1.0", "2.6"]),
    )
    return sink.getvalue()


def _records(rows: list[dict[str, object]]) -> bytes:
    import google_crc32c
    import tensorflow as tf

    def masked(data: bytes) -> bytes:
        crc = google_crc32c.value(data)
        return struct.pack("<I", (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF)

    content = b""
    for row in rows:
        features = {}
        for name, value in row.items():
            values = value if isinstance(value, list) else [value]
            if isinstance(values[0], float):
                features[name] = tf.train.Feature(float_list=tf.train.FloatList(value=values))
            else:
                encoded = [str(v).encode() for v in values]
                features[name] = tf.train.Feature(bytes_list=tf.train.BytesList(value=encoded))
        example = tf.train.Example(features=tf.train.Features(feature=features))
        record = example.SerializeToString(deterministic=True)
        header = struct.pack("<Q", len(record))
        content += header + masked(header) + record + masked(record)
    return content


def _zstd(content: bytes) -> bytes:
    return pa.compress(content, codec="zstd", asbytes=True)


_PACKED: Mapping[str, Callable[[bytes], bytes]] = {
    "": bytes,
    ".gz": functools.partial(gzip.compress, mtime=0),
    ".bz2": bz2.compress,
    ".zst": _zstd,
}
TEXT_FORMATS = tuple(f".{text}{packed}" for text in ("csv", "jsonl") for packed in _PACKED)
FORMATS = (*TEXT_FORMATS, ".parquet", ".tfrecord", ".tfrecord.gz")


def mutated_file(number: int) -> tuple[str, str, bytes]:
    """Makes a damaged file.

    Args:
      number: Number of the file.

    Returns:
      Suffix, kind (a table, or `instances`), and bytes of the file.
    """
    rng = random.Random(number)
    # Parquet is drawn more often, because it has most parts that can be damaged.
    suffix = rng.choice([*FORMATS, *[".parquet"] * 4])
    is_records = suffix.startswith(".tfrecord")
    kinds = ["interactions", "items", "users"]
    kind = "instances" if is_records else rng.choice(kinds)
    if suffix.startswith(".jsonl") and rng.random() < 0.25:
        kind = "instances"
    rows = _rows(kind, rng)
    if suffix == ".parquet":
        return suffix, kind, mutated(_parquet(rows, rng), rng)
    packed = _PACKED["." + suffix.rsplit(".", 1)[1] if suffix.count(".") == 2 else ""]
    content = _records(rows) if is_records else (_csv if "csv" in suffix else _json_lines)(rows)
    if rng.random() < 0.5:
        # The content is damaged within a compressed stream that is whole.
        return suffix, kind, packed(mutated(content, rng))
    return suffix, kind, mutated(packed(content), rng)


def mutated(content: bytes, rng: random.Random, most: int = 3) -> bytes:
    """Changes bytes at random places, once or more, at most `most` times."""
    result = bytearray(content)
    for _ in range(rng.randint(1, most)):
        rng.choice(_MUTATIONS)(result, rng)
    return bytes(result)


def _flip(data: bytearray, rng: random.Random) -> None:
    for _ in range(rng.choice([1, 1, 2, 8, 50])):
        if data:
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)


def _cut(data: bytearray, rng: random.Random) -> None:
    if data:
        del data[rng.randrange(len(data)) :]


def _double(data: bytearray, rng: random.Random) -> None:
    start = rng.randrange(len(data) + 1)
    chunk = data[start : start + rng.choice([1, 8, 100, 5_000])]
    at = rng.randrange(len(data) + 1)
    data[at:at] = chunk * rng.choice([1, 1, 2, 100])


def _drop(data: bytearray, rng: random.Random) -> None:
    start = rng.randrange(len(data) + 1)
    del data[start : start + rng.choice([1, 4, 100, 2_000])]


def _swap_magic(data: bytearray, rng: random.Random) -> None:
    magic = rng.choice(_MAGIC)
    at = 0 if rng.random() < 0.7 else max(0, len(data) - len(magic))
    data[at : at + len(magic)] = magic


def _set_number(data: bytearray, rng: random.Random) -> None:
    """Overwrites a number of some width, more often at the end, where Parquet has its footer."""
    first = int(len(data) * 0.7) if rng.random() < 0.6 else 0
    at = rng.randrange(first, len(data) + 1)
    number, width = rng.choice(_EXTREMES), rng.choice([1, 2, 4, 8])
    data[at : at + width] = (number & (2 ** (8 * width) - 1)).to_bytes(width, "little")


def _varint(data: bytearray, rng: random.Random) -> None:
    """Overwrites bytes by a long number as Thrift and protobuf encode it."""
    at = rng.randrange(len(data) + 1)
    data[at : at + 1] = b"\xff" * rng.choice([1, 4, 9]) + b"\x01"


def _noise(data: bytearray, rng: random.Random) -> None:
    at = rng.randrange(len(data) + 1)
    noise = np.random.default_rng(rng.randrange(2**32)).bytes(rng.choice([4, 40, 400]))
    data[at : at + len(noise)] = noise


_MUTATIONS = (_flip, _flip, _cut, _double, _drop, _swap_magic, _set_number, _varint, _noise)
