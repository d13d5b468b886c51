"""The commands that come with the package."""

import signal
import sys

from mercury_lab import _native


def analyzer() -> int:
    """The command `mercury-analyzer`; returns its exit code."""
    # Python would remember Ctrl-C until the command returns.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    return _native.run_analyzer(["mercury-analyzer", *sys.argv[1:]])
