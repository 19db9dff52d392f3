"""The folders that a reload may load from, with links, `..` and schemes."""

import grpc
import pytest

from serving.model_server.callers.reload_guard import ReloadGuard
from serving.model_server.errors import ServingError
from serving.model_server.models.model_config import ModelConfig
from serving.model_server.session.request_log import RequestLogConfig


@pytest.fixture
def place(tmp_path):
    (tmp_path / "models" / "a").mkdir(parents=True)
    (tmp_path / "secret").mkdir()
    (tmp_path / "models" / "out").symlink_to(tmp_path / "secret")
    (tmp_path / "link").symlink_to(tmp_path / "models")
    return tmp_path


def is_allowed(guard, path, log=None):
    try:
        guard.check([ModelConfig("m", str(path), request_log=log)])
    except ServingError as error:
        assert error.code is grpc.StatusCode.PERMISSION_DENIED
        return False
    return True


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("models", True),
        ("models/a", True),
        ("models/a/../b", True),
        ("link/a", True),
        ("models/out", False),
        ("models/out/x", False),
        ("models/../secret", False),
        ("models-other", False),
        ("secret", False),
        ("", False),
    ],
)
def test_folder_must_lie_below_a_root(place, path, expected):
    guard = ReloadGuard(True, [str(place / "models")], [])
    assert is_allowed(guard, place / path) is expected
    assert is_allowed(guard, f"file://{place / path}") is expected


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("gs://bucket/models/a", True),
        ("GS://bucket/models/a", True),
        ("gs://bucket/models/../other", False),
        ("gs://bucket/models-other", False),
        ("gs://other/models", False),
        ("/bucket/models", False),
    ],
)
def test_remote_folder_must_lie_below_a_root(path, expected):
    assert is_allowed(ReloadGuard(True, ["gs://bucket/models/"], []), path) is expected


def test_without_roots_the_first_base_paths_are_the_roots(place):
    log = RequestLogConfig(str(place / "logs" / "a"), 0.5)
    first = ModelConfig("a", str(place / "models" / "a"), request_log=log)
    guard = ReloadGuard(True, [], [first])
    assert is_allowed(guard, place / "models" / "a", log)
    assert not is_allowed(guard, place / "models")
    # A log writes files where the caller of a reload says.
    other = RequestLogConfig(str(place / "models" / "a" / "b"), 0.5)
    assert not is_allowed(guard, place / "models" / "a", other)
    assert is_allowed(ReloadGuard(True, [str(place)], [first]), place / "models" / "a", other)


def test_reload_that_is_not_allowed_is_refused_unread():
    with pytest.raises(ServingError) as caught:
        ReloadGuard(False, [], []).check_allowed()
    assert caught.value.code is grpc.StatusCode.PERMISSION_DENIED
    assert "--allow_reload" in caught.value.message
