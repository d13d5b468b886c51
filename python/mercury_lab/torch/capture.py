"""The capture of a training: which steps, from where to where, and what happens on errors."""

import math
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from mercury_lab._native import MercuryError
from torch import nn

from .assemble import StepTensors, assemble
from .boundary import Boundary
from .checks import check_model, check_optimizer, check_scaler, raise_closure
from .coverage import Coverage, Notes, build_coverage
from .errors import ArgumentError, IncompleteCapture, SkipStep
from .layers import Layers
from .naming import unwrap
from .observer import Observer
from .options import Options
from .output import TraceOutput, describe_training, read_number
from .recorder import Recorder
from .reports import Reports
from .step import Step
from .verify import Row, Verifier

# After this many skipped steps in a row, the next step of the schedule is tried.
MAX_SKIPPED = 20
# A replay takes two steps as a trial (`stop.window`) and needs another one for the steady state.
STEADY_STEPS = 3


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
        self.is_logged = False
        # Steps in a row that could not be captured.
        self.skipped = 0
        self.is_open = True
        self.is_capturing = True
        self.row: dict[str, Any] = {}
        # When the last row was logged.
        self.began = time.perf_counter()
        self.reports = Reports(options.on_error)
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

        Call it before the optimizer's step. A loss or an accuracy that is not logged is NaN in `steps.parquet`.
        `dataset_indices` are the places of the batch's samples in the data set; without them, the trace has
        places in the batch.
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
            self.reports.warn("log_evaluation: no step is captured yet, so there is no trace to write to")
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
            self.reports.report(MercuryError(self.reports.explain_empty(self.steps_seen)))

    def _close_output(self, failed: bool) -> None:
        try:
            self.output.close(is_complete=not failed)
        except Exception as error:
            if failed:
                # The loop's own exception is the one to show.
                self.reports.warn(str(error))
            else:
                self.reports.report(error)
        if not failed:
            self._note_few_steps()

    def _note_few_steps(self) -> None:
        """Warns of a trace without steady state, unless its steps were listed one by one, on purpose."""
        captured = self.output.captured
        if self.is_capturing and self.options.every is not None and captured < STEADY_STEPS:
            trial = "because it takes the first two as a trial (stop.window): lower every, or train longer"
            self.reports.warn(
                f"captured {captured} of {self.number} training steps (every={self.options.every}); a replay needs "
                f"{STEADY_STEPS} or more, {trial}"
            )

    def verify(self) -> list[Row]:
        """Compares the captured steps' dY^T X with the weights' gradients; raises if they differ.

        It finds calls that were missed or counted twice, and X, dY or a geometry that are not those of the call,
        in memory and for the whole batch; it does not read the files. An error of 0.0 is possible: PyTorch then
        computed the same product of the same numbers in the same order. Needs `verify=True` from the beginning.
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
        self.steps_seen += 1
        step = self.recorder.stop()
        try:
            if step is not None:
                self._tolerate(lambda: self._finish_capture(step))
        finally:
            self._tolerate(self._log_row)

    def refuse_closure(self) -> None:
        """Ends the capture of a loop whose optimizer runs the model inside its step."""
        if self.is_open and self.is_capturing:
            self._tolerate(raise_closure)

    def discard_step(self, reason: str) -> None:
        """Forgets what the running step recorded; the optimizer skips it, so its number is used again."""
        if self.is_open and self.recorder.stop() is not None:
            self._forget_layers()
            self._skip(reason)
        self.row = {}
        self._begin_step()

    def begin_next_step(self) -> None:
        """Begins the next step, after the weights have changed."""
        self.number += 1
        self.row = {}
        self.is_logged = False
        self._begin_step()

    def _begin_step(self) -> None:
        self.is_due = self.is_due or self.options.is_captured(self.number)
        if self.is_due and self.is_open and self.is_capturing:
            self._tolerate(self._start_capture)

    def _start_capture(self) -> None:
        if self.output.is_full():
            self._stop_capturing(f"max_bytes is reached before step {self.number}, so capturing stops")
        elif not self.recorder.is_on:
            self.recorder.start(Step(self.number, self.options))

    def _log_row(self) -> None:
        """Logs the step, once: a captured one before it is marked as such, with the time of the capture."""
        if self.is_logged:
            return
        self.is_logged = True
        row, began, self.began = self.row, self.began, time.perf_counter()
        group = self.optimizer.param_groups[0] if self.optimizer is not None else {}
        loss, accuracy = row.get("loss", math.nan), row.get("accuracy", math.nan)
        rate = read_number(group.get("lr", 0.0))
        self.output.log_step(self.number, row.get("epoch", 0), loss, accuracy, rate, self.began - began)

    def _finish_capture(self, step: Step) -> None:
        """Assembles, checks and writes the step's tensors."""
        self.notes.unsupported.update(step.unsupported)
        self.notes.ignored.update(step.ignored)
        try:
            assembled = assemble(step, self.options, self.boundary.scale(step))
            if not self.output.captured:
                self.recorder.axis.check_globs()
            indices = self.row.get("dataset_indices")
            self.output.write_step(step, assembled, indices, lambda: self._describe(step), self._log_row)
            self.output.writer.next_failure()
        except SkipStep as skipped:
            self._forget_layers()
            self._skip(str(skipped))
            return
        except BaseException:
            self._forget_layers()
            self.is_due = False
            raise
        finally:
            step.release()
        self.is_due = False
        self.skipped = 0
        self._note_left_out(assembled, step.called_whole)
        if self.verifier is not None:
            self.verifier.finish_step(step.number)

    def _forget_layers(self) -> None:
        """Takes the layers of a step that is not captured out of the trace, and notes them for `coverage`."""
        self.notes.refused.update(self.layers.known)
        self.layers.roll_back()

    def _describe(self, step: Step) -> dict[str, Any]:
        device = check_model(self.model)
        return describe_training(unwrap(self.model), self.optimizer, step, self.options, device)

    def _note_left_out(self, assembled: StepTensors, called_whole: bool) -> None:
        self.notes.written.update(assembled.written)
        self.notes.left_out.update(assembled.left_out)
        for name, reason in assembled.left_out.items():
            self.reports.warn(f"layer {name} is left out of a captured step: {reason}", key=f"left out {name}")
        for name in self.layers.thawed:
            reason = "was frozen when it was first captured, and the trace keeps saying so; capture the later part anew"
            self.reports.warn(f"layer {name} {reason}")
        if not called_whole:
            self.reports.warn(
                "the loop calls parts of the model, not the model; products between them are not captured"
            )
        if assembled.frozen:
            names = ", ".join(assembled.frozen)
            self.reports.warn(f"captured without dY, because they have no gradients: {names}", key="frozen")

    # Errors.

    def _skip(self, reason: str) -> None:
        """Says that a step is not captured; the next one is captured instead, within reason."""
        self.skipped += 1
        if self.skipped >= MAX_SKIPPED:
            self.skipped, self.is_due = 0, False
        self.reports.reasons[reason] = None
        self.reports.warn(f"step {self.number} is not captured: {reason}", key=reason)

    def _stop_capturing(self, reason: str) -> None:
        self.is_capturing = False
        self.is_due = False
        self.reports.warn(reason)

    def _tolerate(self, work: Callable[[], None]) -> None:
        """Runs a part of the capture. An error breaks the training only with `on_error="raise"`, or if it is a mistake
        in the arguments that the first captured step reveals.
        """
        try:
            work()
        except Exception as error:
            if not isinstance(error, IncompleteCapture) and self.is_capturing:
                self.is_capturing = False
                self.recorder.stop()
            if isinstance(error, ArgumentError) and not self.output.captured:
                self.reports.reasons[str(error)] = None
                raise
            self.reports.report(error)
