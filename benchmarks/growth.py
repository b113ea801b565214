"""What a file costs as their number grows: ``python benchmarks/growth.py --files 1000 10000 100000``.

S/N alone. Records only is what a run does besides reading, computing and writing, on SQLite and on PostgreSQL; then all
of it, on SQLite. Given a file, net of the same over one file: ms of finding and registering it, ms of the run, and time
of the processors. MB are the most memory of the largest process, of all together, and the size of the database.

The PostgreSQL server is started here, and does not flush what it commits.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path

import sqlalchemy as sa
import yaml
from contenders import HERE, Contender, Nights, Place, Steps, chosen_by, databases, nights, ours
from measure import Measured, least, load, table

SNR = ("ap_visit_snr",)
HEAD = ["", "files", "discover ms", "run s", "start s", "run ms", "cpu ms", "MB", "MB all", "database MB"]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, nargs="+", default=[1000, 10_000])
    parser.add_argument("--only", action="append", help="rows of this name: 'records only*'; repeatable")
    parser.add_argument("--starts", type=int, default=3, help="how often the start is measured, which counts for all")
    parser.add_argument("--folder", type=Path, help="where to make the temporary folder")
    arguments = parser.parse_args()
    print(load(), flush=True)
    rows, said = [HEAD], []
    with ExitStack() as stack:
        cases: dict[str, Callable[[Place], Steps]] = {"records only, SQLite": records_only(tuple)}
        postgres = databases(stack)
        if isinstance(postgres, str):
            print(f"PostgreSQL: not measured: {postgres}")
        else:
            cases["records only, PostgreSQL"] = records_only(postgres)
        cases["all of it, SQLite"] = ours(tasks=SNR)
        mirrors = stack.enter_context(nights(arguments.folder, max(arguments.files)))
        for one in chosen_by(arguments.only, [Contender(name, steps) for name, steps in cases.items()]):
            each = measure(mirrors, one, sorted(arguments.files), arguments.starts, rows)
            said += [
                f"{one.name}: {each[more] / each[less]:.2f} times as long a file at {more} as at {less}"
                for less, more in pairwise(each)
            ]
    print("\n".join([table(rows), *said, load()]))


def records_only(init: Callable[[], Sequence[str]]) -> Callable[[Place], Steps]:
    """Our steps, with a run that reads, computes and writes nothing."""

    def steps(place: Place) -> Steps:
        run = [sys.executable, str(HERE / "records_only.py"), "run", *SNR]
        return {**ours(init=init)(place), "run": run}

    return steps


def measure(
    mirrors: Nights, one: Contender, sizes: Sequence[int], starts: int, rows: list[list[str]]
) -> dict[int, float]:
    """Measure one case over one file and at all sizes; add to the rows, and return seconds a file by size."""
    each: dict[int, float] = {}
    small = [taken_by(mirrors, one, 1)[0] for _ in range(starts)]
    start = {step: least([taken[step] for taken in small]) for step in ("discover", "run")}
    for files in sizes:
        taken, database = taken_by(mirrors, one, files)
        found, run = taken["discover"], taken["run"]
        each[files] = (run.seconds - start["run"].seconds) / (files - 1)
        rows.append(
            [
                one.name,
                str(files),
                f"{(found.seconds - start['discover'].seconds) / (files - 1) * 1e3:.2f}",
                f"{run.seconds:.1f}",
                f"{start['run'].seconds:.1f}",
                f"{each[files] * 1e3:.2f}",
                f"{(run.cpu - start['run'].cpu) / (files - 1) * 1e3:.2f}",
                f"{max(found.largest, run.largest):.0f}",
                f"{max(found.together, run.together):.0f}",
                f"{database / 1e6:.1f}",
            ]
        )
    return each


def taken_by(mirrors: Nights, one: Contender, files: int) -> tuple[dict[str, Measured], int]:
    """What each step took over so many files, and the bytes of the database afterwards."""
    with mirrors.place(files) as place:
        return one.run(place), size_of_database(place)


def size_of_database(place: Place) -> int:
    """Bytes of the database of a place: of all files in DAGSTER_HOME, or what the server says."""
    settings = yaml.safe_load((place.home / "dagster.yaml").read_text())
    url = settings["storage"]["custom"]["config"].get("postgres_url")
    if url is None:
        return sum(path.stat().st_size for path in place.home.rglob("*") if path.is_file())
    with sa.create_engine(url, poolclass=sa.NullPool).connect() as connection:
        return int(connection.execute(sa.text("SELECT pg_database_size(current_database())")).scalar_one())


if __name__ == "__main__":
    main()
