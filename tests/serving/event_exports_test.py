"""Both exports answer to users' events, in either form, as Python computes their features.

They are called by the C program, so that nothing of Python takes part in the answer.
"""

import numpy as np
import pytest

from serving.client.fresh_events import EventFeatures
from tests.serving.event_requests import SPEC, event_lists, features_of, flat_events
from tests.serving.native_program import build_program, run_program, scann_library
from tests.serving.real_exports import NUM_TAGS, make_exports
from tests.serving.wire.tensor_file import read_tensors, write_tensors
from trainer.contract import signatures as s
from trainer.contract.tag_normalization import TagNormalization

DAY = 86_400
NOW = 1_700_000_000
FORMS = {
    s.RETRIEVE_EVENTS: event_lists,
    s.RETRIEVE_EVENTS_FLAT: flat_events,
    s.EVENT_FEATURES: event_lists,
    s.EVENT_FEATURES_FLAT: flat_events,
}


def random_users(num_users):
    rng = np.random.default_rng(3)
    users = []
    for i in range(num_users):
        events = [
            {
                "item_id": f"item {rng.integers(20)}",
                # Many at one time, some beyond every window.
                "timestamp": int(NOW - rng.choice([1, 5, DAY, 8 * DAY, 50 * DAY])),
                "clicked": int(rng.integers(2)),
                "weight": float(rng.choice([0.25, 1.0, 3.0])),
                "category": str(rng.choice(["", "a", "b"])),
                "tags": [f" Tag {j:02d}" for j in rng.integers(0, NUM_TAGS, rng.integers(0, 4))],
            }
            for _ in range(rng.integers(0, 30))
        ]
        profile = {"city": "ab"[i % 2], "age": float(i), "languages": ["b", "a"][: i % 3]}
        users.append((events, profile, NOW + 0.5))
    return users


@pytest.fixture(scope="module")
def users():
    return random_users(12)


@pytest.fixture(scope="module")
def event_exports(tmp_path_factory):
    return make_exports(tmp_path_factory.mktemp("event_exports"), spec=SPEC)


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    return build_program(tmp_path_factory.mktemp("native"))


def answers_of(program, version_dir, requests, folder):
    """Returns the answers of the C program, by signature."""
    arguments = ["--library", scann_library(), "--threads", 1, version_dir]
    for name, inputs in requests.items():
        path = write_tensors(folder / f"{name}.inputs", inputs)
        arguments += [name, path, folder / name]
    finished = run_program(program, *arguments)
    assert finished.returncode == 0, finished.stderr
    return {name: read_tensors(folder / name) for name in requests}


@pytest.mark.parametrize("kind", ["scann", "exact"])
def test_events_are_answered_as_the_features_of_python(
    program, event_exports, users, tmp_path, kind
):
    python = EventFeatures(SPEC, TagNormalization())
    version_dir = getattr(event_exports, kind)
    requests = {name: inputs_of(users) for name, inputs_of in FORMS.items()}

    answers = answers_of(program, version_dir, requests, tmp_path)

    for name in (s.EVENT_FEATURES, s.EVENT_FEATURES_FLAT):
        for row, (events, profile, now) in enumerate(users):
            found = features_of(answers[name], row)
            np.testing.assert_equal(found, python.instance(events, profile, now))
    # The features are what the other signatures take.
    raw = {name: answers[s.EVENT_FEATURES_FLAT][name] for name in SPEC.raw_names}
    expected = answers_of(program, version_dir, {s.RETRIEVE: raw}, tmp_path)[s.RETRIEVE]
    assert (expected[s.TAGS] != b"").all()
    for name in (s.RETRIEVE_EVENTS, s.RETRIEVE_EVENTS_FLAT):
        assert answers[name][s.TAGS].tolist() == expected[s.TAGS].tolist()
        for output in (s.SCORES, s.PROBABILITIES):
            np.testing.assert_allclose(answers[name][output], expected[output], rtol=1e-5)
