"""Makes an instance and outputs, to be opened by later versions of the package.

Run it by the Python that has the version installed: ``python make.py earlier.tar.xz``. Of the input files the result
has only the sizes and times, which is what records know of them.
"""

import os
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

from astra_dagster.demo import write_mirror

TIME = 1_700_000_000
"""When the input files were last changed, in seconds since 1970."""

BROKEN = "apVisit-dr17-5226-56000-001.fits"
"""A file that is cut off at a tenth of its size: a run fails for it."""

COMMANDS = (
    "init",
    "discover",
    "run ap_visit_snr",  # fails for the broken file
    "run ap_star_snr spec_snr",
    "run ap_visit_continuum --where fibre=008 --set order=2",
    "table ap_visit_snr",
)


def main(target: Path) -> None:
    """Write the compressed result."""
    command = Path(sys.executable).with_name("astra-dagster")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        places = {"SAS_BASE_DIR": folder / "sas", "DAGSTER_HOME": folder / "home", "ASTRA_OUTPUTS": folder / "outputs"}
        environment = {name: str(place) for name, place in places.items()}
        for path in write_mirror(places["SAS_BASE_DIR"]):
            if path.name == BROKEN:
                os.truncate(path, path.stat().st_size // 10)
            os.utime(path, (TIME, TIME))
        for words in COMMANDS:
            done = subprocess.run([command, *words.split()], env=os.environ | environment, cwd=folder)
            print(words, done.returncode)
        for path in places["SAS_BASE_DIR"].rglob("*.fits*"):
            size = path.stat().st_size
            path.write_bytes(b"")
            os.truncate(path, size)
            os.utime(path, (TIME, TIME))
        with tarfile.open(target, "w:xz") as archive:
            for place in places.values():
                archive.add(place, arcname=place.name)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
