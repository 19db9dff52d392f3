"""How TensorFlow computes in a process that answers requests."""

import os
import sys


def prefer_small_batches() -> None:
    """Turns oneDNN's kernels off; to be called before TensorFlow is first imported.

    What it costs to enter one of them is more than the kernel saves on the few rows of a request:
    with them `retrieve` of one user takes 3.7 ms, without 2.7, and a batch of 64 users is the same
    either way (2 cores). The results differ in the last bits, so whatever must agree to the last
    tag, online and batch, does the same. A caller's own `TF_ENABLE_ONEDNN_OPTS` stays.

    Where TensorFlow is loaded already it does nothing: the processes that this one starts must
    compute as it does.
    """
    if "tensorflow" not in sys.modules:
        os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
