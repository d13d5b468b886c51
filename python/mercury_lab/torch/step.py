"""The record of one captured step."""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from mercury_lab import _native
from torch import Tensor, nn

from .accumulation import Accumulations
from .errors import ArgumentError, NoSamples, SkipStep, Unsupported
from .layers import Layer
from .naming import CallNames
from .options import Options
from .samples import Order


@dataclass(eq=False)
class Forward:
    """A forward of the model: one of the step's micro-batches."""

    index: int
    batch: int
    # Place of its first sample in the step's batch.
    first: int
    # Kept samples, by their places in this forward; ascending.
    kept: list[int]
    sample_shape: list[int]
    # Modules that were called from outside the model.
    entered: set[int] = field(default_factory=set)
    names: CallNames = field(default_factory=CallNames)
    outputs: int = 1
    in_eval_mode: bool = False


@dataclass(eq=False)
class Call:
    """A product that was computed in a forward, with its kept operands on the CPU in f32.

    X is `[samples, channels, height, width]`, `[samples, rows, inputs]` or
    `[samples, heads, rows, inner]`; dY likewise. W is `[filters, length]`, or
    `[samples, heads, columns, inner]`.
    """

    layer: Layer
    forward: Forward
    module: str
    # The weight's parameter, if it is one.
    parameter: nn.Parameter | None = None
    x: Tensor | None = None
    w: Tensor | None = None
    dy: Tensor | None = None
    wants_grad: bool = False
    # Contributions to dY by backward pass; None if dY is not kept.
    gradients: dict[int, Tensor | None] = field(default_factory=dict)
    # The fused attention that this call is the scores of.
    attention: Any = None
    # Of a call under reentrant checkpointing, until its recomputation: operation, shape and
    # sums of X.
    fingerprint: tuple | None = None
    base_name: str = ""
    order: Order = Order()
    # Whether training computes the gradients of X and W.
    input_grad: bool = False
    weight_grad: bool = False

    def release(self) -> None:
        """Frees the tensors; hooks of the autograd graph keep the call itself alive."""
        self.x = self.w = self.dy = self.attention = None
        self.gradients = dict.fromkeys(self.gradients)

    def add_gradient(self, dy: Tensor | None) -> None:
        """Adds a contribution to dY; within a backward pass, only retained graphs give several."""
        task = torch._C._current_graph_task_id()
        earlier = self.gradients.get(task)
        self.gradients[task] = dy if earlier is None or dy is None else earlier + dy

    @property
    def has_grad(self) -> bool:
        """Whether a backward pass reached the call."""
        return bool(self.gradients)

    def wants_grad_of(self, y: Tensor) -> bool:
        """Whether the training computes the gradient of the call's result."""
        self.wants_grad = y.requires_grad
        return self.wants_grad


@dataclass
class Mark:
    """How much a step has recorded at some time."""

    calls: int
    forwards: int
    entered: set[int]
    names: dict[str, int]


class Step:
    """What a captured step has computed so far."""

    def __init__(self, number: int, options: Options) -> None:
        self.number = number
        self.forwards: list[Forward] = []
        self.calls: list[Call] = []
        self.options = options
        self.reservoir = _native.Reservoir(options.seed, number, options.samples)
        self.kept: list[int] = []
        # Checkpointed calls that wait for their recomputation, by name and fingerprint.
        self.pending: dict[tuple[str, tuple], list[Call]] = {}
        self.unsupported: dict[tuple[str, str], str] = {}
        self.failure: Exception | None = None
        # Products that are no part of a trace, with reasons.
        self.ignored: dict[str, str] = {}
        self.is_over = False
        self.gradients = Accumulations()
        # Parameters that a forward of the model used in any way.
        self.used: set[int] = set()
        self.called_whole = False
        # Whether a fused attention or an einsum ran.
        self.has_fused = False

    def fail(self, error: Exception) -> None:
        """Notes the first reason why the step cannot be captured, and frees its tensors."""
        if self.failure is None:
            self.failure = error
            self.release()

    def release(self) -> None:
        """Frees all tensors."""
        for call in self.calls:
            call.release()

    def open_forward(self, module: nn.Module, batch: int, sample_shape: list[int]) -> Forward:
        """Begins a micro-batch, or continues one with another part of the model."""
        if self.forwards:
            last = self.forwards[-1]
            if id(module) not in last.entered and last.batch == batch:
                last.entered.add(id(module))
                return last
        first = sum(forward.batch for forward in self.forwards)
        self.kept = list(self.reservoir.offer(batch))
        kept = [sample - first for sample in self.kept if sample >= first]
        forward = Forward(len(self.forwards), batch, first, kept, sample_shape, {id(module)})
        self.forwards.append(forward)
        return forward

    def mark(self) -> Mark:
        """Notes how much is recorded now."""
        last = self.forwards[-1] if self.forwards else None
        entered, names = (set(last.entered), dict(last.names.calls)) if last else (set(), {})
        return Mark(len(self.calls), len(self.forwards), entered, names)

    def restore(self, mark: Mark) -> None:
        """Forgets what was recorded since a mark."""
        for call in self.calls[mark.calls :]:
            if call.fingerprint is not None:
                self.pending[call.base_name, call.fingerprint].remove(call)
        del self.calls[mark.calls :]
        del self.forwards[mark.forwards :]
        if self.forwards:
            self.forwards[-1].entered, self.forwards[-1].names.calls = mark.entered, mark.names
        self._choose_again()

    def _choose_again(self) -> None:
        """Chooses the kept samples of the present forwards; equal offers give equal choices."""
        self.reservoir = _native.Reservoir(self.options.seed, self.number, self.options.samples)
        self.kept = []
        for forward in self.forwards:
            self.kept = list(self.reservoir.offer(forward.batch))

    def drop_discarded(self) -> None:
        """Forgets all forwards if their gradients were discarded, such as by `zero_grad`."""
        tasks = {task for call in self.calls for task in call.gradients}
        if not self.gradients.has_discarded(tasks):
            return
        trained = {call.forward for call in self.calls if call.has_grad}
        if len(trained) < len(self.forwards):
            # A forward still waits for its backward.
            return
        self.release()
        self.calls, self.forwards, self.pending = [], [], {}
        self._choose_again()

    @property
    def batch(self) -> int:
        """Samples of all micro-batches."""
        return sum(forward.batch for forward in self.forwards)

    @property
    def is_pending(self) -> bool:
        """Whether checkpointed calls wait for their recomputation."""
        return bool(self.pending)

    def await_recomputation(self, call: Call, fingerprint: tuple) -> None:
        """Notes a checkpointed call, whose operands come with its recomputation."""
        call.fingerprint = fingerprint
        self.pending.setdefault((call.base_name, fingerprint), []).append(call)

    def take_pending(self, base_name: str, fingerprint: tuple) -> Call | None:
        """Returns the call of a checkpointed forward that is now recomputed."""
        waiting = self.pending.get((base_name, fingerprint))
        if not waiting:
            return None
        call = waiting.pop(0)
        call.fingerprint = None
        if not waiting:
            del self.pending[base_name, fingerprint]
        return call


def compute_fingerprint(x: Tensor) -> tuple:
    """Identifies X by its shape and its sums; equal tensors have equal fingerprints."""
    values = x.detach().double()
    return tuple(x.shape), float(values.sum()), float(values.abs().sum())


@contextlib.contextmanager
def guard(step: Step, op: str, module: str) -> Iterator[None]:
    """Notes errors of the capture in the step; they must not break the training."""
    try:
        yield
    except NoSamples as refused:
        step.ignored.setdefault(f"{module}.{op}", str(refused))
    except Unsupported as refused:
        step.unsupported.setdefault((op, module), str(refused))
    except Exception as error:
        if not isinstance(error, (ArgumentError, SkipStep)):
            error.add_note(f"while capture read {op} of module {module}")
        step.fail(error)


def watch(y: Tensor, step: Step, call: Call, receive: Callable[[Tensor], None]) -> None:
    """Calls `receive` with the gradient of y, also if y changes in place later."""

    def hook(gradient: Tensor | None) -> None:
        # The backward of a custom autograd.Function may return None.
        if step.is_over or gradient is None:
            return
        op = call.layer.op
        with guard(step, op, call.module):
            if torch.is_grad_enabled():
                raise Unsupported("its backward is differentiated again (create_graph=True)")
            receive(gradient)

    y.register_hook(hook)


def find_output(y: object) -> Tensor:
    """Returns the call's result."""
    if not isinstance(y, Tensor):
        raise Unsupported(f"it returned {type(y).__name__}, not a tensor")
    return y
