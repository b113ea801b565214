"""Time of importing the definitions, against importing dagster alone: ``python benchmarks/import_time.py``.

Each is a new process; the two alternate, and the median and the smallest of each are printed, seconds.
"""

import argparse
import statistics
import subprocess
import sys
import time

STATEMENTS = ("import dagster", "import astra_dagster.definitions", "import astra_dagster")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeat", type=int, default=9)
    repeat = parser.parse_args().repeat
    seconds: dict[str, list[float]] = {statement: [] for statement in STATEMENTS}
    for _ in range(repeat):
        for statement in STATEMENTS:
            start = time.perf_counter()
            subprocess.run([sys.executable, "-c", statement], check=True)
            seconds[statement].append(time.perf_counter() - start)
    print(f"{'':36}{'median':>8}{'least':>8}")
    for statement, values in seconds.items():
        print(f"{statement:36}{statistics.median(values):8.2f}{min(values):8.2f}")
    more = statistics.median(seconds[STATEMENTS[1]]) - statistics.median(seconds[STATEMENTS[0]])
    print(f"definitions take {more:.2f} s more than dagster alone")


if __name__ == "__main__":
    main()
