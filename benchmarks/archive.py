"""What each command takes over an archive of so many files: ``python benchmarks/archive.py --files 1000000``.

Processor time is given for each file, by the whole time of a command; MB are the most memory of the largest process,
and of all together. The run is of S/N, and reads, computes and writes nothing: what is left is planning and recording.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from contenders import ASTRA, HERE, nights
from growth import size_of_database
from measure import load, measured, table

DISCOVER = (*ASTRA, "discover", "--product", "apVisit")
STEPS: Mapping[str, Sequence[str]] = {
    "init": (*ASTRA, "init"),
    "discover": DISCOVER,
    "discover again": DISCOVER,
    "plan": (*ASTRA, "plan", "ap_visit_snr"),
    "plan of one plate": (*ASTRA, "plan", "ap_visit_snr", "--where", "plate=5000"),
    "run": (sys.executable, str(HERE / "records_only.py"), "run", "ap_visit_snr"),
}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=100_000)
    parser.add_argument("--folder", type=Path, help="where to make the temporary folder")
    arguments = parser.parse_args()
    print(load(), flush=True)
    rows = [["", "files", "s", "cpu s", "cpu ms a file", "MB", "MB all"]]
    with nights(arguments.folder, arguments.files) as mirrors, mirrors.place(arguments.files) as place:
        for name, words in STEPS.items():
            taken = measured(words, place.environment)
            each = f"{taken.cpu / arguments.files * 1e3:.3f}"
            memory = [f"{taken.largest:.0f}", f"{taken.together:.0f}"]
            rows.append([name, str(arguments.files), f"{taken.seconds:.1f}", f"{taken.cpu:.1f}", each, *memory])
            print(*rows[-1], file=sys.stderr, flush=True)
        database = size_of_database(place) / arguments.files / 1e3
    print("\n".join([table(rows), f"database: {database:.2f} kB a file", load()]))


if __name__ == "__main__":
    main()
