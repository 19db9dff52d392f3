"""Finds a subset of MIND: MIND_DIR, else `../shared/data/mind-small-subset` by the checkout."""

import os
from pathlib import Path

import pytest

MIND_DIR = Path(
    os.environ.get(
        "MIND_DIR",
        Path(__file__).resolve().parents[2] / "shared" / "data" / "mind-small-subset",
    )
)

needs_mind = pytest.mark.skipif(
    not (MIND_DIR / "behaviors.tsv").is_file(), reason=f"no MIND data in {MIND_DIR} (set MIND_DIR)"
)
