"""The web UI as an astronomer uses it: Dagster's own, on a real instance, in a real browser."""

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from astropy.io import fits
from click.testing import CliRunner

from astra_dagster import product
from astra_dagster.cli import main
from astra_dagster.demo import write_ap_visit
from astra_dagster.spectra.pixel_flags import APOGEE_REJECTED
from astra_dagster_tests import web_ui

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

KEYS = ["DR17/apo25m/120+12/5226/56000/001", "DR17/apo25m/120+12/5226/56000/002"]
FOLDER = "dr17/apogee/spectro/redux/dr17/visit/apo25m/120+12/5226/56000"


@pytest.mark.slow
def test_an_afternoon_in_the_web_ui(mirror: Path, tmp_path: Path) -> None:
    """One test, because one server is slow enough to start; the daemon works on one thing while another is tried."""
    lacking = web_ui.missing()
    if lacking:
        pytest.skip(lacking)
    environment = web_ui.places(tmp_path)
    Path(environment["DAGSTER_HOME"]).mkdir()
    for command in ("init", "discover"):
        assert CliRunner().invoke(main, [command], env=environment).exit_code == 0
    with (
        web_ui.web_ui(tmp_path, environment) as address,
        web_ui.browser(address, (1400, 1000), tmp_path / "failed.png") as page,
    ):
        find_an_asset(page)
        launch_two_partitions(page)
        open_a_launchpad(page)
        a_wrong_parameter_is_refused_before_there_is_a_run(page)
        another_parameter_is_taken(page, tmp_path / "outputs")
        the_record_tells_what_matters(page, mirror)
        the_record_shows_a_picture(page)
        the_run_tells_what_it_did(page)
        a_sensor_that_is_switched_on_finds_a_new_file(page, mirror)


def find_an_asset(page: "Page") -> None:
    page.goto("/")
    page.get_by_text("Search", exact=True).click()
    page.get_by_placeholder("Search assets").fill("ap_visit_snr")
    page.get_by_role("link").filter(has_text=re.compile("^ap_visit_snrAsset in")).click()
    page.wait_for_url("**/assets/ap_visit_snr")
    page.get_by_text("Signal-to-noise ratio of each visit spectrum").first.wait_for()


def launch_two_partitions(page: "Page") -> None:
    page.get_by_role("button", name="Materialize").first.click()
    dialog = page.get_by_role("dialog").filter(has_text="Launch runs to materialize ap_visit_snr")
    dialog.get_by_text("Select a partition or create one").click()
    for key in KEYS:
        page.get_by_role("menuitem").filter(has_text=key).click()
    page.keyboard.press("Escape")
    dialog.get_by_text("2 partitions", exact=True).wait_for()
    dialog.get_by_role("button", name="Launch backfill").click()
    page.get_by_text("Created backfill").wait_for()


def open_a_launchpad(page: "Page") -> None:
    page.goto("/assets/ap_visit_continuum")
    page.get_by_role("button", name="Show more").first.click()
    page.get_by_role("link", name="update_ap_visit_continuum").click()
    page.wait_for_url("**/jobs/update_ap_visit_continuum/playground")
    # Every parameter is there, with its default, and beside it what it means and may be.
    line_of(page, "order: 3").click()
    page.get_by_text("Number of sines and of cosines in a region").first.wait_for()


def a_wrong_parameter_is_refused_before_there_is_a_run(page: "Page") -> None:
    replace_end(page, "order: 3", "0")
    page.get_by_role("button", name="Launch Run").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_text("order cannot be 0; it must be at least 1 and at most 50").wait_for()
    dialog.get_by_role("button", name="OK").click()
    assert page.url.endswith("/playground")
    assert "update_ap_visit_continuum" not in runs(page)


def another_parameter_is_taken(page: "Page", outputs: Path) -> None:
    replace_end(page, "order: 0", "5")
    page.get_by_role("button", name="Launch Run").click()
    page.wait_for_url("**/runs/*")
    await_success(page)
    told = cell_after(page, "ap_visit_continuum: computed")
    assert told.inner_text() == "18"
    (used,) = outputs.glob("ap_visit_continuum/*/parameters.json")
    assert json.loads(used.read_text())["parameters"]["order"] == 5


def the_record_tells_what_matters(page: "Page", mirror: Path) -> None:
    go_to(page, "Catalog")
    page.locator("a[href='/assets/ap_visit_snr']").first.click()
    page.get_by_role("tab", name="Partitions").click()
    page.get_by_text("Materialized (2)").wait_for()
    page.get_by_title(KEYS[0]).first.click()
    (source,) = (mirror / FOLDER).glob("*-001.fits")
    header = fits.getheader(source)
    assert float(cell_after(page, "snr_green").inner_text()) == pytest.approx(header["SNR"], rel=1e-5)
    assert float(cell_after(page, "snr").inner_text()) > 10
    assert float(cell_after(page, "seconds").inner_text()) < web_ui.PATIENCE
    assert cell_after(page, "input").inner_text() == str(source)
    output = Path(cell_after(page, "output").inner_text())
    assert json.loads(output.read_text())["key"] == KEYS[0]
    address = cell_after(page, "sas").get_by_role("link").first.get_attribute("href")
    assert address == f"https://data.sdss.org/sas/{FOLDER}/{source.name}"
    parameters = json.loads(cell_after(page, "parameters").inner_text())
    assert parameters == {"fudge_factor": 1, "reject": list(APOGEE_REJECTED)}


def the_record_shows_a_picture(page: "Page") -> None:
    sketch = cell_after(page, "quicklook").get_by_role("img", name=KEYS[0])
    assert sketch.evaluate("image => image.complete && image.naturalWidth") == 600
    cell_after(page, "preview").get_by_text("Show Markdown").click()
    dialog = page.get_by_role("dialog").filter(has_text="preview")
    picture = dialog.get_by_role("img", name=KEYS[0])
    picture.wait_for()
    assert picture.get_attribute("src").startswith("data:image/png;base64,")  # type: ignore[union-attr]
    assert picture.evaluate("image => image.naturalWidth") > 300
    dialog.get_by_role("button", name="Close").click()


def the_run_tells_what_it_did(page: "Page") -> None:
    page.locator("a[href^='/runs/']").first.click()
    await_success(page)
    assert cell_after(page, "computed").inner_text() == "2"
    cell_after(page, "results").get_by_text("Show Markdown").click()
    dialog = page.get_by_role("dialog").filter(has_text="results")
    dialog.get_by_text(re.compile("snr: 2 from .* median")).wait_for()
    dialog.get_by_role("button", name="Close").click()


def a_sensor_that_is_switched_on_finds_a_new_file(page: "Page", mirror: Path) -> None:
    write_ap_visit(product("apVisit").parse_key("DR17/apo25m/120+12/5226/56000/101"), mirror)
    go_to(page, "Automation")
    page.get_by_role("link", name="ap_visit_arrivals").click()
    page.get_by_text("Sensor has never run").wait_for()
    page.get_by_role("row").filter(has_text="Running").locator("label").click()
    ticks = page.get_by_role("row").filter(has=page.get_by_role("button", name="View logs"))
    tick = ticks.filter(has_text="1 run requested").first
    tick.get_by_role("button", name="View logs").click()
    message = re.compile("1 new, 0 changed, 0 gone, .* not complete; 1 run requested; .* folders")
    page.get_by_role("dialog").get_by_text(message).first.wait_for()


def go_to(page: "Page", name: str) -> None:
    """Press one of the links at the left."""
    page.get_by_role("link").filter(has_text=re.compile(f"^{name}$")).first.click()


def line_of(page: "Page", text: str) -> "Locator":
    """Line of the launchpad's editor."""
    return page.locator(".CodeMirror-line").filter(has_text=text)


def replace_end(page: "Page", text: str, by: str) -> None:
    """Replace the last character of a line of the launchpad, as one does it."""
    line_of(page, text).click()
    page.keyboard.press("End")
    page.keyboard.press("Backspace")
    page.keyboard.type(by)
    line_of(page, text[:-1] + by).wait_for()


def cell_after(page: "Page", name: str) -> "Locator":
    """What a table of metadata says of something."""
    label = page.get_by_role("cell", name=name, exact=True)
    return page.get_by_role("row").filter(has=label).last.get_by_role("cell").nth(1)


def await_success(page: "Page") -> None:
    """Wait for the end of the run that is shown."""
    end = page.get_by_text(re.compile("^(Success|Failure|Canceled)$")).first
    end.wait_for()
    assert end.inner_text() == "Success"


def runs(page: "Page") -> str:
    """The list of runs, in another tab, when it shows the two partitions that were launched."""
    other = page.context.new_page()
    other.goto("/runs")
    other.get_by_text("2 partitions").wait_for()
    told = other.locator("body").inner_text()
    other.close()
    return told
