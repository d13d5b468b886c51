"""The capture of a training: which steps, from where to where, and what happens on errors."""

import math
import time
from collections.abc import Sequence
from typing import Any

import torch
from mercury_lab._native import MercuryError
from torch import nn

from .assemble import StepTensors, assemble
from .boundary import Boundary
from .checks import check_model, check_optimizer, check_scaler, raise_closure
from .coverage import Coverage, Notes, build_coverage
from .errors import IncompleteCapture, SkipStep, warn
from .layers import Layers
from .naming import unwrap
from .observer import Observer
from .options import Options
from .output import TraceOutput, describe_training, read_number
from .recorder import Recorder
from .step import Step
from .verify import Row, Verifier

NO_STEP = (
    "no optimizer step was seen, so nothing was captured; give capture the optimizer (optimizer=), or call "
    "capture.step() after each backward"
)

# After this many skipped steps in a row, the next step of the schedule is tried.
MAX_SKIPPED = 20


class Capture:
    """A running capture; `mercury_lab.torch.capture` makes it. Use it in `with`, or call `close` at the end."""

    def __init__(self, model: nn.Module, folder: str, optimizer: Any, scaler: Any, options: Options) -> None:
        self.model = model
        self.options = options
        check_model(model)
        check_optimizer(optimizer, model)
        check_scaler(scaler)
        self.layers = Layers(options)
        self.output = TraceOutput(folder, options, self.layers)
        self.verifier = Verifier(model) if options.verify else None
        self.observer = Observer(options, self.layers, self.verifier)
        self.recorder = Recorder(model, self.observer, options.batch_axis)
        # The number of the step that runs.
        self.number = options.resume or 0
        self.steps_seen = 0
        self.is_due = False
        # Steps in a row that could not be captured.
        self.skipped = 0
        self.is_open = True
        self.is_capturing = True
        self.row: dict[str, Any] = {}
        self.began = time.perf_counter()
        self.warned: set[str] = set()
        self.reasons: dict[str, None] = {}
        self.notes = Notes()
        self.optimizer = optimizer
        self.boundary = Boundary(self, optimizer, scaler)
        self._begin_step()

    def __enter__(self) -> "Capture":
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, traceback: Any) -> None:
        self.close(failed=error is not None)

    def log(
        self,
        *,
        loss: Any = None,
        accuracy: Any = None,
        epoch: int | None = None,
        dataset_indices: Sequence[int] | torch.Tensor | None = None,
    ) -> None:
        """Notes the running step's loss (of the batch, mean), accuracy (0 to 1), epoch and samples.

        Call it before the optimizer's step. `dataset_indices` are the places of the batch's samples in
        the data set; without them, the trace has places in the batch.
        """
        if loss is not None:
            self.row["loss"] = read_number(loss)
        if accuracy is not None:
            self.row["accuracy"] = read_number(accuracy)
        if epoch is not None:
            self.row["epoch"] = int(epoch)
        if dataset_indices is not None:
            self.row["dataset_indices"] = [int(index) for index in dataset_indices]

    def log_evaluation(self, samples: int, **metrics: float) -> None:
        """Notes metrics measured on so many validation samples, such as `loss` and `top1`."""
        if self.output.writer is None:
            self._warn("log_evaluation: no step is captured yet, so there is no trace to write to")
            return
        rows = [(self.number, name, read_number(value), samples) for name, value in metrics.items()]
        self.output.writer.log_evaluations(rows)

    def step(self) -> None:
        """Ends a step of a loop without an optimizer object; call it where the weights would change."""
        if self.optimizer is not None:
            raise MercuryError("step: the optimizer given to capture marks the steps; do not call step() as well")
        self.end_step()
        self.begin_next_step()

    def flush(self) -> None:
        """Waits until all captured steps are on disk."""
        self.output.flush()

    def close(self, failed: bool = False) -> None:
        """Ends the capture. After a failed training, the trace has its captured steps and is not complete."""
        if not self.is_open:
            return
        self.is_open = False
        self.recorder.stop()
        self.boundary.close()
        if self.output.writer is not None:
            self._close_output(failed)
        elif not failed:
            self._report(MercuryError(self._explain_empty()))

    def _close_output(self, failed: bool) -> None:
        try:
            self.output.close(is_complete=not failed)
        except Exception as error:
            if failed:
                # The loop's own exception is the one to show.
                self._warn(str(error))
            else:
                self._report(error)

    def _explain_empty(self) -> str:
        if not self.steps_seen:
            return NO_STEP
        if self.reasons:
            return f"nothing was captured: {'; '.join(self.reasons)}"
        return f"nothing was captured: none of the {self.steps_seen} steps was chosen; see every and steps"

    def verify(self) -> list[Row]:
        """Compares the captured steps' dY^T X with the weights' gradients; raises if they differ.

        Needs `verify=True` from the beginning.
        """
        if self.verifier is None:
            raise MercuryError("verify: the capture has no gradients to compare; give verify=True to capture")
        return self.verifier.check()

    def coverage(self) -> Coverage:
        """Returns the MACs captured and seen, by operation and module."""
        return build_coverage(self.layers, self.notes, self.observer.unknown)

    # The boundary of steps; called by hooks of the optimizer.

    def end_step(self) -> None:
        """Ends the running step: the gradients are there, the weights have not changed."""
        if not self.is_open:
            return
        seconds = time.perf_counter() - self.began
        self.steps_seen += 1
        step = self.recorder.stop()
        row, self.row = self.row, {}
        self._tolerate(lambda: self._log_row(row, seconds))
        if step is not None:
            self._tolerate(lambda: self._finish_capture(step, row.get("dataset_indices")))

    def refuse_closure(self) -> None:
        """Ends the capture of a loop whose optimizer runs the model inside its step."""
        if self.is_open and self.is_capturing:
            self._tolerate(raise_closure)

    def discard_step(self, reason: str) -> None:
        """Forgets what the running step recorded; the optimizer skips it, so its number is used again."""
        if self.is_open and self.recorder.stop() is not None:
            self.layers.roll_back()
            self._skip(reason)
        self.row = {}
        self._begin_step()

    def begin_next_step(self) -> None:
        """Begins the next step, after the weights have changed."""
        self.number += 1
        self._begin_step()

    def _begin_step(self) -> None:
        self.began = time.perf_counter()
        self.is_due = self.is_due or self.options.is_captured(self.number)
        if self.is_due and self.is_open and self.is_capturing:
            self._tolerate(self._start_capture)

    def _start_capture(self) -> None:
        if self.output.is_full():
            self._stop_capturing(f"max_bytes is reached before step {self.number}, so capturing stops")
        elif not self.recorder.is_on:
            self.recorder.start(Step(self.number, self.options))

    def _log_row(self, row: dict[str, Any], seconds: float) -> None:
        group = self.optimizer.param_groups[0] if self.optimizer is not None else {}
        loss, accuracy = row.get("loss", math.nan), row.get("accuracy", math.nan)
        rate = read_number(group.get("lr", 0.0))
        self.output.log_step(self.number, row.get("epoch", 0), loss, accuracy, rate, seconds)

    def _finish_capture(self, step: Step, indices: Any) -> None:
        """Assembles, checks and writes the step's tensors."""
        self.notes.unsupported.update(step.unsupported)
        self.notes.ignored.update(step.ignored)
        try:
            assembled = assemble(step, self.options, self.boundary.scale(step))
            self.output.write_step(step, assembled, indices, lambda: self._describe(step))
            self.output.writer.next_failure()
        except SkipStep as skipped:
            self.layers.roll_back()
            self._skip(str(skipped))
            return
        except BaseException:
            self.layers.roll_back()
            self.is_due = False
            raise
        finally:
            step.release()
        self.is_due = False
        self.skipped = 0
        self._note_left_out(assembled, step.called_whole)
        if self.verifier is not None:
            self.verifier.finish_step(step.number)

    def _describe(self, step: Step) -> dict[str, Any]:
        device = check_model(self.model)
        return describe_training(unwrap(self.model), self.optimizer, step, self.options, device)

    def _note_left_out(self, assembled: StepTensors, called_whole: bool) -> None:
        self.notes.written.update(assembled.written)
        self.notes.left_out.update(assembled.left_out)
        for name, reason in assembled.left_out.items():
            self._warn(f"layer {name} is left out of a captured step: {reason}", key=f"left out {name}")
        for name in self.layers.thawed:
            reason = "was frozen when it was first captured, and the trace keeps saying so; capture the later part anew"
            self._warn(f"layer {name} {reason}")
        if not called_whole:
            self._warn("the loop calls parts of the model, not the model; products between them are not captured")
        if assembled.frozen:
            names = ", ".join(assembled.frozen)
            self._warn(f"captured without dY, because they have no gradients: {names}", key="frozen")

    # Errors.

    def _skip(self, reason: str) -> None:
        """Says that a step is not captured; the next one is captured instead, within reason."""
        self.skipped += 1
        if self.skipped >= MAX_SKIPPED:
            self.skipped, self.is_due = 0, False
        self.reasons[reason] = None
        self._warn(f"step {self.number} is not captured: {reason}", key=reason)

    def _stop_capturing(self, reason: str) -> None:
        self.is_capturing = False
        self.is_due = False
        self._warn(reason)

    def _tolerate(self, work: Any) -> None:
        """Runs a part of the capture; an error breaks the training only with `on_error="raise"`."""
        try:
            work()
        except Exception as error:
            if not isinstance(error, IncompleteCapture) and self.is_capturing:
                self.is_capturing = False
                self.recorder.stop()
            self._report(error)

    def _report(self, error: Exception) -> None:
        self.reasons[str(error)] = None
        if self.options.on_error == "raise":
            raise error
        notes = "".join(f" ({note})" for note in getattr(error, "__notes__", ()))
        kind = "" if isinstance(error, MercuryError) else f"{type(error).__name__}: "
        self._warn(f"{kind}{error}{notes}")

    def _warn(self, message: str, key: str | None = None) -> None:
        """Warns once per message."""
        key = key or message
        if key not in self.warned:
            self.warned.add(key)
            warn(message)
