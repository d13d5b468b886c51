"""The layers of a trace, in the order in which a forward first called them."""

import fnmatch
import json
from dataclasses import dataclass
from typing import Any

from mercury_lab import _native

from .errors import ArgumentError, SkipStep
from .options import Options


@dataclass(eq=False)
class Layer:
    """A layer: all calls of a product at one place of the forward."""

    name: str
    module: str
    # The operation's name in torch; that of the trace is in the geometry.
    op: str
    index: int
    geometry: dict[str, Any]
    input_grad: bool
    weight_grad: bool
    # Whether `layers` matches the name.
    wanted: bool
    # Whether the layer is in the trace already.
    is_committed: bool = False
    channels: list[int] | None = None
    grad_channels: list[int] | None = None
    filters: list[int] | None = None

    def describe(self) -> dict[str, Any]:
        """The layer as `Layer` of the trace crate reads it."""
        grads = {"input_grad": self.input_grad, "weight_grad": self.weight_grad}
        return {"name": self.name, "geometry": self.geometry, **grads}

    @property
    def macs(self) -> int:
        """Multiply-accumulates of the forward pass per sample."""
        return _native.count_macs(json.dumps(self.geometry))


class Layers:
    """All layers found so far. Those of a step that is not captured are forgotten."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.known: dict[str, Layer] = {}
        self.committed = 0

    def register(
        self, name: str, module: str, op: str, geometry: dict, input_grad: bool, weight_grad: bool
    ) -> Layer:
        """Returns the layer of this name; its geometry must be that of earlier calls."""
        layer = self.known.get(name)
        if layer is None:
            layer = self._add(name, module, op, geometry, input_grad, weight_grad)
        elif layer.geometry != geometry:
            raise SkipStep(_describe_change(layer, geometry))
        return layer

    def _add(
        self, name: str, module: str, op: str, geometry: dict, input_grad: bool, weight_grad: bool
    ) -> Layer:
        globs = self.options.layers
        wanted = not globs or any(fnmatch.fnmatchcase(name, glob) for glob in globs)
        layer = Layer(name, module, op, len(self.known), geometry, input_grad, weight_grad, wanted)
        if wanted:
            limits = (self.options.channels, self.options.filters)
            kept = _native.choose_kept(
                self.options.seed, layer.index, json.dumps(layer.describe()), *limits
            )
            layer.channels, layer.grad_channels = kept["channels"], kept["grad_channels"]
            layer.filters = kept["filters"]
        self.known[name] = layer
        return layer

    def restore(self, layers: list[dict[str, Any]]) -> None:
        """Takes over the layers of a resumed trace."""
        for layer in layers:
            geometry = layer["geometry"]
            self._add(
                layer["name"],
                layer["name"],
                geometry["op"],
                geometry,
                layer["input_grad"],
                layer["weight_grad"],
            )
        self.commit()

    def commit(self) -> list[Layer]:
        """Keeps the layers found since the last commit, and returns them."""
        new = list(self.known.values())[self.committed :]
        self.committed = len(self.known)
        for layer in new:
            layer.is_committed = True
        return new

    def roll_back(self) -> None:
        """Forgets the layers found since the last commit."""
        for name in list(self.known)[self.committed :]:
            del self.known[name]

    def sampling(self) -> dict[str, Any]:
        """The part of each step that is kept, as `Sampling` of the trace crate reads it."""
        options = self.options
        kept = {"passes": list(options.passes), "dtype": options.dtype, "samples": options.samples}
        for field in ("channels", "grad_channels", "filters"):
            lists = ((layer.name, getattr(layer, field)) for layer in self.known.values())
            kept[field] = {name: kept_rows for name, kept_rows in lists if kept_rows is not None}
        return kept

    def check_globs(self) -> None:
        """Refuses a pattern that matches no layer."""
        for glob in self.options.layers:
            if not fnmatch.filter(self.known, glob):
                raise ArgumentError(
                    f"layers contains {glob!r}, which matches none of {', '.join(self.known)}"
                )


def _describe_change(layer: Layer, geometry: dict[str, Any]) -> str:
    """Says how a layer's sizes differ from those of the trace."""
    if layer.geometry["op"] != geometry["op"]:
        return (
            f"layer {layer.name} was {layer.geometry['op']}, but is {geometry['op']} in this step"
        )
    changes = [
        f"{key} {old} and now {geometry[key]}"
        for key, old in layer.geometry.items()
        if geometry[key] != old
    ]
    remedy = "pad the inputs to one length or size"
    return f"layer {layer.name} has other sizes than in the trace ({', '.join(changes)}); {remedy}"
