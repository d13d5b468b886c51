"""Folders for results."""

import shutil
import tempfile
import weakref
from pathlib import Path

from mercury_lab._arguments import StrPath


class OutFolder:
    """The caller's folder, or a temporary one that is removed together with this object."""

    def __init__(self, out: StrPath | None) -> None:
        if out is not None:
            self.path = Path(out)
            return
        temporary = tempfile.mkdtemp(prefix="mercury-")
        # Commands also write beside their folder.
        self.path = Path(temporary, "results")
        weakref.finalize(self, shutil.rmtree, temporary, ignore_errors=True)

    @property
    def flag(self) -> str:
        """The flag `--out` of the command line."""
        return f"--out={self.path}"
