"""Checks that the configurations of both kinds of studies share, and where their output goes."""

import difflib
import os
import re
from collections.abc import Collection, Iterable, Sequence

from trainer.contract.config_loader import require


def check_study_name(name: str) -> None:
    """Raises `ValueError` for a name that is no name of a folder."""
    is_name = bool(name) and all(c.isalnum() or c in "-_" for c in name)
    require(is_name, "name", "consist of letters, digits, - and _", name)


def check_words(names: Iterable[str], path: str) -> None:
    """Raises `ValueError` for the first name that is no word."""
    for name in names:
        is_word = bool(re.fullmatch(r"[\w-]+", name))
        require(is_word, path, "have names of letters, digits, - and _", name)


def check_seeds(seeds: Sequence[int], path: str) -> None:
    """Raises `ValueError` for a negative or repeated seed."""
    require(all(seed >= 0 for seed in seeds), path, "be 0 or positive", list(seeds))
    require(len(set(seeds)) == len(seeds), path, "differ", list(seeds))


def default_output(study: str) -> str:
    """Returns the output folder of a study that declares none."""
    return os.path.join("build", "studies", study)


def check_names(names: Iterable[str], known: Collection[str], path: str) -> None:
    """Raises `ValueError` for the first name that is not known, with a suggestion."""
    for name in names:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            hint = f"Did you mean {close[0]!r}?" if close else f"Known: {', '.join(known)}."
            raise ValueError(f"`{path}` must name what exists. Received: {name!r}. {hint}")
