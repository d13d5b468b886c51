#!/usr/bin/env -S python3 -P
"""Reference for the test of `timing/memory`: the accesses to its buffers that SCALE-Sim counts.

    pip install scalesim==3.0.0 "numpy<2.4"
    python3 -P accesses.py products.csv > accesses.csv

`accesses.csv` was made by scalesim 3.0.0 with numpy 2.3.5 on Python 3.11, in seconds; with
numpy 2.4 this scalesim fails. Taken are the SRAM columns of its detailed report, as they are: output
stationary, its ofmap writes have R + C too many for each fold, which the test takes off. Its DRAM
columns are those of its own prefetcher, which fetches whole buffers ahead: our model is another.
"""

import argparse
import csv
import sys
import tempfile
from itertools import product
from pathlib import Path

from scalesim.scale_sim import scalesim

DATAFLOWS = ["ws", "os", "is"]
COLUMNS = ["SRAM IFMAP Reads", "SRAM Filter Reads", "SRAM OFMAP Writes"]
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


def simulate(topology: Path, dataflow: str, rows: int, columns: int) -> list[list[str]]:
    """Each product's name, sizes and accesses."""
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
            input_type_gemm=True,
        )
        simulation.run_scale(top_path=folder)
        with open(Path(folder, "run", "DETAILED_ACCESS_REPORT.csv"), newline="") as report:
            found = list(csv.DictReader(report, skipinitialspace=True))
    with open(topology, newline="") as products:
        sizes = list(csv.DictReader(products, skipinitialspace=True))
    return [
        [size["Layer"], size["M"], size["K"], size["N"]] + [str(int(float(counts[name]))) for name in COLUMNS]
        for size, counts in zip(sizes, found, strict=True)
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("topology", type=Path, help="SCALE-Sim topology file of matrix products")
    parser.add_argument("--arrays", nargs="+", default=["12x14", "8x8", "4x16"], metavar="RxC")
    arguments = parser.parse_args()

    table = csv.writer(sys.stdout, lineterminator="\n")
    table.writerow(["dataflow", "rows", "columns", "product", "m", "k", "n", "ifmap", "filter", "ofmap"])
    for array, dataflow in product(arguments.arrays, DATAFLOWS):
        rows, columns = map(int, array.split("x"))
        for row in simulate(arguments.topology, dataflow, rows, columns):
            table.writerow([dataflow, rows, columns, *row])
        print(array, dataflow, "done", file=sys.stderr)


if __name__ == "__main__":
    main()
