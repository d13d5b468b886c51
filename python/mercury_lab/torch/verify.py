"""Checks a capture without an oracle: the sum of dY^T X over the calls of a weight is its gradient.

The check uses the whole batch, and the same canonical forms and geometries as the trace.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from mercury_lab._native import MercuryError
from torch import Tensor, nn

from .naming import find_paths
from .products import Product
from .quiet import own_work
from .samples import Order

LIMITS = {torch.float16: 1e-2, torch.bfloat16: 1e-2}


@dataclass
class Row:
    """A weight's relative error in one step: |dY^T X - W.grad| / |W.grad|."""

    step: int
    parameter: str
    error: float
    limit: float


class Entry:
    """A weight's gradient as captured and as training received it, in the weight's memory order."""

    def __init__(self, name: str, weight: Tensor) -> None:
        self.name = name
        self.weight = weight.detach()
        self.extent = 1 + sum((size - 1) * stride for size, stride in zip(weight.shape, weight.stride()))
        # By backward pass; those that do not reach the weight do not count.
        self.captured: dict[int, Tensor] = {}
        self.tasks: set[int] = set()
        self.received = torch.zeros(weight.shape, device=weight.device)
        self.limit = 1e-5

    def receive(self, gradient: Tensor) -> None:
        """Adds a gradient that training computed."""
        with own_work(gradient.device.type):
            self.tasks.add(torch._C._current_graph_task_id())
            self.received += gradient

    def view(self, part: Tensor) -> Tensor:
        """Returns the captured gradient of a view of the weight, in the running backward pass."""
        task = torch._C._current_graph_task_id()
        if task not in self.captured:
            self.captured[task] = torch.zeros(self.extent, device=self.weight.device)
        offset = part.storage_offset() - self.weight.storage_offset()
        return self.captured[task].as_strided(part.shape, part.stride(), offset)

    def error(self) -> float:
        """The relative error."""
        captured = torch.zeros(self.extent, device=self.weight.device)
        for task in self.tasks & self.captured.keys():
            captured += self.captured[task]
        captured = captured.as_strided(self.weight.shape, self.weight.stride())
        difference = torch.linalg.vector_norm(captured - self.received)
        norm = torch.linalg.vector_norm(self.received)
        return 0.0 if difference == 0 else float(difference / norm)


class Verifier:
    """Collects both gradients of each weight during captured steps."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.entries: dict[int, Entry] = {}
        self.handles: list[Any] = []
        self.rows: list[Row] = []

    def start(self) -> None:
        """Begins a step: listens to the gradients of all parameters."""
        self.entries = {}
        self.names = {}
        for module, path in find_paths(self.model).items():
            for key, parameter in module._parameters.items():
                if parameter is not None and id(parameter) not in self.names:
                    self.names[id(parameter)] = ".".join(filter(None, (path, key)))

    def stop(self) -> None:
        """Ends a step."""
        for handle in self.handles:
            handle.remove()
        self.handles = []

    def finish_step(self, step: int) -> None:
        """Adds the errors of a step whose gradients are complete."""
        with own_work():
            for entry in self.entries.values():
                self.rows.append(Row(step, entry.name, entry.error(), entry.limit))
        self.entries = {}

    def _find_entry(self, weight: Tensor, name: str) -> Entry:
        """Returns the entry of the parameter, or of the computed weight, that a tensor is a view of."""
        source = weight if weight._base is None else weight._base
        entry = self.entries.get(id(source))
        if entry is None:
            entry = Entry(self.names.get(id(source), name), source)
            # Keeps the source alive, so that its id stays its own.
            entry.source = source
            self.entries[id(source)] = entry
            self.handles.append(source.register_hook(entry.receive))
        return entry

    def add_call(self, call: Any, product: Product, order: Order, y: Tensor) -> Callable[[Tensor], None] | None:
        """Prepares a call's dY^T X; the result receives dY of the whole batch."""
        if product.op == "matmul" or not product.weight_grad:
            return None
        entry = self._find_entry(product.w, call.layer.name)
        entry.limit = max(entry.limit, LIMITS.get(y.dtype, 0.0))
        x, w = product.x.detach().to(y.dtype).float(), product.w.detach()
        batch = call.forward.batch

        def receive(dy: Tensor) -> None:
            if product.op == "linear":
                left, right = order.split(dy, batch, 1), order.split(x, batch, 1)
                gradient = torch.einsum("srf,sri->fi", left.float(), right)
            else:
                window = {key: value for key, value in product.window.items()}
                gradient = torch.nn.grad.conv2d_weight(x, w.shape, dy.float(), **window)
            entry.view(w).add_(gradient)

        return receive

    def read_embedding(
        self, y: Tensor, input: Tensor, weight: Tensor, padding_idx: int | None = None, *_, **__
    ) -> list:
        """Adds an embedding's gradient to that of its weight, which a linear layer may share."""
        if not (y.requires_grad and weight.requires_grad):
            return []
        entry = self._find_entry(weight, "embedding")
        w = weight.detach()

        def receive(gradient: Tensor) -> None:
            with own_work(gradient.device.type):
                rows = gradient.reshape(-1, w.shape[1]).float()
                indices = input.reshape(-1)
                if padding_idx is not None:
                    rows = rows * (indices != padding_idx % len(w)).unsqueeze(1)
                entry.view(w).index_add_(0, indices, rows)

        y.register_hook(receive)
        return []

    def check(self) -> list[Row]:
        """Returns all errors; raises if one is above its limit."""
        if not self.rows:
            raise MercuryError("verify: no captured step had gradients of weights; capture a training step first")
        wrong = [row for row in self.rows if not row.error <= row.limit]
        if wrong:
            worst = max(wrong, key=lambda row: row.error)
            raise MercuryError(
                f"verify: the captured operands of {len(wrong)} of {len(self.rows)} weights do not give the weight's "
                f"gradient; {worst.parameter} has a relative error of {worst.error:.2g} in step {worst.step}, above "
                f"{worst.limit:g}. Either a call was not captured, or the weight has another use, such as a penalty "
                "in the loss"
            )
        return self.rows
