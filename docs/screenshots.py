"""Pictures of the web UI for these pages: `python docs/screenshots.py`, a minute or two.

Runs the demo in /tmp/astra-demo, so that no picture shows a path of the machine that it was made on; breaks some of its
files; looks at it in the system's Chromium; and writes docs/images/NAME.png. Names of pictures as arguments make these
alone.
"""

import io
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from astropy.io import fits
from PIL import Image

from astra_dagster_tests import web_ui

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

IMAGES = Path(__file__).parent / "images"
FOLDER = Path("/tmp/astra-demo")  # noqa: S108
VISITS = FOLDER / "sas/dr17/apogee/spectro/redux/dr17/visit/apo25m/120+12/5226/56000"
KEY = "DR17/apo25m/120+12/5226/56000/001"
WINDOW, ZOOM = (1280, 1100), 1.5
COLOURS = 64
EDGE = 12
"""Pixels of the window that are shown around what is shown."""


def prepare(environment: dict[str, str]) -> None:
    """Run everything on the demo's files, and one small launch of partitions, as the web UI makes it."""
    web_ui.astra_dagster(environment, "demo", str(FOLDER))
    tasks = ["ap_visit_continuum", "ap_star_snr", "ap_star_continuum", "spec_snr", "spec_continuum"]
    web_ui.astra_dagster(environment, "run", *tasks)
    for task in ("ap_visit_snr", *tasks):
        web_ui.astra_dagster(environment, "table", task)
    dagster(environment, "asset", "materialize", "--select", "ap_visit_snr", "--partition", KEY)
    dagster(environment, "job", "execute", "-j", "check")


def damage(environment: dict[str, str]) -> None:
    """Break two files, remove one, let one lie about its S/N; and run again."""
    for fibre, size in ((3, 20_000), (6, 100_000)):
        path = VISITS / f"apVisit-dr17-5226-56000-{fibre:03}.fits"
        path.write_bytes(path.read_bytes()[:size])
    (VISITS / "apVisit-dr17-5226-56000-008.fits").unlink()
    fits.setval(VISITS / "apVisit-dr17-5226-56000-004.fits", "SNR", value=999.0)
    dagster(environment, "job", "execute", "-j", "update_ap_visit_snr", succeeds=False)
    dagster(environment, "job", "execute", "-j", "check")


def dagster(environment: dict[str, str], *arguments: str, succeeds: bool = True) -> None:
    """Run one of Dagster's own commands."""
    command = [sys.executable, "-m", "dagster", *arguments, "-m", "astra_dagster.definitions"]
    done = subprocess.run(  # noqa: S603
        command, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    if (done.returncode == 0) != succeeds:
        raise RuntimeError(done.stdout)
