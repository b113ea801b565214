"""S/N and continuum of a night, against others: ``python benchmarks/throughput.py --files 10000``.

Every contender does the same to the same files with the same functions, in a process of its own, in folders of its own
that are empty at the start; what differs is who plans, spreads and records. Each is also run over a single file: that
is its `start`, and what is given a file is net of it; `cpu` is time of the processors, of all its processes. Given are
the least times of the rounds. `x` is how many times as long as ours it takes a file, net, and `x all` start included.
MB are those of all its processes together. The outputs must be the same, byte by byte.

ours             astra-dagster run, with the storage that astra-dagster init sets up; finding the files is a row apart
ours, a range    the same assets in Dagster's own way: one run over the range of all partitions
stock            as these two, with Dagster's own storage
floor            a plain loop on a process pool: it reads, computes and writes, and records nothing
Luigi            one task a file and analysis, or one an analysis over all files (batch); its local scheduler

All flush their outputs to the disk but those that say so; nothing waits for a disk with ``--folder /dev/shm``. The
PostgreSQL server is started here, and does not flush what it commits.
"""

import argparse
from contextlib import ExitStack
from pathlib import Path

from contenders import CORES, Contender, chosen_by, databases, floor, installed, luigi, nights, ours, over_range
from contest import Results, contest, net, rows
from measure import load, table

OURS = "ours"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=1000)
    parser.add_argument("--stock-files", type=int, help="how many files Dagster's own storage gets")
    parser.add_argument("--luigi-files", type=int, help="how many files Luigi gets with a task a file")
    parser.add_argument("--repeat", type=int, default=1, help="rounds")
    parser.add_argument("--only", action="append", help="contenders of this name: 'Luigi*'; repeatable")
    parser.add_argument("--folder", type=Path, help="where to make the temporary folder")
    arguments = parser.parse_args()
    print(f"{arguments.files} apVisit files; {load()}", flush=True)
    with nights(arguments.folder, arguments.files) as mirrors, ExitStack() as stack:
        chosen = contenders(arguments, stack)
        results, outputs = contest(mirrors, chosen, arguments.files, arguments.repeat)
    print(table(rows(results, outputs, OURS)))
    print("\n".join([*verdicts(results), load()]))
    if not all(outputs.values()):
        raise SystemExit("the outputs differ")


def contenders(arguments: argparse.Namespace, stack: ExitStack) -> list[Contender]:
    """Those that can be measured; of the others it is said why not."""
    few, fewer = arguments.stock_files, arguments.luigi_files
    found = [
        Contender("floor", floor()),
        Contender("floor, not flushed", floor("--not-flushed")),
        Contender(OURS, ours()),
        Contender("ours, a range", over_range()),
        Contender("stock", ours(init=None), stock=True, files=few),
        Contender("stock, a range", over_range(init=None), stock=True, files=few),
    ]
    postgres = databases(stack)
    if isinstance(postgres, str):
        print(f"ours, PostgreSQL: not measured: {postgres}")
    else:
        found.insert(3, Contender("ours, PostgreSQL", ours(init=postgres)))
    both = {"Luigi, 1 worker": "--workers=1", "Luigi, 2 workers": "--workers=2"}
    for name, option in both.items():
        found += [
            Contender(f"{name}, batch", luigi(option, "--flushed", "--batch")),
            Contender(f"{name}, batch, not flushed", luigi(option, "--batch")),
        ]
    found += [Contender(name, luigi(option, "--flushed"), files=fewer) for name, option in both.items()]
    if not installed("luigi"):
        print("Luigi: not measured: it is not installed")
        found = [one for one in found if not one.name.startswith("Luigi")]
    return chosen_by(arguments.only, found)


def verdicts(results: Results) -> list[str]:
    """The comparisons that matter, in words."""
    if OURS not in results:
        return []
    files, _, _, each, cpu = net(results[OURS])
    said = []
    kinds = {
        "Luigi, one task a file": [name for name in results if name.startswith("Luigi") and "batch" not in name],
        "Luigi, batch": [name for name in results if name.startswith("Luigi") and name.endswith("batch")],
        "Luigi, batch, not flushed": [name for name in results if "batch, not flushed" in name],
        "stock Dagster": [name for name in results if name.startswith("stock") and "discover" not in name],
    }
    for kind, others in kinds.items():
        if others:
            best = min(others, key=lambda name: net(results[name])[3])
            count, _, _, other, _ = net(results[best])
            bound = "" if count == files else f", over {count} files only"
            said.append(f"ours / {kind}: {other / each:.2f} times the files a second (best: {best}{bound})")
    if "floor" in results:
        _, _, _, least, least_cpu = net(results["floor"])
        more, more_cpu = (each - least) * 1e3, (cpu - least_cpu) * 1e3
        said.append(f"ours / floor: {each / least:.2f} times as long a file, on {CORES} workers")
        said.append(f"more than the floor: {more:.2f} ms a file, {more_cpu:.2f} ms of a processor")
    return said


if __name__ == "__main__":
    main()
