"""Options of the request logs of a server; this module imports no large library."""

import dataclasses

from trainer.contract.features import USER_ID

MIB = 1 << 20


@dataclasses.dataclass(frozen=True)
class RequestLogOptions:
    """How a server writes its request logs, beside what the configuration of each model says.

    Attributes:
      file_bytes: Size at which a file is closed.
      file_s: Seconds after which a file is closed.
      waiting_bytes: Maximum size of the requests and answers that wait for the disk.
      id_names: Names of tensors, and of features of `tf.Example`s, that identify a user.
      salt: Secret with which ids are hashed; None: ids are left out.
    """

    file_bytes: int = 64 * MIB
    file_s: float = 3600.0
    waiting_bytes: int = 64 * MIB
    id_names: tuple[str, ...] = (USER_ID,)
    salt: bytes | None = dataclasses.field(default=None, repr=False)
