"""Makes the tables of a study's logs, again only if what they depend on has changed."""

import dataclasses
import functools
import hashlib
import json
import os
from collections.abc import Callable, Mapping
from typing import Any

from tfx_pipeline.config.examples import ExamplesConfig
from tfx_pipeline.datasets.demo import prepare_demo
from tfx_pipeline.datasets.movielens_1m import GET_1M, GET_10M, prepare_movielens_1m
from tfx_pipeline.datasets.user_cut import cut_users
from tfx_pipeline.examples.moments import training_users
from tfx_pipeline.fingerprints import code_fingerprint
from tfx_pipeline.study.grid.defaults_config import MOVIELENS_VARIABLE, LogConfig
from tfx_pipeline.study.grid.defaults_definition import DefaultsStudy, Sample
from tfx_pipeline.terminal.console import Console
from tfx_pipeline.terminal.report_file import write_report
from trainer.contract.config_loader import to_mapping
from trainer.contract.file_system import is_file, is_folder, remove_file
from trainer.contract.whole_files import DamagedFileError, read_json

_CODE = ("tfx_pipeline.datasets.demo", "tfx_pipeline.datasets.movielens_1m")
_CUT_CODE = "tfx_pipeline.datasets.user_cut"
_CHOICE_CODE = "tfx_pipeline.examples.moments"
# Prefix of the ids of users drawn from training users: the hash that assigns users to splits
# assigns these anew, and alike in every draw, so that a user in several draws counts once.
_PREFIX = "drawn-"
_RATINGS = os.path.join("ml-1m", "ratings.dat")
_TAGS = os.path.join("ml-10m-tags", "tags.dat")


@dataclasses.dataclass(frozen=True)
class MadeTables:
    """The samples whose tables exist, and the logs that are left out.

    Attributes:
      samples: Samples whose tables exist, log by log.
      skipped: Reasons by name of a log that is left out.
    """

    samples: tuple[Sample, ...]
    skipped: Mapping[str, str]


def make_tables(study: DefaultsStudy, console: Console) -> MadeTables:
    """Makes the missing tables of a study's logs.

    Args:
      study: Study that defines the logs.
      console: Console for progress.

    Returns:
      The samples with tables, and the skipped logs.

    Raises:
      ValueError: No log is available, or a draw needs more users than there are.
    """
    skipped = {}
    for name, log in study.config.logs.items():
        reason = _missing_movielens(study) if log.movielens_1m is not None else ""
        if reason:
            skipped[name] = reason
            console.line(f"log {name} is left out: {reason}")
    samples = tuple(sample for sample in study.samples if sample.log not in skipped)
    if not samples:
        raise ValueError(f"`logs` must name a log that is there. Received: {', '.join(skipped)}.")
    for sample in samples:
        output, log = study.tables_dir(sample), study.config.logs[sample.log]
        if output is None:
            continue
        if log.num_users is None or sample.draw is None:
            _make_whole(study, log, output, console)
            continue
        source = _make_shared(study, log, console)
        number, draw = log.num_users, sample.draw
        wanted: dict[str, Any] = {
            "cut_of": os.path.basename(source),
            "num_users": number,
            "seed": draw,
            "code": code_fingerprint(*_CODE, _CUT_CODE),
        }
        examples = None
        if log.from_training_users:
            examples = study.bases[sample.log].examples
            wanted["from_training_users_of"] = to_mapping(examples)
            wanted["code"] = code_fingerprint(*_CODE, _CUT_CODE, _CHOICE_CODE)
            wanted["prefix"] = _PREFIX
        _make(output, wanted, functools.partial(_cut, source, number, draw, examples), console)
    return MadeTables(samples, skipped)


def _missing_movielens(study: DefaultsStudy) -> str:
    """Returns the remedy if the MovieLens data are missing; "": they exist."""
    folder = study.config.movielens_folder
    for name in (_RATINGS, _TAGS):
        path = os.path.join(folder, name)
        if not (is_file(path) or is_file(f"{path}.gz")):
            ratings, tags = (os.path.join(folder, name) for name in ("ml-1m", "ml-10m-tags"))
            return (
                f"{path} is missing. {GET_1M}, and unpack it to {ratings}. {GET_10M}, and put "
                f"its tags.dat into {tags}. For another folder than {folder}, set "
                f"`movielens_dir` or {MOVIELENS_VARIABLE}."
            )
    return ""


def _make_shared(study: DefaultsStudy, log: LogConfig, console: Console) -> str:
    """Returns the folder of tables to draw users from, shared by logs of equal options."""
    options = json.dumps(to_mapping([log.demo, log.movielens_1m]), sort_keys=True)
    name = f"whole.{hashlib.blake2b(options.encode(), digest_size=4).hexdigest()}"
    folder = os.path.join(study.config.output_dir, "tables", name)
    _make_whole(study, log, folder, console)
    return folder


def _cut(
    source: str, num_users: int, draw: int, examples: ExamplesConfig | None, output: str
) -> None:
    if examples is None:
        cut_users(source, output, num_users, draw)
        return
    choose = functools.partial(training_users, config=examples)
    cut_users(source, output, num_users, draw, choose, prefix=_PREFIX)


def _make_whole(study: DefaultsStudy, log: LogConfig, output: str, console: Console) -> None:
    wanted: dict[str, Any] = {"code": code_fingerprint(*_CODE)}
    if log.demo is not None:
        demo = log.demo
        wanted["demo"] = to_mapping(demo)
        _make(output, wanted, lambda to: prepare_demo(to, demo), console)
    elif log.movielens_1m is not None:
        options = to_mapping(log.movielens_1m)
        folder = study.config.movielens_folder
        wanted |= {"movielens_1m": options, "folder": os.path.abspath(folder)}
        source, tags = os.path.join(folder, "ml-1m"), os.path.join(folder, _TAGS)
        if not is_file(tags):
            tags += ".gz"
        _make(output, wanted, lambda to: prepare_movielens_1m(source, tags, to, **options), console)


def _make(
    output: str, wanted: Mapping[str, Any], make: Callable[[str], object], console: Console
) -> None:
    """Makes tables, unless they exist and were made from the same inputs."""
    note = f"{output}.json"
    try:
        if is_folder(output) and read_json(note, "the tables are made again") == wanted:
            return
    except (FileNotFoundError, DamagedFileError):
        pass
    console.line(f"tables of {os.path.basename(output)}, in {output}")
    # The note is removed first: half-replaced tables must not count as made.
    remove_file(note, missing_ok=True)
    make(output)
    write_report(wanted, note)
