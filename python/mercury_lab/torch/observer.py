"""Turns calls into records of a step: which layer, which samples, which operands."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.utils.parametrize import ParametrizationList

from .attention import Attention, ExplicitAttention, list_products, read_generator
from .checkpoint import Stage
from .errors import NoSamples, Unsupported, warn
from .gather import gather, gather_weight, select
from .layers import Layers
from .naming import Owners, ProductNames, find_parameter, sanitise
from .operations import check_operands
from .options import Options
from .products import Product
from .quiet import own_work
from .samples import BatchAxis, Order
from .step import Call, Forward, Step, compute_fingerprint, find_output, watch
from .thread import ThreadState
from .verify import Verifier

REENTERED = (
    "it runs inside a custom autograd.Function, whose backward is hidden; replace it "
    "in the captured model"
)


def describe_sdpa(args: tuple, kwargs: dict) -> tuple[Attention, Tensor | None]:
    """Reads a fused attention call before it runs, with the state of its random numbers."""
    with own_work():
        attention = Attention.from_call(*args, **kwargs)
        state = read_generator(attention.query.device) if attention.dropout else None
    return attention, state


class Observer:
    """Records calls in the current step."""

    def __init__(self, options: Options, layers: Layers, verifier: Verifier | None) -> None:
        self.options = options
        self.layers = layers
        self.verifier = verifier
        self.extra_readers: dict[Any, Callable] = (
            {} if verifier is None else {F.embedding: verifier.read_embedding}
        )
        self.unknown: dict[str, str] = {}
        self.step: Step | None = None

    def start(self, step: Step, owners: Owners, axis: BatchAxis) -> None:
        """Begins a step."""
        self.step, self.owners, self.axis = step, owners, axis
        self.names = ProductNames(owners)
        if self.verifier is not None:
            self.verifier.start(step)

    def stop(self) -> None:
        """Ends a step."""
        self.step = None
        if self.verifier is not None:
            self.verifier.stop()

    def note_unknown(self, op: str, module: str) -> None:
        """Reports an operation that is not known to compute no products."""
        if op not in self.unknown:
            self.unknown[op] = module
            remedy = "if it multiplies matrices, its products are missing in the trace"
            warn(f"{op} in module {module} is not known to mercury-lab; {remedy}")

    def note_ignored(self, op: str, state: ThreadState) -> None:
        """Notes a call without gradients."""
        if self.step is not None and state.modules and not getattr(state.probing, "is_on", False):
            name = ".".join(filter(None, (self.owners.paths[state.modules[-1]], op)))
            self.step.ignored.setdefault(name, "it ran without gradients")

    def observe(
        self, reader: Callable, args: tuple, kwargs: dict, y: Any, stage: Stage, state: ThreadState
    ) -> None:
        """Records a call, after it ran."""
        if stage is Stage.RECOMPUTED and not self.step.is_pending:
            return
        if torch._C._are_functorch_transforms_active():
            raise Unsupported(
                "it runs inside a transformation of torch.func, whose tensors hold several samples"
            )
        # Views of weights keep their parameters only outside of no_grad.
        with own_work(), torch.set_grad_enabled(True):
            products = reader(y, *args, **kwargs)
        for product in products:
            check_operands(product)
            y = find_output(y)
            if not y.is_floating_point():
                continue
            if stage is Stage.CUSTOM:
                raise Unsupported(REENTERED)
            call, order = self._identify(product, stage, state)
            if call is None:
                continue
            self.step.has_fused |= product.part == "einsum"
            with own_work(y.device.type):
                self._keep_operands(call, product, order, y.dtype, stage)
            if stage is Stage.CHECKPOINTED or not call.wants_grad_of(y):
                continue
            self._watch(call, product, order, y)

    def _watch(self, call: Call, product: Product, order: Order, y: Tensor) -> None:
        verify = None if self.verifier is None else self.verifier.add_call(call, product, order, y)

        def receive(gradient: Tensor) -> None:
            with own_work(gradient.device.type):
                dy = product.to_grad(gradient)
                self._receive(call, product, order, dy)
                if verify is not None:
                    verify(dy)

        # The hook needs the shapes alone; the operands' memory is the model's.
        product.x = torch.empty(product.x.shape, device="meta")
        product.w = torch.empty(product.w.shape, device="meta")
        watch(y, self.step, call, receive)

    def _receive(self, call: Call, product: Product, order: Order, dy: Tensor) -> None:
        """Adds a gradient to a call's dY; several backward passes of a step add up."""
        if not (self._keeps(call) and self.options.needs_grad_output and self.step.failure is None):
            call.add_gradient(None)
            return
        call.add_gradient(
            gather(product, dy, order, call.forward, call.layer.grad_channels, dy.dtype)
        )

    def _keeps(self, call: Call) -> bool:
        """Whether the call's operands are to be kept."""
        return call.layer.wanted and bool(call.forward.kept)

    def _identify(
        self, product: Product, stage: Stage, state: ThreadState
    ) -> tuple[Call | None, Order | None]:
        """Finds or makes the call that a product belongs to; None if it is not recorded."""
        module = self.owners.paths[state.modules[-1]] or "model"
        base = self.names.name(product, state)
        if stage is Stage.RECOMPUTED:
            return self._match(product, base, state)
        forward = state.forward
        if forward is None:
            return None, None
        if any(isinstance(running, ParametrizationList) for running in state.modules):
            raise NoSamples("it computes a weight, which holds no samples")
        check_input(product, forward.batch)
        name = forward.names.next_name(sanitise(base))
        order = self.axis.find(
            base, name, product, forward.batch, state.modules, self._attending(state)
        )
        geometry = product.geometry(forward.batch)
        layer = self.layers.register(
            name, module, product.op, geometry, product.input_grad, product.weight_grad
        )
        grads = {"input_grad": product.input_grad, "weight_grad": product.weight_grad}
        call = Call(
            layer, forward, module, find_parameter(product.w), base_name=base, order=order, **grads
        )
        self.step.calls.append(call)
        return call, order

    def _match(
        self, product: Product, base: str, state: ThreadState
    ) -> tuple[Call | None, Order | None]:
        """Finds the call of a reentrant checkpoint that is recomputed; others are recorded."""
        identity = product.x if product.identity is None else product.identity
        with own_work(identity.device.type):
            call = self.step.take_pending(base, compute_fingerprint(identity))
        if call is None:
            return None, None
        call.input_grad |= product.input_grad
        call.weight_grad |= product.weight_grad
        return call, call.order

    def _attending(self, state: ThreadState) -> int:
        return state.attending[-1] if state.attending else 0

    def _keep_operands(
        self, call: Call, product: Product, order: Order, dtype: torch.dtype, stage: Stage
    ) -> None:
        """Copies X and W as they were computed with."""
        if stage is Stage.CHECKPOINTED:
            self.step.await_recomputation(call, compute_fingerprint(product.x))
            return
        if not self._keeps(call) or self.step.failure is not None:
            return
        layer = call.layer
        call.x = gather(product, product.x.detach(), order, call.forward, layer.channels, dtype)
        call.w = gather_weight(product, order, call.forward, layer.filters, dtype)

    def observe_attention(
        self,
        described: tuple[Attention, Tensor | None],
        y: Tensor,
        stage: Stage,
        state: ThreadState,
    ) -> None:
        """Records a fused attention call as two products."""
        attention, generator_state = described
        if stage is Stage.RECOMPUTED and not self.step.is_pending:
            return
        if stage is Stage.CUSTOM:
            raise Unsupported(REENTERED)
        self.names.parts = []
        products = list_products(attention)
        found = [self._identify(product, stage, state) for product in products]
        if any(call is None for call, _ in found):
            return
        if stage is Stage.CHECKPOINTED:
            with own_work():
                for call, _ in found:
                    self.step.await_recomputation(call, compute_fingerprint(attention.query))
            return
        calls = [call for call, _ in found]
        self._record_attention(attention, generator_state, y, calls, found[0][1])

    def _record_attention(
        self,
        attention: Attention,
        generator_state: Tensor | None,
        y: Tensor,
        calls: list[Call],
        order: Order,
    ) -> None:
        self.step.has_fused = True
        forward: Forward = calls[0].forward
        keeps = any(self._keeps(call) for call in calls) and self.step.failure is None

        def select_kept(tensor: Tensor) -> Tensor:
            return select(order.split(tensor, forward.batch, 2), 0, forward.kept)

        with own_work(y.device.type):
            if keeps:
                explicit = ExplicitAttention(attention, y, generator_state, select_kept)
                operands = (
                    (explicit.query, explicit.key),
                    (explicit.dropped_weights, explicit.value.transpose(-2, -1)),
                )
                for call, (x, w) in zip(calls, operands):
                    call.x, call.w = x.cpu().contiguous(), w.cpu().contiguous()
                calls[0].attention = explicit
        if not [call for call in calls if call.wants_grad_of(y)]:
            return

        def receive(gradient: Tensor) -> None:
            with own_work(gradient.device.type):
                explicit = calls[0].attention
                gradients: tuple = (None, None)
                if explicit is not None and self.options.needs_grad_output:
                    gradients = explicit.backward(select_kept(gradient).float())
                for call, dy in zip(calls, gradients):
                    call.add_gradient(None if dy is None else dy.to("cpu", copy=True).contiguous())

        watch(y, self.step, calls[0], receive)


def check_input(product: Product, batch: int) -> None:
    """Refuses an input that is a weight, unless it is repeated for each sample."""
    x = product.x
    if find_parameter(x) is None or 0 in x.stride() or (batch == 1 and x.shape[0] == 1):
        return
    raise NoSamples("its input is a weight, which holds no samples")
