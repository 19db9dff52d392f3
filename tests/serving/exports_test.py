"""Both exports of a run: their ops, their warm-up records, and the same answers without Python."""

import json
import re
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.python.saved_model import loader_impl
from tensorflow_serving.apis import prediction_log_pb2

from serving.model_server.batching.join_rules import JoinRule
from serving.model_server.batching.parameters import BatchingParameters
from serving.model_server.batching.scheduler import BatchScheduler
from serving.model_server.counts.metrics import Metrics
from serving.model_server.errors import ServingError
from serving.model_server.models.load_memory import VersionSizes
from serving.model_server.models.loading import load_servable
from serving.model_server.session.predict import run_signature
from serving.model_server.session.servable import Servable
from tagtower_client.feature_tensors import input_slots, to_tensors
from tagtower_client.tensor_proto import to_numpy
from tests.serving.native_program import (
    ENVIRONMENT,
    build_program,
    run_program,
    scann_library,
)
from tests.serving.real_exports import NUM_TAGS, USER_IDS, K
from tests.serving.wire.tensor_file import read_tensors, write_tensors
from trainer.contract import signatures as s
from trainer.contract.manifest import write_manifest

ROOT = Path(__file__).parents[2]
COMPARED = (
    s.SERVING_DEFAULT,
    s.RETRIEVE,
    s.EMBED_USERS,
    s.SCORE_TAGS,
    s.SIMILAR_TAGS,
    s.SCORE_ITEMS,
)
NOT_REGISTERED = "Op type not registered 'Scann>"


@pytest.fixture(scope="module")
def exports(real_exports):
    return real_exports


@pytest.fixture(scope="module")
def slots(exports):
    (meta_graph,) = loader_impl.parse_saved_model(str(exports.exact)).meta_graphs
    return input_slots(meta_graph.signature_def[s.RETRIEVE])


# Ops.


@pytest.fixture(scope="module")
def stock_process(exports, tmp_path_factory):
    script = Path(__file__).with_name("stock_process.py")
    finished = subprocess.run(
        [sys.executable, str(script), str(exports.exact), str(exports.scann)],
        capture_output=True,
        text=True,
        cwd=tmp_path_factory.mktemp("elsewhere"),
        env={name: value for name, value in ENVIRONMENT.items() if name != "PYTHONPATH"},
    )
    assert finished.returncode == 0, finished.stderr
    return json.loads(finished.stdout.splitlines()[-1])


def test_exact_export_has_stock_ops_alone_and_loads_without_any_library(exports, stock_process):
    imported = {name.partition(".")[0] for name in stock_process["modules"]}
    assert "tensorflow" in imported
    assert not imported & {
        "scann",
        "tensorflow_text",
        "struct2tensor",
        "tensorflow_decision_forests",
        "tensorflow_transform",
        "tfx_bsl",
        "serving",
        "trainer",
        "tfx_pipeline",
    }
    found = stock_process["found"][str(exports.exact)]
    # The check includes ops that are only in functions.
    assert {"MatMul", "TopKV2", "ParseExampleV2", "LookupTableFindV2"} <= set(found["ops"])
    assert found["unknown"] == []
    assert found["error"] is None


def test_scann_export_does_not_load_where_its_ops_are_not(exports, stock_process):
    found = stock_process["found"][str(exports.scann)]

    assert found["unknown"] and all(op.startswith("Scann>") for op in found["unknown"])
    assert NOT_REGISTERED in found["error"]


# Warm-up.


def records(version_dir: Path) -> list:
    path = str(version_dir / s.WARMUP_FILE)
    return [
        prediction_log_pb2.PredictionLog.FromString(record).predict_log.request
        for record in tf.data.TFRecordDataset(path).as_numpy_iterator()
    ]


@pytest.mark.parametrize("kind", ["scann", "exact"])
def test_warmup_has_every_signature_with_its_inputs_and_serves(exports, kind):
    version_dir = getattr(exports, kind)
    servable = load_servable(str(version_dir), 1)
    definitions = servable.signature_defs
    servable.close()
    warmed = {request.model_spec.signature_name for request in records(version_dir)}

    # A server that batches refuses a request without inputs.
    without_inputs = {name for name, definition in definitions.items() if not definition.inputs}
    assert without_inputs == {s.CANDIDATES, "__saved_model_init_op"} & set(definitions)
    assert warmed == set(definitions) - without_inputs
    for request in records(version_dir):
        inputs = definitions[request.model_spec.signature_name].inputs
        assert set(request.inputs) == set(inputs)
        # It also refuses inputs with different numbers of rows, so the flat forms have equal ones.
        sizes = {tensor.tensor_shape.dim[0].size for tensor in request.inputs.values()}
        assert sizes in ({1}, {3})


def test_warmup_asks_with_features_of_users_and_not_with_who_they_are(exports, slots):
    given = [tf.train.Example.FromString(example).features.feature for example in exports.examples]
    expected = to_tensors(
        [
            {
                "gender": user["gender"].bytes_list.value[0].decode(),
                "clicked": [tag.decode() for tag in user["clicked"].bytes_list.value],
                "clicked_weights": list(user["clicked_weights"].float_list.value),
            }
            for user in given[:3]
        ],
        slots,
    )
    assert sum(map(bool, expected["clicked"].ravel())) > 3

    unknown, known = (
        {name: tf.make_ndarray(tensor) for name, tensor in request.inputs.items()}
        for request in records(exports.exact)
        if request.model_spec.signature_name == s.RETRIEVE
    )

    assert unknown["clicked"].shape == (1, 0)
    for name, values in expected.items():
        np.testing.assert_array_equal(known[name], values)
    _, serialized = (
        tf.make_ndarray(request.inputs[s.EXAMPLES])
        for request in records(exports.exact)
        if request.model_spec.signature_name == s.SERVING_DEFAULT
    )
    for text, user in zip(serialized, given, strict=False):
        kept = tf.train.Example.FromString(text).features.feature
        assert set(kept) == {"gender", "clicked", "clicked_weights"}
        assert all(kept[name] == user[name] for name in kept)
    written = (exports.exact / s.WARMUP_FILE).read_bytes()
    assert not any(user.encode() in written for user in USER_IDS)


@pytest.mark.parametrize("kind", ["scann", "exact"])
def test_warmup_sees_tags_that_changed_places(exports, kind, tmp_path):
    version = Path(shutil.copytree(getattr(exports, kind), tmp_path / "1"))
    found = 0
    for path in sorted((version / "assets").iterdir()):
        lines = path.read_bytes().splitlines(keepends=True)
        if len(lines) < 50:
            continue
        path.write_bytes(b"".join([lines[-1], *lines[1:-1], lines[0]]))
        found += 1
    assert found
    with pytest.raises(ServingError, match="`assets/.*` has changed since it was written"):
        load_servable(str(version), 1)
    write_manifest(str(version))
    with pytest.raises(ServingError, match="Warm-up: signature `.*` answers differently.*: `"):
        load_servable(str(version), 1)


@pytest.mark.parametrize("onednn", ["0", "1"])
def test_warmup_takes_the_answers_of_other_kernels(exports, onednn):
    # Differences between machines, as far as this one has them: kernels, and threads of an op.
    script = (
        "import sys\nfrom serving.model_server.models.loading import load_servable\n"
        "for path in sys.argv[1:]: load_servable(path, 1).close()"
    )
    environment = {**ENVIRONMENT, "TF_ENABLE_ONEDNN_OPTS": onednn, "TF_NUM_INTRAOP_THREADS": "1"}
    finished = subprocess.run(
        [sys.executable, "-c", script, str(exports.exact), str(exports.scann)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=environment,
    )
    assert finished.returncode == 0, finished.stderr


# Batching.

# No inputs; or, in the flat forms, inputs with other numbers of rows than users; or lists as wide
# as those of the widest user of the batch.
NOT_JOINED = {
    s.CANDIDATES,
    "__saved_model_init_op",
    s.RETRIEVE_EVENTS_FLAT,
    s.EVENT_FEATURES,
    s.EVENT_FEATURES_FLAT,
}


@pytest.fixture(scope="module", params=["scann", "exact"])
def loaded(request, exports):
    servable = Servable(str(getattr(exports, request.param)))
    yield servable
    servable.close()


def test_batch_is_the_first_dimension_of_every_signature_that_is_joined(loaded):
    joined = {
        name for name, signature in loaded.signatures.items() if JoinRule(signature, True).is_joined
    }

    assert joined == set(loaded.signatures) - NOT_JOINED
    for name in joined:
        signature = loaded.signatures[name]
        slots = [*signature.inputs.values(), *signature.outputs.values()]
        assert {slot.shape[0] for slot in slots} == {-1}, name
    # The lists of these may have any width in a batch; the answers of the others are as wide.
    assert {name for name in joined if is_padded(loaded.signatures[name])} >= {
        s.RETRIEVE,
        s.RETRIEVE_FILTERED,
        s.RETRIEVE_EVENTS,
        s.EMBED_USERS,
    }


def is_padded(signature) -> bool:
    return all(min(slot.shape[1:], default=0) >= 0 for slot in signature.outputs.values())


def one_by_one(tensors: dict[str, np.ndarray]) -> list[dict[str, np.ndarray]]:
    """Returns each row as a request of its own, with a list as wide as that user needs."""
    singles = []
    for row in range(len(next(iter(tensors.values())))):
        single = {name: array[row : row + 1] for name, array in tensors.items()}
        width = max(1, int(np.sum(single["clicked"] != b""))) if "clicked" in single else 1
        for name in ("clicked", "clicked_weights"):
            if name in single:
                single[name] = single[name][:, :width]
        singles.append(single)
    return singles


def call_joined(servable, signature, singles):
    """Returns the answers of requests that wait for each other, and the number of batches."""
    metrics = Metrics()
    parameters = BatchingParameters(64, 3_600_000_000, pad_variable_length_inputs=True)
    scheduler = BatchScheduler(parameters, metrics)
    run = scheduler.runner(servable, "tags", lambda: True)
    with ThreadPoolExecutor(len(singles)) as threads:
        futures = [
            threads.submit(run_signature, servable, signature, single, run=run)
            for single in singles
        ]
        end = time.monotonic() + 60
        while scheduler.num_waiting < len(singles):
            assert time.monotonic() < end and not any(future.done() for future in futures)
            time.sleep(0.001)
        scheduler.close()
        answers = [future.result() for future in futures]
    found = re.search(r"processed_batch_size_count\{.*\} (\d+)", metrics.page())
    return answers, int(found[1])


def test_joined_requests_are_answered_as_single_ones(exports, loaded):
    largest = {}
    for request in records(exports.exact):
        tensors = {name: to_numpy(tensor) for name, tensor in request.inputs.items()}
        signature = loaded.signatures[request.model_spec.signature_name]
        if "scann" in loaded.path and not signature.name.startswith(s.RETRIEVE):
            continue  # the same graph in both exports
        if JoinRule(signature, True).is_joined and len(next(iter(tensors.values()))) > 1:
            largest[signature.name] = tensors
    assert {s.RETRIEVE, s.RETRIEVE_EVENTS} <= set(largest)
    assert "scann" in loaded.path or {s.SERVING_DEFAULT, s.EXPLAIN} <= set(largest)
    for name, tensors in largest.items():
        signature = loaded.signatures[name]
        singles = one_by_one(tensors)
        shapes = {tuple(array.shape for array in single.values()) for single in singles}
        assert len(shapes) > 1 or "clicked" not in tensors

        answers, num_batches = call_joined(loaded, signature, singles)

        assert num_batches == (1 if is_padded(signature) else len(shapes)), name
        for single, answer in zip(singles, answers, strict=True):
            expected = run_signature(loaded, signature, single)
            for output, values in expected.items():
                assert answer[output].shape == values.shape, (name, output)
                if values.dtype == object:
                    assert answer[output].tolist() == values.tolist(), (name, output)
                else:
                    np.testing.assert_allclose(answer[output], values, rtol=1e-5, atol=1e-5)


# C.


@pytest.fixture(scope="module")
def program(tmp_path_factory) -> Path:
    return build_program(tmp_path_factory.mktemp("native"))


@pytest.fixture(scope="module")
def requests_of(exports, slots) -> dict[str, dict[str, np.ndarray]]:
    """Returns, by signature, inputs for some twenty users: known, unknown, without a history."""
    rng = np.random.default_rng(7)
    users: list[dict] = [{}, {"gender": "?", "clicked": ["never seen", "tag 01", "né"]}]
    for i in range(18):
        tags = [f"tag {j:02d}" for j in rng.permutation(NUM_TAGS)[: rng.integers(0, 15)]]
        weights = rng.uniform(0.5, 9.0, len(tags)).astype(np.float32).tolist()
        users.append({"gender": "FM"[i % 2], "clicked": tags, "clicked_weights": weights})
    raw = to_tensors(users, slots)
    tags = np.array([[b"tag 00", b"tag 89", b"never seen"]] * len(users), object)
    items = np.array([[[b"tag 01", b"tag 02"], [b"tag 77", b""]]] * len(users), object)
    return {
        s.SERVING_DEFAULT: {s.EXAMPLES: np.array(exports.examples[:20], object)},
        s.RETRIEVE: raw,
        s.EMBED_USERS: raw,
        s.SCORE_TAGS: {**raw, s.CANDIDATE_TAGS: tags},
        s.SIMILAR_TAGS: {s.SIMILAR_TO: np.array([b"tag 00", b"tag 77", b"never seen"], object)},
        s.SCORE_ITEMS: {**raw, s.ITEM_TAGS: items},
    }


@pytest.fixture(scope="module")
def python_answers(exports, requests_of, tmp_path_factory) -> dict[str, Path]:
    """Writes Python's answers; returns their folder by kind of index."""
    folder = tmp_path_factory.mktemp("python")
    inputs = folder / "inputs.npz"
    np.savez(
        inputs, **{f"{c}.{n}": a for c, named in requests_of.items() for n, a in named.items()}
    )
    command = [sys.executable, "-m", "tests.serving.python_answers", scann_library()]
    for kind in ("scann", "exact"):
        (folder / kind).mkdir()
        command += [str(getattr(exports, kind)), str(inputs), str(folder / kind)]
    finished = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=ENVIRONMENT)
    assert finished.returncode == 0, finished.stderr
    return {kind: folder / kind for kind in ("scann", "exact")}


@pytest.mark.parametrize("kind", ["scann", "exact"])
def test_c_program_gives_bit_for_bit_what_python_gives(
    program, exports, requests_of, python_answers, tmp_path, kind
):
    arguments: list[object] = ["--library", scann_library()] if kind == "scann" else []
    arguments += ["--threads", 1, getattr(exports, kind)]
    for name in COMPARED:
        inputs = write_tensors(tmp_path / f"{name}.inputs", requests_of[name])
        arguments += [name, inputs, tmp_path / name]

    finished = run_program(program, *arguments)

    assert finished.returncode == 0, finished.stderr
    answers = {name: (tmp_path / name).read_bytes() for name in COMPARED}
    assert answers == {name: (python_answers[kind] / name).read_bytes() for name in COMPARED}
    assert len(set(answers.values())) == len(COMPARED)
    # And it is an answer: 7 tags, string, for each of 20 users.
    assert f"tensor tags 7 2 20 {K}\n".encode() in answers[s.RETRIEVE]
    assert answers[s.RETRIEVE].count(b"tag ") >= 20 * K // 2


def test_c_program_without_the_ops_is_refused_and_writes_nothing(
    program, exports, requests_of, tmp_path
):
    inputs = write_tensors(tmp_path / "inputs", requests_of[s.RETRIEVE])

    finished = run_program(program, exports.scann, s.RETRIEVE, inputs, tmp_path / "outputs")

    assert finished.returncode == 1
    assert NOT_REGISTERED in finished.stderr
    assert not (tmp_path / "outputs").exists()


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({s.QUERY_EMBEDDINGS: np.zeros((1, 2), np.float32)}, "has no input query_embeddings"),
        ({}, "input clicked is missing"),
    ],
)
def test_c_program_says_which_input_is_wrong(program, exports, tmp_path, inputs, message):
    path = write_tensors(tmp_path / "inputs", inputs)

    finished = run_program(program, exports.exact, s.RETRIEVE, path, tmp_path / "outputs")

    assert finished.returncode == 2
    assert message in finished.stderr


def test_both_exports_answer_alike(python_answers):
    # The towers are the same, and this ScaNN index searches every tag.
    for asked in (s.RETRIEVE, s.SERVING_DEFAULT):
        exact, scann = (read_tensors(python_answers[kind] / asked) for kind in ("exact", "scann"))
        assert exact[s.TAGS].tolist() == scann[s.TAGS].tolist()
        for name in (s.SCORES, s.PROBABILITIES):
            np.testing.assert_allclose(exact[name], scann[name], rtol=1e-4)
    for name in (s.EMBED_USERS, s.SIMILAR_TAGS, s.SCORE_ITEMS):
        answers = [(python_answers[kind] / name).read_bytes() for kind in ("exact", "scann")]
        assert answers[0] == answers[1]


# Memory.


@pytest.mark.parametrize("kind", ["scann", "exact"])
def test_memory_of_a_load_is_what_was_estimated(exports, kind):
    version_dir = str(getattr(exports, kind))
    finished = subprocess.run(
        [sys.executable, "-m", "tests.serving.load_growth", version_dir],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert finished.returncode == 0, finished.stderr
    estimate = VersionSizes.of(version_dir).estimated_bytes()
    assert 0.7 < estimate / int(finished.stdout.split()[-1]) < 1.6
