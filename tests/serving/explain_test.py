"""What the client and `tagtower query` say of a score, from a real server."""

import dataclasses
import json

import numpy as np
import pytest
import tensorflow as tf

from serving.client import TagClient, TagClientError
from serving.index.top_k import BruteForceIndex
from serving.model_server.models.version_lifecycle import ModelConfig
from serving.model_server.server import ModelServer
from serving.servable.export import export_servable
from serving.servable.retrieval import TagRetrieval
from tests.serving.model_server.toy_models import save_retriever, save_toy
from tests.tfx_pipeline.toy_rows import SPEC, TAGS
from tests.trainer.saved.saved_towers_test import CLICK_WEIGHT, make
from tests.trainer.towers.user_tower_test import CONFIG
from tfx_pipeline.cli import main
from trainer.contract import signatures as s
from trainer.saved.saved_towers import save_towers

JAZZ = {"gender": "F", "clicked": ["pop", "jazz", "pop"], "clicked_weights": [1.0, 2.0, 3.0]}
FOLK = {"skipped": ["folk"], "recent": ["never seen"]}


@pytest.fixture(scope="module")
def towers(toy_graph, tmp_path_factory):
    folder = str(tmp_path_factory.mktemp("towers"))
    # The tower with the smallest graph: other tests cover the other towers.
    model = make(toy_graph.output, dataclasses.replace(CONFIG, interaction="bag"))
    save_towers(model, toy_graph.output, folder, CLICK_WEIGHT)
    return tf.saved_model.load(folder)


@pytest.fixture(scope="module")
def target(towers, tmp_path_factory):
    """Runs the models `tags`; `older`, without explanations; and `other`, of another kind."""
    folder = tmp_path_factory.mktemp("models")
    vectors = towers.signatures[s.CANDIDATES]()[s.CANDIDATE_EMBEDDINGS].numpy()
    module = TagRetrieval(towers, BruteForceIndex(vectors), k=len(TAGS))
    export_servable(module, str(folder / "tags" / "1"), {"index": {"num_tags": len(TAGS)}})
    save_retriever(folder / "older" / "1", 1)
    save_toy(folder / "other" / "1", 1)
    configs = [ModelConfig(n, str(folder / n)) for n in ("tags", "older", "other")]
    with ModelServer(configs, host="127.0.0.1", poll_wait_s=0.02) as server:
        server.wait_until_available(300)
        yield f"127.0.0.1:{server.port}"


@pytest.fixture
def client(target):
    with TagClient(target, model_name="tags", timeout_s=60) as client:
        yield client


def score_of(client, instance, tag):
    profile = client.retrieve([instance]).profiles[0]
    return dict(zip(profile.tags, profile.scores, strict=True))[tag]


def test_client_is_told_what_each_value_does_to_the_score(client):
    answer = client.explain([JAZZ, FOLK], ["pop", "folk"])

    assert answer.model_version == 1
    jazz, folk = answer.explanations
    assert (jazz.tag, folk.tag) == ("pop", "folk")
    score = score_of(client, JAZZ, "pop")
    assert jazz.score == pytest.approx(score, rel=1e-4)
    expected = []
    for place, value in enumerate(JAZZ["clicked"]):
        rest = {k: v[:place] + v[place + 1 :] for k, v in JAZZ.items() if k != "gender"}
        lacking = score_of(client, {"gender": "F", **rest}, "pop")
        expected.append(("clicked", value, pytest.approx(score - lacking, abs=1e-4)))
    found = [(v.domain, v.value, v.contribution) for v in jazz.values]
    assert sorted(expected, key=lambda entry: -abs(entry[2].expected)) == found
    assert abs(jazz.values[0].contribution) > 0.001
    assert sum(value.attention for value in jazz.values) == pytest.approx(1, rel=1e-5)
    others = {(value.domain, value.value) for value in folk.values}
    assert others == {("skipped", "folk"), ("recent", "never seen")}


def test_client_is_told_what_each_feature_does_to_the_score(client):
    (explanation,) = client.explain([JAZZ], ["jazz"]).explanations

    names = [profile.name for profile in SPEC.profile] + [domain.name for domain in SPEC.domains]
    assert [feature.feature for feature in explanation.features] == names
    score = score_of(client, JAZZ, "jazz")
    nameless = {name: value for name, value in JAZZ.items() if name != "gender"}
    for name, lacking in (("gender", nameless), ("clicked", {"gender": "F"}), ("skipped", JAZZ)):
        contribution = explanation.features[names.index(name)].contribution
        assert contribution == pytest.approx(score - score_of(client, lacking, "jazz"), abs=1e-4)
    assert sum(feature.attention for feature in explanation.features) == pytest.approx(1, rel=1e-5)


def test_user_of_whom_nothing_is_known_is_explained(client):
    (explanation,) = client.explain([{}], ["jazz"]).explanations
    assert explanation.values == ()
    assert explanation.memory == 0
    assert explanation.score == pytest.approx(score_of(client, {}, "jazz"), rel=1e-4)
    assert [f.contribution for f in explanation.features] == pytest.approx([0] * 7, abs=1e-5)


def test_unknown_tag_has_no_score_and_the_others_of_the_batch_have(client):
    unknown, known = client.explain([JAZZ, JAZZ], ["no tag", "pop"]).explanations
    assert np.isnan(unknown.score) and np.isnan([v.contribution for v in unknown.values]).all()
    assert [value.value for value in unknown.values] == JAZZ["clicked"]
    assert np.isfinite(known.score)


@pytest.mark.parametrize(
    ("features", "tags", "message"),
    [
        ([JAZZ], [], "`tags` must name one tag for each of the 1 instances. Received: 0 tags."),
        ([JAZZ], "pop", "`tags` must be a list of strings. Received: tags='pop'."),
        ([JAZZ], [3], "`tags` must be a list of strings"),
        ([], [], "`features` must hold at least one instance"),
        ([{"explained_tag": "pop"}], ["pop"], r"must name features of the model \(age, .*\)"),
    ],
)
def test_callers_mistake_is_refused(client, features, tags, message):
    with pytest.raises(ValueError, match=message):
        client.explain(features, tags)


@pytest.mark.parametrize(
    ("name", "advice"),
    [("older", "The version is older than that"), ("other", "Is it a servable of `tagtower run`")],
)
def test_version_without_explanations_is_named(target, name, advice):
    with TagClient(target, model_name=name, timeout_s=60) as client:
        with pytest.raises(TagClientError, match=f"`{name}` has no signature `explain`.* {advice}"):
            client.explain([{}], ["jazz"])


def query(target, *arguments):
    return main(
        ["query", "--server", target, "--model_name", "tags", "--timeout", "60"]
        + ["--features", json.dumps(JAZZ), *arguments]
    )


def test_query_prints_the_change_without_each_value_and_feature(target, client, capsys):
    status = query(target, "--explain", "pop", "--num_tags", "2")

    assert status == 0
    (explanation,) = client.explain([JAZZ], ["pop"]).explanations
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines[0][:3] == ["pop:", "score", f"{explanation.score:.3f};"]
    values = [
        [value.domain, value.value, f"{0.0 - value.contribution:.3f}", f"{value.attention:.3f}"]
        for value in explanation.values[:2]
    ]
    assert lines[4:6] == values
    features = [
        [feature.feature, f"{0.0 - feature.contribution:.3f}", f"{feature.attention:.3f}"]
        for feature in explanation.features
    ]
    assert lines[9:16] == features
    assert lines[16] == ["model", "version", "1"]


def test_query_as_json_has_the_explanation(target, client, capsys):
    status = query(target, "--explain", "pop", "--json", "--num_tags", "2")

    assert status == 0
    (explanation,) = client.explain([JAZZ], ["pop"]).explanations
    content = json.loads(capsys.readouterr().out)
    assert content["tag"] == "pop" and content["version"] == 1
    assert content["score"] == pytest.approx(explanation.score)
    assert [value["value"] for value in content["values"]] == [
        value.value for value in explanation.values[:2]
    ]
    assert len(content["features"]) == len(explanation.features)


def test_query_for_an_unknown_tag_says_so(target, capsys):
    status = query(target, "--explain", "no tag")

    assert status == 2
    assert "`explain` must be a tag that the model knows. Received: no tag." in (
        capsys.readouterr().err
    )
