"""Finds the order of the samples in a layer's input by running the model twice.

The second run gets the batch rolled by one sample. If the rows of a layer's input are split into
samples in the right order, they are those of the first run, rolled by one sample.
"""

import contextlib
import dataclasses
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from .attention import MULTI_HEAD, SDPA, Attention, list_products
from .errors import warn
from .naming import CallNames, sanitise
from .operations import READERS
from .products import Product
from .samples import Order, list_orders
from .rolls import Rolls
from .undisturbed import undisturbed, without_modes

# Relative to the differences between samples: rounding, and a wrong order's least difference.
TOLERANCE = 0.02


class Probe:
    """The orders that fit each call's input."""

    def __init__(self, source: str = "capture") -> None:
        # Whose warnings the user reads.
        self.source = source
        # By call; those of all parts of the model that the loop calls.
        self.orders: dict[str, list[Order]] = {}
        self.batch = 0
        self.probed: set[int] = set()
        self.has_failed = False

    def find_orders(self, call: str, batch: int) -> list[Order] | None:
        """Returns the orders that fit, best known first; None if the probe did not see the call."""
        found = self.orders.get(call)
        if found is None or batch == self.batch:
            return found
        return [
            dataclasses.replace(order, inner=batch) if order.inner == self.batch else order
            for order in found
        ]

    def repeat(self) -> None:
        """Probes again in the next captured step, whose forward may take another path."""
        self.probed.clear()

    def run(
        self, module: nn.Module, args: tuple, kwargs: dict, axis: int, batch: int, watcher: Any
    ) -> None:
        """Runs a module that the loop is about to call; `watcher` names products."""
        if id(module) in self.probed or batch == 1:
            return
        self.probed.add(id(module))
        rolls, depth = Rolls(module, axis, batch), len(watcher.thread.modules)
        try:
            with undisturbed(module):
                first = _run(module, *rolls.copy_arguments(args, kwargs, 0), batch, watcher)
            with undisturbed(module):
                second = _run(module, *rolls.copy_arguments(args, kwargs, 1), batch, watcher)
        except Exception as error:
            self._note_failure(error)
            return
        finally:
            del watcher.thread.modules[depth:]
        self.batch = batch
        for call, signatures in first.items():
            others = second.get(call, {})
            fitting = (order for order in signatures if order in others)
            self.orders[call] = [
                order for order in fitting if is_rolled(signatures[order], others[order])
            ]

    def _note_failure(self, error: Exception) -> None:
        if self.has_failed:
            return
        self.has_failed = True
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        warn(
            f"the check of the samples' order failed, because the model did not run in "
            f"evaluation mode ({reason}); "
            "layers whose order is ambiguous are refused unless batch_axis names the dimension",
            source=self.source,
        )


class ProbeMode(TorchFunctionMode):
    """Notes a signature of each product's input."""

    def __init__(self, batch: int, watcher: Any) -> None:
        super().__init__()
        self.batch = batch
        self.watcher = watcher
        self.names = CallNames()
        self.signatures: dict[str, dict[Order, Tensor]] = {}

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func is MULTI_HEAD:
            return self.watcher.run_multi_head(args, kwargs, self)
        y = func(*args, **kwargs)
        if func is SDPA or func in READERS:
            # What cannot be read is refused in the captured forward.
            with contextlib.suppress(Exception):
                self._note(func, args, kwargs, y)
        return y

    def _note(self, func: Any, args: tuple, kwargs: dict, y: Any) -> None:
        with torch._C.DisableTorchFunction():
            if func is SDPA:
                attention = Attention.from_call(*args, **kwargs)
                self.watcher.names.parts = []
                products = [(product, attention.query) for product in list_products(attention)]
            else:
                with torch.enable_grad():
                    read = READERS[func](y, *args, **kwargs)
                products = [(product, product.x) for product in read]
            for product, x in products:
                self._sign(product, x)

    def _sign(self, product: Product, x: Tensor) -> None:
        call = self.names.next_name(
            sanitise(self.watcher.names.name(product, self.watcher.thread))
        )
        if product.op.startswith("conv"):
            return
        found = self.signatures[call] = {}
        for order in list_orders(product.lead or (1,), self.batch):
            found[order] = sign(
                order.split(x.detach(), self.batch, product.trailing).reshape(self.batch, -1)
            )


def sign(samples: Tensor) -> Tensor:
    """Two fixed projections of each sample and their scale, `[samples, 3]`."""
    samples = samples.float()
    places = torch.arange(samples.shape[1], device=samples.device, dtype=torch.float32)
    weights = torch.stack([torch.sin(places * 12.9898 + 1), torch.cos(places * 78.233)], 1)
    scale = torch.linalg.vector_norm(samples, dim=1, keepdim=True)
    return torch.cat([samples @ weights, scale], 1).double()


def is_rolled(first: Tensor, second: Tensor) -> bool:
    """Whether the second run's samples are those of the first, rolled by one."""
    if not bool(torch.isfinite(first).all() and torch.isfinite(second).all()):
        return False
    spread = (first - first.mean(0)).abs().max(0).values
    noise = 1e-6 * first[:, 2].max() + 1e-12
    return bool(
        ((second - first.roll(1, 0)).abs().max(0).values <= TOLERANCE * spread + noise).all()
    )


def _run(
    module: nn.Module, args: tuple, kwargs: dict, batch: int, watcher: Any
) -> dict[str, dict[Order, Tensor]]:
    mode = ProbeMode(batch, watcher)
    with without_modes(), mode:
        # Without the module's own hooks, which run around the captured forward.
        module.forward(*args, **kwargs)
    return mode.signatures
