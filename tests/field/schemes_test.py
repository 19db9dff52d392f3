"""Paths with an unreadable scheme are refused in one line that names it and the remedy."""

import json
import os

import pytest
import yaml

from serving.batch.input import find_shards
from serving.model_server.errors import ServingError
from serving.model_server.models.model_config import read_model_configs
from tfx_pipeline.cli import main
from tfx_pipeline.config.pipeline import load_config
from tfx_pipeline.tables import schema
from tfx_pipeline.tables.arrow_files import check_table
from trainer.contract import file_system as fs
from trainer.contract.data_files import find_data_files
from trainer.contract.given_paths import given_path

SCHEMES = ["s3", "s3a", "abfss", "hdfs", "https", "dbfs"]


def assert_one_line(message: str, path: str, name: str) -> None:
    scheme = path.partition("://")[0]
    assert f"`{name}` must be a local path or gs://..., as nothing is installed" in message
    assert f"that reads {scheme}:// (mount " in message
    assert "or copy the files" in message
    assert path in message
    assert message.count("\n") <= 1


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize(
    "key",
    [
        "output",
        "data.interactions",
        "data.items",
        "data.users",
        "data.planted",
        "data.tag_vectors",
        "serving.base_path",
        "serving.exact_base_path",
    ],
)
def test_path_of_a_configuration_is_refused_by_its_key(here, scheme, key):
    config = {
        "name": "small",
        "data": {"interactions": "log", "items": "items.csv", "users": "users.csv"},
        "features": {"domains": [{"name": "clicked"}]},
        "serving": {},
    }
    section, _, name = key.rpartition(".")
    path = f"{scheme}://bucket/folder"
    (config[section] if section else config)[name] = path
    (here / "c.yaml").write_text(yaml.safe_dump(config))

    with pytest.raises(ValueError) as refused:
        load_config("c.yaml")

    assert_one_line(str(refused.value), path, key)


BUCKET = "s3://bucket/folder"


@pytest.mark.parametrize(
    ("command", "name"),
    [
        (["run", "--config", BUCKET], "config"),
        (["run", "--config", "demo", "--output", BUCKET], "output"),
        (["demo", "--output", BUCKET], "output"),
        (["prepare", "demo", "--output", BUCKET], "output"),
        (["prepare", "mind", "--source", BUCKET, "--output", "x"], "source"),
        (["prepare", "movielens-1m", "--source", "x", "--tags", BUCKET, "--output", "x"], "tags"),
        (["compile", "--config", "demo", "--output", BUCKET], "output"),
        (["compile", "--config", "demo", "--output", "x", "--root", BUCKET], "root"),
        (["reindex", "--config", "demo", "--tags", BUCKET], "tags"),
        (["runs", "--output", BUCKET], "output"),
        (["study", "--config", "demo", "--output", BUCKET], "output"),
        (["versions", "--model_base_path", BUCKET], "model_base_path"),
        (["rollback", "--model_base_path", BUCKET], "model_base_path"),
        (["rollback", "--config", "demo", "--exact_base_path", BUCKET], "exact_base_path"),
        (["serve", "--model_base_path", BUCKET], "model_base_path"),
        (["serve", "--model_config_file", BUCKET], "model_config_file"),
        (["query", "--config", "demo", "--events", BUCKET], "events"),
        (["query", "--features", f"@{BUCKET}"], "features"),
        (["query", "--user", "1", "--config", BUCKET], "config"),
        (["query", "--user", "1", "--items", "3", "--items_file", BUCKET], "items_file"),
        (["check-requests", "--config", "demo", "--requests", BUCKET], "requests"),
        (
            ["batch-predict", "--model_base_path", BUCKET, "--input", "x", "--output", "y"],
            "model_base_path",
        ),
        (["batch-predict", "--model_base_path", "x", "--input", BUCKET, "--output", "y"], "input"),
        (["batch-predict", "--model_base_path", "x", "--input", "y", "--output", BUCKET], "output"),
    ],
)
def test_flag_of_every_command_is_refused_in_one_line(here, capsys, command, name):
    try:
        status = main(command)
    except SystemExit as ended:
        status = ended.code

    assert status == 2
    assert_one_line(capsys.readouterr().err, BUCKET, name)
    assert os.listdir(here) == []


def test_model_of_a_configuration_file_is_refused():
    from tensorflow_serving.config import model_server_config_pb2

    config = model_server_config_pb2.ModelServerConfig()
    model = config.model_config_list.config.add(
        name="tags", base_path=BUCKET, model_platform="tensorflow"
    )

    with pytest.raises(ServingError) as refused:
        read_model_configs(config)
    assert "base_path of model tags must be a local path or gs://" in refused.value.message
    model.base_path = "gs://bucket/folder"
    assert [each.base_path for each in read_model_configs(config)] == ["gs://bucket/folder"]


@pytest.mark.parametrize(
    "look",
    [
        fs.open_file,
        fs.exists,
        fs.is_file,
        fs.is_folder,
        fs.file_size,
        fs.names_in,
        fs.files_below,
        fs.make_folders,
        fs.remove_folder,
        lambda path: fs.open_file(path, "wb"),
        lambda path: fs.matching(f"{path}/*"),
        lambda path: find_data_files(f"{path}/*"),
        lambda path: find_shards(path, "auto", 99),
        lambda path: check_table(path, schema.USERS),
    ],
)
def test_nothing_in_the_house_takes_it_for_a_folder_that_is_not_there(look):
    with pytest.raises(ValueError, match="s3://bucket/folder.* must be a local path or gs://"):
        look(BUCKET)


def test_scheme_that_is_read_is_taken_as_it_is(here):
    for path in ("gs://bucket/x", "ram://x", "a:/b", "C:", "./s3:/x"):
        assert given_path(path, "output") == path
    (here / "users.jsonl").write_text(json.dumps({"user_id": "u"}) + "\n")

    assert check_table(given_path(f"file://{here}/users.jsonl", "x"), schema.USERS) == [
        str(here / "users.jsonl")
    ]
