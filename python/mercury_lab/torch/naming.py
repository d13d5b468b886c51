"""Names of layers: the paths of the modules whose weights they multiply."""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING

import torch
from torch import nn

if TYPE_CHECKING:
    from .products import Product
    from .thread import ThreadState

# Modules that wrap another one, and add these parts to its path.
WRAPPERS = {"_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"}
MAX_LENGTH = 200
EMBEDDINGS = (nn.Embedding, nn.EmbeddingBag)


def unwrap(model: nn.Module) -> nn.Module:
    """Returns the module inside `torch.compile`, DDP and FSDP."""
    while True:
        inner = getattr(model, "_orig_mod", None) or getattr(model, "_fsdp_wrapped_module", None)
        if inner is None and isinstance(model, nn.parallel.DistributedDataParallel):
            inner = model.module
        if inner is None:
            return model
        model = inner


def find_paths(model: nn.Module) -> dict[nn.Module, str]:
    """Maps each module of the plain model to its path."""

    def clean(path: str) -> str:
        return ".".join(part for part in path.split(".") if part not in WRAPPERS)

    return {module: clean(path) for path, module in unwrap(model).named_modules()}


def name_parameters(paths: dict[nn.Module, str]) -> dict[int, str]:
    """Maps the id of each parameter to its path, such as `layers.0.weight`."""
    names: dict[int, str] = {}
    for module, path in paths.items():
        for key, parameter in module._parameters.items():
            if parameter is not None:
                names.setdefault(id(parameter), ".".join(filter(None, (path, key))))
    return names


def name_weights(paths: dict[nn.Module, str]) -> dict[int, str]:
    """Names the parameters that may be weights of products; those of embeddings are not."""
    paths = {module: path for module, path in paths.items() if not isinstance(module, EMBEDDINGS)}
    return name_parameters(paths)


def sanitise(name: str) -> str:
    """Makes a valid layer name: letters, digits, `_`, `-` and inner dots, up to 200 characters."""
    parts = (re.sub(r"[^A-Za-z0-9_-]", "_", part) for part in name.split("."))
    valid = ".".join(part for part in parts if part) or "model"
    if len(valid) <= MAX_LENGTH - 16:
        return valid
    digest = hashlib.sha256(valid.encode()).hexdigest()[:8]
    return f"{valid[: MAX_LENGTH - 32].rstrip('.')}-{digest}"


def find_parameter(tensor: torch.Tensor) -> nn.Parameter | None:
    """Returns the parameter that a tensor is, or is a view of."""
    if isinstance(tensor, nn.Parameter):
        return tensor
    base = tensor._base
    return base if isinstance(base, nn.Parameter) else None


class Owners:
    """Finds the module that owns a parameter."""

    def __init__(self, paths: dict[nn.Module, str]) -> None:
        self.paths = paths
        self.owners: dict[int, tuple[nn.Module, str]] = {}
        for module in paths:
            for key, parameter in module._parameters.items():
                if parameter is not None:
                    self.owners.setdefault(id(parameter), (module, key))

    def find(self, parameter: nn.Parameter, stack: list[nn.Module]) -> tuple[nn.Module, str] | None:
        """Returns a parameter's owner and name; of tied weights, the innermost running module."""
        for module in reversed(stack):
            for key, candidate in module._parameters.items():
                if candidate is parameter:
                    return module, key
        return self.owners.get(id(parameter))

    def parameter_name(self, parameter: nn.Parameter, stack: list[nn.Module]) -> str | None:
        """Returns the parameter's path, such as `layers.0.weight`."""
        found = self.find(parameter, stack)
        return None if found is None else ".".join(filter(None, (self.paths[found[0]], found[1])))

    def name_product(self, weight: torch.Tensor, op: str, stack: list[nn.Module]) -> str:
        """Names a product after its weight's owner, or after the running module."""
        parameter = find_parameter(weight)
        found = None if parameter is None else self.find(parameter, stack)
        if found is not None:
            module, key = found
            path = self.paths[module] or "model"
            return path if key == "weight" else f"{path}.{_name_part(weight, parameter, key)}"
        top = stack[-1]
        path = self.paths[top]
        is_leaf = isinstance(top, (nn.Linear, nn.Conv1d, nn.Conv2d)) and op in (
            "linear",
            "conv1d",
            "conv2d",
        )
        if is_leaf:
            return path or "model"
        return f"{path}.{op}" if path else op


def _name_part(weight: torch.Tensor, parameter: nn.Parameter, key: str) -> str:
    """Names a part of a packed projection like the tracer: `in_proj`, `in_proj.q`, `in_proj.kv`."""
    name = key.removesuffix("_weight")
    rows = len(parameter)
    if key != "in_proj_weight" or rows % 3 or len(weight) == rows:
        return name
    width = rows // 3
    first = (
        (weight.storage_offset() - parameter.storage_offset())
        // max(parameter.stride(0), 1)
        // width
    )
    return f"{name}.{'qkv'[first : first + len(weight) // width]}"


class ProductNames:
    """Names the products of a forward, before calls are numbered."""

    def __init__(self, owners: Owners) -> None:
        self.owners = owners
        # Names of the running attention's products that are still to come.
        self.parts: list[str] = []

    def begin_attention(self) -> None:
        """The next two products are those of a multi-head attention."""
        self.parts = ["scores", "context"]

    def name(self, product: Product, state: ThreadState) -> str:
        """Names a product."""
        if state.attending and product.op == "matmul" and product.part is None:
            product.part = self.parts.pop(0) if self.parts else "matmul"
        op = product.part or product.op
        if product.op == "matmul":
            path = self.owners.paths[state.modules[-1]]
            return f"{path}.{op}" if path else op
        return self.owners.name_product(product.w, op, state.modules)


class CallNames:
    """Numbers the calls of a forward: `name`, `name.call-1`, `name.call-2`."""

    def __init__(self) -> None:
        self.calls: dict[str, int] = {}

    def next_name(self, base: str) -> str:
        """Returns the name of the next call."""
        number = self.calls.get(base, 0)
        self.calls[base] = number + 1
        return base if number == 0 else f"{base}.call-{number}"
