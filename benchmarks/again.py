"""A run with everything complete, against Luigi: ``python benchmarks/again.py --files 10000``.

The outputs of S/N are made and recorded first. Then it is asked for again: by our command, which looks at record,
parameters, version of the input and size of the output; and by Luigi, which looks whether each output is there, for
the tasks one by one, for a task that wraps them all, and for one task over all files. Given are the least times of the
rounds: seconds, those of the same over one file (`start`), and what is beyond those.
"""

import argparse
import sys
from pathlib import Path

from contenders import ASTRA, HERE, Contender, Place, installed, nights, ours
from measure import Measured, least, load, measured, table

SNR = "ap_visit_snr"
STARTS = {
    "astra-dagster --version": [*ASTRA, "--version"],
    "import astra_dagster.definitions": [sys.executable, "-c", "import astra_dagster.definitions"],
    "import dagster": [sys.executable, "-c", "import dagster"],
    "import luigi": [sys.executable, "-c", "import luigi"],
}
LUIGI = {"Luigi, each task": ["--each"], "Luigi, a wrapper": [], "Luigi, batch": ["--batch"]}
OURS = "ours"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=1000)
    parser.add_argument("--repeat", type=int, default=3, help="rounds")
    parser.add_argument("--folder", type=Path, help="where to make the temporary folder")
    arguments = parser.parse_args()
    print(f"{arguments.files} apVisit files; {load()}", flush=True)
    peers = installed("luigi")
    if not peers:
        print("Luigi: not measured: it is not installed")
    results: dict[str, dict[int, list[Measured]]] = {}
    with (
        nights(arguments.folder, arguments.files) as mirrors,
        mirrors.place(1) as one,
        mirrors.place(arguments.files) as all_of_them,
    ):
        for place in (one, all_of_them):
            Contender(OURS, ours(tasks=[SNR])).run(place)
        before = state(all_of_them)
        for _ in range(arguments.repeat):
            for place in (one, all_of_them):
                for name, command in commands(place, peers).items():
                    taken = measured(command, place.environment)
                    results.setdefault(name, {}).setdefault(place.files, []).append(taken)
        if state(all_of_them) != before:
            raise SystemExit("something was done again")
        starts = {name: command for name, command in STARTS.items() if peers or "luigi" not in name}
        alone = {
            name: least([measured(command, one.environment) for _ in range(arguments.repeat)])
            for name, command in starts.items()
        }
    rows = [["", "files", "s", "start s", "beyond s", "cpu s", "MB"]]
    beyond = {}
    for name, by_size in results.items():
        whole, start = least(by_size[arguments.files]), least(by_size[1])
        beyond[name] = whole.seconds - start.seconds
        figures = (whole.seconds, start.seconds, beyond[name], whole.cpu)
        rows.append([name, str(arguments.files), *(f"{x:.2f}" for x in figures), f"{whole.together:.0f}"])
    rows += [[name, "", f"{m.seconds:.2f}", "", "", f"{m.cpu:.2f}", f"{m.together:.0f}"] for name, m in alone.items()]
    print(table(rows))
    for name in beyond:
        if name != OURS:
            print(f"ours / {name}: {beyond[OURS]:.2f} s and {beyond[name]:.2f} s beyond the start")
    print(load())


def commands(place: Place, peers: bool) -> dict[str, list[str]]:
    """What is run again."""
    where = [SNR, "--sas", str(place.sas), "--outputs", str(place.outputs), "--files", str(place.files)]
    luigi = [sys.executable, str(HERE / "luigi_night.py"), *where, "--workers=1"]
    return {OURS: [*ASTRA, "run", SNR], **({name: [*luigi, *more] for name, more in LUIGI.items()} if peers else {})}


def state(place: Place) -> set[tuple[str, int]]:
    """All outputs, and when each was written."""
    return {(str(path), path.stat().st_mtime_ns) for path in place.outputs.rglob("*") if path.is_file()}


if __name__ == "__main__":
    main()
