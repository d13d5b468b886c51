"""The extension module, compiled from python/src. JSON texts have the keys of docs/formats.md."""

import os
from collections.abc import Callable, Sequence
from typing import Any, Literal, final

__all__ = [
    "CaptureWriter",
    "Deviation",
    "MercuryError",
    "Output",
    "ParquetTable",
    "Reservoir",
    "ReuseCall",
    "ReuseLayer",
    "ReuseLoop",
    "Table",
    "choose_kept",
    "count_macs",
    "parse_bytes",
    "read_table",
    "run_analyzer",
    "run_command",
    "share_openmp",
    "step_bytes",
    "step_seed",
    "write_measurements",
    "write_projection",
]

class MercuryError(Exception):
    """Invalid input, or a failure that the message explains: the message that the command line prints."""

@final
class Output:
    """A command's output."""

    @property
    def text(self) -> str:
        """The text that the command line prints, without the table."""
    @property
    def table(self) -> Table | None:
        """The table, if the command has one."""
    @property
    def notes(self) -> list[str]:
        """Notes of the command."""
    @property
    def warnings(self) -> list[str]:
        """Warnings of the command."""
    @property
    def crossed(self) -> bool:
        """Whether a threshold of `compare` is crossed."""

def run_command(
    arguments: Sequence[str], progress: Callable[[str, str, int, int, str], object] | None = None
) -> Output:
    """Runs a command on a thread of its own, so that Ctrl-C ends it.

    `arguments` are those of `mercury-analyzer`, without its name. `progress` is called from time to time with the
    activity, the kind of things, the number of things done and in all, and the latest of them.
    """

def run_analyzer(arguments: Sequence[str]) -> int:
    """Runs the program `mercury-analyzer`; the first argument is its name. Returns its exit code."""

@final
class Table:
    """A table, which `polars.DataFrame`, `pyarrow.table` and duckdb take without a copy."""

    @property
    def columns(self) -> list[str]:
        """Names of the columns."""
    def to_csv(self) -> str:
        """The table as comma-separated values with a header, as `--format csv` prints it."""
    def rows(self) -> list[dict[str, Any]]:
        """The rows as dictionaries, for small tables."""
    def __len__(self) -> int: ...
    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        """The Arrow PyCapsule interface."""

@final
class ParquetTable:
    """A Parquet file as a table that is read when it is asked for, batch by batch."""

    def __new__(cls, path: str | os.PathLike[str]) -> ParquetTable: ...
    @property
    def columns(self) -> list[str]:
        """Names of the columns."""
    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        """The Arrow PyCapsule interface."""

def read_table(path: str | os.PathLike[str]) -> Table:
    """Reads a table of results, such as `results/layers.parquet`; a damaged file is an error that names it."""

@final
class CaptureWriter:
    """Writes a trace on other threads. After every step that was committed, the folder is a readable trace."""

    def __new__(cls, folder: str | os.PathLike[str], manifest: str, layers: str) -> CaptureWriter:
        """Starts a trace in a folder that is empty or missing, and locks it.

        `manifest` and `layers` are JSON; the manifest lacks schema_version, captured and complete.
        """
    @staticmethod
    def check(folder: str | os.PathLike[str]) -> None:
        """Refuses a folder in which no trace can be started."""
    @staticmethod
    def resume(folder: str | os.PathLike[str], from_step: int) -> CaptureWriter:
        """Continues an incomplete trace from a training step on; removes that step and later ones."""
    @property
    def layers(self) -> str:
        """The layers, as JSON."""
    @property
    def sampling(self) -> str:
        """The kept part of the layers, as JSON."""
    def add_layers(self, layers: str, sampling: str) -> None:
        """Adds layers that earlier steps did not compute; `sampling` is the kept part of all layers."""
    def write(self, step: int, index: int, layer: str, kind: str, samples: Sequence[int], values: Any) -> None:
        """Writes one tensor of a layer; waits while the queue is full.

        `index` numbers the tensors of the step; `kind` is "input", "weight" or "grad_output". `values` is a contiguous
        CPU tensor of f32, f16 or bf16 with `__dlpack__`. It holds the kept rows in the order of their keys: X and dY of
        `samples` (places in the batch, ascending), or W.
        """
    def mark_captured(self, step: int, samples: Sequence[int], dataset_indices: Sequence[int], files: int) -> None:
        """Marks a step as captured, after its `files` tensors were written."""
    def log_step(
        self, step: int, epoch: int, loss: float, accuracy: float, learning_rate: float, seconds: float
    ) -> None:
        """Logs a training step: loss in nats, accuracy as a share, time in seconds."""
    def log_evaluations(self, rows: Sequence[tuple[int, str, float, int]]) -> None:
        """Logs results on validation data: tuples of steps done, metric, value and number of samples."""
    def next_failure(self) -> None:
        """Raises the first failure of writing since the last call."""
    def flush(self) -> None:
        """Waits until everything is on disk."""
    def finish(self, accuracy: float | None = None) -> None:
        """Completes the trace; later calls fail."""
    def close(self) -> None:
        """Ends without completing the trace, which stays readable."""

@final
class Deviation:
    """Sums over the elements of an exact result Y, of the result with reuse Y', and of their difference."""

    def __new__(cls, exact: Any, reused: Any) -> Deviation:
        """Both are contiguous CPU tensors of f32."""
    def add(self, other: Deviation) -> Deviation:
        """The sums over the elements of both."""
    @property
    def error(self) -> float:
        """|Y' - Y| / |Y|; infinite if only Y is 0."""
    @property
    def cosine(self) -> float:
        """Cosine of the angle between Y and Y'; not a number if only one of them is 0."""
    @property
    def norm_ratio(self) -> float:
        """|Y'| / |Y|; infinite if only Y is 0."""

@final
class ReuseLoop:
    """A configuration of reuse and its state between the steps of a training."""

    def __new__(cls, toml: str, origin: str) -> ReuseLoop:
        """`toml` is a whole configuration, `origin` its name in messages."""
    def check_layers(self, model: str, layers: str) -> None:
        """Refuses a configuration that does not fit the layers of a model, which are given as JSON."""
    @property
    def signature_bits(self) -> int:
        """Bits of a signature in force, in layers without settings of their own."""
    def record_loss(self, loss: float) -> None:
        """Records the loss of a training step: signatures grow while the loss stands still."""
    def record_cycles(self, step: int, passes: Sequence[tuple[str, int, int]]) -> list[str]:
        """Records a measured step's cycles by layer; returns the layers that are switched off.

        A tuple is a pass: its layer, and the cycles without and with reuse.
        """
    def settings(self, layer: str) -> str:
        """The configuration of a layer's forward pass, as JSON."""
    def draw_projection(self, layer: str, length: int) -> list[list[float]]:
        """R of a layer's forward pass for vectors of this length, `[bits][length]`."""
    def layer(self, name: str, geometry: str) -> ReuseLayer:
        """The layer of a name; `geometry` is JSON, as in a trace."""

@final
class ReuseLayer:
    """A layer of a model."""

    def begin(self, projection: Any | None) -> ReuseCall | None:
        """Begins a call of the layer; None if it is computed without reuse now.

        `projection` replaces the forward pass's R: a tensor `[length, bits]`.
        """
    @property
    def crosses_samples(self) -> bool:
        """Whether an entry may be found by vectors of other samples."""

@final
class ReuseCall:
    """A call of a layer, with the settings of its forward pass, until its backward pass.

    All tensors are contiguous CPU tensors of f32 with `__dlpack__`. Each pass returns its HITs, MAUs, MNUs and the bits
    of its signatures.
    """

    def reuses(self, pass_: str) -> bool:
        """Whether a pass has reuse."""
    def forward(self, samples: int, x: Any, w: Any, y: Any) -> tuple[int, int, int, int]:
        """Writes Y without bias to `y`."""
    def input_grad(
        self, samples: int, dy: Any, w: Any, dx: Any, measured: bool
    ) -> tuple[tuple[int, int, int, int], list[int] | None]:
        """Writes dX to `dx`; with `measured`, also returns the cycles without and with reuse."""
    def weight_grad(self, samples: int, x: Any, dy: Any, dw: Any) -> tuple[int, int, int, int]:
        """Writes dW to `dw`, from the forward pass's outcomes."""
    def cycles(self, pass_: str, samples: int, x: Any) -> list[int]:
        """Cycles of the forward pass or weight gradient, without and with reuse; `x` is the forward pass's."""

def write_measurements(
    folder: str | os.PathLike[str],
    configuration: str,
    rows: Sequence[tuple[int, str, str, int, int, int, int, float, float, float, int, int]],
) -> None:
    """Writes `measurements.parquet` of a configuration to a folder.

    A row has the file's other columns in their order.
    """

def write_projection(path: str | os.PathLike[str], projection: Any) -> None:
    """Writes a projection, `[length, bits]`, for `rpq.projection = "file:PATH"`."""

def choose_kept(
    seed: int, index: int, layer: str, channels: int | None, filters: int | None
) -> dict[str, list[int] | None]:
    """Chooses the kept `channels`, `grad_channels` and `filters` of a layer; None where all are kept."""

def count_macs(geometry: str) -> int:
    """Multiply-accumulates of a layer's forward pass per sample, including those with padding; `geometry` is JSON."""

def parse_bytes(text: str) -> int:
    """Parses a number of bytes, such as `500MB` or `2GiB`."""

def step_bytes(layers: str, sampling: str, batch: int) -> int:
    """The maximum size of a captured step's files, bytes before compression."""

def step_seed(seed: int, step: int) -> int:
    """The seed of PyTorch's generator in a step of `mercury-tracer`, so that its dropout can be repeated."""

@final
class Reservoir:
    """A uniform sample of a batch that arrives in parts."""

    def __new__(cls, seed: int, step: int, limit: int | None) -> Reservoir: ...
    def offer(self, count: int) -> list[int]:
        """Adds the samples that come next; returns the positions in the batch that are kept now, ascending."""

def share_openmp(parallel: int, max_threads: int) -> None:
    """Lets reuse run on the threads of an OpenMP runtime.

    The arguments are the addresses of its functions `GOMP_parallel` and `omp_get_max_threads`.
    """
