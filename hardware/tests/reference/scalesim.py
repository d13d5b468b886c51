#!/usr/bin/env -S python3 -P
"""Reference for `tests/scalesim.rs`: the compute cycles that SCALE-Sim counts; and for the test of
`timing/memory`: the accesses to its buffers.

    pip install scalesim==3.0.0 "numpy<2.4"
    python3 -P scalesim.py alexnet_narrow.csv odd.csv gemm.csv > scalesim.csv
    python3 -P scalesim.py --accesses --arrays 12x14 8x8 4x16 -- products.csv > accesses.csv

Both were made by scalesim 3.0.0 with numpy 2.3.5 on Python 3.11, the first in five minutes of one
core; with numpy 2.4 this scalesim fails. -P keeps this file from hiding the package of its name.
Accesses are the SRAM columns of its detailed report, as they are: output stationary, its ofmap writes
have R + C too many for each fold, which the test takes off. Its DRAM columns are those of its own
prefetcher, which fetches whole buffers ahead: our model is another.

SCALE-Sim plays every cycle of the array and of its buffers, which full AlexNet would take hours
for: `alexnet_narrow.csv` has AlexNet's layers (padded, since SCALE-Sim does not pad; ungrouped) with
an eighth of the channels and filters. Memory is SCALE-Sim's stall-free mode.
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
    """Each layer's name, compute cycles and accesses."""
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
        layers, counts = (report(Path(folder, "run", f"{name}_REPORT.csv")) for name in ("COMPUTE", "DETAILED_ACCESS"))
    if any(int(layer["Stall Cycles"]) for layer in layers):
        raise SystemExit(f"{topology} stalls on {rows}x{columns}, {dataflow}: enlarge the buffers in CONFIG")
    return [
        (name, int(layer["Total Cycles"]), [int(float(count[column])) for column in ACCESSES])
        for name, layer, count in zip(simulation.topo.get_layer_names(), layers, counts, strict=True)
    ]


def report(path: Path) -> list[dict[str, str]]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file, skipinitialspace=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("topologies", nargs="+", type=Path, metavar="TOPOLOGY", help="SCALE-Sim topology file")
    parser.add_argument("--arrays", nargs="+", default=["12x14", "8x8", "32x16"], metavar="RxC")
    parser.add_argument("--accesses", action="store_true", help="accesses of matrix products in place of cycles")
    arguments = parser.parse_args()

    table = csv.writer(sys.stdout, lineterminator="\n")
    if arguments.accesses:
        table.writerow(["dataflow", "rows", "columns", "product", "m", "k", "n", "ifmap", "filter", "ofmap"])
    else:
        table.writerow(["topology", "dataflow", "rows", "columns", "layer", "cycles"])
    for topology, array, dataflow in product(arguments.topologies, arguments.arrays, DATAFLOWS):
        rows, columns = map(int, array.split("x"))
        sizes = {size["Layer"]: [size[name] for name in "MKN"] for size in report(topology)} if arguments.accesses else {}
        for layer, cycles, accesses in simulate(topology, dataflow, rows, columns):
            if arguments.accesses:
                table.writerow([dataflow, rows, columns, layer, *sizes[layer], *accesses])
            else:
                table.writerow([topology.stem, dataflow, rows, columns, layer, cycles])
        print(topology, array, dataflow, "done", file=sys.stderr)


if __name__ == "__main__":
    main()
