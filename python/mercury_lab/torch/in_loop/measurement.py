"""Measured steps: results with reuse compared with exact ones."""

import tempfile
from dataclasses import dataclass

from mercury_lab import _native

from ..options import PASSES



@dataclass
class PassSums:
    """A layer's pass in one step, over all its calls."""

    bits: int
    outcomes: list[int]
    deviation: _native.Deviation
    cycles: list[int]


class MeasuredSteps:
    """The measurements of all steps so far."""

    def __init__(self) -> None:
        self.rows: list[tuple] = []
        # Those of the running step.
        self.running: dict[tuple[str, str], PassSums] = {}

    def add(
        self, layer: str, name: str, counted: tuple, deviation: _native.Deviation, cycles: list[int]
    ) -> None:
        """Adds a call's pass to the running step."""
        *outcomes, bits = counted
        known = self.running.get((layer, name))
        if known is None:
            self.running[layer, name] = PassSums(bits, outcomes, deviation, list(cycles))
            return
        known.outcomes = [a + b for a, b in zip(known.outcomes, outcomes, strict=True)]
        known.deviation = known.deviation.add(deviation)
        known.cycles = [a + b for a, b in zip(known.cycles, cycles, strict=True)]

    def end_step(self, step: int) -> list[tuple[str, int, int]]:
        """Appends the step's rows, by layer and pass; returns each layer's cycles."""
        order = sorted(self.running, key=lambda key: (key[0], PASSES.index(key[1])))
        cycles = []
        for layer, name in order:
            sums = self.running[layer, name]
            deviation = sums.deviation
            figures = (deviation.error, deviation.cosine, deviation.norm_ratio)
            row = (step, layer, name, sums.bits, *sums.outcomes, *figures, *sums.cycles)
            self.rows.append(row)
            cycles.append((layer, *sums.cycles))
        self.running = {}
        return cycles

    def to_table(self, configuration: str) -> _native.Table | _native.ParquetTable:
        """The rows in the form of a trace's `measurements.parquet`."""
        with tempfile.TemporaryDirectory() as folder:
            _native.write_measurements(folder, configuration, self.rows)
            return _native.read_table(f"{folder}/measurements.parquet")
