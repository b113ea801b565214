"""Bad pixels on a page: why they are bad, what heights follow, where bands break, and what can be switched."""

import json
import re
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from astra_dagster.spectra import SpectrumBatch, read_spectra
from astra_dagster.spectra.output import read_output
from astra_dagster.tasks.continuum import ap_visit_continuum
from astra_dagster.viewer.browser import page
from astra_dagster.viewer.preview import preview, preview_png
from astra_dagster.viewer.shown import ShownSpectra, find_limits, make_curve
from astra_dagster_tests.mirrors import find_real
from astra_dagster_tests.spectra.outputs import write
from astra_dagster_tests.viewer.pages import columns, models, open_page, small, spectra_of

SKY = 1 << 12
"""SIG_SKYLINE."""


def flagged(**others: Any) -> SpectrumBatch:
    """A spectrum with two bad pixels, of which a mask tells more."""
    bitmask = np.zeros((1, 20), dtype=np.int64)
    bitmask[0, 5] = SKY | 1
    return small(1, bitmask=bitmask, mask_name="APOGEE_PIXMASK", **others)


def with_spikes(places: Sequence[int] = range(1995, 2005), n: int = 4000) -> SpectrumBatch:
    """A flat spectrum on two detectors with spikes of the sky, and bad pixels, by default where the detectors meet."""
    rng = np.random.default_rng(1)
    flux, bitmask = rng.normal(100, 1, (1, n)), np.zeros((1, n), dtype=np.int64)
    flux[0, 50::200], bitmask[0, 50::200] = 1000, SKY
    bad = np.zeros((1, n), dtype=bool)
    bad[0, list(places)] = True
    flux[bad] = 500
    wavelength = 15200 + 0.2 * np.arange(n) + np.where(np.arange(n) < n // 2, 0, 60)
    return SpectrumBatch(flux, np.where(bad, 0, 1.0), wavelength, bad=bad, bitmask=bitmask, mask_name="APOGEE_PIXMASK")


def dots(html: str) -> dict[str, Any]:
    (found,) = (columns(m) for m in models(html) if m["name"] == "ColumnDataSource" and "why" in columns(m))
    return found


@pytest.mark.parametrize("divided", [False, True])
def test_why_a_pixel_is_bad_is_said_in_words(divided: bool, tmp_path: Path) -> None:
    batch = flagged(continuum=np.full((1, 20), 2.0)) if divided else flagged()
    if divided:
        batch = read_output(write(tmp_path / "out.fits", batch))
    marks = dots(page([ShownSpectra(batch, "a visit", "apVisit")]))
    assert marks["why"] == ["bad pixel, sky line", "no usable flux and error"]
    np.testing.assert_allclose(marks["flux"], [12, 14] if divided else [6, 7])
    np.testing.assert_array_equal(marks["index"], [5, 6])


def test_without_a_mask_it_is_not_known_why() -> None:
    assert dots(page([ShownSpectra(small(1), "a visit", "apVisit")]))["why"] == ["why is not known"] * 2


def ranges(html: str) -> list[tuple[float, float]]:
    """Ranges of the vertical axes of all panels but the strip with the names of lines."""
    by_id = {m["id"]: m.get("attributes", {}) for m in models(html)}
    ids = [m["attributes"]["y_range"]["id"] for m in models(html) if m["name"] == "Figure"]
    found = [(by_id[one]["start"], by_id[one]["end"]) for one in ids if "start" in by_id[one]]
    return [one for one in found if one != (0, 1)]


def test_heights_follow_the_spectrum_and_not_the_sky() -> None:
    batch = with_spikes()
    ((low, high),) = ranges(page([ShownSpectra(batch, "a visit", "apVisit")]))
    assert 90 < low < 97
    assert 103 < high < 110
    assert preview(batch).axes[0].get_ylim() == pytest.approx((low, high))
    # Without the mask, the error of a spike gives it away.
    error = np.where(batch.bitmask > 0, 30.0, 1.0)
    unknown = SpectrumBatch(batch.flux, np.where(batch.bad, 0, error**-2), batch.wavelength, bad=batch.bad)
    assert ranges(page([ShownSpectra(unknown, "x")])) == [pytest.approx((low, high))]


def test_where_nearly_all_is_sky_all_good_pixels_decide() -> None:
    batch = with_spikes()
    everywhere = SpectrumBatch(
        batch.flux,
        batch.ivar,
        batch.wavelength,
        bad=batch.bad,
        bitmask=np.full(batch.flux.shape, SKY),
        mask_name="APOGEE_PIXMASK",
    )
    np.testing.assert_array_equal(make_curve(everywhere, 0).steady, ~batch.bad[0])


def test_heights_follow_real_spectra(real_mirrors: list[Path]) -> None:
    for path in find_real(real_mirrors, "apVisit")[::8]:
        one = make_curve(read_spectra(path, "apVisit", bitmask=True), 0)
        low, high = find_limits(one.flux[one.steady])
        good = one.flux[~one.bad]
        inside = (good > low) & (good < high)
        assert inside.mean() > 0.93, path.name
        spread = np.diff(np.percentile(good, (1, 97)))[0]
        assert high - low < 6 * spread, path.name


def test_shades_end_where_a_detector_ends() -> None:
    batch = with_spikes()
    html = page([ShownSpectra(batch, "a visit", "apVisit")])
    strip = next(m for m in models(html) if m["name"] == "VStrip")
    names = {name: strip["attributes"][name]["field"] for name in ("x0", "x1")}
    (source,) = (columns(m) for m in models(html) if m["name"] == "ColumnDataSource" and "x0" in columns(m))
    starts, ends = source[names["x0"]], source[names["x1"]]
    assert dots(html)["index"].tolist() == [1995, 1996, 1997, 1998, -1, *range(2000, 2005)]
    half = 0.1
    edge = batch.wavelength[[1995, 1999, 2000, 2004]]
    np.testing.assert_allclose(starts, [edge[0] - half, edge[2] - half])
    np.testing.assert_allclose(ends, [edge[1] + half, edge[3] + half])


def test_where_no_detector_is_nothing_is_shaded() -> None:
    flux = np.array([[1.0, 2, 3, 0, 0, np.nan, 4, 5, 6, 7]])
    ivar = np.array([[1.0, 1, 0, 0, 0, 0, 1, 1, 1, 1]])
    one = make_curve(SpectrumBatch(flux, ivar, np.arange(10.0) + 1), 0)
    assert np.flatnonzero(one.bad & one.has_data).tolist() == [2]


def test_a_small_picture_keeps_its_colours(synthetic: Path) -> None:
    visit = read_spectra(next(iter(sorted(synthetic.rglob("apVisit*.fits")))), "apVisit", bitmask=True)
    with Image.open(BytesIO(preview_png(ap_visit_continuum(visit)))) as image:
        pixels = np.asarray(image.convert("RGB")).astype(int)
    red, green, blue = np.moveaxis(pixels, 2, 0)
    assert ((red - green > 60) & (green - blue > 40)).sum() > 200  # the continuum is orange
    assert ((red - green > 80) & (abs(green - blue) < 30)).sum() > 20  # bad pixels are red


PROBE = """<script>
const probe = (tries) => {
  const doc = window.Bokeh?.documents?.[0];
  const drawn = doc ? Array.from(doc.get_model_by_id(SWITCHES.spectra[0].band).data.x) : [];
  if (tries && !drawn.some(isFinite)) {  // the page has not yet its size
    setTimeout(probe, 3000, tries - 1);
    return;
  }
  const one = SWITCHES.spectra[0], model = id => doc.get_model_by_id(id);
  const look = () => ({
    state: document.body.dataset.pixels,
    range: SWITCHES.spectra.map(({panel}) => [model(panel).y_range.start, model(panel).y_range.end]),
    drawn: Array.from(model(one.source).data.flux).map(value => isFinite(value) ? value : null),
    band: Array.from(model(one.band).data.x).map(value => isFinite(value) ? value : null),
  });
  const choose = value => document.querySelector(`input[value=${value}]`).click();
  const found = [look()];
  choose("all"); found.push(look());
  window.readOut(model(one.source).data.wavelength[2003]);
  found.push(document.querySelector("[data-value='0']").textContent);
  choose("mask"); found.push(look());
  document.body.insertAdjacentHTML("beforeend", `<pre id="found">${JSON.stringify(found)}</pre>`);
};
setTimeout(probe, 8000, 5);
</script></body>"""


def test_a_browser_shows_everything_or_what_the_mask_leaves(tmp_path: Path) -> None:
    batch = with_spikes([1996, 2003])
    html = page([ShownSpectra(batch, "a visit", "apVisit")]).replace("</body>", PROBE)
    for _ in range(4):  # a busy machine may draw no frame in all of the browser's virtual time
        dom = open_page(html, tmp_path, "--dump-dom")
        said = re.search(r'<pre id="found">(\[.*?)</pre>', dom, re.DOTALL)
        assert said is not None
        first, everything, text, again = json.loads(said[1])
        if any(x is not None for x in first["band"]):
            break
    assert (first["state"], everything["state"], again["state"]) == ("mask", "all", "mask")
    assert first["range"][0][1] < 110
    assert everything["range"][0][1] > 1000
    assert again["range"][0] == pytest.approx(first["range"][0], abs=1)
    assert [first["drawn"][i] for i in (1996, 2003)] == [None, None]
    assert [everything["drawn"][i] for i in (1996, 2003)] == [500, 500]
    assert again["drawn"] == first["drawn"]
    assert everything["drawn"][1999] is None  # the last pixel before the gap, which no line crosses
    assert "bad: no usable flux and error" in text
    # The error band of one detector ends before that of the next begins.
    edges = batch.wavelength[[1999, 2000]]
    pieces: list[list[float]] = [[]]
    for x in first["band"]:
        if x is None:
            pieces.append([])
        else:
            pieces[-1].append(x)
    assert len([piece for piece in pieces if piece]) >= 2
    assert not any(min(piece) <= edges[0] and max(piece) >= edges[1] for piece in pieces if piece)


def test_pages_of_outputs_know_the_mask(synthetic: Path) -> None:
    visit = read_spectra(next(iter(sorted(synthetic.rglob("apVisit*.fits")))), "apVisit", bitmask=True)
    html = page([ShownSpectra(ap_visit_continuum(visit), "a visit", "apVisit")])
    marks = dots(html)
    assert {"normalised", "flux", "index", "why"} <= set(marks)
    assert any("bad pixel" in why for why in marks["why"])
    (source,) = spectra_of(html)
    assert set(np.unique(source["steady"])) == {0, 1}
