"""The command that shows spectra, as a person uses it."""

import os
import pty
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from astra_dagster.cli import main
from astra_dagster.datamodel.products import product
from astra_dagster.outputs.pictures import shown_output, write_page
from astra_dagster.outputs.store import InputFiles, OutputStore, PartitionWork
from astra_dagster.spectra import read_spectra
from astra_dagster.tasks.continuum import ap_visit_continuum
from astra_dagster_tests.spectra.synthetic import write_mwm, write_sp_spec

KEYS = tuple(f"DR17/apo25m/120+12/5226/56000/{fibre:03d}" for fibre in (1, 2))
STAR = "DR17/apo25m/120+12/-/2M00012723+6258059"
SPEC = "DR17/v5_13_2/3586/55181/0500"
NAME = "DR17-apo25m-120+12-5226-56000-001"


@pytest.fixture
def folder(synthetic: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder of a person who has a mirror, and the continuum of two visits."""
    monkeypatch.setenv("SAS_BASE_DIR", str(synthetic))
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    store = OutputStore(tmp_path / "astra-outputs", ap_visit_continuum, ap_visit_continuum.values())
    for key in KEYS:
        data_id = product("apVisit").parse_key(key)
        path = data_id.path(synthetic)
        spectra = ap_visit_continuum(read_spectra(path, "apVisit"))
        results = {name: spectra.meta[name][0] for name in ("condition", "good_pixels")}
        store.write(
            PartitionWork(data_id, (InputFiles("apVisit", data_id.relative_path, "1", (str(path),)),)), results, spectra
        )
    return tmp_path


def show(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["show", *arguments])


def test_a_page_of_a_file_and_of_what_a_task_made_of_it(folder: Path) -> None:
    result = show(KEYS[0])
    assert (result.exit_code, result.output) == (0, f"wrote apVisit-{NAME}.html\n")
    html = (folder / f"apVisit-{NAME}.html").read_text()
    assert f"<title>apVisit {KEYS[0]}</title>" in html
    assert "normalised flux" not in html
    for arguments in ((KEYS[0], "ap_visit_continuum"), ("ap_visit_continuum", KEYS[0])):
        assert show(*arguments).output == f"wrote ap_visit_continuum-{NAME}.html\n"
    html = (folder / f"ap_visit_continuum-{NAME}.html").read_text()
    assert f"<title>ap_visit_continuum {KEYS[0]}</title>" in html
    assert "normalised flux" in html
    assert "<td>order</td><td>3</td>" in html
    assert "<td>L</td><td>1400.0</td>" in html


def test_several_keys(folder: Path) -> None:
    result = show(*KEYS, "ap_visit_continuum", "--output", "both.html")
    assert result.output == "wrote both.html\n"
    html = (folder / "both.html").read_text()
    assert html.count("data-file=") == 2
    assert all(f"<h2>ap_visit_continuum {key}</h2>" in html for key in KEYS)
    assert show(*KEYS).output == f"wrote apVisit-{NAME}-and-1-more.html\n"
    assert "apStar-" in show(STAR, KEYS[0]).output  # of several products


def test_pictures(folder: Path) -> None:
    assert show(*KEYS, "ap_visit_continuum", "--png").output == f"wrote ap_visit_continuum-{NAME}-and-1-more.png\n"
    for name in ("a.png", "a.pdf", "a.svg"):
        assert show(STAR, "--row", "1", "--output", name).output == f"wrote {name}\n"
    assert {path.suffix: path.read_bytes()[:4] for path in folder.glob("a.*")} == {
        ".png": b"\x89PNG",
        ".pdf": b"%PDF",
        ".svg": b"<?xm",
    }


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((KEYS[0], "ap_visit_sn"), "did you mean ap_visit_snr"),
        ((KEYS[0], "ap_visit_snr"), "ap_visit_snr makes no spectra; show what it was made from, without the task"),
        ((KEYS[0], "ap_visit_continuum", "--set", "order=4"), "run astra-dagster run ap_visit_continuum with these"),
        ((KEYS[0], "ap_visit_continuum", "--set", "ordr=4"), "did you mean order?"),
        ((KEYS[0].replace("001", "3"), "ap_visit_continuum"), "is not canonical; write it as"),
        ((KEYS[0].replace("001", "009"),), "no such apVisit file (key DR17/apo25m/120+12/5226/56000/009, file "),
        ((KEYS[0].replace("DR17", "DR71"),), "no release 'DR71'; did you mean DR7"),
        (("DR17/apo25m",), "keys read: apVisit release/telescope/field/plate/mjd/fibre, apStar "),
        ((KEYS[0], "--product", "apStar"), "has 6 parts, a key of apStar has 5"),
        ((KEYS[0], "--product", "apVisits"), "did you mean apVisit"),
        ((STAR, "--row", "9"), f"there is no spectrum 9 in apStar {STAR}; choose a row from 0 to 4"),
        ((STAR, "--row", "9", "--png"), f"there is no spectrum 9 in apStar {STAR}; choose a row from 0 to 4"),
        ((STAR, "--output", "a.txt/a.html"), "the page cannot be written: File exists"),
        ((STAR, "--output", "a.txt/a.png"), "the picture cannot be written: File exists"),
    ],
)
def test_what_cannot_be_shown_is_one_line(arguments: tuple[str, ...], message: str, folder: Path) -> None:
    (folder / "a.txt").touch()
    result = show(*arguments)
    assert result.exit_code == 1
    assert message in result.output
    assert result.output.count("\n") == 1
    assert not list(folder.glob("*.html")) + list(folder.glob("*.png"))


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("ap_visit_continuum",),
        (KEYS[0], "ap_visit_continuum", "ap_visit_snr"),
        (KEYS[0], "ap_visit_continuum", "--product", "apVisit"),
        (KEYS[0], "--set", "order=4"),
        (KEYS[0], "--output", "a.gif"),
        (KEYS[0], "--png", "--output", "a.html"),
    ],
)
def test_wrong_usage(arguments: tuple[str, ...], folder: Path) -> None:
    assert show(*arguments).exit_code == 2


def test_where_a_key_does_not_tell_the_product_the_files_do(
    mirror: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SAS_BASE_DIR", str(mirror))
    monkeypatch.setenv("ASTRA_CONFIG", str(folder / "astra.toml"))
    (folder / "astra.toml").write_text('products = ["spec-lite"]\n')
    assert show(SPEC, "--output", "a.html").output == "wrote a.html\n"
    full, lite = (product(name).parse_key(SPEC).path(mirror) for name in ("spec", "spec-lite"))
    lite.parent.mkdir(parents=True)
    lite.write_bytes(full.read_bytes())
    both = show(SPEC)
    assert both.exit_code == 1
    assert both.output.endswith(f"(key {SPEC}); add --product spec or --product spec-lite\n")
    assert "spec-lite-DR17" in show(SPEC, "--product", "spec-lite").output
    full.unlink()
    assert "wrote spec-lite-DR17" in show(SPEC).output
    lite.unlink()
    assert "add --product spec or --product spec-lite" in show(SPEC).output


def test_files_with_spectra_of_two_instruments(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data_id = product("mwmStar").data_id("DR19", sdss_id=23)
    monkeypatch.setenv("SAS_BASE_DIR", str(folder))
    data_id.path(folder).parent.mkdir(parents=True)
    write_mwm(data_id.path(folder), (1, 0, 0, 2))
    arguments = (data_id.key, "--product", "mwmStar", "--output", "star.html")
    assert "has spectra of both BOSS and APOGEE" in show(*arguments).output
    assert show(*arguments, "--instrument", "APOGEE").output == "wrote star.html\n"
    assert (folder / "star.html").read_text().count('class="swatch"') == 2


def test_a_file_by_its_path(folder: Path, synthetic: Path) -> None:
    image = write_sp_spec(folder / "spSpec-51609-0292-084.fit")  # it has no path in the SDSS tree, and so no key
    assert show(image.name).output == "wrote spSpec-51609-0292-084.fit.html\n"
    visit = product("apVisit").parse_key(KEYS[0]).path(synthetic)
    assert show(str(visit), KEYS[1], "--output", "both.html").output == "wrote both.html\n"
    html = (folder / "both.html").read_text()
    assert f"<h2>apVisit {visit.name}</h2>" in html
    assert f"<h2>apVisit {KEYS[1]}</h2>" in html
    assert show(str(visit), "ap_visit_continuum").exit_code == 2
    assert "a file of apVisit, not of apStar" in show(str(visit), "--product", "apStar").output
    away = show("there/is/none.fits")
    assert (away.exit_code, away.output.count("\n")) == (1, 1)
    assert "there/is/none.fits" in away.output


@pytest.fixture
def registered(folder: Path) -> Path:
    """The folder once the files of the mirror are registered."""
    assert CliRunner().invoke(main, ["discover", "--release", "DR17"]).exit_code == 0
    return folder


def test_a_star_by_its_name(registered: Path) -> None:
    star = STAR.rpartition("/")[2]
    assert show(star, "--output", "a.html").output == "wrote a.html\n"
    assert f"<h2>apStar {STAR}</h2>" in (registered / "a.html").read_text()
    assert show(star, "--product", "apStar").output == f"wrote apStar-{star}.html\n"
    assert "no such output" in show(star, "ap_star_continuum").output
    assert show("2M99999999+9999999").output == (
        "Error: no file is known of 2M99999999+9999999; run astra-dagster discover, and a task such as ap_visit_snr, "
        "whose results tell stars of visits\n"
    )
    assert "is known to be of star '2M99999999+9999999'" in show("2M99999999+9999999", "--product", "apStar").output


@pytest.mark.parametrize(("option", "opened"), [("--open", True), ("--no-open", False)])
def test_a_browser_is_opened_on_a_terminal_only(folder: Path, programs: Path, option: str, opened: bool) -> None:
    seen, script = folder / "seen", folder / "browser"
    script.write_text(f'#!/bin/sh\necho "$1" > {seen}\n')
    script.chmod(0o755)
    command = [str(programs / "astra-dagster"), "show", KEYS[0], "--output", "a.html", option]
    environment = {**os.environ, "BROWSER": f"{script} %s"}
    subprocess.run(command, env=environment, check=True, capture_output=True)
    assert not seen.exists()
    parent, child = pty.openpty()
    try:
        subprocess.run(command, env=environment, check=True, stdout=child)
    finally:
        os.close(child)
        os.close(parent)
    assert seen.exists() == opened
    if opened:
        assert seen.read_text().strip() == (folder / "a.html").as_uri()


def test_a_page_beside_an_output(folder: Path) -> None:
    store = OutputStore(folder / "astra-outputs", ap_visit_continuum, ap_visit_continuum.values())
    data_id = product("apVisit").parse_key(KEYS[0])
    path = store.path(data_id).with_suffix(".html")
    shown = shown_output(store, data_id)
    assert shown.title == f"ap_visit_continuum {KEYS[0]}"
    assert shown.product == "apVisit"
    write_page(path, [shown])
    assert f"<title>{shown.title}</title>" in path.read_text()
    assert {other.name for other in path.parent.iterdir()} == {path.name, path.with_suffix(".fits").name} | {
        store.path(product("apVisit").parse_key(KEYS[1])).name
    }


def test_there_is_one_command_for_it() -> None:
    assert CliRunner().invoke(main, ["plot"]).exit_code == 2
    assert "show " in CliRunner().invoke(main, ["--help"]).output
