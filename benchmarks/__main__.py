"""Measure the speed ratios: `python -m benchmarks [NAME...]`, without a name those of the image work.

Prints the machine, then one row per comparison: time of the plain way and of ours, the speed-up, its lowest and highest
value in a single turn, and the target. CYGNET_BENCH_VIDEO names a 1080p video to work on.
"""

import os
import platform
import sys
import warnings
from importlib import import_module
from importlib.metadata import version
from pathlib import Path

from benchmarks.measure import Result, SkipBenchmark

DEFAULT = ("sampling", "cropping", "polygons", "augmentation")
NAMES = (*DEFAULT, "training", "serving", "load", "hostile", "scoring")
"""The others take minutes: `make bench-training` and `make bench-serving` name them."""
WIDTHS = (48, 18, 18, 8, 12, 6)
HEADER = ("what", "baseline", "ours", "ratio", "by turns", "target")


def main(names: list[str]) -> None:
    """Run the benchmarks of these names."""
    unknown = [name for name in names if name not in NAMES]
    if unknown:
        sys.exit(f"There is no benchmark {', '.join(unknown)}: choose from {', '.join(NAMES)}.")
    warnings.simplefilter("ignore")  # of libraries about each other, which would break up the table
    print(_machine(), flush=True)
    _print_row(HEADER)
    for name in names or DEFAULT:
        try:
            result = import_module(f"benchmarks.{name}").run()
            for row in [result] if isinstance(result, Result) else result:
                _print_row(row.cells())
        except SkipBenchmark as reason:
            _print_row([name, f"skipped: {reason}"])


def _machine() -> str:
    packages = ", ".join(
        f"{name} {version(package)}"
        for name, package in (("OpenCV", "opencv-python-headless"), ("PySpark", "pyspark"), ("Pillow", "pillow"))
    )
    return f"{_cpu()}, {os.cpu_count()} cores, Python {platform.python_version()}, {packages}"


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    return next((line.split(": ")[1] for line in lines if line.startswith("model name")), platform.machine())


def _print_row(cells: list[str] | tuple[str, ...]) -> None:
    print("".join(cell.ljust(width) for cell, width in zip(cells, WIDTHS, strict=False)).rstrip(), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
