"""What watching a large archive costs: ``python benchmarks/watching.py --files 1000000 --folders 4000``.

Empty files are made in a temporary mirror, and their partition keys are registered in a Dagster instance of its own.
Then are measured, in this process: the first look at all of it; a tick in which nothing has happened, beside a bare
``os.stat`` of each folder; and the tick after a night of new files in new folders, until it has told which runs to
request. What was there before counts as analysed. The files of the night are tiny, but whole FITS files.
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import dagster as dg

from astra_dagster.archive.watch_state import Watch
from astra_dagster.archive.watching import COARSE, look_at
from astra_dagster.cli.init import DAGSTER_YAML
from astra_dagster.datamodel.products import DataID, product
from astra_dagster.datamodel.releases import releases
from astra_dagster.orchestration.partitions import register
from astra_dagster.orchestration.watch.settings import watched
from astra_dagster.orchestration.watch.tick import state_path, tick

T = TypeVar("T")

VISITS = product("apVisit")
NIGHTS = 100
"""Folders in a folder of a plate."""

TINY = b"".join(card.ljust(80) for card in (b"SIMPLE  = T", b"BITPIX  = 8", b"NAXIS   = 0", b"END")).ljust(2880)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=1_000_000)
    parser.add_argument("--folders", type=int, default=4_000)
    parser.add_argument("--night", type=int, default=10_000, help="new files")
    parser.add_argument("--new-folders", type=int, default=40)
    parser.add_argument("--ticks", type=int, default=15)
    parser.add_argument("--folder", type=Path, help="where to make the temporary folder")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        root = Path(name)
        set_up(root)
        keys, seconds = timed(lambda: write(root / "sas", 5_000, arguments.files, arguments.folders, b""))
        print(f"{len(keys):,} files made in {seconds:.0f} s", flush=True)
        with dg.DagsterInstance.get() as instance:
            _, seconds = timed(lambda: register(instance, VISITS, keys))
            print(f"their keys registered in {seconds:.1f} s")
            measure(instance, root, arguments)


def measure(instance: dg.DagsterInstance, root: Path, arguments: argparse.Namespace) -> None:
    """The looks and the ticks."""
    seen = watched(VISITS)
    with Watch(state_path(seen), root / "sas") as watch:
        look, seconds = timed(lambda: look_at(watch, VISITS, releases(), root / "sas", settle=0))
        print(f"first look: {seconds:.1f} s, {look.folders:,} folders, {look.listed:,} listed")
        with watch.transaction() as database:
            database.execute("UPDATE files SET state = NULL")
    size = state_path(seen).stat().st_size / 1e6
    print(f"state: {size:.0f} MB")
    time.sleep(COARSE)
    print(f"second tick, all folders are listed again for they are new: {tick(instance, seen)}")

    folders = [folder for folder, _, _ in os.walk(root / "sas")]
    bare, ticks = [], []
    for _ in range(arguments.ticks):
        bare.append(timed(lambda: [os.stat(folder) for folder in folders])[1])  # noqa: PTH116
        made, seconds = timed(lambda: tick(instance, seen))
        ticks.append(seconds)
    print(f"idle: {made}")
    for what, values in ((f"os.stat of {len(folders):,} folders", bare), ("idle tick", ticks)):
        print(f"{what}: median {statistics.median(values) * 1e3:.1f} ms, least {min(values) * 1e3:.1f} ms")
    print(f"ratio of the medians: {statistics.median(ticks) / statistics.median(bare):.2f}")

    write(root / "sas", 9_000, arguments.night, arguments.new_folders, TINY)
    made, seconds = timed(lambda: tick(instance, seen))
    print(f"night: {seconds:.1f} s: {made}")


def set_up(root: Path) -> None:
    """Environment of a new instance below `root`."""
    (root / "dagster").mkdir()
    (root / "dagster" / "dagster.yaml").write_text(DAGSTER_YAML)
    folders = {"SAS_BASE_DIR": "sas", "DAGSTER_HOME": "dagster", "ASTRA_OUTPUTS": "outputs"}
    os.environ.update({name: str(root / folder) for name, folder in folders.items()})
    os.environ["ASTRA_CONFIG"] = ""


def write(root: Path, plate: int, files: int, folders: int, contents: bytes) -> list[str]:
    """Write so many files into so many folders, as if a day ago; returns their partition keys."""
    then = time.time() - 86_400
    keys = []
    for i, data_id in enumerate(data_ids(plate, files, folders)):
        path = data_id.path(root)
        if i % -(-files // folders) == 0:
            path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(contents)
        os.utime(path, (then, then))
        keys.append(data_id.key)
    return keys


def data_ids(plate: int, files: int, folders: int) -> Iterator[DataID]:
    """Data IDs of so many files, as many in each folder, at most 300."""
    each = -(-files // folders)
    for i in range(files):
        folder, file = divmod(i, each)
        plate_mjd = {"plate": plate + folder // NIGHTS, "mjd": 56_000 + folder % NIGHTS}
        yield VISITS.data_id("DR17", telescope="apo25m", field="120+12", fibre=file + 1, **plate_mjd)


def timed(action: Callable[[], T]) -> tuple[T, float]:
    """What an action returns, and how many seconds it takes."""
    start = time.perf_counter()
    made = action()
    return made, time.perf_counter() - start


if __name__ == "__main__":
    main()
