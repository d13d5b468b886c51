#!/usr/bin/env python3
"""Stands before rustc when fuzz targets are built: polars, which only shapes results' tables, is compiled without
instrumentation, which would take the better part of an hour."""

import os
import sys

INSTRUMENTATION = ("-Cpasses=sancov-module", "-Cllvm-args=-sanitizer-coverage", "-Zsanitizer=", "-Ccodegen-units=1")


def plain(arguments: list[str]) -> list[str]:
    """The arguments of a crate of polars, without instrumentation."""
    return [argument for argument in arguments if not argument.startswith(INSTRUMENTATION)]


def main() -> None:
    rustc, *arguments = sys.argv[1:]
    crate = arguments[arguments.index("--crate-name") + 1] if "--crate-name" in arguments else ""
    os.execvp(rustc, [rustc, *(plain(arguments) if crate.startswith("polars") else arguments)])


if __name__ == "__main__":
    main()
