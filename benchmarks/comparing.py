"""Time and size of a comparison of two current tables: ``python benchmarks/comparing.py --rows 500000``.

Two tables of ap_visit_snr are written into a temporary folder, as `astra-dagster table` writes them, one of them with
a scatter of 0.2 % and one row in a thousand that jumps. Then the command runs in a process of its own, without and with
a page. Printed are seconds, those of a processor, the most memory, and the size of the page. The records are of an
empty database, of which the newest alone are looked at; spectra are read where their files exist, which they do not
here.
"""

import argparse
import os
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
from measure import load, measured, table

from astra_dagster.cli.init import DAGSTER_YAML
from astra_dagster.outputs.store import OutputStore
from astra_dagster.tables.collection import table_path
from astra_dagster.tables.rows import Rows
from astra_dagster.tables.table import assemble, hash_table, write_parquet
from astra_dagster.tasks.snr import ap_visit_snr

FIBRES = 300
B = {"fudge_factor": 2.0}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=500_000)
    parser.add_argument("--repeat", type=int, default=3, help="rounds")
    parser.add_argument("--folder", type=Path, help="where to make the temporary folder")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        folder = Path(name)
        for number, parameters in enumerate(({}, B)):
            write(folder / "outputs", arguments.rows, number, parameters)
        (folder / "dagster").mkdir()
        (folder / "dagster" / "dagster.yaml").write_text(DAGSTER_YAML)
        places = {"ASTRA_OUTPUTS": folder / "outputs", "DAGSTER_HOME": folder / "dagster", "SAS_BASE_DIR": folder}
        environment = {**os.environ, **{name: str(path) for name, path in places.items()}}
        print(f"{arguments.rows} rows; {load()}", flush=True)
        page = folder / "page.html"
        rows = [["", "s", "cpu s", "MB"]]
        for label, more in {"statistics": [], "with the page": ["--output", str(page)]}.items():
            command = ["astra-dagster", "compare", "ap_visit_snr", "default", "fudge_factor=2", *more]
            for _ in range(arguments.repeat):
                taken = measured(command, environment)
                rows.append([label, f"{taken.seconds:.2f}", f"{taken.cpu:.2f}", f"{taken.together:.0f}"])
        print(table(rows))
        print(f"page of {page.stat().st_size / 1e6:.1f} MB; {load()}")


def write(root: Path, count: int, number: int, parameters: dict[str, float]) -> None:
    """Write the table of one set of parameters."""
    task = ap_visit_snr.setting(parameters)
    store = OutputStore(root, task, task.values())
    store.prepare()
    keys = [
        f"DR17/apo25m/{plate % 360:03d}+{plate % 90:02d}/{5000 + plate}/{56000 + plate}/{i % FIBRES + 1:03d}"
        for i in range(count)
        for plate in [i // FIBRES]
    ]
    common, own = np.random.default_rng(1), np.random.default_rng(2 + number)
    results, found = {}, {}
    for name in task.promised:
        values = common.lognormal(4, 1, count) * own.normal(1, 0.002, count)
        values[own.random(count) < 0.001] *= 1.5
        results[name], found[name] = pa.array(values), frozenset({"float"})
    versions = pa.array([f"{i:016x}.{store.digest}.{task.version}.0.900.3" for i in range(count)])
    rows = Rows(pa.array(keys), pa.array(np.zeros(count, np.int32)), versions, versions, results, found, count, ())
    wanted = pa.table({"key": rows.keys, "data_version": versions})
    _, made = assemble(store, None, [rows], wanted)
    with table_path(store).open("wb") as stream:
        write_parquet(stream, made, hash_table(made))


if __name__ == "__main__":
    main()
