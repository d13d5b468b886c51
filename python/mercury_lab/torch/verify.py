"""Checks a capture without an oracle: the sum of dY^T X over the calls of a weight is its gradient.

The check uses the whole batch, and the same canonical forms and geometries as the trace.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from mercury_lab._native import MercuryError
from torch import Tensor, nn
from torch.nn.grad import conv2d_weight

from .accumulation import Accumulation
from .assemble import StepTensors
from .naming import find_paths, name_parameters
from .products import Product
from .quiet import guard_hook, own_work
from .samples import Order
from .step import Step
from .written import WeightProduct, sum_written

LIMITS = {torch.float16: 1e-2, torch.bfloat16: 1e-2}


@dataclass
class WeightError:
    """A weight's relative error in one step: |dY^T X - change of W.grad| / |change of W.grad|."""

    step: int
    parameter: str
    error: float
    limit: float


class WeightGradient:
    """A weight's gradient as captured and as training received it, in the weight's memory order."""

    def __init__(self, name: str, source: Tensor, accumulation: Accumulation | None) -> None:
        self.name = name
        # Keeps the source alive, so that its id stays its own.
        self.source = source
        self.weight = source.detach()
        self.extent = 1 + sum(
            (size - 1) * stride for size, stride in zip(source.shape, source.stride())
        )
        # By backward pass; those that do not count are left out at the end.
        self.captured: dict[int, Tensor] = {}
        self.received: dict[int, Tensor] = {}
        # That of a parameter; computed weights and those that FSDP gathers have none.
        self.accumulation = accumulation
        # Whether an embedding adds to the gradient.
        self.has_other_uses = False
        self.limit = 1e-5

    def receive(self, gradient: Tensor) -> None:
        """Adds a gradient of a computed weight; a parameter's is the change of its `grad`."""
        with own_work(gradient.device.type):
            task = torch._C._current_graph_task_id()
            dense = gradient if gradient.layout is torch.strided else gradient.to_dense()
            self.received[task] = self.received.get(task, 0.0) + dense.float()

    def view(self, part: Tensor) -> Tensor:
        """Returns the captured gradient of a view of the weight, in the running backward pass."""
        task = torch._C._current_graph_task_id()
        if task not in self.captured:
            self.captured[task] = torch.zeros(self.extent, device=self.weight.device)
        offset = part.storage_offset() - self.weight.storage_offset()
        return self.captured[task].as_strided(part.shape, part.stride(), offset)

    def measure_written(self, parts: list[tuple[Tensor, Tensor]]) -> float:
        """The relative error of `parts`, views of the weight and their gradients as written."""
        if self.has_other_uses:
            return 0.0
        written = torch.zeros(self.extent, device=self.weight.device)
        for view, gradient in parts:
            offset = view.storage_offset() - self.weight.storage_offset()
            written.as_strided(view.shape, view.stride(), offset).add_(gradient.to(written.device))
        return compare(
            written.as_strided(self.weight.shape, self.weight.stride()), self.accumulation.change
        )

    def measure(self, foreign: set[int]) -> float | None:
        """The relative error; None if all backward passes are `foreign`, which do not count."""
        accumulation = self.accumulation
        if accumulation is not None and accumulation.reached:
            tasks, received = accumulation.tasks, accumulation.change
        else:
            tasks = self.received.keys() - foreign
            received = sum(self.received[task] for task in tasks)
        if not tasks or received is None:
            return None
        captured = torch.zeros(self.extent, device=self.weight.device)
        for task in tasks & self.captured.keys():
            captured += self.captured[task]
        return compare(captured.as_strided(self.weight.shape, self.weight.stride()), received)


def compare(captured: Tensor, received: Tensor) -> float:
    """The relative difference of two gradients."""
    difference = torch.linalg.vector_norm(captured - received)
    norm = torch.linalg.vector_norm(received)
    return 0.0 if difference == 0 else float(difference / norm)


class Verifier:
    """Collects both gradients of each weight during captured steps."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.gradients: dict[int, WeightGradient] = {}
        # The products of parameters, by the id of their call.
        self.products: dict[int, WeightProduct] = {}
        self.handles: list[Any] = []
        self.errors: list[WeightError] = []

    def start(self, step: Step) -> None:
        """Begins a step: listens to the gradients of all parameters."""
        self.step = step
        self.gradients = {}
        self.products = {}
        self.names = name_parameters(find_paths(self.model))

    def stop(self) -> None:
        """Ends a step."""
        for handle in self.handles:
            handle.remove()
        self.handles = []

    def measure(self, step: Step, assembled: StepTensors) -> list[WeightError]:
        """Compares the gradients of a step that is about to be written."""
        errors = []
        with own_work():
            written = sum_written(step, assembled, self.products)
            for key, gradient in self.gradients.items():
                error = gradient.measure(step.gradients.foreign)
                if error is None:
                    continue
                if key in written:
                    error = max(error, gradient.measure_written(written[key]))
                errors.append(WeightError(step.number, gradient.name, error, gradient.limit))
        errors += [WeightError(step.number, name, 1.0, 1e-5) for name in assembled.unseen]
        self.gradients, self.products = {}, {}
        return errors

    def _find_gradient(self, weight: Tensor, name: str) -> WeightGradient:
        """Returns that of the parameter, or of the computed weight, that a tensor is a view of."""
        source = weight if weight._base is None else weight._base
        found = self.gradients.get(id(source))
        if found is None:
            accumulation = self.step.gradients.known.get(id(source))
            if accumulation is not None:
                accumulation.keeps_change = True
            found = WeightGradient(self.names.get(id(source), name), source, accumulation)
            self.gradients[id(source)] = found
            if accumulation is None:
                self.handles.append(source.register_hook(guard_hook(found.receive, self.step.fail)))
        return found

    def add_call(
        self, call: Any, product: Product, order: Order, y: Tensor
    ) -> Callable[[Tensor], None] | None:
        """Prepares a call's dY^T X; the result receives dY of the whole batch."""
        if product.op == "matmul" or not product.weight_grad:
            return None
        weight_gradient = self._find_gradient(product.w, call.layer.name)
        weight_gradient.limit = max(weight_gradient.limit, LIMITS.get(y.dtype, 0.0))
        x, w = product.x.detach().to(y.dtype).float(), product.w.detach()
        batch = call.forward.batch
        if weight_gradient.accumulation is not None:
            self.products[id(call)] = WeightProduct(product.op, w, product.window)

        def receive(dy: Tensor) -> None:
            if product.op == "linear":
                left, right = order.split(dy, batch, 1), order.split(x, batch, 1)
                gradient = torch.einsum("srf,sri->fi", left.float(), right)
            else:
                gradient = conv2d_weight(x, w.shape, dy.float(), **product.window)
            weight_gradient.view(w).add_(gradient)

        return receive

    def read_embedding(
        self, y: Tensor, input: Tensor, weight: Tensor, padding_idx: int | None = None, *_, **__
    ) -> list:
        """Adds an embedding's gradient to that of its weight, which a linear layer may share."""
        if not (y.requires_grad and weight.requires_grad):
            return []
        weight_gradient = self._find_gradient(weight, "embedding")
        w = weight.detach()

        def receive(gradient: Tensor) -> None:
            with own_work(gradient.device.type):
                rows = gradient.reshape(-1, w.shape[1]).float()
                indices = input.reshape(-1)
                if padding_idx is not None:
                    rows = rows * (indices != padding_idx % len(w)).unsqueeze(1)
                weight_gradient.view(w).index_add_(0, indices, rows)

        weight_gradient.has_other_uses = True
        y.register_hook(guard_hook(receive, self.step.fail))
        return []

    def check(self) -> list[WeightError]:
        """Returns all errors; raises if one is above its limit."""
        if not self.errors:
            raise MercuryError(
                "verify: no captured step had gradients of weights; capture a training step first"
            )
        wrong = [error for error in self.errors if not error.error <= error.limit]
        if wrong:
            worst = max(wrong, key=lambda error: error.error)
            raise MercuryError(
                f"verify: the captured operands of {len(wrong)} of {len(self.errors)} weights "
                f"do not give the weight's "
                f"gradient; {worst.parameter} has a relative error of {worst.error:.2g} in "
                f"step {worst.step}, above "
                f"{worst.limit:g}. Either a call was not captured, or the weight has another "
                f"use, such as a penalty "
                "in the loss"
            )
        return self.errors
