"""Time and memory of a table over all outputs of a task: ``python benchmarks/collection.py --rows 500000``.

Outputs of ap_visit_snr are written into a temporary folder, with what their records would say. Then each step runs in a
process of its own: the first build, again with nothing changed, and again after 1 % of the outputs changed, each of
Parquet and FITS. Printed are seconds, those of a processor, and the most memory that the process had. With ``--cold``
the caches of the operating system are dropped before each step, which takes root.
"""

import argparse
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from astra_dagster.datamodel.products import DataID, product
from astra_dagster.outputs.document import encode
from astra_dagster.outputs.record import Record, record_of
from astra_dagster.outputs.store import InputFiles, OutputStore, PartitionWork, StoredOutput
from astra_dagster.tables.collection import collect
from astra_dagster.tasks.snr import ap_visit_snr

RECORDS = "records.txt"
FIBRES = 300


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=500_000)
    parser.add_argument("--folder", type=Path, help="where to make the temporary folder")
    parser.add_argument("--cold", action="store_true", help="drop caches before each step")
    parser.add_argument("--results", action="store_true", help="also take the results into Python")
    parser.add_argument("--database", default="", help="also write the rows to the database of this URL")
    parser.add_argument("--step", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.step:
        if arguments.step.startswith("results"):
            take_results(arguments.step, arguments.folder)
        else:
            step(arguments.step, arguments.folder, arguments.database)
        return
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        folder = Path(name)
        start = time.perf_counter()
        generate(folder, arguments.rows, 0)
        print(f"{arguments.rows} outputs made in {time.perf_counter() - start:.0f} s", flush=True)
        launch(folder, "first build", arguments)
        launch(folder, "nothing changed", arguments)
        if arguments.results:
            store_records(folder)
            launch(folder, "results", arguments)
        generate(folder, arguments.rows, arguments.rows // 100)
        if arguments.results:
            store_records(folder, every=100)
            launch(folder, "results, 1 % new", arguments)
        launch(folder, "1 % changed", arguments)


def launch(folder: Path, name: str, arguments: argparse.Namespace) -> None:
    """Run one step in a new process."""
    if arguments.cold:
        os.sync()
        Path("/proc/sys/vm/drop_caches").write_text("3")
    database = [f"--database={arguments.database}"] if arguments.database else []
    subprocess.run([sys.executable, __file__, "--step", name, "--folder", str(folder), *database], check=True)


def step(name: str, folder: Path, database: str) -> None:
    """Collect once, and print time and memory."""
    start, busy = time.perf_counter(), time.process_time()
    made = collect(store_in(folder), records(folder))
    seconds, busy = time.perf_counter() - start, time.process_time() - busy
    print(
        f"{name:16}{seconds:7.1f} s {busy:7.1f} s of CPU {peak():7.0f} MB   "
        f"{made.rows} rows, {made.new} new, {made.changed} changed, {made.dropped} dropped, "
        f"{len(made.unreadable)} unreadable; "
        f"{made.parquet.stat().st_size / 1e6:.0f} MB Parquet, {made.fits.stat().st_size / 1e6:.0f} MB FITS",
        flush=True,
    )
    if database:
        from astra_dagster.tables.database import upsert

        start = time.perf_counter()
        rows = upsert(database, made.parquet)
        print(f"{'  database':16}{time.perf_counter() - start:7.1f} s {'':16} {peak():7.0f} MB   {rows}", flush=True)


def take_results(name: str, folder: Path) -> None:
    """Take all results into a table in memory, and print time and memory, and where the rows are from."""
    use_instance(folder)
    ap_visit_snr.results().to_arrow()  # imports, and what is in the caches from the second time on
    start, busy = time.perf_counter(), time.process_time()
    found = ap_visit_snr.results()
    found.to_arrow()
    seconds, busy = time.perf_counter() - start, time.process_time() - busy
    print(f"{name:16}{seconds:7.1f} s {busy:7.1f} s of CPU {peak():7.0f} MB   {len(found)} rows, {found.source}")


def use_instance(folder: Path) -> None:
    """Have this process use the instance beside the outputs."""
    os.environ |= {"DAGSTER_HOME": str(folder / "home"), "ASTRA_OUTPUTS": str(folder / "out")}


def store_records(folder: Path, every: int = 1) -> None:
    """Register the partitions, and store the records, or one in so many, as a run does."""
    import dagster as dg

    from astra_dagster.cli.init import DAGSTER_YAML
    from astra_dagster.orchestration.internals import (
        DATA_VERSION_TAG,
        RUNLESS_JOB_NAME,
        RUNLESS_RUN_ID,
        StepMaterializationData,
    )
    from astra_dagster.orchestration.partitions import chunks, register
    from astra_dagster.orchestration.runs.instance import open_instance

    use_instance(folder)
    home = folder / "home"
    home.mkdir(exist_ok=True)
    (home / "dagster.yaml").write_text(DAGSTER_YAML)
    pairs = list(records(folder))[::every]
    with open_instance() as instance:
        register(instance, product("apVisit"), [key for key, _ in pairs])
        for chunk in chunks(pairs, 10_000):
            entries = []
            for key, record in chunk:
                tags = {DATA_VERSION_TAG: str(record)}
                made = dg.AssetMaterialization(ap_visit_snr.name, partition=key, tags=tags)
                event = dg.DagsterEvent(
                    event_type_value=dg.DagsterEventType.ASSET_MATERIALIZATION.value,
                    job_name=RUNLESS_JOB_NAME,
                    event_specific_data=StepMaterializationData(made),
                )
                entries.append(
                    dg.EventLogEntry(  # type: ignore[no-untyped-call]
                        error_info=None,
                        level=20,
                        user_message="",
                        run_id=RUNLESS_RUN_ID,
                        timestamp=time.time(),
                        job_name=RUNLESS_JOB_NAME,
                        dagster_event=event,
                    )
                )
            instance.event_log_storage.store_event_batch(entries)


def peak() -> float:
    """Most memory that this process and its children had, in MB."""
    kinds = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    return max(resource.getrusage(kind).ru_maxrss for kind in kinds) / 1024


def store_in(folder: Path) -> OutputStore:
    """Store of the outputs."""
    return OutputStore(folder / "out", ap_visit_snr, ap_visit_snr.values())


def records(folder: Path) -> Iterator[tuple[str, Record]]:
    """Records of the outputs, one after another, as they would come out of a database."""
    with (folder / RECORDS).open(encoding="utf-8") as lines:
        for line in lines:
            key, text = line.split()
            record = Record.parse(text)
            assert record is not None  # noqa: S101
            yield key, record


def generate(folder: Path, rows: int, changed: int) -> None:
    """Write outputs and records; if some changed then these only, spread evenly, and the records of all."""
    store = store_in(folder)
    store.prepare()
    every = rows // changed if changed else 1
    known = dict(records(folder)) if changed else {}
    with (folder / RECORDS).open("w", encoding="utf-8") as lines:
        for i in range(rows):
            plate = i // FIBRES
            parts = (
                "apo25m",
                f"{plate % 360:03d}+{plate % 90:02d}",
                str(5000 + plate),
                "56000",
                f"{i % FIBRES + 1:03d}",
            )
            data_id = DataID(product("apVisit"), "DR17", parts, "")
            if i % every == 0:
                known[data_id.key] = write(store, data_id, f"{1_000_000 + changed}-{i}")
            lines.write(f"{data_id.key} {known.pop(data_id.key)}\n")


def write(store: OutputStore, data_id: DataID, version: str) -> Record:
    """Write one output, without the care for power cuts of the real thing."""
    draw = random.Random(f"{data_id.key} {version}")  # noqa: S311
    path = f"dr17/apogee/spectro/redux/dr17/visit/{'/'.join(data_id.parts)}/apVisit-dr17.fits"
    work = PartitionWork(data_id, (InputFiles("apVisit", path, version, ()),))
    results = {name: draw.lognormvariate(4, 1) for name in store.task.columns} | {"good_pixels": draw.randint(0, 12288)}
    contents, version_of_results = encode(store.origin(work), results)
    output = store.path(data_id)
    try:
        output.write_bytes(contents)
    except FileNotFoundError:
        output.parent.mkdir(parents=True)
        output.write_bytes(contents)
    written = StoredOutput(output, len(contents), version_of_results, results)
    return replace(record_of(store, work, written), size=len(contents))


if __name__ == "__main__":
    main()
