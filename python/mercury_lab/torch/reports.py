"""What a capture says about itself: warnings, each of them once, or exceptions."""

from mercury_lab._native import MercuryError

from .assemble import NO_GRAD, StepTensors, describe_untrained
from .coverage import UNSEEN
from .errors import warn

# A replay takes two steps as a trial (`stop.window`) and needs another one for the steady state.
STEADY_STEPS = 3


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

    def warn_left_out(self, assembled: StepTensors, called_whole: bool) -> None:
        """Warns of what a captured step lacks."""
        for name, reason in assembled.left_out.items():
            self.warn(
                f"layer {name} is left out of a captured step: {reason}", key=f"left out {name}"
            )
        for name in assembled.unseen:
            self.warn(f"{name}: {UNSEEN}; compute it in a forward of the model")
        for name in assembled.thawed:
            reason = "was frozen when it was first captured, and the trace keeps saying so"
            self.warn(f"layer {name} {reason}; capture the later part anew")
        if not called_whole:
            reason = "the loop calls parts of the model, not the model"
            self.warn(f"{reason}; products between them are not captured")
        if assembled.untrained:
            reason = describe_untrained(assembled.untrained)
            self.warn(f"{reason}; {NO_GRAD}, or it may take the place of kept samples")
        if assembled.in_eval_mode:
            reason = "dropout is off, and batch norm uses its running statistics"
            self.warn(f"the model was in eval mode in a captured step ({reason}); call model.train()")
        if assembled.frozen:
            names = ", ".join(assembled.frozen)
            self.warn(f"captured without dY, because they have no gradients: {names}", key="frozen")

    def warn_few_steps(self, captured: int, steps: int, every: int | None) -> None:
        """Warns of a trace without steady state, unless `steps` lists its steps."""
        if every is None or captured >= STEADY_STEPS:
            return
        trial = (
            "because it takes the first two as a trial (stop.window): lower every, or train longer"
        )
        self.warn(
            f"captured {captured} of {steps} training steps (every={every}); a replay needs "
            f"{STEADY_STEPS} or more, "
            f"{trial}"
        )

    def warn_missing_steps(self, wanted: list[int], steps: int) -> None:
        """Warns of chosen steps that the training did not reach."""
        missing = [str(step) for step in wanted if step >= steps]
        if missing:
            self.warn(f"steps {', '.join(missing)} were not reached: the training ended with step {steps - 1}")

    def explain_empty(self, steps_seen: int) -> str:
        """Says why the trace has no captured step."""
        if not steps_seen:
            return (
                "no optimizer step was seen, so nothing was captured; give capture the "
                "optimizer (optimizer=), or call "
                "capture.step() after each backward"
            )
        if self.reasons:
            return f"nothing was captured: {'; '.join(self.reasons)}"
        return (
            f"nothing was captured: none of the {steps_seen} steps was chosen; see every and steps"
        )
