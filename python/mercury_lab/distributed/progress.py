"""Notes and a progress bar on standard error."""

import sys

from tqdm import tqdm


class Progress:
    """Notes, and a progress bar of partitions if standard error is a terminal."""

    def __init__(self, quiet: bool):
        self._quiet = quiet
        self._noted: set[str] = set()
        self._bar = tqdm(disable=True)

    def begin(self, partitions: int) -> None:
        # `None` disables the bar if standard error is not a terminal.
        disable = True if self._quiet else None
        self._bar = tqdm(total=partitions, unit="partition", file=sys.stderr, disable=disable, leave=False)

    def show_workers(self, count: int) -> None:
        self._bar.set_postfix_str(f"workers: {count}")
        if count == 0:
            self.note_once("there are no workers; waiting")

    def advance(self) -> None:
        self._bar.update()

    def end(self) -> None:
        self._bar.close()

    def note(self, text: str) -> None:
        if not self._quiet:
            tqdm.write(text, file=sys.stderr)

    def note_once(self, text: str) -> None:
        if text not in self._noted:
            self._noted.add(text)
            self.note(text)
