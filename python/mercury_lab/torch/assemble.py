"""Assembles the calls of a step to the tensors of its layers, after all checks."""

import fnmatch
from dataclasses import dataclass, field

import torch
from torch import Tensor

from .errors import IncompleteCapture, SkipStep
from .layers import Layer
from .options import Options
from .step import Call, Step

NO_FORWARD = (
    "the model computed nothing with gradients between two optimizer steps; call it in the "
    "loop, outside of "
    "torch.no_grad, and give capture the model that the loop calls"
)
NO_BACKWARD = "no layer received a gradient; call backward before the optimizer step"
DISCARDED = (
    "its gradients were discarded before the optimizer step, or never added to the parameters' "
    "grad; call zero_grad "
    "after the optimizer step, or before backward"
)
NO_GRAD = "run it under torch.no_grad()"
FROZEN = (
    "all layers are frozen, so no layer has a gradient; unfreeze one, or capture with "
    "passes=['forward']"
)


@dataclass
class StepTensors:
    """What a step writes: `(layer, kind, values)`, and what it leaves out with reasons."""

    tensors: list[tuple[Layer, str, Tensor]] = field(default_factory=list)
    # By how much the loss that training used was larger than the mean loss.
    scale: float = 1.0
    left_out: dict[str, str] = field(default_factory=dict)
    written: list[str] = field(default_factory=list)
    # Layers without gradients of their output.
    frozen: list[str] = field(default_factory=list)
    # Layers that were frozen when they were first captured, and have gradients now.
    thawed: list[str] = field(default_factory=list)
    # Weights whose products ran outside of the model's forward.
    unseen: list[str] = field(default_factory=list)
    # Samples of forwards with gradients that no backward used.
    untrained: int = 0
    # Whether the model was in eval mode.
    in_eval_mode: bool = False


def assemble(
    step: Step, options: Options, scale: float, optimized: set[int] | None, names: dict[int, str]
) -> StepTensors:
    """Checks the step and assembles its tensors; dY is divided by `scale`, and is that of the mean
    loss.

    `optimized` has the ids of the optimizer's parameters, if there is one; `names` maps ids of
    parameters to paths.
    """
    if step.failure is not None:
        raise step.failure
    check_supported(step, options)
    if not step.calls:
        raise SkipStep(NO_FORWARD)
    check_recomputed(step)
    reached = {call.forward.index for call in step.calls if call.has_grad}
    settle_gradients(step, optimized)
    if options.needs_grad_output:
        check_backward(step)
    # Forwards whose gradients were discarded, as in a GAN, are not trained either, but on purpose.
    unreached = [forward.batch for forward in step.forwards if forward.index not in reached]
    if any(call.has_grad for call in step.calls):
        drop_untrained(step, sum(unreached))
    if options.loss_reduction == "sum":
        scale *= step.batch
    assembled = StepTensors(scale=scale, untrained=sum(unreached) if reached else 0)
    assembled.in_eval_mode = any(forward.in_eval_mode for forward in step.forwards)
    assembled.unseen = find_unseen(step, names)
    for layer, calls in group_calls(step).items():
        if note_grads(layer, calls):
            assembled.thawed.append(layer.name)
        reason = find_reason(calls, step)
        if reason is not None:
            assembled.left_out[layer.name] = reason
            continue
        if not calls[0].wants_grad:
            assembled.frozen.append(layer.name)
        for kind in options.kinds:
            values = join(layer, kind, calls, step)
            if values is None:
                continue
            if kind == "grad_output" and scale != 1:
                values = values / scale
            check_finite(values, layer, kind)
            assembled.tensors.append((layer, kind, values))
        assembled.written.append(layer.name)
    # The assembled tensors are the only ones that are needed from here on.
    step.release()
    return assembled


def check_supported(step: Step, options: Options) -> None:
    """Refuses operations whose products are missing, in the modules that `layers` chooses."""
    if options.on_unsupported == "list":
        return
    for (op, module), reason in step.unsupported.items():
        globs = options.layers
        if globs and not any(
            fnmatch.fnmatchcase(f"{module}.{op}", glob) or fnmatch.fnmatchcase(module, glob)
            for glob in globs
        ):
            continue
        remaining = len(step.unsupported) - 1
        more = f" ({remaining} more such operations)" if remaining else ""
        raise IncompleteCapture(
            op, module, f"{reason}, or list it in coverage() with on_unsupported='list'{more}"
        )


def check_recomputed(step: Step) -> None:
    """Refuses a checkpointed call whose recomputation was not seen."""
    for call in step.calls:
        if call.fingerprint is not None and call.layer.wanted:
            reason = (
                "it ran in a reentrant checkpoint, and no recomputation with an equal input "
                "was seen in the backward; "
                "use checkpoint(..., use_reentrant=False)"
            )
            raise IncompleteCapture(call.layer.op, call.module, reason)


def settle_gradients(step: Step, optimized: set[int] | None) -> None:
    """Sums each dY over the backward passes that count for the optimizer's gradient."""
    step.gradients.settle({task for call in step.calls for task in call.gradients}, optimized)
    for call in step.calls:
        accumulation = step.gradients.find(call.parameter)
        tasks = call.gradients.keys() - step.gradients.foreign
        if accumulation is not None:
            tasks &= accumulation.tasks
        call.gradients = {
            task: gradient for task, gradient in call.gradients.items() if task in tasks
        }
        parts = [gradient for gradient in call.gradients.values() if gradient is not None]
        call.dy = sum(parts[1:], parts[0]) if parts else None


def drop_untrained(step: Step, unreached: int) -> None:
    """Forgets whole forwards without gradients, such as an evaluation outside of no_grad.

    `unreached` is the number of samples that no backward reached.
    """
    trained = {call.forward.index for call in step.calls if call.has_grad}
    if len(trained) == len(step.forwards):
        return
    kept, batch = [], 0
    for forward in step.forwards:
        if forward.index in trained:
            last = forward.first + forward.batch
            kept += [
                sample - forward.first + batch
                for sample in step.kept
                if forward.first <= sample < last
            ]
            forward.first, batch = batch, batch + forward.batch
    if not kept:
        reason = "took the place of all kept samples"
        raise SkipStep(f"{describe_untrained(unreached)}, and {reason}; {NO_GRAD}")
    step.kept = kept
    step.forwards = [forward for forward in step.forwards if forward.index in trained]
    step.calls = [call for call in step.calls if call.forward.index in trained]


def describe_untrained(samples: int) -> str:
    """Says that forwards of this many samples were not trained."""
    return f"a forward of {samples} samples had no backward (an evaluation?)"


def check_backward(step: Step) -> None:
    """Refuses a step without any gradient."""
    if not any(call.wants_grad for call in step.calls):
        raise SkipStep(FROZEN)
    if not any(call.has_grad for call in step.calls):
        raise SkipStep(DISCARDED if step.gradients.foreign else NO_BACKWARD)


def find_unseen(step: Step, names: dict[int, str]) -> list[str]:
    """Lists weights that were trained, though no forward of the model used them in any way."""
    found = []
    for key, accumulation in step.gradients.known.items():
        parameter = accumulation.parameter
        if accumulation.tasks and parameter.dim() > 1 and key not in step.used and key in names:
            found.append(names[key])
    return found


def note_grads(layer: Layer, calls: list[Call]) -> bool:
    """Notes which gradients a layer has; returns whether it has more than the trace says."""
    input_grad, weight_grad = (
        any(getattr(call, key) for call in calls) for key in ("input_grad", "weight_grad")
    )
    if layer.is_committed:
        return (input_grad and not layer.input_grad) or (weight_grad and not layer.weight_grad)
    layer.input_grad, layer.weight_grad = input_grad, weight_grad
    return False


def group_calls(step: Step) -> dict[Layer, list[Call]]:
    """Groups the calls of wanted layers by layer, in the order of the trace."""
    groups: dict[str, list[Call]] = {}
    for call in step.calls:
        if call.layer.wanted:
            groups.setdefault(call.layer.name, []).append(call)
    ordered = sorted(groups.values(), key=lambda calls: calls[0].layer.index)
    return {calls[0].layer: calls for calls in ordered}


def find_reason(calls: list[Call], step: Step) -> str | None:
    """Returns why a layer cannot be written, or None; raises if a gradient was lost."""
    if len(calls) < len(step.forwards):
        return f"it ran in {len(calls)} of {len(step.forwards)} forwards of step {step.number}"
    if len({call.wants_grad for call in calls}) > 1:
        return f"only some of its calls in step {step.number} have gradients"
    missing = [call for call in calls if call.wants_grad and not call.has_grad]
    if not missing:
        return None
    for call in missing:
        check_unused(call, step)
    return f"its result had no part in the loss of step {step.number}"


def check_unused(call: Call, step: Step) -> None:
    """Refuses a call without dY whose weight has a gradient that no other call explains."""
    parameter = call.parameter
    if parameter is None or parameter.grad is None or not bool(parameter.grad.count_nonzero()):
        return
    if any(other.has_grad and other.parameter is parameter for other in step.calls):
        return
    reason = (
        "its weight has a gradient, but the gradient of its result was not seen; report "
        "this as a bug"
    )
    raise IncompleteCapture(call.layer.op, call.module, reason)


def join(layer: Layer, kind: str, calls: list[Call], step: Step) -> Tensor | None:
    """Joins the kept samples of all micro-batches; None if the layer has no such tensor."""
    per_sample = kind != "weight" or layer.geometry["op"] == "matmul"
    if not per_sample:
        return join_weight(layer, [call for call in calls if call.w is not None])
    parts = []
    for call in calls:
        forward = call.forward
        last = forward.first + forward.batch
        kept = [sample - forward.first for sample in step.kept if forward.first <= sample < last]
        if not kept:
            continue
        values = {"input": call.x, "weight": call.w, "grad_output": call.dy}[kind]
        if values is None:
            return None
        parts.append(take_samples(values, forward.kept, kept))
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def take_samples(values: Tensor, have: list[int], wanted: list[int]) -> Tensor:
    """Selects samples; `have` are those in `values`."""
    if have == wanted:
        return values
    places = {sample: place for place, sample in enumerate(have)}
    return values.index_select(0, torch.tensor([places[sample] for sample in wanted]))


def join_weight(layer: Layer, calls: list[Call]) -> Tensor:
    """Returns the weight, which must be the same in all micro-batches."""
    first = calls[0].w
    for call in calls[1:]:
        if not torch.equal(first, call.w):
            reason = (
                "its weight changed between two forwards of one optimizer step; a trace "
                "has one weight per step"
            )
            raise IncompleteCapture(layer.op, call.module, reason)
    return first


def check_finite(values: Tensor, layer: Layer, kind: str) -> None:
    """Refuses infinities and not-a-number, which a trace may not hold."""
    if bool(torch.isfinite(values).all()):
        return
    name = {"input": "X", "weight": "W", "grad_output": "dY"}[kind]
    remedy = (
        "; give capture the GradScaler (scaler=), which skips such steps"
        if kind == "grad_output"
        else ""
    )
    raise SkipStep(f"{name} of layer {layer.name} is not finite in this step{remedy}")
