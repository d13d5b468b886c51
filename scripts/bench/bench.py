#!/usr/bin/env python3
"""Compares our speed with peers in one run on one machine, where our code and each peer alternate: `make bench`.

Prints a table and writes bench.json next to cargo's release folder: a list of {what, ours, peer, unit, ratio, goal,
met}. A goal names its column. The best of several runs counts, for our code and for the peers. `--large` adds the peak
memory of a replay of a trace of several GB. Arguments (signatures, hitmap, replay, memory, cycles) limit the run to these
parts.
"""

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
import venv
import zlib
from pathlib import Path

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parent.parent
TARGET = Path(os.environ.get("CARGO_TARGET_DIR") or REPOSITORY / "target").absolute()
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mercury"
ANALYZER = TARGET / "release" / "mercury-analyzer"
SYNTHETIC = TARGET / "release" / "examples" / "synthetic"
ROUNDS = 7
# Vectors per sample in the trace that `synthetic` writes: one per position and channel.
SAMPLE_VECTORS = 64 * 112 * 112
# Samples in a long replay, in which fixed costs such as the start are negligible, and in a short one, for slow replays
# and to show these costs.
LONG, SHORT = 128, 32

# Goals by vector length and bits: minimum speed relative to numpy and to faiss, and minimum share of the peak.
NUMPY = {(d, bits): 3.0 for d in (9, 27) for bits in (20, 32, 64)} | {(576, 20): 1.5, (576, 32): 1.3, (576, 64): 1.0}
FAISS = {(d, bits): 15.0 for d in (9, 27) for bits in (20, 32, 64)}
PEAK = {9: 0.8, 27: 0.8, 576: 0.75}

ALEXNET = """\
Layer name, IFMAP Height, IFMAP Width, Filter Height, Filter Width, Channels, Num Filter, Strides,
conv1, 227, 227, 11, 11, 3, 96, 4,
conv2, 31, 31, 5, 5, 96, 256, 1,
conv3, 15, 15, 3, 3, 256, 384, 1,
conv4, 15, 15, 3, 3, 384, 384, 1,
conv5, 15, 15, 3, 3, 384, 256, 1,
fc6, 6, 6, 6, 6, 256, 4096, 1,
fc7, 1, 1, 1, 1, 4096, 4096, 1,
fc8, 1, 1, 1, 1, 4096, 1000, 1,
"""

ROWS: list[dict] = []


def add(what, ours, unit, peer=None, ratio=None, goal=None) -> None:
    """Appends a result. `goal` is a column (ours or ratio), a comparison (>= or <=) and a number."""
    row = {"what": what, "ours": ours, "peer": peer, "unit": unit, "ratio": ratio, "goal": None, "met": None}
    if goal is not None:
        column, comparison, number = goal
        row["met"] = row[column] >= number if comparison == ">=" else row[column] <= number
        row["goal"] = f"{column} {comparison} {number:g}"
    ROWS.append(row)


def run(*command: object, **options: object) -> str:
    """Runs a command and returns its standard output; exits if it fails."""
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, cwd=REPOSITORY, **options)
    if done.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))}\n{done.stderr}")
    return done.stdout


def read_lines(*command: object) -> list[dict]:
    """Runs a command and returns the JSON lines that it prints."""
    return [json.loads(line) for line in run(*command).splitlines() if line.startswith("{")]


def prepare_python() -> Path:
    """Returns a Python with the peers' packages, from an environment for this state of the requirements."""
    requirements = HERE / "requirements.txt"
    folder = CACHE / f"bench-{zlib.crc32(requirements.read_bytes()):08x}"
    binary = folder / "bin" / "python"
    if not (folder / "ready").exists():
        venv.create(folder, with_pip=True, clear=True)
        run(binary, "-m", "pip", "install", "--quiet", "-r", requirements)
        (folder / "ready").touch()
    return binary


def keep_best(kept: dict, rows: list[dict], column: str) -> None:
    """Keeps the fastest row of each name."""
    for row in rows:
        if row["what"] not in kept or kept[row["what"]][column] < row[column]:
            kept[row["what"]] = row


def signatures(_: Path) -> None:
    """Compares signatures by our kernels, numpy and faiss, on one thread each."""
    interpreter = prepare_python()
    ours: dict[str, dict] = {}
    peers: dict[str, dict] = {}
    for _ in range(3):
        keep_best(ours, read_lines("cargo", "bench", "--quiet", "--workspace", "--bench", "signatures"), "ours")
        keep_best(peers, read_lines(interpreter, HERE / "signatures_peers.py"), "peer")
    for row in ours.values():
        d, bits = row["d"], row["bits"]
        _, kernel, case, *_ = row["what"].split(", ")
        plain = row["what"].endswith(", sign, Gaussian")
        same = {name: peer for name, peer in peers.items() if plain and f", {case}, {bits} bits" in name}
        for name, peer in same.items():
            library, form = name.split(", ")[1], name.split(", ")[-1]
            # The goals use the harder comparison, in which the peer gets vectors that are already cut.
            goals = {} if form == "windows" else NUMPY if library.startswith("numpy") else FAISS
            least = goals.get((d, bits))
            goal = None if least is None else ("ratio", ">=", least)
            what = f"signatures, d = {d}, {bits} bits vs {library} on {form}"
            add(what, row["ours"], "M vectors/s", peer["peer"], row["ours"] / peer["peer"], goal)
        if same:
            done, share = row["ours"] * d * bits / 1e3, row["peak_share"]
            what = f"signatures, d = {d}, {bits} bits, {kernel} vs FMA peak"
            add(what, done, "G FMA/s", done / share, share, ("ratio", ">=", PEAK[d]))


def hitmap(_: Path) -> None:
    """Compares look-ups in MCACHE with two plain implementations."""
    for row in read_lines("cargo", "bench", "--quiet", "--workspace", "--bench", "hitmap", "--", "/none"):
        # Our own variants with smaller instruction sets are left out.
        if ", ours" not in row["what"]:
            goal = ("ours", ">=", 200.0)
            add(f"hitmap, {row['what']}", row["ours"], row["unit"], row["peer"], row["ratio"], goal)


def measure_seconds(commands: dict[str, list], rounds: int = ROUNDS) -> dict[str, float]:
    """Runs the commands in turn and returns the least seconds of each; `OUT` stands for a new folder."""
    times = dict.fromkeys(commands, float("inf"))
    for _ in range(rounds):
        for name, command in commands.items():
            with tempfile.TemporaryDirectory() as scratch:
                filled = [f"{scratch}/out" if part == "OUT" else part for part in command]
                start = time.perf_counter()
                run(*filled)
                times[name] = min(times[name], time.perf_counter() - start)
    return times


def write_trace(folder: Path, samples: int, steps: int = 1) -> Path:
    """Writes a trace with this many samples per step."""
    trace = folder / f"trace-{samples}-{steps}"
    if not trace.exists():
        run(SYNTHETIC, trace, samples, steps)
    return trace


def replay(folder: Path) -> None:
    """Measures whole replays of the forward pass, from files to files."""

    def build_command(samples: int, *flags: str) -> list:
        return [ANALYZER, "replay", write_trace(folder, samples), "--out", "OUT", "--passes", "forward", *flags]

    def measure_rates(samples: int, ways: dict[str, list], rounds: int = ROUNDS) -> dict[str, float]:
        times = measure_seconds(ways, rounds)
        return {name: samples * SAMPLE_VECTORS / seconds / 1e6 for name, seconds in times.items()}

    cores = min(2, os.cpu_count() or 1)
    flags = ["--errors", "none", "--threads"]
    core = build_command(LONG, *flags)
    ways = {
        "one": [*core, "1"],
        "two": [*core, str(cores)],
        "no reuse": [*core, "1", "--reuse.passes", "[]"],
        "ws": [*core, "1", "--array.dataflow", "ws"],
    }
    rate = measure_rates(LONG, ways)
    core, full = build_command(SHORT, *flags), build_command(SHORT, "--threads", "1", "--errors", "all")
    rate |= measure_rates(SHORT, {"short one": [*core, "1"], "short two": [*core, str(cores)]})
    rate |= measure_rates(SHORT, {"errors": full, "bounds": [*full, "--with", "bounds"]}, 2)
    start = measure_seconds({"start": build_command(1, *flags, "1")})["start"]
    unit = "M vectors/s"
    add("replay, one thread, without errors and bounds", rate["one"], unit, goal=("ours", ">=", 50.0))
    ratio = rate["two"] / rate["one"]
    add(f"replay, {cores} threads vs one", rate["two"], unit, rate["one"], ratio, ("ratio", ">=", 1.8))
    ratio = rate["short two"] / rate["short one"]
    add(f"replay of {SHORT} samples, {cores} threads vs one", rate["short two"], unit, rate["short one"], ratio)
    none, one = (LONG * SAMPLE_VECTORS / rate[name] / 1e6 for name in ("no reuse", "one"))
    add("replay without reuse (reading, baseline, results) vs with reuse", none, "s", one, none / one)
    add(f"replay of 1 sample vs {LONG} samples", start, "s", one, start / one)
    add("replay, weight stationary vs row stationary", rate["ws"], unit, rate["one"], rate["ws"] / rate["one"])
    add("replay, one thread, with all errors", rate["errors"], unit, rate["one"], rate["errors"] / rate["one"])
    what = "replay, one thread, with all errors and bounds"
    add(what, rate["bounds"], unit, rate["one"], rate["bounds"] / rate["one"])


def memory(folder: Path) -> None:
    """Measures the peak memory of a replay of a large trace."""
    trace = write_trace(folder, 128, 12)
    size = sum(path.stat().st_size for path in trace.rglob("*.parquet")) / 1e9
    code = (
        "import resource, subprocess, sys; subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL);"
        " print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
    )
    ways = {
        "without errors and bounds": ["--errors", "none"],
        "all errors and bounds, two steps": ["--errors", "all", "--with", "bounds", "--steps", "0..=1"],
    }
    for name, flags in ways.items():
        command = [ANALYZER, "replay", trace, "--out", folder / f"large {name}", *flags]
        kilobytes = int(run(sys.executable, "-c", code, *command))
        what = f"peak memory, replay of {size:.1f} GB, {name}"
        add(what, kilobytes / 1024, "MiB", goal=("ours", "<=", 512.0))


def cycles(folder: Path) -> None:
    """Compares `cycles` on AlexNet with `--version`, each as a whole process."""
    topology = folder / "alexnet.csv"
    topology.write_text(ALEXNET)
    command = [ANALYZER, "cycles", "--topology", topology, "--array"]
    ways = {"12x14": [*command, "12x14"], "256x256": [*command, "256x256"], "start": [ANALYZER, "--version"]}
    times = measure_seconds(ways, 30)
    for array in ("12x14", "256x256"):
        what, ratio = f"cycles, AlexNet on {array} vs starting the program", times[array] / times["start"]
        add(what, times[array] * 1e3, "ms", times["start"] * 1e3, ratio, ("ours", "<=", 5.0))


def read_busy_seconds() -> float:
    """Returns the seconds that the machine's processors were busy since its start, including time taken by its host."""
    try:
        fields = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]
    except OSError:
        return 0.0
    user, nice, system, _, _, interrupts, soft, steal = map(int, fields)
    return (user + nice + system + interrupts + soft + steal) / os.sysconf("SC_CLK_TCK")


def read_own_seconds() -> float:
    """Returns the processor seconds of this process and of its finished child processes."""
    kinds = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    return sum(usage.ru_utime + usage.ru_stime for usage in map(resource.getrusage, kinds))


def describe_processor() -> str:
    """Returns the name and the number of threads of the processor."""
    try:
        info = Path("/proc/cpuinfo").read_text()
    except OSError:
        info = ""
    names = [line.split(":")[1].strip() for line in info.splitlines() if line.startswith("model name")]
    return f"{names[0] if names else platform.processor()}, {os.cpu_count()} threads"


def format_table() -> str:
    """Formats all results as a Markdown table."""
    cells = [["what", "ours", "peer", "unit", "ratio", "goal", "goal is"]]

    def format_number(value: float | None) -> str:
        return "-" if value is None else f"{value:.3g}" if abs(value) < 100 else f"{value:.0f}"

    for row in ROWS:
        numbers = [format_number(row["ours"]), format_number(row["peer"]), row["unit"], format_number(row["ratio"])]
        met = {None: "", True: "met", False: "NOT MET"}[row["met"]]
        cells.append([row["what"], *numbers, row["goal"] or "-", met])
    widths = [max(len(row[column]) for row in cells) for column in range(7)]
    cells.insert(1, ["-" * width for width in widths])
    return "\n".join("| " + " | ".join(map(str.ljust, row, widths)) + " |" for row in cells)


def main() -> None:
    """Measures the parts, and prints and writes the results."""
    parts = {part.__name__: part for part in (signatures, hitmap, replay, memory, cycles)}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join(parts))
    parser.add_argument("--large", action="store_true", help="also measure the peak memory on a trace of several GB")
    arguments = parser.parse_args()
    if unknown := set(arguments.parts) - set(parts):
        parser.error(f"no such part: {', '.join(sorted(unknown))}")
    wanted = arguments.parts or [name for name in parts if name != "memory" or arguments.large]
    run("cargo", "build", "--release", "--workspace", "--bins", "--example", "synthetic")
    run("cargo", "bench", "--workspace", "--bench", "signatures", "--bench", "hitmap", "--no-run")
    prepare_python()
    start, others = time.monotonic(), read_busy_seconds() - read_own_seconds()
    with tempfile.TemporaryDirectory(dir=TARGET, prefix="bench-") as scratch:
        for name in wanted:
            print(f"measuring {name}", file=sys.stderr, flush=True)
            parts[name](Path(scratch))
    elapsed = (time.monotonic() - start) * (os.cpu_count() or 1)
    share = max(0.0, read_busy_seconds() - read_own_seconds() - others) / elapsed
    part = TARGET / "bench.json.part"
    part.write_text(json.dumps(ROWS, indent=1) + "\n")
    part.replace(TARGET / "bench.json")
    print(format_table())
    print(f"\n{describe_processor()}; other processes took {100 * share:.0f} % of its time; {TARGET / 'bench.json'}")


if __name__ == "__main__":
    main()
