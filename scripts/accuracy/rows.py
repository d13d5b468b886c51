"""The table of runs, docs/accuracy.csv: one row per finished run."""

import csv
from pathlib import Path

KEY = ["task", "design", "seed", "epochs", "schedule"]
COLUMNS = [
    "task", "design", "seed", "metric",
    # With the design's reuse in the evaluation, and of the same weights without it. Empty if the training diverged.
    "value", "value_exact_evaluation",
    # Mean of the last epoch's steps.
    "loss",
    # All epochs, of which a run that branches from an exact one trains the second half.
    "epochs", "schedule", "hours",
    # Measured in the loop at some steps; of the search at half of the epochs.
    "step_error", "step_error_search",
    # Of all passes with reuse at the measured steps; of their forward passes in the last epoch.
    "hit_rate", "remaining_vectors",
    # Of the design on the trace at half of the epochs.
    "speed_up_mercury", "speed_up_skip", "speed_up_ahead", "speed_up_ahead_equal_macs",
    "commit",
]  # fmt: skip


def read_rows(path: Path) -> list[dict[str, str]]:
    if not path.exists():
        return []
    with path.open(newline="") as file:
        reader = csv.DictReader(file)
        rows = list(reader)
    if reader.fieldnames != COLUMNS:
        raise SystemExit(f"{path}: has other columns than {', '.join(COLUMNS)}; remove or convert the file")
    return rows


def identify(row: dict) -> tuple[str, ...]:
    """Returns what makes a row the same run as another: names, seed and settings."""
    return tuple(str(row[name]) for name in KEY)


def format_value(value: object) -> str:
    if value is None:
        return ""
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def append_row(path: Path, row: dict) -> bool:
    """Appends a run's row, unless the table has it."""
    if identify(row) in map(identify, read_rows(path)):
        return False
    is_new = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        if is_new:
            writer.writeheader()
        writer.writerow({name: format_value(row.get(name)) for name in COLUMNS})
    return True
