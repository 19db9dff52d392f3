"""One servable gives `query`, the client and a batch prediction the same answer for a user."""

import json

import numpy as np
import pytest
import tensorflow as tf

from serving.batch.batch_predict import BatchPredictConfig, batch_predict
from serving.client import TagClient
from serving.index.top_k import BruteForceIndex
from serving.model_server.callers.tokens import TokenFile
from serving.model_server.callers.transport_security import Certificates, TransportSecurity
from serving.model_server.models.model_config import ModelConfig
from serving.model_server.server import ModelServer
from serving.servable.export import export_servable
from serving.servable.retrieval import TagRetrieval
from tests.serving.client.certificates import make_certificate
from tests.serving.model_server.toy_models import save_retriever
from tests.toy_towers import ToyTowers
from tfx_pipeline.cli import main

NUM_USERS, NUM_TAGS, SIZE = 7, 30, 4
RUNNER = ["--runner=DirectRunner", "--direct_running_mode=in_memory"]


@pytest.fixture(scope="module")
def version_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("servable")
    rng = np.random.default_rng(0)
    users, tags, clicks = (rng.normal(size=(n, SIZE)) for n in (NUM_USERS, NUM_TAGS, NUM_TAGS))
    ToyTowers(users, tags, clicks, click_weight=0.3).save(folder / "towers")
    module = TagRetrieval(
        tf.saved_model.load(str(folder / "towers")),
        BruteForceIndex(tags),
        k=6,
        num_candidates=15,
        tag_slope=1.2,
        tag_intercept=0.5,
    )
    version = folder / "base" / "1"
    export_servable(module, str(version), {"index": {"num_tags": NUM_TAGS}})
    return version


@pytest.fixture(scope="module")
def target(version_dir):
    config = ModelConfig("default", str(version_dir.parent))
    with ModelServer([config], host="127.0.0.1", poll_wait_s=0.02) as server:
        server.wait_until_available(60)
        yield f"127.0.0.1:{server.port}"


@pytest.fixture(scope="module")
def profiles(target):
    with TagClient(target, timeout_s=60) as client:
        return client.retrieve([{"name": f"u{i}"} for i in range(NUM_USERS)]).profiles


def test_client_gets_a_probability_beside_every_score(profiles):
    for profile in profiles:
        assert len(profile.tags) == len(profile.scores) == len(profile.probabilities) == 6
        assert list(profile.scores) == sorted(profile.scores, reverse=True)
        assert all(0 < probability < 1 for probability in profile.probabilities)
    # They are not another form of the scores: the second stage orders by something else.
    assert any(list(p.probabilities) != sorted(p.probabilities, reverse=True) for p in profiles)


def test_batch_prediction_says_what_the_server_says(version_dir, profiles, tmp_path):
    path = tmp_path / "in.jsonl"
    path.write_text("".join(f'{{"name": "u{i}"}}\n' for i in range(NUM_USERS)))

    batch_predict(
        BatchPredictConfig(str(version_dir), str(path), str(tmp_path / "out"), num_tags=4), RUNNER
    )

    (results,) = (tmp_path / "out").glob("prediction.results*")
    lines = [json.loads(line) for line in results.read_text().splitlines()]
    by_name = {line["instance"]["name"]: line["prediction"] for line in lines}
    for i, profile in enumerate(profiles):
        prediction = by_name[f"u{i}"]
        assert prediction["tags"] == list(profile.tags[:4])
        assert prediction["scores"] == pytest.approx(list(profile.scores[:4]), rel=1e-5)
        probabilities = list(profile.probabilities[:4])
        assert prediction["probabilities"] == pytest.approx(probabilities, rel=1e-5)


def test_query_prints_a_probability_beside_every_score(target, profiles, capsys):
    arguments = ["query", "--server", target, "--timeout", "60", "--num_tags", "3"]

    status = main([*arguments, "--features", '{"name": "u2"}'])

    assert status == 0
    header, rule, *rows, version = capsys.readouterr().out.splitlines()
    assert header.split() == ["rank", "tag", "score", "probability"]
    expected = zip(profiles[2].tags, profiles[2].scores, profiles[2].probabilities, strict=True)
    assert [row.split() for row in rows] == [
        [str(rank), tag, f"{score:.3f}", f"{probability:.3f}"]
        for rank, (tag, score, probability) in enumerate(list(expected)[:3], start=1)
    ]
    assert version == "model version 1"


def test_query_as_json_has_the_probabilities(target, profiles, capsys):
    status = main(
        ["query", "--server", target, "--timeout", "60", "--json"]
        + ["--features", '{"name": "u2"}', "--num_tags", "3"]
    )

    assert status == 0
    content = json.loads(capsys.readouterr().out)
    assert content["tags"] == list(profiles[2].tags[:3])
    assert content["probabilities"] == pytest.approx(list(profiles[2].probabilities[:3]))


@pytest.fixture
def items_file(tmp_path):
    """Writes items i<j> with the one tag t<j>, and one with every tag, clicked most often."""
    tags = [f"t{j}" for j in range(NUM_TAGS)]
    rows = [{"item_id": f"i{j}", "clicks": 1, "tags": [tag]} for j, tag in enumerate(tags)]
    rows.append({"item_id": "top", "clicks": 9, "tags": tags})
    path = tmp_path / "items.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return path


def test_query_shows_the_items_that_the_shown_tags_recall(target, profiles, items_file, capsys):
    arguments = ["query", "--server", target, "--timeout", "60", "--features", '{"name": "u2"}']
    arguments += ["--num_tags", "3", "--items_file", str(items_file)]
    expected = ["top", *(f"i{tag[1:]}" for tag in profiles[2].tags[:3])]

    main([*arguments, "--items", "9"])
    table = capsys.readouterr().out.splitlines()
    main([*arguments, "--items", "2", "--json"])
    content = json.loads(capsys.readouterr().out)

    assert table[-2:] == [f"items {' '.join(expected)}", "model version 1"]
    assert content["items"] == expected[:2]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--items", "0"], "`items` must be a positive integer. Received: items=0."),
        (["--items", "3"], "give --items_file or --config with --items."),
        (["--items", "3", "--items_file", "gone.jsonl"], "gone.jsonl: No such file"),
    ],
)
def test_query_that_cannot_recall_items_is_one_clear_line(flags, message, capsys):
    status = main(["query", "--features", "{}", *flags])

    assert status == 2
    assert message in capsys.readouterr().err


def test_query_of_a_version_without_probabilities_shows_none(tmp_path, capsys):
    save_retriever(tmp_path / "base" / "1", 1)
    config = ModelConfig("default", str(tmp_path / "base"))
    with ModelServer([config], host="127.0.0.1", poll_wait_s=0.02) as server:
        server.wait_until_available(60)
        arguments = ["query", "--server", f"127.0.0.1:{server.port}", "--timeout", "60"]
        arguments += ["--features", '{"gender": "F", "recent": ["jazz"]}']
        main(arguments)
        table = capsys.readouterr().out.splitlines()
        main([*arguments, "--json"])
        content = json.loads(capsys.readouterr().out)

    assert [line.split() for line in table[2:4]] == [
        ["1", "F", "1.000", "-"],
        ["2", "jazz", "-1.000", "-"],
    ]
    assert content["probabilities"] is None


def test_query_shows_a_certificate_and_a_token(version_dir, tmp_path, capsys):
    certificate, key = make_certificate("127.0.0.1")
    (tmp_path / "cert.pem").write_bytes(certificate)
    (tmp_path / "key.pem").write_bytes(key)
    (tmp_path / "tokens").write_text("t" * 32)
    (tmp_path / "tokens").chmod(0o600)
    security = TransportSecurity(
        # It is self-signed, so it is the authority for the caller as well.
        Certificates(key, certificate, certificate, requires_client=True),
        TokenFile(str(tmp_path / "tokens")),
    )
    config = ModelConfig("default", str(version_dir.parent))
    with ModelServer([config], poll_wait_s=0.02, security=security) as server:
        server.wait_until_available(60)
        target = f"127.0.0.1:{server.port}"
        asked = ["query", "--server", target, "--features", '{"name": "u0"}', "--timeout", "60"]
        tls = ["--ca_file", str(tmp_path / "cert.pem")]
        pair = ["--client_cert", str(tmp_path / "cert.pem"), "--client_key"]
        pair += [str(tmp_path / "key.pem")]
        token = ["--token_file", str(tmp_path / "tokens")]

        assert main([*asked, *tls, *pair, *token, "--num_tags", "1"]) == 0
        assert "model version 1" in capsys.readouterr().out
        versions = ["versions", "--model_base_path", str(version_dir.parent), "--server", target]
        assert main([*versions, *tls, *pair, *token]) == 0
        assert "serves" in capsys.readouterr().out
        for flags in ([*tls, *pair], [*pair, "--timeout", "1"]):
            assert main([*asked, *flags]) == 2
            assert len(capsys.readouterr().err.strip().splitlines()) == 1
        assert main([*asked, *tls, "--client_cert", "x"]) == 2
        assert "give --client_cert and --client_key together." in capsys.readouterr().err
