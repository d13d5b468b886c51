"""The progress of a command."""

import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from importlib.util import find_spec
from typing import Any

from mercury_lab._arguments import ProgressFunction, ProgressOption


@contextmanager
def show_progress(option: ProgressOption) -> Iterator[ProgressFunction | None]:
    """Gives the function that shows progress; None shows nothing."""
    if callable(option):
        yield option
    elif _is_interactive() if option is None else option:
        with closing(ProgressBar()) as bar:
            yield bar.update
    else:
        yield None


class ProgressBar:
    """A bar of tqdm: text on a terminal, a widget in Jupyter. Each activity has its own bar."""

    def __init__(self) -> None:
        self._bar: Any = None

    def update(self, activity: str, things: str, position: int, length: int, latest: str) -> None:
        """Shows that `position` of `length` things are done or begun."""
        if self._bar is None or self._bar.desc != activity:
            self.close()
            self._bar = load_tqdm()(total=length, desc=activity, unit=f" {things}", leave=False)
        self._bar.set_postfix_str(latest, refresh=False)
        self._bar.update(position - self._bar.n)

    def close(self) -> None:
        """Removes the bar."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None


def load_tqdm() -> Any:
    """Imports tqdm's widget in Jupyter with ipywidgets, else its text; most programs never show a bar."""
    if "ipykernel" in sys.modules and find_spec("ipywidgets") is not None:
        from tqdm.notebook import tqdm  # type: ignore[import-untyped]
    else:
        from tqdm import tqdm  # type: ignore[import-untyped]
    return tqdm


def _is_interactive() -> bool:
    return "ipykernel" in sys.modules or (sys.stderr is not None and sys.stderr.isatty())
