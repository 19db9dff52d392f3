"""How TensorFlow computes in a process that answers requests."""

import os
import sys

# What is read once, when TensorFlow is first imported.
ONEDNN_VARIABLE = "TF_ENABLE_ONEDNN_OPTS"
INTRA_OP_VARIABLE = "TF_NUM_INTRAOP_THREADS"


def prefer_small_batches(intra_op_parallelism: int = 1) -> None:
    """Chooses for many small operations; to be called before TensorFlow is first imported.

    oneDNN's kernels are off: what it costs to enter one of them is more than the kernel saves on
    the few rows of a request. And an operation runs in one thread: to share one with a second
    thread and to wait for it takes longer than the operation does. On 2 cores `retrieve` of one
    user takes 2.7 ms in place of 3.7, of 64 users 18 in place of 23.

    The results differ in the last bits, so whatever must agree to the last tag, online and batch,
    does the same. A caller's own variables stay. Where TensorFlow is loaded already it does
    nothing: the processes that this one starts must compute as it does.

    Args:
      intra_op_parallelism: Threads of one operation; 0: one a core. More than one pays off for an
        exact index over very many tags.
    """
    if "tensorflow" in sys.modules:
        return
    os.environ.setdefault(ONEDNN_VARIABLE, "0")
    if intra_op_parallelism:
        os.environ.setdefault(INTRA_OP_VARIABLE, str(intra_op_parallelism))
