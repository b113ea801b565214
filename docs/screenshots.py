"""Pictures of the web UI for these pages: `python docs/screenshots.py`, a minute or two.

Runs the demo in /tmp/astra-demo, so that no picture shows a path of the machine that it was made on; breaks some of its
files; looks at it in the system's Chromium; and writes docs/images/NAME.png.
"""

import io
import json
import re
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

import numpy as np
from astropy.io import fits
from PIL import Image, ImageOps

from astra_dagster_tests import web_ui

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

IMAGES = Path(__file__).parent / "images"
FOLDER = Path("/tmp/astra-demo")  # noqa: S108
VISITS = FOLDER / "sas/dr17/apogee/spectro/redux/dr17/visit/apo25m/120+12/5226/56000"
KEY, STAR = "DR17/apo25m/120+12/5226/56000/001", "DR17/apo25m/120+12/-/2M00012723+6258059"
PAGE = FOLDER / "page.html"
DEFINITIONS = ("-m", "astra_dagster.definitions")
ZOOM = 1.5
"""Pixels of a picture for one of the window."""

EDGE = 12
"""Pixels of the window that are shown around what is to be seen."""

COLOURS, APART = 256, 8
"""Colours of a picture, and by how much they differ at least."""


def prepare(environment: dict[str, str]) -> None:
    """Run everything on the demo's files, and one small launch of partitions, as the web UI makes it."""
    web_ui.command(environment, "astra_dagster", "demo", str(FOLDER))
    tasks = ["ap_visit_continuum", "ap_star_snr", "ap_star_continuum", "spec_snr", "spec_continuum"]
    web_ui.command(environment, "astra_dagster", "run", *tasks)
    web_ui.command(environment, "astra_dagster", "show", STAR, "ap_star_continuum", "--output", str(PAGE))
    for task in ("ap_visit_snr", *tasks):
        web_ui.command(environment, "astra_dagster", "table", task)
    config = json.dumps({"ops": {"ap_visit_snr": {"config": {"overwrite": True}}}})
    one = ["--select", "ap_visit_snr", "--partition", KEY, "--config-json", config]
    web_ui.command(environment, "dagster", "asset", "materialize", *DEFINITIONS, *one)
    web_ui.command(environment, "dagster", "job", "execute", *DEFINITIONS, "-j", "check")


def damage(environment: dict[str, str]) -> None:
    """Break two files, remove one, let one lie about its S/N; and run everything again."""
    for fibre, size in ((3, 20_000), (6, 100_000)):
        path = VISITS / f"apVisit-dr17-5226-56000-{fibre:03}.fits"
        path.write_bytes(path.read_bytes()[:size])
    (VISITS / "apVisit-dr17-5226-56000-008.fits").unlink()
    fits.setval(VISITS / "apVisit-dr17-5226-56000-004.fits", "SNR", value=999.0)
    web_ui.command(environment, "astra_dagster", "run", "ap_visit_snr", "--overwrite", code=1)
    web_ui.command(environment, "dagster", "job", "execute", *DEFINITIONS, "-j", "check")


def graph(page: "Page") -> Image.Image:
    """Assets of three products, with what they are and how far they are."""
    visit(page, "/asset-groups", (1150, 1500))
    page.locator(".CodeMirror").first.click()
    page.keyboard.type(" or ".join(f'key:"{name}"+' for name in ("ap_visit", "ap_star", "spec")))
    page.keyboard.press("Escape")
    page.keyboard.press("Enter")
    press(page, "panel_show_right")
    press(page, "config")
    facets = page.get_by_role("dialog")
    for name in ("Description", "Latest event", "Automation", "Sync status tags"):
        facets.get_by_text(name, exact=True).first.click()
    facets.get_by_role("button", name="Save").click()
    page.keyboard.press("Alt+e")  # expands all groups
    page.get_by_text("ap_visit_continuum_table").first.wait_for()
    for _ in range(3):
        press(page, "zoom_out")
    return shot(page, *page.locator("foreignObject").all())


def partition(page: "Page") -> Image.Image:
    """The record of a partition, with results and a sketch of the spectrum."""
    visit(page, "/assets/ap_visit_snr?view=partitions&partition=" + quote(KEY, safe=""), (1460, 1300))
    events = page.get_by_role("button", name="View all historical events")
    rows = [cell(page, name).locator("..") for name in ("snr", "page")]
    return shot(
        page, page.get_by_text("Latest materialization"), page.get_by_text("Materialized", exact=True), events, *rows
    )


def launchpad(page: "Page") -> Image.Image:
    """Parameters of a task with their defaults, and what they mean."""
    open_launchpad(page)
    page.get_by_text("Number of sines and of cosines").first.wait_for()
    return shot(page, page.get_by_text("New Run"), page.get_by_role("button", name="Launch Run"))


def refused(page: "Page") -> Image.Image:
    """A value that cannot be."""
    open_launchpad(page)
    for key in ("End", "Backspace", "0"):
        page.keyboard.press(key)
    page.get_by_role("button", name="Launch Run").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_role("button", name="OK").wait_for()
    return shot(page, dialog)


def open_launchpad(page: "Page") -> None:
    """Open the launchpad of a task, with the cursor at its parameter order."""
    visit(page, "/locations/astra_dagster.definitions/jobs/update_ap_visit_continuum/playground", (1180, 1040))
    page.locator(".CodeMirror-line").filter(has_text="order:").click()


def spectrum(page: "Page") -> Image.Image:
    """The page that `show` writes of what a task made of a spectrum."""
    page.set_viewport_size({"width": 1200, "height": 800})
    page.goto(PAGE.as_uri())
    page.locator("canvas, svg").first.wait_for()
    return shot(page, page.locator("body"), edge=0)


def run(page: "Page") -> Image.Image:
    """What a run of which some partitions failed says of itself, and histograms of its results."""
    visit(page, "/runs", (1600, 1300))
    page.get_by_text("Failed", exact=True).click()
    page.get_by_text("Failure", exact=True).first.wait_for()
    page.locator("a[href^='/runs/']").first.click()
    more = page.get_by_role("button", name="View full message")
    page.locator("div").filter(has=page.get_by_text("STEP_FAILURE")).filter(has=more).last.get_by_role("button").click()
    told = page.get_by_role("dialog")
    results = told.get_by_role("row").filter(has_text="Show Markdown").last
    summary = shot(page, told.get_by_text("partitions failed").first, results)
    summary = summary.crop((0, 0, summary.width, summary.height - int(EDGE * ZOOM)))
    results.get_by_text("Show Markdown").click()
    text = page.get_by_role("dialog").last.locator("code")
    lines = text.inner_text().rstrip().split("\n")
    first, second = [i for i, line in enumerate(lines) if not line][:2]
    step = text.bounding_box()["height"] / len(lines) * ZOOM  # type: ignore[index]
    seen = shot(page, text, edge=0)
    histograms = [(0, first), (first + 1, second)]
    cut = [seen.crop((0, int(a * step), seen.width, int(b * step))) for a, b in histograms]
    return framed(below(summary, framed(beside(*cut))))


def checks(page: "Page") -> Image.Image:
    """Results of the checks of a task, one of which found something."""
    visit(page, "/assets/ap_visit_snr?view=checks&checkDetail=snr_as_in_header", (1400, 1000))
    execute = page.get_by_role("button").filter(has_text=re.compile("^Execute$")).locator("..")
    return shot(page, page.get_by_text("Checks (").first, execute, cell(page, "looked_at"))


def visit(page: "Page", path: str, size: tuple[int, int]) -> None:
    """Open a page in a window of this size, without Dagster's own navigation."""
    page.set_viewport_size({"width": size[0], "height": size[1]})
    page.goto(path)
    page.get_by_text("Hide navigation").click()


def press(page: "Page", icon: str) -> None:
    """Press a button that has nothing but an icon."""
    page.get_by_role("button").filter(has=page.get_by_role("img", name=icon, exact=True)).last.click()


def cell(page: "Page", name: str) -> "Locator":
    """Cell of a table with the name of something."""
    return page.get_by_role("cell", name=name, exact=True)


def shot(page: "Page", *shown: "Locator", edge: int = EDGE) -> Image.Image:
    """Picture of the part of the window that holds all of these."""
    for one in shown:
        one.wait_for()
    page.wait_for_timeout(2000)  # graphs and dialogues move, and values are checked
    boxes = [box for one in shown if (box := one.bounding_box())]
    window = page.viewport_size or {}
    clip = {}
    for side, size in (("x", "width"), ("y", "height")):
        clip[side] = max(0, min(box[side] for box in boxes) - edge)
        clip[size] = min(window[size], max(box[side] + box[size] for box in boxes) + edge) - clip[side]
    return Image.open(io.BytesIO(page.screenshot(clip=clip, animations="disabled"))).convert("RGB")  # type: ignore[arg-type]


def framed(picture: Image.Image) -> Image.Image:
    """A picture with some white around it."""
    return ImageOps.expand(picture, 18, "white")


def below(*pictures: Image.Image) -> Image.Image:
    """Pictures below each other."""
    whole = Image.new("RGB", (max(one.width for one in pictures), sum(one.height for one in pictures)), "white")
    top = 0
    for one in pictures:
        whole.paste(one, (0, top))
        top += one.height
    return whole


def beside(*pictures: Image.Image) -> Image.Image:
    """Pictures beside each other."""
    turned = below(*(one.transpose(Image.Transpose.TRANSPOSE) for one in pictures))
    return turned.transpose(Image.Transpose.TRANSPOSE)


def save(picture: Image.Image, name: str) -> None:
    """Write a picture in its most frequent colours that differ: most others are edges of letters."""
    pixels = np.asarray(picture, dtype=np.int32) @ [1 << 16, 1 << 8, 1]
    found, which, counts = np.unique(pixels, return_inverse=True, return_counts=True)
    colours = np.stack([found >> 16, found >> 8 & 255, found & 255], axis=1)
    palette = colours[:0]
    for colour in colours[np.argsort(-counts)]:
        if len(palette) < COLOURS and (np.abs(palette - colour).max(axis=1, initial=0) >= APART).all():
            palette = np.vstack([palette, colour])
    nearest = np.abs(colours[:, None] - palette).sum(axis=2).argmin(axis=1)
    small = Image.fromarray(nearest.astype(np.uint8)[which].reshape(pixels.shape), "P")
    small.putpalette(palette.astype(np.uint8).tobytes())
    path = IMAGES / f"{name}.png"
    small.save(path, optimize=True)
    print(f"{path}: {picture.width} x {picture.height}, {path.stat().st_size / 1000:.0f} kB")


WHOLE = (graph, partition, launchpad, refused, spectrum)
BROKEN = (run, checks)


def main() -> None:
    """Make the pictures."""
    lacking = web_ui.missing()
    if lacking:
        raise SystemExit(lacking)
    FOLDER.mkdir()
    try:
        environment = web_ui.places(FOLDER)
        prepare(environment)
        with web_ui.web_ui(FOLDER, environment) as address:
            take(address, WHOLE)
            damage(environment)
            take(address, BROKEN)
    finally:
        shutil.rmtree(FOLDER)


def take(address: str, pictures: Sequence[Callable[["Page"], Image.Image]]) -> None:
    """Take these pictures, each in a browser of its own."""
    for picture in pictures:
        with web_ui.browser(address, (1400, 1000), FOLDER.with_suffix(".png"), ZOOM) as page:
            save(picture(page), picture.__name__)


if __name__ == "__main__":
    main()
