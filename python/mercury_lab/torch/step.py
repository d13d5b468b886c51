"""The record of one captured step."""

import contextlib
import functools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from mercury_lab import _native
from torch import Tensor, nn

from .errors import ArgumentError, SkipStep, Unsupported
from .layers import Layer
from .naming import CallNames
from .options import Options
from .products import Product
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
    # Of a call under reentrant checkpointing, until its recomputation: operation, shape and sums of X.
    fingerprint: tuple | None = None
    base_name: str = ""

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
        self.unsupported: dict[tuple[str, str], str] = {}
        self.failure: Exception | None = None
        self.ignored: dict[str, int] = {}
        self.is_over = False
        # Backward passes that added to a parameter's gradient, by the parameter's id.
        self.accumulated: dict[int, set[int]] = {}
        self.called_whole = False

    def listen(self, parameters: Iterable[nn.Parameter]) -> list[Any]:
        """Notes which backward passes add to parameters; returns handles of the hooks."""
        handles = []
        for parameter in parameters:
            if parameter.requires_grad:
                tasks = self.accumulated.setdefault(id(parameter), set())
                note = functools.partial(_note_task, tasks)
                handles.append(parameter.register_hook(note))
        return handles

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
        del self.calls[mark.calls :]
        del self.forwards[mark.forwards :]
        if self.forwards:
            self.forwards[-1].entered, self.forwards[-1].names.calls = mark.entered, mark.names
        # Equal offers give equal choices.
        self.reservoir = _native.Reservoir(self.options.seed, self.number, self.options.samples)
        self.kept = []
        for forward in self.forwards:
            self.kept = list(self.reservoir.offer(forward.batch))

    @property
    def batch(self) -> int:
        """Samples of all micro-batches."""
        return sum(forward.batch for forward in self.forwards)

    @property
    def is_pending(self) -> bool:
        """Whether checkpointed calls wait for their recomputation."""
        return any(call.fingerprint is not None for call in self.calls)

    def find_pending(self, base_name: str, fingerprint: tuple) -> Call | None:
        """Finds the call of a checkpointed forward that is now recomputed."""
        for call in self.calls:
            if call.base_name == base_name and call.fingerprint == fingerprint:
                return call
        return None


def fingerprint(x: Tensor) -> tuple:
    """Identifies X by its shape and its sums; equal tensors have equal fingerprints."""
    values = x.detach().double()
    return tuple(x.shape), float(values.sum()), float(values.abs().sum())


def gather(
    product: Product, tensor: Tensor, order: Order, forward: Forward, channels: list[int] | None, dtype: torch.dtype
) -> Tensor:
    """Copies the kept samples and channels of X or dY, as computed in `dtype`, to the CPU in f32."""
    split = tensor if product.op.startswith("conv") else order.split(tensor, forward.batch, product.trailing)
    part = select(split, 0, forward.kept if len(forward.kept) < forward.batch else None)
    part = select(part, 1, channels)
    return copy_private(part, tensor, dtype)


def gather_weight(
    product: Product, order: Order, forward: Forward, filters: list[int] | None, dtype: torch.dtype
) -> Tensor:
    """Copies the kept filters, or the kept samples of a right operand."""
    w = product.w.detach()
    if product.op == "matmul":
        return gather(product, w, order, forward, None, dtype)
    part = select(w, 0, filters)
    return copy_private(part.reshape(len(part), -1), w, dtype)


def select(tensor: Tensor, dimension: int, indices: list[int] | None) -> Tensor:
    """Selects along a dimension; None keeps all."""
    if indices is None:
        return tensor
    return tensor.index_select(dimension, torch.tensor(indices, dtype=torch.long, device=tensor.device))


def copy_private(part: Tensor, source: Tensor, dtype: torch.dtype) -> Tensor:
    """Copies to the CPU in f32, safe from in-place changes of the source; values are rounded to `dtype`."""
    copied = part.to(dtype).to("cpu", torch.float32).contiguous()
    if copied.untyped_storage().data_ptr() == source.untyped_storage().data_ptr():
        return copied.clone()
    return copied


def _note_task(tasks: set[int], gradient: Tensor) -> None:
    tasks.add(torch._C._current_graph_task_id())


@contextlib.contextmanager
def guard(step: Step, op: str, module: str) -> Iterator[None]:
    """Notes errors of the capture in the step; they must not break the training."""
    try:
        yield
    except Unsupported as refused:
        step.unsupported.setdefault((op, module), str(refused))
    except Exception as error:
        if not isinstance(error, (ArgumentError, SkipStep)):
            error.add_note(f"while capture read {op} of module {module}")
        step.fail(error)


def watch(y: Tensor, step: Step, call: Call, receive: Callable[[Tensor], None]) -> None:
    """Calls `receive` with the gradient of y, also if y changes in place later."""

    def hook(gradient: Tensor) -> None:
        if step.is_over:
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
