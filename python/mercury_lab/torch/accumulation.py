"""Which backward passes contribute to the gradients that the optimizer uses.

A pass counts while `grad` of a parameter holds what the pass added to it. The parameter's hooks see
each addition; a gradient that is None or zero later was discarded, whoever did that.
"""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from .quiet import guard_hook, own_work


class Accumulation:
    """The backward passes whose contributions a parameter's gradient holds."""

    def __init__(self, parameter: nn.Parameter) -> None:
        self.parameter = parameter
        # Passes that computed the gradient; those of `autograd.grad` do not add it.
        self.reached: set[int] = set()
        self.tasks: set[int] = set()
        self.discarded: set[int] = set()
        self.was_nonzero: Tensor | None = None
        # An optimizer that runs inside the backward leaves no gradient.
        self.is_consumed = False
        # Whether `change`, what the passes added, is kept for `verify`.
        self.keeps_change = False
        self.before: Tensor | None = None
        self.change: Tensor | None = None

    def note_reached(self, gradient: Tensor) -> None:
        """Runs before a pass adds to the gradient."""
        with own_work(self.parameter.device.type):
            self.reached.add(torch._C._current_graph_task_id())
            self.drop_discarded()
            if self.keeps_change and not self.tasks:
                grad = self.parameter.grad
                self.before = None if grad is None else _copy_dense(grad)

    def note_added(self, parameter: nn.Parameter) -> None:
        """Runs after a pass added to the gradient."""
        with own_work(parameter.device.type):
            self.tasks.add(torch._C._current_graph_task_id())
            if parameter.grad is None:
                self.is_consumed = True
                return
            self.was_nonzero = _is_nonzero(parameter.grad)
            if self.keeps_change:
                grad = _copy_dense(parameter.grad)
                self.change = grad if self.before is None else grad - self.before

    def drop_discarded(self) -> None:
        """Forgets the passes whose contributions are gone."""
        if not self.tasks or self.is_consumed:
            return
        grad = self.parameter.grad
        if grad is None or (bool(self.was_nonzero) and not bool(_is_nonzero(grad))):
            self.discarded |= self.tasks
            self.tasks = set()
            self.before = self.change = None

    def adopt_assigned(self) -> None:
        """Counts passes of `autograd.grad` whose result the loop assigned to `grad`."""
        grad = self.parameter.grad
        if self.tasks or grad is None or not bool(_is_nonzero(grad)):
            return
        self.tasks = self.reached - self.discarded
        if self.keeps_change and self.tasks:
            self.change = _copy_dense(grad)


class Accumulations:
    """Those of all parameters in a captured step."""

    def __init__(self) -> None:
        self.known: dict[int, Accumulation] = {}
        # Passes that count for no parameter.
        self.foreign: set[int] = set()

    def listen(
        self, parameters: Iterable[nn.Parameter], fail: Callable[[Exception], None]
    ) -> list[Any]:
        """Registers hooks, whose errors go to `fail`, and returns their handles."""
        handles = []
        for parameter in parameters:
            if parameter.requires_grad and id(parameter) not in self.known:
                accumulation = self.known[id(parameter)] = Accumulation(parameter)
                reached = guard_hook(accumulation.note_reached, fail)
                added = guard_hook(accumulation.note_added, fail)
                handles.append(parameter.register_hook(reached))
                handles.append(parameter.register_post_accumulate_grad_hook(added))
        return handles

    def find(self, parameter: nn.Parameter | None) -> Accumulation | None:
        """Returns that of a parameter, if a pass reached it."""
        found = self.known.get(id(parameter))
        return found if found is not None and found.reached else None

    def has_discarded(self, tasks: Iterable[int]) -> bool:
        """Whether these passes are known to count no longer, for any parameter."""
        tasks = set(tasks)
        for accumulation in self.known.values():
            accumulation.drop_discarded()
        lost = set().union(*(each.discarded for each in self.known.values()))
        alive = set().union(*(each.tasks for each in self.known.values()))
        return bool(tasks) and tasks <= lost - alive

    def settle(self, tasks: set[int], optimized: set[int] | None) -> None:
        """Decides at the step which of the passes `tasks` count.

        `optimized` has the ids of the optimizer's parameters; other gradients may be used and gone
        already. Contributions that are zero show no discard of their own, and follow those of other
        parameters.
        """
        lost, alive = set(), set()
        for key, accumulation in self.known.items():
            if optimized is not None and key in optimized:
                accumulation.drop_discarded()
            accumulation.adopt_assigned()
            lost |= accumulation.discarded
            if accumulation.is_consumed or (
                accumulation.was_nonzero is not None and bool(accumulation.was_nonzero)
            ):
                alive |= accumulation.tasks
        for accumulation in self.known.values():
            accumulation.tasks -= lost - alive
        counted = set().union(*(each.tasks for each in self.known.values()))
        is_known = any(each.reached for each in self.known.values())
        self.foreign = tasks - counted if is_known else set()


def _copy_dense(grad: Tensor) -> Tensor:
    """Copies a gradient, which may be that of a sparse embedding."""
    dense = grad.detach() if grad.layout is torch.strided else grad.detach().to_dense()
    return dense.to(torch.float32, copy=True)


def _is_nonzero(grad: Tensor) -> Tensor:
    if grad.layout is not torch.strided:
        grad = grad.coalesce().values()
    return grad.detach().any()
