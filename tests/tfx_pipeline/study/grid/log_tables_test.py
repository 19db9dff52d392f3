"""The tables of a study's logs: made once, drawn from shared ones, left out without data."""

import dataclasses
import io
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tfx_pipeline.config.pipeline import load_config
from tfx_pipeline.datasets.demo_config import DemoConfig
from tfx_pipeline.examples.moments import user_part
from tfx_pipeline.study.grid.defaults_config import (
    DefaultConfig,
    DefaultsConfig,
    LogConfig,
    MovieLensTables,
)
from tfx_pipeline.study.grid.defaults_definition import DefaultsStudy, Sample
from tfx_pipeline.study.grid.log_tables import make_tables
from tfx_pipeline.terminal.console import Console

DEMO = DemoConfig(
    num_users=60, num_tags=120, num_items=200, num_categories=6, events_per_user=10, seed=3
)


def study(tmp_path, **logs):
    config = DefaultsConfig(
        "s",
        logs,
        {"default": DefaultConfig()},
        movielens_dir=str(tmp_path / "movielens"),
        output=str(tmp_path / "study"),
    )
    return DefaultsStudy(config, {log: load_config(one.config) for log, one in logs.items()})


def made(a_study):
    """Makes the tables; returns those that there are, and the printed lines."""
    stream = io.StringIO()
    tables = make_tables(a_study, Console(stream))
    return tables, stream.getvalue().splitlines()


def num_users(a_study, sample):
    return pq.read_table(Path(a_study.tables_dir(sample)) / "users.parquet").num_rows


def test_draws_of_training_users_have_no_test_user_of_the_whole_log(tmp_path):
    cut = LogConfig("demo", demo=DEMO, num_users=20, draws=(0,), from_training_users=True)
    a_study = study(tmp_path, few=cut)
    made(a_study)

    (folder,) = (Path(a_study.tables_dir(sample)) for sample in a_study.samples)
    ids = pq.read_table(folder / "users.parquet")["user_id"].to_pylist()
    examples = a_study.bases["few"].examples
    whole = {user_part(user_id.removeprefix("drawn-"), examples) for user_id in ids}
    assert whole == {"train"}
    # Its own splits are another matter.
    assert {user_part(user_id, examples) for user_id in ids} > {"train"}
    # The choice of training users is part of what the tables depend on.
    other = dataclasses.replace(examples, seed=5)
    base = dataclasses.replace(a_study.bases["few"], examples=other)
    _, said = made(dataclasses.replace(a_study, bases={"few": base}))
    assert any("tables of few.draw_0" in line for line in said)


def test_log_and_draws_of_it_are_made_and_then_left_as_they_are(tmp_path):
    cut = LogConfig("demo", demo=DEMO, num_users=20, draws=(0, 4))
    a_study = study(tmp_path, all=LogConfig("demo", demo=DEMO), few=cut)

    tables, said = made(a_study)

    samples = (Sample("all"), Sample("few", 0), Sample("few", 4))
    assert tables.samples == samples
    assert [num_users(a_study, sample) for sample in samples] == [60, 20, 20]
    few = [pq.read_table(f"{a_study.tables_dir(s)}/users.parquet") for s in samples[1:]]
    assert not few[0].equals(few[1])
    # The log, the one that both draws are cut out of, and the draws.
    assert len(said) == 4
    assert made(a_study) == (tables, [])


def test_logs_that_are_cut_out_of_the_same_tables_share_them(tmp_path):
    logs = {
        name: LogConfig("demo", demo=DEMO, num_users=number, draws=(0,))
        for name, number in {"few": 10, "more": 30}.items()
    }

    _, said = made(study(tmp_path, **logs))

    assert [line.split(",")[0].split(".")[0] for line in said] == [
        "tables of whole",
        "tables of few",
        "tables of more",
    ]


def test_other_options_make_the_tables_again(tmp_path):
    made(study(tmp_path, a=LogConfig("demo", demo=DEMO)))
    other = study(tmp_path, a=LogConfig("demo", demo=DemoConfig(**{**vars(DEMO), "num_users": 40})))

    _, said = made(other)

    assert len(said) == 1
    assert num_users(other, Sample("a")) == 40


def test_tables_without_the_note_of_what_they_are_made_of_are_made_again(tmp_path):
    a_study = study(tmp_path, a=LogConfig("demo", demo=DEMO))
    made(a_study)
    Path(f"{a_study.tables_dir(Sample('a'))}.json").unlink()

    assert len(made(a_study)[1]) == 1


def test_movielens_that_is_not_there_is_left_out_with_what_to_download(tmp_path):
    movielens = LogConfig("movielens-1m", movielens_1m=MovieLensTables())
    a_study = study(tmp_path, ml=movielens, a=LogConfig("demo", demo=DEMO))

    tables, said = made(a_study)

    assert tables.samples == (Sample("a"),)
    assert list(tables.skipped) == ["ml"]
    for words in ("ratings.dat", "ml-1m.zip", "ml-10m.zip", "MOVIELENS_DIR"):
        assert words in tables.skipped["ml"]
    assert said[0] == f"log ml is left out: {tables.skipped['ml']}"
    with pytest.raises(ValueError, match="`logs` must name a log that is there. Received: ml."):
        make_tables(study(tmp_path, ml=movielens), Console(io.StringIO()))


def test_movielens_is_cut_with_its_options(tmp_path):
    folder = tmp_path / "movielens"
    (folder / "ml-1m").mkdir(parents=True)
    (folder / "ml-10m-tags").mkdir()
    users = "".join(f"{i}::F::25::4::0{i}\n" for i in range(1, 6))
    (folder / "ml-1m" / "users.dat").write_text(users)
    (folder / "ml-1m" / "movies.dat").write_text("1::A (1990)::Drama\n2::B (1991)::Comedy\n")
    ratings = "".join(f"{i}::{1 + i % 2}::5::{978300000 + i}\n" for i in range(1, 6))
    (folder / "ml-1m" / "ratings.dat").write_text(ratings)
    (folder / "ml-10m-tags" / "tags.dat").write_text("7::1::rare thing::1234567890\n")
    logs = {
        name: LogConfig(
            "movielens-1m", movielens_1m=MovieLensTables(least, 30), num_users=3, draws=(0,)
        )
        for name, least in {"rare": 1, "common": 5}.items()
    }
    a_study = study(tmp_path, **logs)

    tables, _ = made(a_study)

    assert tables.skipped == {}
    tags = {
        sample.log: pq.read_table(f"{a_study.tables_dir(sample)}/items.parquet")["tags"].to_pylist()
        for sample in tables.samples
    }
    assert tags == {
        "rare": [["drama", "rare thing"], ["comedy"]],
        "common": [["drama"], ["comedy"]],
    }
    assert num_users(a_study, Sample("rare", 0)) == 3
