#!/usr/bin/env -S python3 -P
"""Writes reference results of SCALE-Sim: compute cycles, or accesses to its buffers.

`analyzer/tests/scalesim.rs` compares the cycles, and the tests of `timing/memory` compare the accesses.

    pip install scalesim==3.0.0 "numpy<2.4"
    python3 -P scalesim.py alexnet_narrow.csv odd.csv gemm.csv > scalesim.csv
    python3 -P scalesim.py --accesses --arrays 12x14 8x8 4x16 -- products.csv > accesses.csv

Both files were made with scalesim 3.0.0, numpy 2.3.5 and Python 3.11, the first in five minutes on one
core. This scalesim fails with numpy 2.4. -P keeps this file from hiding the package of the same name.

Accesses are the unchanged SRAM columns of the detailed report. With the output-stationary dataflow,
SCALE-Sim counts R + C ofmap writes too many per fold; the test subtracts them. The DRAM columns are not
used: they describe SCALE-Sim's prefetcher, which fetches whole buffers ahead and is not in our model.

SCALE-Sim simulates every cycle of the array and its buffers, which would take hours for full AlexNet.
So `alexnet_narrow.csv` has AlexNet's layers with an eighth of the channels and filters. They are
padded, because SCALE-Sim does not pad, and ungrouped. Memory is in SCALE-Sim's stall-free mode.
"""

import argparse
import csv
import sys
import tempfile
from itertools import product
from pathlib import Path

from scalesim.scale_sim import scalesim

DATAFLOWS = ["ws", "os", "is"]
ACCESSES = ["SRAM IFMAP Reads", "SRAM Filter Reads", "SRAM OFMAP Writes"]
CONFIG = """\
[general]
run_name = run
[run_presets]
InterfaceBandwidth = CALC
UseRamulatorTrace = False
[architecture_presets]
ArrayHeight = {rows}
ArrayWidth = {columns}
IfmapSramSzkB = 1024
FilterSramSzkB = 1024
OfmapSramSzkB = 1024
IfmapOffset = 0
FilterOffset = 10000000
OfmapOffset = 20000000
Dataflow = {dataflow}
ReadRequestBuffer = 32
WriteRequestBuffer = 32
[layout]
IfmapCustomLayout = False
FilterCustomLayout = False
IfmapSRAMBankBandwidth = 10
IfmapSRAMBankNum = 10
IfmapSRAMBankPort = 2
FilterSRAMBankBandwidth = 10
FilterSRAMBankNum = 10
FilterSRAMBankPort = 2
[sparsity]
SparsitySupport = False
"""


def simulate(topology: Path, dataflow: str, rows: int, columns: int) -> list[tuple[str, int, list[int]]]:
    """Simulates a topology. Returns the name, compute cycles and accesses of each layer."""
    gemm = "filter" not in topology.read_text().splitlines()[0].lower()
    with tempfile.TemporaryDirectory() as folder:
        config, layout = Path(folder, "config.cfg"), Path(folder, "layout.csv")
        config.write_text(CONFIG.format(rows=rows, columns=columns, dataflow=dataflow))
        layout.write_text("no layer has a layout of its own,\n")
        simulation = scalesim(
            save_disk_space=True,  # No memory traces.
            verbose=False,
            config=str(config),
            topology=str(topology),
            layout=str(layout),
            input_type_gemm=gemm,
        )
        simulation.run_scale(top_path=folder)
        reports = Path(folder, "run")
        layers = read_report(reports / "COMPUTE_REPORT.csv")
        counts = read_report(reports / "DETAILED_ACCESS_REPORT.csv")
    if any(int(layer["Stall Cycles"]) for layer in layers):
        raise SystemExit(f"{topology} stalls on {rows}x{columns}, {dataflow}: enlarge the buffers in CONFIG")
    return [
        (name, int(layer["Total Cycles"]), [int(float(count[column])) for column in ACCESSES])
        for name, layer, count in zip(simulation.topo.get_layer_names(), layers, counts, strict=True)
    ]


def read_report(path: Path) -> list[dict[str, str]]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file, skipinitialspace=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("topologies", nargs="+", type=Path, metavar="TOPOLOGY", help="SCALE-Sim topology file")
    parser.add_argument("--arrays", nargs="+", default=["12x14", "8x8", "32x16"], metavar="RxC")
    parser.add_argument("--accesses", action="store_true", help="accesses of matrix products instead of cycles")
    arguments = parser.parse_args()

    table = csv.writer(sys.stdout, lineterminator="\n")
    if arguments.accesses:
        table.writerow(["dataflow", "rows", "columns", "product", "m", "k", "n", "ifmap", "filter", "ofmap"])
    else:
        table.writerow(["topology", "dataflow", "rows", "columns", "layer", "cycles"])
    for topology, array, dataflow in product(arguments.topologies, arguments.arrays, DATAFLOWS):
        rows, columns = map(int, array.split("x"))
        sizes = {}
        if arguments.accesses:
            sizes = {size["Layer"]: [size[name] for name in "MKN"] for size in read_report(topology)}
        for layer, cycles, accesses in simulate(topology, dataflow, rows, columns):
            if arguments.accesses:
                table.writerow([dataflow, rows, columns, layer, *sizes[layer], *accesses])
            else:
                table.writerow([topology.stem, dataflow, rows, columns, layer, cycles])
        print(topology, array, dataflow, "done", file=sys.stderr)


if __name__ == "__main__":
    main()
