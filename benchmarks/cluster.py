"""S/N and continuum of a night on a Dask cluster and on a process pool: ``python benchmarks/cluster.py --files 1000``.

The cluster is a local one, started by the run and ended with it. Columns as in ``throughput.py``; `x` is against the
process pool of two.
"""

import argparse
from pathlib import Path

from contenders import Contender, chosen_by, installed, nights, ours
from contest import contest, rows
from measure import load, table

BASE = "processes:2"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=1000)
    parser.add_argument("--only", action="append", help="workers of this name: 'dask*'; repeatable")
    parser.add_argument("--repeat", type=int, default=1, help="rounds")
    parser.add_argument("--folder", type=Path, help="where to make the temporary folder")
    arguments = parser.parse_args()
    print(f"{arguments.files} apVisit files; {load()}", flush=True)
    forms = ["in-process", "processes:1", BASE]
    if installed("distributed"):
        forms += ["dask:1", "dask:2"]
    else:
        print("Dask: not measured: distributed is not installed")
    chosen = chosen_by(arguments.only, [Contender(form, ours("--workers", form)) for form in forms])
    with nights(arguments.folder, arguments.files) as mirrors:
        results, outputs = contest(mirrors, chosen, arguments.files, arguments.repeat)
    runs = {name: of for name, of in results.items() if not name.endswith(": discover")}
    print(table(rows(runs, outputs, BASE)))
    print(load())
    if not all(outputs.values()):
        raise SystemExit("the outputs differ")


if __name__ == "__main__":
    main()
