"""Hashes of users: the same on every machine and in every process."""

import hashlib
from collections.abc import Iterable

import numpy as np


def user_hash(user_id: str, salt: str) -> int:
    """Returns a 64-bit hash of a user, the same on every machine and in every process."""
    digest = hashlib.blake2b(f"{salt}:{user_id}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big")


def user_hashes(user_ids: Iterable[str], salt: str) -> np.ndarray:
    """Returns the `user_hash` of many users, uint64 [n]."""
    blake2b = hashlib.blake2b
    digests = [
        blake2b(f"{salt}:{user_id}".encode(), digest_size=8).digest() for user_id in user_ids
    ]
    return np.frombuffer(b"".join(digests), ">u8").astype(np.uint64)


def user_shards(user_ids: Iterable[str], num_shards: int) -> np.ndarray:
    """Returns the output shard of each user, int64 [n]."""
    return (user_hashes(user_ids, "shard") % np.uint64(num_shards)).astype(np.int64)
