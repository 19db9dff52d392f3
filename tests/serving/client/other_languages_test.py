"""The programs of docs/clients/ in Go, Java and Node ask a real server, right and wrong."""

import contextlib
import json
import re
import shlex
import socket
import urllib.request

import numpy as np
import pytest
import tensorflow as tf

from serving.client import TagClient
from serving.index.top_k import BruteForceIndex
from serving.model_server.callers.tokens import TokenFile
from serving.model_server.callers.transport_security import TransportSecurity, read_certificates
from serving.model_server.models.model_config import ModelConfig
from serving.model_server.server import ModelServer
from serving.servable.event_features import EventFeatures
from serving.servable.export import export_servable
from serving.servable.retrieval import TagRetrieval
from tests.hostile.certificates import Authority, ssl_config
from tests.serving.client.flaky_service import FlakyService, serve
from tests.serving.client.listening_towers import DESCRIPTION, SPEC, VECTORS, K, ListeningTowers
from tests.serving.client.other_languages import PAGE, TOOLS, build
from trainer.contract.tag_normalization import TagNormalization

pytestmark = pytest.mark.clients

WAIT_S = 60
SIGNATURE = "retrieve_events_flat"
# The events that every program sends.
USERS = {
    "country": np.array([b"at", b""], object),
    "now": np.array([1700003600.0] * 2),
    "num_events": np.array([2, 1]),
    "event_item_id": np.array([b"i1", b"i2", b"i3"], object),
    "event_clicked": np.array([1, 0, 1]),
    "event_time": np.array([1700000000, 1700000060, 1700000120]),
    "event_num_tags": np.array([2, 1, 1]),
    "event_tags": np.array([b"Jazz", b"folk", b"metal", b"metal"], object),
}


@pytest.fixture(scope="module", params=TOOLS)
def program(request, tmp_path_factory):
    return build(request.param, tmp_path_factory.mktemp(request.param) / "program")


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """Runs a server of a model with events, and of one whose signature takes something else."""
    folder = tmp_path_factory.mktemp("models")
    ListeningTowers().save(folder / "towers")
    towers = tf.saved_model.load(str(folder / "towers"))
    export_servable(
        TagRetrieval(towers, BruteForceIndex(VECTORS), K),
        str(folder / "default" / "1"),
        DESCRIPTION,
        event_features=EventFeatures(SPEC, TagNormalization()),
    )
    other = tf.Module()
    other.double = tf.function(
        lambda x: {"y": 2 * x}, input_signature=[tf.TensorSpec([None], tf.float32, "x")]
    )
    tf.saved_model.save(other, str(folder / "other" / "1"), {SIGNATURE: other.double})
    models = [
        ModelConfig("default", str(folder / "default"), version_labels={"stable": 1}),
        ModelConfig("other", str(folder / "other")),
    ]
    with ModelServer(models, rest_api_port=0, host="127.0.0.1", poll_wait_s=0.02) as server:
        server.wait_until_available(120)
        yield server


@pytest.fixture
def silent():
    """Listens and never answers; yields the address."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield f"127.0.0.1:{listening.getsockname()[1]}"


@pytest.fixture
def closed():
    """Yields an address that refuses connections, and that nobody else can take meanwhile."""
    with contextlib.closing(socket.socket()) as bound:
        bound.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{bound.getsockname()[1]}"


def table(rows: list[list[str]], scores: list[list[float]]) -> list[tuple[int, str, float]]:
    """Returns user, tag and score, a row each, as the programs print them."""
    return [
        (user, tag, score)
        for user, (tags, of_user) in enumerate(zip(rows, scores, strict=True))
        for tag, score in zip(tags, of_user, strict=True)
    ]


@pytest.fixture(scope="module")
def expected(server):
    """Returns the answer to Python, which a calculation by hand confirms."""
    with TagClient(f"127.0.0.1:{server.port}", timeout_s=WAIT_S) as client:
        outputs = client.predict(USERS, SIGNATURE).outputs
    answer = table(
        [[tag.decode() for tag in tags] for tags in outputs["tags"]], outputs["scores"].tolist()
    )
    # User 0: [0, 2, 0] of the country + [3, 1, 0] of jazz + [1, -1, 2] of folk = [4, 2, 2]; the
    # skipped item does not count. User 1: [1, 0, 0] of no country + [0, 4, 0] of metal.
    assert answer == [
        *((0, "jazz", 14.0), (0, "blues", 10.0), (0, "metal", 8.0)),
        *((1, "metal", 16.0), (1, "techno", 8.0), (1, "jazz", 7.0)),
    ]
    return answer


def test_curl_gets_the_answer_that_python_gets(server, expected):
    (block,) = re.findall(r"^```sh\n(curl .*?)^```", PAGE.read_text("utf-8"), re.M | re.S)
    words = shlex.split(block)
    assert words[-1] == "localhost:8501/v1/models/default:predict"
    address = words[-1].replace("localhost:8501", f"127.0.0.1:{server.rest_api_port}")

    request = urllib.request.Request(f"http://{address}", words[words.index("-d") + 1].encode())
    with urllib.request.urlopen(request, timeout=WAIT_S) as response:
        users = json.loads(response.read())["predictions"]

    assert table([user["tags"] for user in users], [user["scores"] for user in users]) == expected


def test_answer_on_the_page_is_that_of_the_server(expected):
    (block,) = re.findall(r"^```text\n(0\t.*?)^```", PAGE.read_text("utf-8"), re.M | re.S)
    rows = [line.split("\t") for line in block.splitlines()]
    assert [(int(user), tag, float(score)) for user, tag, score in rows] == expected


def ended(process) -> tuple[int, str, str]:
    """Returns exit status and what a program wrote to its output and to its error output."""
    out, err = process.communicate(timeout=WAIT_S * 5)
    return process.returncode, out, err


def code_of(line: str) -> str:
    """Returns the code at the begin of a line; Go writes `NotFound`, others `NOT_FOUND`."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", line.partition(":")[0]).upper()


@pytest.mark.parametrize("label", [{}, {"label": "stable"}], ids=["newest", "label"])
def test_program_gets_the_answer_that_python_gets(program, server, expected, label):
    process = program.start(server=f"127.0.0.1:{server.port}", timeout_s=WAIT_S, **label)

    status, out, err = ended(process)

    assert (status, err) == (0, "")
    rows = [line.split("\t") for line in out.splitlines()]
    assert [(int(user), tag) for user, tag, _ in rows] == [row[:2] for row in expected]
    scores = [float(score) for _, _, score in rows]
    assert scores == pytest.approx([score for _, _, score in expected], abs=1e-6)


def test_failed_call_is_one_line_that_says_what_to_do(program, server, silent, closed):
    address = f"127.0.0.1:{server.port}"
    processes = {
        "INVALID_ARGUMENT": program.start(server=address, model="other", timeout_s=WAIT_S),
        "NOT_FOUND": program.start(server=address, model="absent", timeout_s=WAIT_S),
        "DEADLINE_EXCEEDED": program.start(server=silent, timeout_s=1),
        "UNAVAILABLE": program.start(server=closed, timeout_s=WAIT_S),
    }

    ends = {code: ended(process) for code, process in processes.items()}

    for code, advice in (
        ("INVALID_ARGUMENT", "Missing but required: {x}. (correct the request"),
        ("NOT_FOUND", "Latest(absent) (check the name of the model"),
        ("DEADLINE_EXCEEDED", "timeout_s, or send fewer users"),
        ("UNAVAILABLE", "(no server answers there"),
    ):
        status, out, err = ends[code]
        (line,) = err.splitlines()
        assert (status, out) == (1, "")
        assert (code_of(line), advice in line) == (code, True), line


def test_call_that_finds_no_server_is_made_three_times(program):
    service = FlakyService()
    service.num_failures = 9
    with serve(service):
        status, _, err = ended(program.start(server=service.target, timeout_s=WAIT_S))

    assert (status, code_of(err)) == (1, "UNAVAILABLE")
    assert "not now" in err
    assert len(service.times) == 3


@pytest.fixture(scope="module")
def guarded(tmp_path_factory):
    """Runs a server without a model that asks for TLS and a token; yields it and the files."""
    folder = tmp_path_factory.mktemp("guarded")
    authority = Authority(folder)
    (folder / "token").write_text("t" * 32 + "\n")
    security = TransportSecurity(
        read_certificates(str(ssl_config(folder, *authority.issue("server")))),
        TokenFile(str(folder / "token")),
    )
    with ModelServer([], security=security) as server:
        # By its name: in TLS no address may be asked for, of which Node warns.
        yield (
            f"localhost:{server.port}",
            {
                "ca_file": authority.path,
                "token_file": folder / "token",
            },
        )


def test_certificate_and_token_are_those_of_the_flags(program, guarded):
    address, files = guarded
    token_file = files["token_file"]
    asked = [
        program.start(server=address, timeout_s=WAIT_S, **files),
        program.start(server=address, timeout_s=WAIT_S, ca_file=files["ca_file"]),
        program.start(server=address, timeout_s=WAIT_S, token_file=token_file),
    ]

    codes = [code_of(ended(process)[2]) for process in asked]

    # An admitted caller is told that there is no model.
    assert codes == ["NOT_FOUND", "UNAUTHENTICATED", "UNAVAILABLE"]
