"""The page and the pictures of spectra: what is on them, and that they need nothing else."""

import json
import re
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import replace
from html.parser import HTMLParser
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from astra_dagster.analysis.velocity import LIGHT
from astra_dagster.errors import AstraError
from astra_dagster.spectra import SpectrumBatch, read_spectra
from astra_dagster.tasks.continuum import ap_star_continuum, ap_visit_continuum, spec_continuum
from astra_dagster.viewer.browser import page
from astra_dagster.viewer.lines import find_lines, find_redshift, read_main_lines
from astra_dagster.viewer.panels import BAD, CONTINUUM
from astra_dagster.viewer.preview import picture, preview, preview_png
from astra_dagster.viewer.shown import ShownSpectra, make_curve
from astra_dagster_tests.mirrors import find_real, skip_without
from astra_dagster_tests.viewer.pages import columns, models, open_page, small, spectra_of

CONTINUA = {"apVisit": ap_visit_continuum, "apStar": ap_star_continuum, "spec": spec_continuum}


def labels(html: str) -> list[str]:
    return re.findall(r'class="swatch"[^>]*></span>(.*?)</label>', html)


class Loaded(HTMLParser):
    """Whatever a browser would load for a page."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.policy = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        if tag in {"link", "iframe", "object", "embed", "base", "img"}:
            self.found.append(tag)
        self.found += [f"{tag} {name}" for name in ("src", "href", "data", "srcset", "action") if name in values]
        if values.get("http-equiv") == "Content-Security-Policy":
            self.policy = values["content"]


def test_a_page_loads_nothing() -> None:
    html = page([ShownSpectra(small(continuum=np.full((2, 20), 2.0)), "a visit", "apVisit")])
    loaded = Loaded()
    loaded.feed(html)
    assert loaded.found == []
    # And should a script want to, the browser refuses.
    assert loaded.policy.startswith("default-src 'none'; ")
    assert "http" not in loaded.policy
    styles = "".join(re.findall(r"<style>(.*?)</style>", html, re.DOTALL))
    assert "url(" not in styles
    assert "@import" not in styles
    assert len(html) < 1_500_000


def test_a_page_holds_the_spectra_as_they_are() -> None:
    batch = small(3, continuum=np.full((3, 20), 2.0), unit="", continuum_unit="Jy")
    html = page([ShownSpectra(batch, "DR17/x/1", "apStar")])
    found = spectra_of(html)
    assert len(found) == 3
    for row, data in enumerate(found):
        np.testing.assert_allclose(data["wavelength"], batch.wavelength)
        good = ~batch.bad[row]
        np.testing.assert_allclose(data["flux"][good], 2 * batch.flux[row][good])
        np.testing.assert_allclose(data["error"][good], 1.0)
        np.testing.assert_allclose(data["normalised"][good], batch.flux[row][good])
        np.testing.assert_allclose(data["normalised_error"][good], 0.5)
        np.testing.assert_allclose(data["continuum"], 2)
        assert np.isnan(data["flux"][~good]).all()  # no line crosses a bad pixel
    axes = [m["attributes"].get("axis_label") for m in models(html) if m["name"] == "LinearAxis"]
    assert {"flux [Jy]", "normalised flux", "vacuum wavelength, rest frame of the star [Å]"} <= set(axes)
    drawn = [m["attributes"]["glyph"]["name"] for m in models(html) if m["name"] == "GlyphRenderer"]
    assert drawn.count("VStrip") == 6  # bad pixels of each spectrum, in both panels
    assert "<title>DR17/x/1</title>" in html
    assert labels(html) == ["spectrum 0", "spectrum 1", "spectrum 2"]


def test_where_nothing_was_fitted_there_is_no_flux() -> None:
    flux = np.array([[0.5, 1.0, 1.0, 0.9]])
    bad = np.array([[False, True, False, False]])
    batch = SpectrumBatch(flux, np.where(bad, 0, 1.0), np.arange(4.0) + 1, bad=bad, continuum=np.full((1, 4), 9.0))
    one = make_curve(batch, 0)
    np.testing.assert_allclose(one.flux, [4.5, np.nan, 9, 8.1])
    np.testing.assert_allclose(one.continuum, [9, np.nan, 9, 9])


def test_the_chosen_spectrum_is_shown_first_and_empty_ones_are_left_out() -> None:
    batch = small(4, meta={"row": ("combined", "empty", "visit 1", "visit 2"), "snr": (90.4, None, 50.0, None)})
    ivar = np.array(batch.ivar)
    ivar[1] = 0
    batch = replace(batch, ivar=ivar, bad=None)
    html = page([ShownSpectra(batch, "a star", "apStar")], row=2)
    assert labels(html) == ["combined, S/N 90", "visit 1, S/N 50", "visit 2"]
    assert re.findall(r'data-spectrum="(\d)"( checked)?', html) == [("0", ""), ("1", " checked"), ("2", "")]
    with pytest.raises(AstraError, match="no spectrum 4 in a star; choose a row from 0 to 3"):
        page([ShownSpectra(batch, "a star")], row=4)
    with pytest.raises(AstraError, match="spectrum 1 of a star has no good pixel"):
        page([ShownSpectra(batch, "a star")], row=1)
    with pytest.raises(AstraError, match="cannot be drawn"):
        ShownSpectra(replace(batch, wavelength=None))


def test_files_are_moved_together_where_their_wavelengths_overlap() -> None:
    shown = [ShownSpectra(small(start=start), f"file {start:.0f}") for start in (15000.0, 15010.0, 5000.0)]
    html = page(shown)
    ranges = {json.dumps(m["attributes"]["x_range"]["id"]) for m in models(html) if m["name"] == "Figure"}
    assert len(ranges) == 2
    assert html.count("data-file=") == 3
    assert "<title>file 15000 and 2 more</title>" in html


HOSTILE = st.sampled_from(
    ["</script><script>alert(1)</script>", "<img src=http://x>", "{{ 7 * 7 }}", '"onload="x', "&"]
)


@settings(max_examples=5)
@given(title=HOSTILE, name=HOSTILE, about=HOSTILE, value=HOSTILE, task=HOSTILE)
def test_what_files_say_is_text_and_never_code(title: str, name: str, about: str, value: str, task: str) -> None:
    batch = small(1, meta={name: (value,), "row": (value,), "object": (title,)})
    plain = page([ShownSpectra(small(1), "x")])
    html = page([ShownSpectra(batch, title, about={about: task})])
    loaded, expected = Loaded(), Loaded()
    loaded.feed(html)
    expected.feed(plain)
    assert loaded.found == expected.found
    assert html.count("<script") == plain.count("<script")
    assert ">49<" not in html


@settings(max_examples=12)
@given(data=st.data(), rows=st.integers(1, 3), pixels=st.integers(2, 12), divided=st.booleans())
def test_any_spectrum_with_a_good_pixel_can_be_drawn(data: Any, rows: int, pixels: int, divided: bool) -> None:
    value = st.floats(width=32) | st.sampled_from([0.0, 1.0, np.nan, np.inf])
    flux = np.array(data.draw(st.lists(value, min_size=rows * pixels, max_size=rows * pixels))).reshape(rows, pixels)
    ivar = np.where(np.isfinite(flux), 1.0, 0.0)
    flux[:, 0], ivar[:, 0] = 1.0, 1e-30
    batch = SpectrumBatch(flux, ivar, np.cumsum(np.full(pixels, 2.0)), continuum=np.abs(flux) if divided else None)
    with np.errstate(all="ignore"):
        html = page([ShownSpectra(batch, "any", "apVisit")])
    assert len(spectra_of(html)) == rows


def test_lines_are_shifted_as_the_star_moves() -> None:
    meta = {"v_observed": (300.0, None), "z": (0.1, np.nan), "class": ("STAR", "GALAXY")}
    batch = small(2, meta=meta)
    assert find_redshift(batch, 0, "apVisit") == 300 / LIGHT
    assert find_redshift(batch, 1, "apVisit") == 0
    assert find_redshift(batch, 0, "spec") == 0.1
    assert find_redshift(batch, 1, "spec") == 0
    assert (
        find_redshift(batch, 0, "apStar")
        == find_redshift(batch, 0, "mwmStar")
        == find_redshift(batch, 0, "something")
        == 0
    )
    assert find_redshift(small(1, meta={"v_observed": (999999.0,)}), 0, "apVisit") == 0
    assert not [line for line in find_lines(batch, 0) if line.kind == "nebula"]
    assert [line for line in find_lines(batch, 1) if line.name == "[O III]"]
    html = page([ShownSpectra(batch, "a galaxy", "spec")])
    (lines,) = (columns(m) for m in models(html) if m["name"] == "ColumnDataSource" and "rest" in columns(m))
    np.testing.assert_allclose(lines["x"], np.array(lines["rest"]) * 1.1)
    assert 'value="0.10000"' in html
    assert 'data-unit="z"' in html
    assert 'value="300.0"' in page([ShownSpectra(batch, "a visit", "apVisit")])


def test_the_lines_of_hydrogen_are_where_they_must_be() -> None:
    by_name = {line.name: line.wavelength for line in read_main_lines()}
    series = {f"Br {n}": (4, n) for n in range(11, 21)} | {f"Pa {n}": (3, n) for n in range(9, 13)}
    series |= {"H\N{GREEK SMALL LETTER ALPHA}": (2, 3), "H\N{GREEK SMALL LETTER BETA}": (2, 4), "H8": (2, 8)}
    for name, (low, high) in series.items():
        expected = 1e8 / (109677.583 * (1 / low**2 - 1 / high**2))
        assert by_name[name] == pytest.approx(expected, abs=0.1), name
    assert [line.wavelength for line in read_main_lines()] == sorted(by.wavelength for by in read_main_lines())


def test_lines_are_where_a_real_star_has_them(real_mirrors: list[Path]) -> None:
    giant = "apStar-dr17-2M17335483-2753043.fits"
    path = next((path for root in real_mirrors for path in root.rglob(giant)), None)
    if path is None:
        skip_without(f"{giant}, a cool giant whose lines are deep")
    batch = ap_star_continuum(read_spectra(path, "apStar"))
    wavelength, flux = batch.wavelength, np.where(batch.bad[0], np.nan, batch.flux[0])
    metals = [line for line in read_main_lines() if line.wavelength > 15000 and not line.name.startswith(("Br", "CO"))]
    depths = []
    for line in metals:
        near = np.abs(wavelength - line.wavelength) < 0.6
        deepest = wavelength[near][np.nanargmin(flux[near])]
        # Half the resolution; a few are blends.
        assert abs(deepest - line.wavelength) < 0.35 or line.rank == 3, line
        depths.append(np.nanmin(flux[near]))
    assert len(metals) > 45
    assert np.median(depths) < 0.72 * np.nanpercentile(flux, 90)  # of all pixels, a sixth are as deep
    assert np.nanmedian(flux) > 0.8  # a cool giant


def batches(root: Path, product: str, pattern: str) -> list[tuple[str, SpectrumBatch]]:
    return read(product, sorted(root.rglob(pattern)))


def read(product: str, paths: Iterable[Path]) -> list[tuple[str, SpectrumBatch]]:
    return [(path.name, read_spectra(path, product, bitmask=True)) for path in paths]


FILES = (("apVisit", "apVisit-*.fits"), ("apStar", "apStar-*.fits"), ("spec", "spec-*.fits"))


@pytest.mark.parametrize(("product", "pattern"), FILES)
def test_pages_and_pictures_of_the_demo(product: str, pattern: str, synthetic: Path) -> None:
    for name, batch in batches(synthetic, product, pattern)[::6]:
        check(name, batch, product)


@pytest.mark.parametrize("product", CONTINUA)
def test_pages_and_pictures_of_real_files(product: str, real_mirrors: list[Path]) -> None:
    shown = [item for item in read(product, find_real(real_mirrors, product)[::10]) if not item[1].bad[0].all()]
    if not shown:
        skip_without(f"{product} with a good pixel")
    for name, batch in shown:
        check(name, batch, product)


def check(name: str, batch: SpectrumBatch, product: str) -> None:
    made = CONTINUA[product](batch)
    for one in (batch, made):
        html = page([ShownSpectra(one, name, product)])
        good = (~one.bad).any(axis=1).sum()
        assert len(spectra_of(html)) == len(labels(html)) == good
        assert len(html) < 1_400_000 + good * 400_000
        contents = preview_png(one, 0, name, product)
        assert len(contents) < 60_000
        with Image.open(BytesIO(contents)) as image:
            assert (image.format, image.mode, image.size[0]) == ("PNG", "P", 765)
    figures = [m for m in models(html) if m["name"] == "Figure"]
    assert len(figures) == 3  # names of lines, flux, normalised flux


def test_a_picture_of_several_files() -> None:
    divided = small(2, continuum=np.full((2, 20), 2.0))
    figure = picture([ShownSpectra(small(2), "one", "apStar"), ShownSpectra(divided, "two", "apStar")], row=1)
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["one", "two", ""]
    assert figure.axes[0].get_xlabel() == "vacuum wavelength, rest frame of the star [Angstrom]"
    with pytest.raises(AstraError, match="no spectrum 5 in two"):
        picture([ShownSpectra(divided, "two")], row=5)


def test_a_picture_names_lines_without_overlap(synthetic: Path) -> None:
    batch = batches(synthetic, "apStar", "apStar-*.fits")[0][1]
    figure = preview(batch, title="a star", product="apStar")
    figure.draw_without_rendering()
    texts = figure.axes[0].texts
    assert {"Al I", "Mg I", "Si I"} <= {text.get_text() for text in texts}
    places = sorted(text.get_window_extent().x0 for text in texts)
    assert min(np.diff(places)) > 8
    assert not preview(batch, title="a star").axes[0].texts


def test_nothing_is_imported_before_it_is_needed() -> None:
    code = "import sys, astra_dagster.cli, astra_dagster.viewer.browser, astra_dagster.viewer.preview\n"
    code += "print([name for name in ('bokeh', 'matplotlib', 'PIL') if name in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout == "[]\n"


def test_a_browser_without_network_draws_it(synthetic: Path, tmp_path: Path) -> None:
    batch = ap_star_continuum(batches(synthetic, "apStar", "apStar-*.fits")[1][1])
    shot = tmp_path / "shot.png"
    open_page(page([ShownSpectra(batch, "a star", "apStar")]), tmp_path, f"--screenshot={shot}")
    with Image.open(shot) as image:
        pixels = np.asarray(image.convert("RGB")).astype(int)

    def drawn(colour: str) -> int:
        """Pixels of a colour."""
        wanted = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)])
        return int((np.abs(pixels - wanted).max(axis=2) < 12).sum())

    shade = "#" + "".join(f"{round(255 + 0.12 * (int(BAD[i : i + 2], 16) - 255)):02x}" for i in (1, 3, 5))
    assert drawn(CONTINUUM) > 800
    assert drawn("#1b1b1b") > 4000
    assert drawn(shade) > 4000
    assert drawn("#4f6d8f") > 100  # lines
