"""Time of the page of a night among many: ``python benchmarks/nights.py --files 30000 --night 300``.

S/N of so many visits is computed, recorded and put into a table, all before the last night in nights of 300 visits.
Then `astra-dagster night` is asked for the last night, in a process of its own, with its page and with `--json`; and
for one key, which is hardly more than the start of a process.
"""

import argparse
import tempfile
from pathlib import Path

from contenders import ASTRA, Contender, Place, ours
from measure import least, load, measured, table
from night import FIBRES, write_night


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=30_000, help="visits, of all nights")
    parser.add_argument("--night", type=int, default=FIBRES, help="visits of the last night")
    parser.add_argument("--repeat", type=int, default=3, help="rounds")
    parser.add_argument("--folder", type=Path, help="where to make the temporary folder")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        place = Place(Path(name), Path(name, "sas"), arguments.files)
        write_night(place.sas, arguments.files, last=arguments.night)
        Contender("ours", ours(tasks=["ap_visit_snr"])).run(place)
        measured([*ASTRA, "table", "ap_visit_snr"], place.environment)
        print(f"{arguments.files} visits, {arguments.night} in the last night; {load()}", flush=True)
        rows = [["", "s", "cpu s", "MB"]]
        asked = {
            "start": ["list", "ap_visit", "--where", "mjd=56000", "--where", "fibre=1"],
            "page": ["night"],
            "json": ["night", "--json"],
        }
        for label, command in asked.items():
            taken = least([measured([*ASTRA, *command], place.environment) for _ in range(arguments.repeat)])
            rows.append([label, f"{taken.seconds:.2f}", f"{taken.cpu:.2f}", f"{taken.together:.0f}"])
        print(table(rows))
        (page,) = (page for page in (place.outputs / "nights").glob("*.html") if page.stem != "index")
        print(f"page of {page.stat().st_size / 1e6:.1f} MB; {load()}")


if __name__ == "__main__":
    main()
