"""pyarrow for everything here that touches a table: no file that is read can run code.

pyarrow before 14.0.1 unpickles an extension type that a Parquet, Feather or Arrow file names
(CVE-2023-47248), and TFX 1.15 needs pyarrow 10. The hotfix makes it an error to meet such a type.
It must be there before the first file is opened: whoever imports what reads files in pyarrow
imports this module as well (`tests/architecture_test.py`).
"""

import pyarrow as pa
import pyarrow_hotfix

__all__ = ["UNSAFE_TYPE", "pa"]

# The type whose making ran code; the hotfix's error names it.
UNSAFE_TYPE = "arrow.py_extension_type"

pyarrow_hotfix.install()
