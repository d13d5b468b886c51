"""What a capture says about itself: warnings, each of them once, or exceptions."""

from mercury_lab._native import MercuryError

from .errors import warn


class Reports:
    """Warns, or raises with `on_error="raise"`; remembers why steps were not captured."""

    def __init__(self, on_error: str) -> None:
        self.raises = on_error == "raise"
        self.warned: set[str] = set()
        # In the order in which they were found.
        self.reasons: dict[str, None] = {}

    def report(self, error: Exception) -> None:
        """Warns of an error that must not break the training, or raises it if asked to."""
        self.reasons[str(error)] = None
        if self.raises:
            raise error
        notes = "".join(f" ({note})" for note in getattr(error, "__notes__", ()))
        kind = "" if isinstance(error, MercuryError) else f"{type(error).__name__}: "
        self.warn(f"{kind}{error}{notes}")

    def warn(self, message: str, key: str | None = None) -> None:
        """Warns once per message, or once per key."""
        key = key or message
        if key not in self.warned:
            self.warned.add(key)
            warn(message)

    def explain_empty(self, steps_seen: int) -> str:
        """Says why the trace has no captured step."""
        if not steps_seen:
            return (
                "no optimizer step was seen, so nothing was captured; give capture the optimizer (optimizer=), or call "
                "capture.step() after each backward"
            )
        if self.reasons:
            return f"nothing was captured: {'; '.join(self.reasons)}"
        return f"nothing was captured: none of the {steps_seen} steps was chosen; see every and steps"
