"""What a capture recorded and what it saw."""

from dataclasses import dataclass, field

from .assemble import StepTensors
from .layers import Layer, Layers


UNSEEN = (
    "it has a gradient, but its product ran outside of the model's forward, so it is not captured"
)


@dataclass
class CoverageRow:
    """An operation at one place of the model; MACs of the forward pass per sample."""

    module: str
    op: str
    layer: str | None
    macs: int | None
    status: str
    reason: str = ""


@dataclass
class Coverage:
    """MACs captured and seen; `print` shows them by operation and by module."""

    rows: list[CoverageRow] = field(default_factory=list)

    @property
    def captured(self) -> int:
        """MACs per sample of captured layers."""
        return sum(row.macs or 0 for row in self.rows if row.status == "captured")

    @property
    def seen(self) -> int:
        """MACs per sample of all layers whose sizes are known."""
        return sum(row.macs or 0 for row in self.rows)

    @property
    def unsupported(self) -> list[CoverageRow]:
        """Operations that the capture cannot record; their MACs are unknown."""
        return [row for row in self.rows if row.status == "unsupported"]

    @property
    def unknown(self) -> list[CoverageRow]:
        """Operations that may or may not compute products."""
        return [row for row in self.rows if row.status == "unknown"]

    def total_by(self, key: str) -> dict[str, tuple[int, int]]:
        """Sums MACs captured and seen by `op` or `module`."""
        totals: dict[str, tuple[int, int]] = {}
        for row in self.rows:
            captured, seen = totals.get(getattr(row, key), (0, 0))
            macs = row.macs or 0
            totals[getattr(row, key)] = (captured + macs * (row.status == "captured"), seen + macs)
        return totals

    def __str__(self) -> str:
        lines = [self._summarise()]
        for key in ("op", "module"):
            totals = self.total_by(key)
            width = max([len(name) for name in totals] + [len(key)])
            lines += ["", f"{key:<{width}}  {'captured':>10}  {'seen':>10}"]
            lines += [
                f"{name:<{width}}  {_format(a):>10}  {_format(b):>10}"
                for name, (a, b) in totals.items()
            ]
        notes = [row for row in self.rows if row.reason]
        if notes:
            lines += [
                "",
                *(
                    f"{row.status}: {row.layer or row.op} in {row.module}: {row.reason}"
                    for row in notes
                ),
            ]
        return "\n".join(lines)

    def _summarise(self) -> str:
        """The first line: MACs, and what has none because it is not captured."""
        line = (
            f"captured {_format(self.captured)} of {_format(self.seen)} MACs per sample (forward)"
        )
        if self.unsupported:
            line += f", and {_list_operations(self.unsupported)} whose products are not captured: "
            line += _list_places(self.unsupported)
        if self.unknown:
            line += (
                f", and {_list_operations(self.unknown)} that may compute products: "
                f"{_list_places(self.unknown)}"
            )
        return line

    __repr__ = __str__


@dataclass
class Notes:
    """What became of layers and operations over all captured steps."""

    written: set[str] = field(default_factory=set)
    left_out: dict[str, str] = field(default_factory=dict)
    # Layers of steps that were not captured.
    refused: dict[str, Layer] = field(default_factory=dict)
    # Reasons by operation and module.
    unsupported: dict[tuple[str, str], str] = field(default_factory=dict)
    # Products that are no part of a trace, with reasons.
    ignored: dict[str, str] = field(default_factory=dict)
    # Weights that had gradients, but no product in a forward of the model.
    unseen: dict[str, None] = field(default_factory=dict)

    def note_written(self, assembled: StepTensors) -> None:
        """Notes what became of the layers of a captured step."""
        self.written.update(assembled.written)
        self.left_out.update(assembled.left_out)
        self.unseen.update(dict.fromkeys(assembled.unseen))


def build_coverage(layers: Layers, notes: Notes, unknown: dict[str, str]) -> Coverage:
    """Lists all layers and operations; `unknown` maps operations to modules."""
    rows = []
    for layer in (notes.refused | layers.known).values():
        status, reason = "captured", ""
        if not layer.wanted:
            status, reason = "not chosen", "layers does not match it"
        elif layer.name not in notes.written:
            status, reason = (
                "left out",
                notes.left_out.get(layer.name, "no step was captured with it"),
            )
        rows.append(CoverageRow(layer.module, layer.op, layer.name, layer.macs, status, reason))
    for (op, module), reason in notes.unsupported.items():
        rows.append(CoverageRow(module, op, None, None, "unsupported", reason))
    for op, module in unknown.items():
        rows.append(
            CoverageRow(
                module, op, None, None, "unknown", "it is not known whether it computes products"
            )
        )
    for name, reason in notes.ignored.items():
        rows.append(CoverageRow(name, "product", name, None, "ignored", reason))
    for name in notes.unseen:
        rows.append(CoverageRow(name, "product", None, None, "unsupported", UNSEEN))
    return Coverage(rows)


def _list_operations(rows: list[CoverageRow]) -> str:
    return f"{len(rows)} operation" + "s" * (len(rows) != 1)


def _list_places(rows: list[CoverageRow], most: int = 3) -> str:
    places = [f"{row.op} in {row.module}" for row in rows]
    return ", ".join(places[:most] + ["…"] * (len(places) > most))


def _format(count: int) -> str:
    for unit, size in (("G", 10**9), ("M", 10**6), ("k", 10**3)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return str(count)
