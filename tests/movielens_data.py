"""Finds the real data: MOVIELENS_DIR, else `../shared/data` beside the checkout."""

import os
from pathlib import Path

import pytest

DATA_DIR = Path(
    os.environ.get("MOVIELENS_DIR", Path(__file__).resolve().parents[2] / "shared" / "data")
)
RATINGS_DIR = DATA_DIR / "ml-1m"
TAGS_FILE = DATA_DIR / "ml-10m-tags" / "tags.dat.gz"

needs_movielens = pytest.mark.skipif(
    not (RATINGS_DIR.is_dir() and TAGS_FILE.is_file()),
    reason=f"no MovieLens data in {DATA_DIR} (set MOVIELENS_DIR)",
)
