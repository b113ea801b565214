"""Time of the page of a night among many: ``python benchmarks/nights.py --files 30000 --night 300``.

S/N of so many visits is computed, recorded and put into a table, all before the last night in nights of 300 visits.
Then `astra-dagster night` is asked for the last night, in a process of its own, with its page and with `--json`; for
ten nights, of which each further one is told; and for one key, which is hardly more than the start of a process.

With ``--before 2400000`` so many visits more are registered and in the table, of nights before and without files: a
night reads no more of them than their plates.
"""

import argparse
import os
import tempfile
from pathlib import Path

import dagster as dg
import pyarrow as pa
import pyarrow.parquet as pq
from contenders import ASTRA, Contender, Place, ours
from measure import least, load, measured, table
from night import FIBRES, write_night

from astra_dagster.tables.table import hash_table, write_parquet

NIGHTS = 10
FIRST = 56000
"""The first night of `write_night`."""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=30_000, help="visits, of all nights")
    parser.add_argument("--night", type=int, default=FIBRES, help="visits of the last night")
    parser.add_argument("--before", type=int, default=0, help="visits of nights before, up to 2400000")
    parser.add_argument("--repeat", type=int, default=3, help="rounds")
    parser.add_argument("--folder", type=Path, help="where to make the temporary folder")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        place = Place(Path(name), Path(name, "sas"), arguments.files)
        write_night(place.sas, arguments.files, last=arguments.night)
        Contender("ours", ours(tasks=["ap_visit_snr"])).run(place)
        measured([*ASTRA, "table", "ap_visit_snr"], place.environment)
        add_before(place, arguments.before)
        print(f"{arguments.before} and {arguments.files} visits, {arguments.night} in the last; {load()}", flush=True)
        rows = [["", "s", "cpu s", "MB"]]
        asked = {
            "start": ["list", "ap_visit", "--where", "mjd=56000", "--where", "fibre=1"],
            "page": ["night"],
            "json": ["night", "--json"],
            "one": ["night", str(FIRST)],
            "ten": ["night", f"{FIRST}..{FIRST + NIGHTS - 1}"],
        }
        each: dict[str, float] = {}
        for label, command in asked.items():
            taken = least([measured([*ASTRA, *command], place.environment) for _ in range(arguments.repeat)])
            each[label] = taken.seconds
            rows.append([label, f"{taken.seconds:.2f}", f"{taken.cpu:.2f}", f"{taken.together:.0f}"])
        print(table(rows))
        print(f"each further night {(each['ten'] - each['one']) / (NIGHTS - 1):.2f} s")
        page = next(page for page in (place.outputs / "nights").glob("*.html") if page.stem != "index")
        print(f"page of {page.stat().st_size / 1e6:.1f} MB; {load()}")


def add_before(place: Place, visits: int) -> None:
    """Register so many visits of nights before, and put rows for them into the table, which are copies of others."""
    if not visits:
        return
    os.environ["DAGSTER_HOME"] = str(place.home)
    (path,) = place.outputs.rglob("ap_visit_snr_table.parquet")
    table = pq.read_table(path, partitioning=None)
    step = len(table) // FIBRES * FIBRES
    parts = []
    for start in range(0, visits, step):
        numbers = range(start // FIBRES, min(start + step, visits) // FIBRES)
        stems = [(1000 + n // 2, FIRST - 10_000 + n) for n in numbers]  # before the plates of `write_night`
        rows = [(plate, mjd, fibre) for plate, mjd in stems for fibre in range(1, FIBRES + 1)]
        keys = [f"DR17/apo25m/120+12/{plate}/{mjd}/{fibre:03}" for plate, mjd, fibre in rows]
        with dg.DagsterInstance.get() as instance:
            for i in range(0, len(keys), 20_000):
                instance.add_dynamic_partitions("ap_visit", keys[i : i + 20_000])
        part = table.slice(0, len(keys))
        values = dict(zip(("plate", "mjd", "fibre"), zip(*rows, strict=True), strict=True))
        for name, column in {"key": keys, **values}.items():
            i = part.schema.get_field_index(name)
            part = part.set_column(i, part.schema.field(i), pa.array(column))
        parts.append(part)
    whole = pa.concat_tables([*parts, table]).replace_schema_metadata(table.schema.metadata)
    with path.open("wb") as stream:
        write_parquet(stream, whole, hash_table(whole))


if __name__ == "__main__":
    main()
