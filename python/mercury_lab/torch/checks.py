"""Checks of the model and of its loop."""

from typing import Any

import torch
from mercury_lab._native import MercuryError
from torch import nn
from torch.nn.modules.lazy import LazyModuleMixin

from .errors import ArgumentError, warn


def raise_closure() -> None:
    """Refuses a closure."""
    raise MercuryError(
        "optimizer.step was called with a closure, which runs the model inside the step; call "
        "the model and backward "
        "before optimizer.step(). Lightning's automatic optimization passes a closure: set "
        "automatic_optimization = "
        "False in the LightningModule, and call backward and step in training_step"
    )


def check_model(model: Any) -> torch.device:
    """Refuses models that cannot be captured; returns their device."""
    if not isinstance(model, nn.Module):
        raise TypeError(f"model is {type(model).__name__}, but must be a torch.nn.Module")
    if isinstance(model, nn.DataParallel):
        raise ArgumentError(
            "model is a DataParallel, which runs on several devices; use DistributedDataParallel"
        )
    check_lazy(model)
    parameters = list(model.parameters())
    devices = {parameter.device for parameter in parameters}
    if len(devices) > 1:
        names = ", ".join(sorted(str(device) for device in devices))
        raise ArgumentError(
            f"model is on several devices ({names}); capture one model on one device"
        )
    device = devices.pop() if devices else torch.device("cpu")
    if device.type == "meta":
        raise ArgumentError(
            "model is on the meta device, so it has no values; move it to a device first"
        )
    return device


def check_lazy(model: nn.Module) -> None:
    """Refuses modules whose parameters have no sizes yet."""
    for name, module in model.named_modules():
        if isinstance(module, LazyModuleMixin) and module.has_uninitialized_params():
            kind = type(module).__name__
            raise ArgumentError(
                f"module {name or 'model'} is a {kind} without sizes; run the model once before"
            )


def unwrap_optimizer(optimizer: Any) -> Any:
    """Returns the optimizer inside of wrappers such as Accelerate's."""
    seen = 0
    while (
        hasattr(optimizer, "optimizer")
        and not hasattr(optimizer, "_optimizer_step_pre_hooks")
        and seen < 10
    ):
        optimizer, seen = optimizer.optimizer, seen + 1
    return optimizer


def check_optimizer(optimizer: Any, model: nn.Module) -> None:
    """Refuses objects without step hooks, and optimizers that run the model in their step."""
    if optimizer is None:
        return
    if not hasattr(optimizer, "register_step_pre_hook"):
        raise TypeError(
            f"optimizer is {type(optimizer).__name__}, but must be a torch.optim.Optimizer"
        )
    if isinstance(optimizer, torch.optim.LBFGS):
        raise ArgumentError(
            "optimizer is LBFGS, which runs the model several times per step; use another optimizer"
        )
    owned = {id(parameter) for parameter in model.parameters()}
    if not any(
        id(parameter) in owned for group in optimizer.param_groups for parameter in group["params"]
    ):
        warn(
            "optimizer has no parameter of model; give capture the optimizer that trains the model"
        )


def check_scaler(scaler: Any) -> None:
    """Refuses objects other than gradient scalers."""
    if scaler is not None and not (
        callable(getattr(scaler, "get_scale", None)) and hasattr(scaler, "update")
    ):
        raise TypeError(f"scaler is {type(scaler).__name__}, but must be a torch.amp.GradScaler")
