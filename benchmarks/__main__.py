"""Runs benchmarks from the command line: `python -m benchmarks`."""

import sys

from benchmarks.command_line import main
from tfx_pipeline.engines.direct_loopback import reach_loopback_directly

if __name__ == "__main__":
    reach_loopback_directly()
    sys.exit(main())
