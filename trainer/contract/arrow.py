"""Imports pyarrow with a hotfix, so that no file that is read can run code.

pyarrow before 14.0.1 unpickles an extension type that a Parquet, Feather or Arrow file names
(CVE-2023-47248), and TFX 1.15 needs pyarrow 10. With the hotfix a file with this type is an error.
It must be installed before the first file is opened: a module that imports pyarrow's readers
imports this module as well (`tests/architecture_test.py`).
"""

import pyarrow as pa
import pyarrow_hotfix

__all__ = ["UNSAFE_TYPE", "pa"]

# The type whose construction ran code; the hotfix's error names it.
UNSAFE_TYPE = "arrow.py_extension_type"

pyarrow_hotfix.install()
