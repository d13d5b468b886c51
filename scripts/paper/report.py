#!/usr/bin/env python3
"""Writes the results of `run.py` to docs/paper.md, with charts next to it, and the answer to the README.

Prints the models with the preset's settings, means, and the answer. `--docs` and `--readme` name the pages; the text
goes between their marks. A full run also keeps its tables in the folder docs/paper, from which a quick run takes the
models that it lacks. Pages are written from runs of one clean commit only, except with `--allow-dirty`.
"""

import argparse
import json
import os
import sys
from pathlib import Path

import polars as pl
from commits import is_clean

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path[:0] = [str(ROOT / "scripts"), str(ROOT / "notebooks")]
from answer import summarise_answer  # noqa: E402
from charts import paper_chain, paper_frontier, paper_hardware, paper_sizes, place_accepted  # noqa: E402
from kept import add_kept, list_commits, read_kept, read_tables, write_kept  # noqa: E402
from page import write_page, write_summary  # noqa: E402
from runs import put_between  # noqa: E402
from settings import MODELS  # noqa: E402
from wanted import summarise_hardware  # noqa: E402
from words import select_paper  # noqa: E402

PAGE_MARKS = ("<!-- paper: begin -->", "<!-- paper: end -->")
README_MARKS = ("<!-- paper -->", "<!-- /paper -->")
# Commands of the runs whose tables are kept, and which take kept ones.
FULL, QUICK = "make paper", "make paper QUICK=1"
ACCEPTED = "accepted.json"
# Without these a run has nothing to report.
NEEDED = ["training", "speed_ups", "chain"]


def read_run(out: Path, kept: Path) -> tuple[dict, dict[str, pl.DataFrame], dict | None]:
    """Reads a run's record, its tables (a quick run's with rows of the last full run), and the accepted error."""
    tables = read_tables(out)
    missing = [name for name in NEEDED if name not in tables]
    if missing or not (out / "run.json").exists():
        sys.exit(f"{out} has no {', '.join(missing) or 'run.json'}: let scripts/paper/run.py write a run there first")
    run, accepted = json.loads((out / "run.json").read_text()), out / ACCEPTED
    tables = add_kept(tables, read_kept(kept)) if run["command"] == QUICK else tables
    return run, tables, json.loads(accepted.read_text()) if accepted.exists() else None


def draw_charts(tables: dict[str, pl.DataFrame], accepted: dict | None, page: Path) -> None:
    """Draws the charts next to the page."""
    charts = {"chain": paper_chain(select_paper(tables["chain"]))}
    if "frontier" in tables:
        frontier, marks = select_paper(tables["frontier"]), None
        if accepted:
            marks = place_accepted(frontier, select_paper(tables["speed_ups"]), accepted["step_error"])
        charts["frontier"] = paper_frontier(frontier, marks)
    charts |= {"sizes": paper_sizes(tables["sizes"])} if "sizes" in tables else {}
    charts |= {"hardware": paper_hardware(tables["hardware"])} if "hardware" in tables else {}
    for name, chart in charts.items():
        chart.configure(background="white").save(name_picture(page, name))


def name_picture(page: Path, name: str) -> Path:
    return page.with_name(f"{page.stem}-{name}.svg")


def write_readme(readme: Path, page: Path | None, tables: dict[str, pl.DataFrame], accepted: dict | None) -> None:
    """Writes the answer, the first picture and the wanted hardware between the README's marks."""
    text = summarise_answer(tables, accepted)
    if page and "frontier" in tables:
        place = Path(os.path.relpath(name_picture(page, "frontier"), readme.parent)).as_posix()
        text += f"\n\n![Speed-up against the bound on each layer's error, by reading of the hardware]({place})"
    if "hardware" in tables:
        text += f"\n\n{summarise_hardware(tables['hardware'])}"
    put_between(readme, *README_MARKS, text)


def check_commits(commits: list[str]) -> None:
    """Ends the script unless a run's figures are those of one clean commit."""
    if len(commits) != 1 or not all(map(is_clean, commits)):
        sys.exit(
            f"the run is of {', '.join(sorted(commits))}, not of one clean commit, so no page was written: run it "
            "again from a checkout without changed files, or give --allow-dirty"
        )


def check_kept(tables: dict[str, pl.DataFrame], accepted: dict | None, kept: Path) -> None:
    """Ends the script if rows of the last full run are of several commits, or judged by another calibration."""
    commits = list_commits(tables, kept=True)
    if not commits:
        return
    check_commits(commits)
    place = kept / ACCEPTED
    known = json.loads(place.read_text()) if place.exists() else None
    if accepted and known and known["step_error"] != accepted["step_error"]:
        sys.exit(
            f"{kept} was judged by a step error of {known['step_error']:.4f}, and this run by "
            f"{accepted['step_error']:.4f}: the calibration has changed; run `make paper`, or give --allow-dirty"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=ROOT / "paper", help="folder of the run")
    parser.add_argument("--docs", type=Path, help="a page, with charts next to it and a full run's tables in a folder")
    parser.add_argument("--readme", type=Path, help="a page for the answer, if it has the marks")
    parser.add_argument("--allow-dirty", action="store_true", help="also from changed files or several commits")
    arguments = parser.parse_args()
    page, readme = arguments.docs, arguments.readme
    kept = (page or ROOT / "docs" / "paper.md").with_suffix("")
    run, tables, accepted = read_run(arguments.out, kept)
    print(write_summary(run, tables, accepted))
    if (page or readme) and not arguments.allow_dirty:
        check_commits(list_commits(tables))
        check_kept(tables, accepted, kept)
    if page:
        draw_charts(tables, accepted, page)
        put_between(page, *PAGE_MARKS, write_page(run, tables, accepted, page.stem))
    # A run of some models, or one in which some failed, leaves the tables of the last full one.
    if page and run["command"] == FULL and set(MODELS) <= set(tables["training"]["model"]):
        write_kept(tables, kept)
        if accepted:
            (kept / ACCEPTED).write_text(json.dumps(accepted) + "\n")
    if readme and README_MARKS[0] in readme.read_text():
        write_readme(readme, page, tables, accepted)


if __name__ == "__main__":
    main()
