"""Replaces the products of a model's forwards."""

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from mercury_lab._native import MercuryError
from torch import Tensor, nn
from torch.nn.utils.parametrize import ParametrizationList

from ..attention import MULTI_HEAD, SDPA, Attention, list_products
from ..audit import classify
from ..checkpoint import Stage, find_stage
from ..errors import NoSamples, Unsupported
from ..hooks import AuditMode, CallMode, ModelHooks, has_raised
from ..naming import CallNames, Owners, ProductNames, find_paths, sanitise
from ..observer import REENTERED, check_input
from ..operations import READERS, check_operands
from ..probe import Probe
from ..products import Product, pass_gradient
from ..samples import BatchAxis, Order, list_tensors
from ..thread import ThreadState
from .product import LayerCall
from .results import add_term, attend, invert_to_grad, multiply

if TYPE_CHECKING:
    from .session import Reuse

# Those that run now, in all threads.
RUNNING: list["Interceptor"] = []


@dataclass(eq=False)
class LoopForward:
    """A forward of the model."""

    batch: int
    stage: Stage
    is_training: bool
    names: CallNames = field(default_factory=CallNames)
    # The measurements and counts of its calls, which count once it ends without an exception.
    outcomes: list[Callable[[], None]] = field(default_factory=list)
    # Whether its samples are unknown, so that it is computed exactly.
    is_exact: bool = False


class Interceptor(ModelHooks):
    """Replaces products between `start` and `stop`."""

    def __init__(
        self, model: nn.Module, reuse: "Reuse", batch_axis: Any, probe: Probe | None
    ) -> None:
        super().__init__(model)
        self.reuse = reuse
        self.batch_axis = batch_axis
        self.probe = probe
        self.mode = CallMode(self)
        # Modules whose first training forward was searched for products outside of known calls.
        self.audited: set[nn.Module] = set()

    @property
    def names(self) -> ProductNames:
        """Names of the running forward's products."""
        return self.product_names

    def start(self) -> None:
        """Registers the hooks."""
        self._refuse_overlap()
        self.register()
        RUNNING.append(self)
        self.axis = BatchAxis(self.batch_axis, list(self.paths))
        self.axis.probe = self.probe
        self.product_names = ProductNames(Owners(self.paths))
        self.fast_path = torch.backends.mha.get_fastpath_enabled()
        # It computes a whole layer in one operation, in evaluation.
        torch.backends.mha.set_fastpath_enabled(False)

    def _refuse_overlap(self) -> None:
        own = set(find_paths(self.model))
        for other in RUNNING:
            if not other.reuse.is_paused and own & set(other.paths):
                raise MercuryError(
                    "the model has reuse already, from another context; close it, or pause it by paused()"
                )

    def stop(self) -> None:
        """Removes the hooks."""
        RUNNING.remove(self)
        self.unregister()
        torch.backends.mha.set_fastpath_enabled(self.fast_path)

    def ignores(self, stage: Stage) -> bool:
        """Forwards in a pause and forwards of the probe are exact; all others have reuse."""
        return self.reuse.is_paused or getattr(self.thread.probing, "is_on", False)

    def make_modes(self) -> list[Any]:
        """A module's first training forward is also audited."""
        is_audited = self.thread.modules[0] in self.audited
        return [self.mode] if is_audited else [AuditMode(self), self.mode]

    def open_forward(self, module: nn.Module, args: tuple, kwargs: dict) -> None:
        """Begins a forward."""
        state = self.thread
        state.handled_error = sys.exception()
        tensors = list_tensors(args, kwargs)
        try:
            axis = self.axis.find_input_axis(module, tensors)
            batch = tensors[0].shape[axis]
        except Unsupported as reason:
            self.reuse.refuse("forward", self.find_module(), str(reason))
            state.forward = LoopForward(0, find_stage(), self.root.training, is_exact=True)
            return
        if self.probe is not None:
            self.probe.run(module, args, kwargs, axis, batch, self)
        state.forward = LoopForward(batch, find_stage(), self.root.training)

    def close_forward(self, state: ThreadState, output: Any) -> None:
        """Ends a forward; the outcomes of one that raised do not count."""
        forward, state.forward = state.forward, None
        if forward is not None and not has_raised(state):
            for note in forward.outcomes:
                note()
            if forward.stage is Stage.TRAINED:
                self.audited.add(state.outermost)
            if state.outermost is self.root:
                self.reuse.check_layers()
        state.handled_error = None

    def run_call(self, func: Callable, args: tuple, kwargs: dict) -> Any:
        """Runs a call, from substitutes if it is a product of a layer with reuse."""
        state = self.thread
        reader = READERS.get(func)
        is_product = reader is not None or func is SDPA
        if func is MULTI_HEAD and not state.handled:
            return self.run_multi_head(args, kwargs, self.mode)
        if not is_product or state.handled:
            return func(*args, **kwargs)
        if state.forward is None and find_stage() is Stage.RECOMPUTED:
            state.forward = LoopForward(0, Stage.RECOMPUTED, self.root.training)
        if state.forward is None or state.forward.is_exact:
            return func(*args, **kwargs)
        state.handled += 1
        try:
            y = self._replace(func, reader, args, kwargs)
            return func(*args, **kwargs) if y is None else y
        finally:
            state.handled -= 1

    def _replace(
        self, func: Callable, reader: Callable | None, args: tuple, kwargs: dict
    ) -> Any:
        """Computes a call with reuse; None if it must be computed exactly."""
        op = getattr(func, "__name__", str(func))
        try:
            if find_stage() is Stage.CUSTOM:
                raise Unsupported(REENTERED)
            if func is SDPA:
                return self._replace_attention(Attention.from_call(*args, **kwargs))
            if "out" in kwargs or (op.endswith("_") and not op.endswith("__")):
                raise Unsupported("it writes its result into a tensor")
            # Views of weights keep their parameters only outside of no_grad.
            with torch.enable_grad():
                products = reader(None, *args, **kwargs)
            return self._replace_product(func, op, products[0], args, kwargs) if products else None
        except NoSamples as reason:
            self.reuse.note_exact(f"{self.find_module()}.{op}", str(reason))
        except Unsupported as reason:
            self.reuse.refuse(op, self.find_module(), str(reason))
        return None

    def _replace_product(
        self, func: Callable, op: str, product: Product, args: tuple, kwargs: dict
    ) -> Tensor | None:
        check_operands(product)
        found = self._identify(product)
        if found is None or not product.x.is_floating_point():
            return None
        y = multiply(product, *found)
        if product.to_grad is not pass_gradient:
            y = invert_to_grad(product, y, func, args, kwargs)
        return add_term(op, y, args, kwargs)

    def _replace_attention(self, attention: Attention) -> Tensor | None:
        """Computes a fused attention call as two products and what lies between them."""
        self.product_names.parts = []
        scores, context = list_products(attention)
        if not scores.lead:
            raise Unsupported("its input has no batch dimension; give it one")
        calls = [self._identify(product) for product in (scores, context)]
        if calls == [None, None]:
            return None
        return attend(attention, (scores, context), calls)

    def _identify(self, product: Product) -> tuple[LayerCall, Order] | None:
        """Finds the layer of a product; None if it has no reuse now."""
        state = self.thread
        forward: LoopForward = state.forward
        if any(isinstance(running, ParametrizationList) for running in state.modules):
            raise NoSamples("it computes a weight, which holds no samples")
        base = sanitise(self.product_names.name(product, state))
        if forward.stage is Stage.RECOMPUTED:
            name, batch = self.reuse.find_recomputed(base)
        else:
            name, batch = forward.names.next_name(base), forward.batch
        check_input(product, batch)
        attending = state.attending[-1] if state.attending else 0
        order = self.axis.find(base, name, product, batch, state.modules, attending)
        call = self.reuse.begin_call((base, name), product, batch, forward)
        return None if call is None else (call, order)

    def audit(self, func: Any) -> None:
        """Refuses an operation outside of known calls that is a product."""
        if self.thread.forward is None or classify(func) != "product":
            return
        op = func._schema.name.removeprefix("aten::")
        reason = "it computes products outside of the calls that are replaced"
        self.reuse.refuse(op, self.find_module(), reason)
