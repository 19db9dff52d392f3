"""Selects Keras 2 before any test imports TensorFlow, and gives hypothesis its profile."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import hypothesis  # noqa: E402
import pytest  # noqa: E402

import trainer  # noqa: E402, F401
from tfx_pipeline.engines.direct_loopback import reach_loopback_directly  # noqa: E402

# Clients of all kinds must reach servers of this machine without a proxy.
reach_loopback_directly()

# The same examples in every run, and no deadline: these machines are shared.
hypothesis.settings.register_profile("tagtower", derandomize=True, deadline=None)
hypothesis.settings.load_profile("tagtower")


@pytest.fixture(scope="session")
def toy_graph(tmp_path_factory):
    """Returns the analysed `tests.tfx_pipeline.toy_rows`, for tests that save towers; read only.

    It is made once for each process, because Beam takes some ten seconds.
    """
    from tests.tfx_pipeline.toy_rows import analysed

    return analysed(tmp_path_factory.mktemp("toy_graph"))


@pytest.fixture(scope="session")
def real_exports(tmp_path_factory):
    """Exports of `tests.serving.real_exports`, for whoever loads them; nothing changes them.

    Made once in a process: towers and exports take some forty seconds.
    """
    from tests.serving.real_exports import make_exports

    return make_exports(tmp_path_factory.mktemp("real_exports"))
