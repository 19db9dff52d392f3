"""Runs benchmarks by name: progress and a table for people, a file of flat keys for machines."""

import argparse
import os
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.registry import BENCHMARKS, Entry
from benchmarks.results import OUTPUT_DIR, machine_figures
from tfx_pipeline.terminal.console import Console, quiet_libraries
from tfx_pipeline.terminal.report_file import write_report

EXIT_FAULT = 1
EXIT_MISTAKE = 2


def main(
    arguments: Sequence[str] | None = None,
    benchmarks: Mapping[str, Entry] = BENCHMARKS,
    output_dir: Path = OUTPUT_DIR,
) -> int:
    """Runs the named benchmarks, or all but those that take hours if no name is given.

    Args:
      arguments: Arguments of the command line; None: those of the process.
      benchmarks: Benchmarks by name.
      output_dir: Folder of `<name>.json` and of the libraries' logs.

    Returns:
      The exit status: 0, 1 if a benchmark found a fault, 2 if one could not run, 130 when
      interrupted. If a benchmark cannot run, the others run all the same.
    """
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measures, and writes build/bench/NAME.json (keys: docs/report.md).",
        epilog="benchmarks:\n"
        + "\n".join(f"  {name:<11} {entry.summary}" for name, entry in benchmarks.items()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="which to run (default: all)")
    names = parser.parse_args(arguments).names or [
        name for name, entry in benchmarks.items() if not entry.takes_hours
    ]
    unknown = [name for name in names if name not in benchmarks]
    if unknown:
        known = ", ".join(benchmarks)
        print(
            f"benchmarks: `NAME` must be one of {known}. Received: {', '.join(unknown)}.",
            file=sys.stderr,
        )
        return EXIT_MISTAKE
    status = 0
    for name in names:
        try:
            with quiet_libraries(str(output_dir / "logs" / f"{name}.log")) as console:
                faults = _run(name, benchmarks[name], output_dir, console)
        except ValueError as error:
            print(f"benchmarks: {name}: {error}", file=sys.stderr)
            status = EXIT_MISTAKE
            continue
        except KeyboardInterrupt:
            print("benchmarks: interrupted", file=sys.stderr)
            return 130
        for fault in faults:
            print(f"benchmarks: {name}: {fault}", file=sys.stderr)
        status = status or (EXIT_FAULT if faults else 0)
    return status


def _run(name: str, entry: Entry, output_dir: Path, console: Console) -> list[str]:
    console.line(f"{name}: {entry.summary}")
    figures = {"bench.name": name, **machine_figures()}
    started = time.perf_counter()
    benchmark = entry.load()
    measured = benchmark.run(lambda text: console.line(f"  {text}"))
    figures |= measured
    figures["bench.seconds"] = time.perf_counter() - started
    path = output_dir / f"{name}.json"
    write_report(figures, path)
    console.line(f"\n{benchmark.table(measured)}\n")
    console.line(f"{figures['bench.seconds']:.0f} s; written to {os.path.relpath(path)}\n")
    return benchmark.faults(measured)
