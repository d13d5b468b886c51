"""Replaces the products of a model's forwards."""

import math
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrize import ParametrizationList
from torch.utils._pytree import tree_map

from ..attention import MULTI_HEAD, SDPA, Attention, list_products
from ..audit import classify
from ..checkpoint import Stage, find_stage
from ..errors import NoSamples, Unsupported
from ..hooks import AuditMode, CallMode, ModelHooks, has_raised
from ..naming import CallNames, Owners, ProductNames, sanitise
from ..observer import check_input
from ..operations import READERS, check_operands
from ..probe import Probe
from ..products import Product, pass_gradient
from ..quiet import own_work
from ..samples import BatchAxis, Order, list_tensors
from ..thread import ThreadState
from .product import LayerCall, SubstitutedProduct

if TYPE_CHECKING:
    from .session import Reuse

# Calls with a term that is added to the product, with its place among the arguments.
ADDENDS = {
    "conv1d": ("bias", 2),
    "conv2d": ("bias", 2),
    "linear": ("bias", 2),
    "addmm": ("input", 0),
    "baddbmm": ("input", 0),
}


@dataclass(eq=False)
class LoopForward:
    """A forward of the model."""

    batch: int
    stage: Stage
    is_training: bool
    names: CallNames = field(default_factory=CallNames)


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
        # The first training forward is searched for products outside of known calls.
        self.is_audited = False
        self.latest_batch = 0

    @property
    def names(self) -> ProductNames:
        """Names of the running forward's products."""
        return self.product_names

    def start(self) -> None:
        """Registers the hooks."""
        self.register()
        self.axis = BatchAxis(self.batch_axis, list(self.paths))
        self.axis.probe = self.probe
        self.product_names = ProductNames(Owners(self.paths))
        self.fast_path = torch.backends.mha.get_fastpath_enabled()
        # It computes a whole layer in one operation, in evaluation.
        torch.backends.mha.set_fastpath_enabled(False)

    def stop(self) -> None:
        """Removes the hooks."""
        self.unregister()
        torch.backends.mha.set_fastpath_enabled(self.fast_path)

    def ignores(self, stage: Stage) -> bool:
        """All forwards have reuse but those of a pause and of the probe."""
        return self.reuse.is_paused or getattr(self.thread.probing, "is_on", False)

    def make_modes(self) -> list[Any]:
        """The first training forward is also audited."""
        return [self.mode] if self.is_audited else [AuditMode(self), self.mode]

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
            return
        if self.probe is not None:
            self.probe.run(module, args, kwargs, axis, batch, self)
        self.latest_batch = batch
        state.forward = LoopForward(batch, find_stage(), self.root.training)

    def close_forward(self, state: ThreadState, output: Any) -> None:
        """Ends a forward."""
        forward, state.forward = state.forward, None
        if forward is not None and not has_raised(state) and forward.stage is Stage.TRAINED:
            self.is_audited = True
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
        if state.forward is None:
            # A checkpoint's recomputation, in the backward pass.
            state.forward = LoopForward(self.latest_batch, find_stage(), self.root.training)
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
        y = multiply(product, *found, self.thread.forward.batch)
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
        return attend(attention, (scores, context), calls, self.thread.forward.batch)

    def _identify(self, product: Product) -> tuple[LayerCall, Order] | None:
        """Finds the layer of a product; None if it has no reuse now."""
        state = self.thread
        forward: LoopForward = state.forward
        if any(isinstance(running, ParametrizationList) for running in state.modules):
            raise NoSamples("it computes a weight, which holds no samples")
        check_input(product, forward.batch)
        base = self.product_names.name(product, state)
        name = forward.names.next_name(sanitise(base))
        attending = state.attending[-1] if state.attending else 0
        order = self.axis.find(base, name, product, forward.batch, state.modules, attending)
        call = self.reuse.begin_call(name, product, forward)
        return None if call is None else (call, order)

    def audit(self, func: Any) -> None:
        """Refuses an operation outside of known calls that is a product."""
        if self.thread.forward is None or classify(func) != "product":
            return
        op = func._schema.name.removeprefix("aten::")
        reason = "it computes products outside of the calls that are replaced"
        self.reuse.refuse(op, self.find_module(), reason)


def multiply(product: Product, call: LayerCall, order: Order, batch: int) -> Tensor:
    """Computes the product from substitutes; its samples may lie anywhere in X."""
    x, w = product.x, product.w
    dtype = find_dtype(x)
    x, w = x.to(dtype), w.to(dtype)
    if product.op.startswith("conv"):
        return SubstitutedProduct.apply(x, w, call, call.projection)
    arranged = order.split(x, batch, product.trailing)
    if product.op == "linear":
        y = SubstitutedProduct.apply(arranged, w, call, call.projection)
    else:
        y = SubstitutedProduct.apply(arranged, order.split(w, batch, 2), call, None)
    return order.join(y, product.lead, product.trailing)


def find_dtype(x: Tensor) -> torch.dtype:
    """The type in which PyTorch would compute a product."""
    device = x.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype


def invert_to_grad(
    product: Product, y: Tensor, func: Callable, args: tuple, kwargs: dict
) -> Tensor:
    """Turns Y of a product into the call's result.

    `to_grad` turns the gradient of the call's result into dY. It is linear, and its adjoint turns Y
    into the call's result.
    """
    with own_work():
        meta = tree_map(lambda value: to_meta(value), (args, kwargs))
        shape = func(*meta[0], **meta[1]).shape
    with torch.enable_grad():
        place = torch.zeros(shape, dtype=y.dtype, device=y.device, requires_grad=True)
        (result,) = torch.autograd.grad(
            product.to_grad(place), place, y, create_graph=y.requires_grad
        )
    return result


def to_meta(value: Any) -> Any:
    """Returns a tensor without values; other arguments stay."""
    return value.detach().to("meta") if isinstance(value, Tensor) else value


def add_term(op: str, y: Tensor, args: tuple, kwargs: dict) -> Tensor:
    """Adds the call's bias, or beta times the input of `addmm` and `baddbmm`."""
    if op not in ADDENDS:
        return y
    name, place = ADDENDS[op]
    term = args[place] if len(args) > place else kwargs.get(name, kwargs.get("self"))
    if term is None:
        return y
    if op.startswith("conv"):
        term = term.view(-1, *[1] * (y.dim() - 2))
    beta = kwargs.get("beta", 1) if name == "input" else 1
    term = term.to(y.dtype)
    return y + (term if beta == 1 else beta * term)


def attend(
    attention: Attention,
    products: tuple[Product, Product],
    calls: list[tuple[LayerCall, Order] | None],
    batch: int,
) -> Tensor:
    """Computes attention with explicit products, as the fused call's documentation defines it."""
    lead = attention.query.shape[:-2]
    query, key, value = (
        expand_heads(attention, tensor) for tensor in (attention.query, attention.key, attention.value)
    )
    products[0].x, products[0].w = query, key.expand(*lead, *key.shape[-2:])
    scores = compute_part(products[0], calls[0], batch) * attention.scale
    if attention.is_causal:
        rows, keys = scores.shape[-2:]
        allowed = torch.ones(rows, keys, dtype=torch.bool, device=scores.device).tril()
        scores = scores.masked_fill(~allowed, -math.inf)
    if attention.mask is not None and attention.mask.dtype == torch.bool:
        scores = scores.masked_fill(~attention.mask, -math.inf)
    elif attention.mask is not None:
        scores = scores + attention.mask
    # A row whose keys are all masked attends to none.
    weights = torch.softmax(scores, -1)
    weights = weights.masked_fill(torch.isneginf(scores).all(-1, keepdim=True), 0.0)
    if attention.dropout:
        weights = F.dropout(weights, attention.dropout, training=True)
    transposed = value.transpose(-2, -1)
    products[1].x = weights.to(value.dtype)
    products[1].w = transposed.expand(*lead, *transposed.shape[-2:])
    return compute_part(products[1], calls[1], batch)


def expand_heads(attention: Attention, tensor: Tensor) -> Tensor:
    """Repeats the heads of keys and values in grouped-query attention."""
    heads = attention.query.shape[-3] if attention.query.dim() > 2 else 1
    if not attention.enable_gqa or tensor.shape[-3] == heads:
        return tensor
    return tensor.repeat_interleave(heads // tensor.shape[-3], -3)


def compute_part(
    product: Product, call: tuple[LayerCall, Order] | None, batch: int
) -> Tensor:
    """Computes one of attention's products, exactly if it has no reuse."""
    if call is None:
        return product.x @ product.w.transpose(-2, -1)
    return multiply(product, *call, batch)
