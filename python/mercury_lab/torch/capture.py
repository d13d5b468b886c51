"""The capture of a training: which steps, from where to where, and what happens on errors."""

import functools
import operator
from collections.abc import Callable, Sequence
from typing import Any

import torch
from mercury_lab._native import MercuryError
from torch import nn

from .assemble import assemble
from .boundary import Boundary
from .checks import check_model, check_optimizer, check_scaler, raise_closure, unwrap_optimizer
from .coverage import Coverage, Notes, build_coverage
from .errors import ArgumentError, IncompleteCapture, SkipStep
from .layers import Layers
from .naming import name_weights
from .observer import Observer
from .options import Options
from .output import TraceOutput, describe_training, read_indices, read_number
from .probe import Probe
from .recorder import Recorder
from .reports import Reports
from .row import StepRow
from .step import Step
from .verify import Verifier, WeightError

# After this many skipped steps in a row, the next step of the schedule is tried.
MAX_SKIPPED = 20


class Capture:
    """A running capture. Use it in `with`, or call `close` at the end."""

    def __init__(
        self, model: nn.Module, folder: str, optimizer: Any, scaler: Any, options: Options
    ) -> None:
        self.model = model
        self.options = options
        check_model(model)
        check_optimizer(unwrap_optimizer(optimizer), model)
        check_scaler(scaler)
        self.layers = Layers(options)
        self.output = TraceOutput(folder, options, self.layers)
        self.verifier = Verifier(model) if options.verify else None
        self.observer = Observer(options, self.layers, self.verifier)
        probe = Probe() if options.check_samples else None
        self.recorder = Recorder(model, self.observer, options.batch_axis, probe)
        # The number of the step that runs.
        self.number = options.resume or 0
        self.steps_seen = 0
        self.is_due = False
        self.is_logged = False
        # Steps in a row that could not be captured.
        self.skipped = 0
        self.is_open = True
        self.is_capturing = True
        self.reports = Reports(options.on_error)
        self.row = StepRow(self.reports)
        self.notes = Notes()
        self.optimizer = optimizer = unwrap_optimizer(optimizer)
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

        Call it before the optimizer's step. A loss or an accuracy that is not logged is NaN in
        `steps.parquet`. `dataset_indices` are the places of the batch's samples in the data set;
        without them, the trace has
        places in the batch.
        """
        step = self.recorder.step
        if (
            self.steps_seen
            and step is not None
            and not step.forwards
            and (loss, accuracy) != (None, None)
        ):
            reason = (
                "between the optimizer's step and the next forward, so its values count "
                "for the next step"
            )
            self.reports.warn(f"log was called {reason}; call it before the optimizer's step")
        self.row.read("loss", loss, read_number)
        self.row.read("accuracy", accuracy, read_number)
        self.row.read("epoch", epoch, operator.index)
        self.row.read("dataset_indices", dataset_indices, read_indices)

    def log_evaluation(self, samples: int, **metrics: float) -> None:
        """Notes metrics, such as `loss` and `top1`, of `samples` validation samples."""
        if self.output.writer is None:
            self.reports.warn(
                "log_evaluation: no step is captured yet, so there is no trace to write to"
            )
            return
        try:
            rows = [
                (self.number, name, read_number(value), samples) for name, value in metrics.items()
            ]
            self.output.writer.log_evaluations(rows)
        except Exception as error:
            self.reports.report(error)

    def step(self) -> None:
        """Ends a step of a loop without an optimizer; call it where the weights change."""
        if self.optimizer is not None:
            raise MercuryError(
                "step: the optimizer given to capture marks the steps; do not call step() as well"
            )
        self.end_step()
        self.begin_next_step()

    def flush(self) -> None:
        """Waits until all captured steps are on disk."""
        self.output.flush()

    def close(self, failed: bool = False) -> None:
        """Ends the capture; after a failed training, the trace is marked as incomplete."""
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
        if not failed and self.is_capturing:
            self.reports.warn_few_steps(self.output.captured, self.number, self.options.every)
            self.reports.warn_missing_steps(sorted(self.options.steps), self.number)

    def verify(self) -> list[WeightError]:
        """Compares the captured steps' dY^T X with the weights' gradients; raises if they differ.

        It finds calls that were missed or counted twice, and X, dY or a geometry that are not those
        of the call, in memory and for the whole batch; where all samples and channels are kept,
        also in the tensors that are written. An error of 0.0 is possible, if PyTorch computed the
        same product in the same order. Needs `verify=True` from the beginning.
        """
        if self.verifier is None:
            raise MercuryError(
                "verify: the capture has no gradients to compare; give verify=True to capture"
            )
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
        """Forgets the running step, which the optimizer skips; its number is used again."""
        if self.is_open and self.recorder.stop() is not None:
            self._forget_layers()
            self._skip(reason)
        self.row.clear()
        self._begin_step()

    def begin_next_step(self) -> None:
        """Begins the next step, after the weights have changed."""
        self.number += 1
        self.row.clear()
        self.is_logged = False
        self._begin_step()

    def _begin_step(self) -> None:
        self.is_due = self.is_due or self.options.is_captured(self.number)
        if self.is_due and self.is_open and self.is_capturing:
            self._tolerate(self._start_capture)

    def _start_capture(self) -> None:
        if self.output.is_full():
            self.is_capturing = self.is_due = False
            self.reports.warn(f"max_bytes is reached before step {self.number}; capturing stops")
        elif not self.recorder.is_on:
            self.recorder.start(Step(self.number, self.options))

    def _log_row(self) -> None:
        """Logs the step once, with the time of its capture, before it is marked as captured."""
        if self.is_logged:
            return
        self.is_logged = True
        group = self.optimizer.param_groups[0] if self.optimizer is not None else {}
        self.output.log_step(self.number, *self.row.finish(read_number(group.get("lr", 0.0))))

    def _finish_capture(self, step: Step) -> None:
        """Assembles, checks and writes the step's tensors."""
        self.notes.unsupported.update(step.unsupported)
        self.notes.ignored.update(step.ignored)
        try:
            optimized, names = self.boundary.list_optimized(), name_weights(self.recorder.paths)
            assembled = assemble(step, self.options, self.boundary.scale(step), optimized, names)
            if not self.output.captured:
                self.recorder.axis.check_globs()
            errors = [] if self.verifier is None else self.verifier.measure(step, assembled)
            indices = self.row.values.get("dataset_indices")
            describe = functools.partial(
                describe_training, self.model, self.optimizer, step, self.options
            )
            self.output.write_step(step, assembled, indices, describe, self._log_row)
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
        self.notes.note_written(assembled)
        self.reports.warn_left_out(assembled, step.called_whole)
        if self.verifier is not None:
            self.verifier.errors += errors

    def _forget_layers(self) -> None:
        """Takes the layers of a failed step out of the trace, and notes them for `coverage`."""
        self.notes.refused.update(self.layers.known)
        self.layers.roll_back()

    # Errors.

    def _skip(self, reason: str) -> None:
        """Says that a step is not captured; the next one is captured instead, within reason."""
        self.skipped += 1
        if self.skipped >= MAX_SKIPPED:
            self.skipped, self.is_due = 0, False
        self.reports.reasons[reason] = None
        self.reports.warn(f"step {self.number} is not captured: {reason}", key=reason)

    def _tolerate(self, work: Callable[[], None]) -> None:
        """Runs a part of the capture, whose errors must not break the training.

        Exceptions are `on_error="raise"`, and mistakes in the arguments in the first captured step.
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
