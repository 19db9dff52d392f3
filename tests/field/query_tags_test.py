"""Tags as people type them to `tagtower query` and to the client: capitals, blanks, accents."""

import json

import numpy as np
import pytest
import tensorflow as tf

from serving.client import EventFeatures, TagClient
from serving.index.top_k import BruteForceIndex
from serving.model_server.models.model_config import ModelConfig
from serving.model_server.server import ModelServer
from serving.servable.export import export_servable
from serving.servable.retrieval import TagRetrieval
from tests.serving.client.listening_towers import DESCRIPTION, VECTORS, K, ListeningTowers
from tests.serving.model_server.toy_models import save_retriever
from tfx_pipeline.cli import main
from tfx_pipeline.config.data import DataConfig
from tfx_pipeline.datasets.planted import read_planted
from trainer.contract import signatures as s
from trainer.contract.config_loader import to_mapping
from trainer.contract.features import Domain, FeatureSpec
from trainer.contract.tag_normalization import TagNormalization, spellings

# One is spelt as no normalisation of today would: the vocabulary of a log that keeps capitals.
TAGS = ("pixar", "Ghibli", "caf\u00e9", "new age", "folk")


class Towers(ListeningTowers):
    def __init__(self):
        super().__init__()
        self.tags = tf.Variable(TAGS)

    def explain(self, tags, **inputs):
        outputs = super().explain(tags, **inputs)
        is_known = tf.reduce_any(self.rows(tags, self.tags) > 0, axis=1)
        return outputs | {s.SCORE: tf.where(is_known, outputs[s.SCORE], np.nan)}


@pytest.fixture(scope="module")
def base_path(tmp_path_factory):
    folder = tmp_path_factory.mktemp("typed")
    Towers().save(folder / "towers")
    towers = tf.saved_model.load(str(folder / "towers"))
    module = TagRetrieval(towers, BruteForceIndex(VECTORS), K)
    export_servable(module, str(folder / "base" / "1"), DESCRIPTION)
    return folder / "base"


@pytest.fixture(scope="module")
def target(base_path):
    save_retriever(base_path.parent / "older" / "1", 1)
    configs = [ModelConfig("default", str(base_path))]
    configs.append(ModelConfig("older", str(base_path.parent / "older")))
    with ModelServer(configs, host="127.0.0.1", poll_wait_s=0.02) as server:
        server.wait_until_available(300)
        yield f"127.0.0.1:{server.port}"


@pytest.fixture(scope="module")
def config_path(base_path):
    """Writes the configuration of the version's run; returns its path."""
    path = base_path.parent / "config.yaml"
    mapping = {
        "name": "log",
        "data": {"interactions": "i", "items": "t", "users": "u"},
        "features": DESCRIPTION["features"],
        "serving": {"base_path": str(base_path)},
    }
    path.write_text(json.dumps(mapping))
    return str(path)


@pytest.fixture
def query(target, capsys):
    def ask(*arguments, status=0):
        found = main(["query", "--server", target, "--timeout", "60", "--json", *arguments])
        out, err = capsys.readouterr()
        assert found == status, err
        return (json.loads(out) if status == 0 else None), err

    return ask


TYPED = [
    ("pixar", "pixar"),
    ("Pixar", "pixar"),
    (" PIXAR\u00a0", "pixar"),
    ("New\nAge", "new age"),
    ("CAFE\u0301", "caf\u00e9"),
    ("Ghibli", "Ghibli"),
    (" Ghibli ", "Ghibli"),
]


@pytest.mark.parametrize(("typed", "known"), TYPED)
def test_neighbours_are_those_of_the_tag_that_was_meant(query, typed, known):
    content, err = query("--similar", typed)

    assert (content["tag"], err) == (known, "")
    expected, _ = query("--similar", known)
    assert len(content["tags"]) == K and content == expected


@pytest.mark.parametrize(("typed", "known"), TYPED)
def test_explained_is_the_tag_that_was_meant(query, typed, known):
    subject = ["--features", '{"country": "at", "clicked_tags": ["folk"]}']

    content, err = query(*subject, "--explain", typed)

    assert (content["tag"], err) == (known, "")
    assert content == query(*subject, "--explain", known)[0]


@pytest.mark.parametrize("flag", ["--similar", "--explain"])
@pytest.mark.parametrize("typed", ["ghibli", "no tag", " "])
def test_tag_that_is_known_in_no_spelling_is_refused_as_typed(query, flag, typed):
    subject = [] if flag == "--similar" else ["--features", "{}"]

    _, err = query(*subject, flag, typed, status=2)

    (line,) = err.splitlines()
    assert f"`{flag[2:]}` must be a tag that the model knows" in line
    assert line.endswith(f"Received: {typed}.")


def test_features_are_normalised_as_the_version_of_the_configuration(query, config_path):
    meant = '{"country": "fr", "clicked_tags": ["pixar", "folk"], "clicked_tags_weights": [3, 1]}'
    typed = (
        '{"country": "fr", "clicked_tags": ["Pixar", " FOLK", "", "pixar"], '
        '"clicked_tags_weights": [1, 1, 9, 2]}'
    )

    content, err = query("--features", typed, "--config", config_path)

    assert (content, err) == query("--features", meant)
    assert content != query("--features", '{"country": "fr"}')[0]


def test_without_a_configuration_it_is_said_that_a_tag_is_not_known_as_typed(query):
    content, err = query("--features", '{"clicked_tags": ["Pixar", "folk", "Drama", "Ghibli"]}')

    assert err == (
        "note: the model does not know the tag 'Pixar', but knows 'pixar'. Give --config, which "
        "normalises --features as training's tags were.\n"
    )
    # Sent as typed: a server does not say which features hold tags.
    assert content == query("--features", '{"clicked_tags": ["folk", "Ghibli"]}')[0]


def test_version_older_than_neighbours_answers_without_a_note(target, capsys):
    flags = ["query", "--server", target, "--model_name", "older", "--timeout", "60"]

    assert main([*flags, "--features", '{"recent": ["Pixar"]}']) == 0
    assert capsys.readouterr().err == ""


# --- what a caller is given ---

FEATURES = EventFeatures(
    FeatureSpec(
        domains=(
            Domain("clicked_tags"),
            Domain("skipped_tags", events="skipped"),
            Domain("categories", attribute="category"),
        )
    ),
    TagNormalization(),
)
INSTANCES = [
    # Nothing is added to the output.
    ({"clicked_tags": ["jazz"]}, {"clicked_tags": ["jazz"]}),
    (
        {"clicked_tags": ["Jazz", "folk"], "categories": ["Music"], "country": "AT"},
        {
            "clicked_tags": ["jazz", "folk"],
            "clicked_tags_weights": [1.0, 1.0],
            "categories": ["Music"],
            "country": "AT",
        },
    ),
    (
        {"clicked_tags": ["Jazz", "folk", "jazz", " "], "clicked_tags_weights": [1, 2, 0.5, 7]},
        {"clicked_tags": ["jazz", "folk"], "clicked_tags_weights": [1.5, 2]},
    ),
    ({"skipped_tags": [" "]}, {"skipped_tags": [], "skipped_tags_weights": []}),
    # Passed to the client, which reports the mistake.
    ({"clicked_tags": "Jazz"}, {"clicked_tags": "Jazz"}),
    ({"clicked_tags": ["Jazz", 1]}, {"clicked_tags": ["Jazz", 1]}),
    (
        {"clicked_tags": ["Jazz"], "clicked_tags_weights": [1, 2]},
        {"clicked_tags": ["Jazz"], "clicked_tags_weights": [1, 2]},
    ),
]


@pytest.mark.parametrize(("instance", "expected"), INSTANCES)
def test_instance_made_by_hand_is_normalised(instance, expected):
    given = json.loads(json.dumps(instance))

    assert FEATURES.normalized(instance) == expected
    assert instance == given


def test_tags_for_exclusions_and_scores_are_spelt_as_the_version_knows_them(target, base_path):
    features = EventFeatures.load(base_path / "1")
    typed = ["Pixar", " ", "CAFE\u0301"]
    user = {"country": "at", "clicked_tags": ["folk"]}

    assert features.tags(typed) == ["pixar", "caf\u00e9"]
    with TagClient(target, timeout_s=60) as client:
        scores = client.score_tags([user], [features.tags(typed)]).users[0]
        assert scores.tags == ("pixar", "caf\u00e9") and np.isfinite(scores.scores).all()
        asked = client.retrieve_filtered([user], exclude_tags=[features.tags(typed)])
        assert set(asked.profiles[0].tags) == {"Ghibli", "new age", "folk"}


def test_planted_interests_are_normalised_as_the_tags_of_the_log(tmp_path):
    path = tmp_path / "planted.jsonl"
    row = {
        "user_id": "u",
        "num_events": 1,
        "interests": ["Yoga "],
        "cross_interests": ["CAFE\u0301"],
    }
    path.write_text(json.dumps(row) + "\n", encoding="utf-8")
    data = DataConfig("i", "t", "u")

    (found,) = read_planted(str(path), data.tag_normalization)

    assert found == {**row, "interests": ["yoga"], "cross_interests": ["caf\u00e9"]}
    assert list(read_planted(str(path))) == [row]


@pytest.mark.parametrize(
    ("tag", "expected"),
    [
        ("pixar", ["pixar"]),
        ("Pixar", ["Pixar", "pixar"]),
        (" Pixar", [" Pixar", "Pixar", " pixar", "pixar"]),
        ("a\nb", ["a\nb", "a b"]),
        ("e\u0301", ["e\u0301", "\u00e9"]),
        (" ", [" "]),
        ("", []),
    ],
)
def test_spellings_begin_with_the_least_changed(tag, expected):
    assert spellings(tag) == expected
    assert to_mapping(TagNormalization()) == {"trim": True, "lowercase": True, "nfc": True}
