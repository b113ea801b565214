"""A sketch of a spectrum: short, true to the spectrum, with its gaps, and without its bad pixels."""

import re
from itertools import accumulate
from urllib.parse import unquote
from xml.etree import ElementTree

import numpy as np
import pytest

from astra_dagster import AstraError, SpectrumBatch
from astra_dagster.viewer.shown import ShownSpectra
from astra_dagster.viewer.sketch import HEIGHT, sketch

PIXELS = np.linspace(0.0, 1.0, 4000)


def drawn(url: str) -> list[list[tuple[int, int]]]:
    """Return the corners of each band of a sketch, as a browser finds them."""
    svg = ElementTree.fromstring(unquote(url.removeprefix("data:image/svg+xml,")))  # noqa: S314
    path = svg[0].attrib["d"]
    assert re.fullmatch(r"(M[\d,]+l[\d,-]+z)+", path)
    bands = []
    for part in path.removesuffix("z").split("z"):
        numbers = [int(text) for text in re.findall(r"-?\d+", part)]
        steps = zip(numbers[::2], numbers[1::2], strict=True)
        bands.append(list(accumulate(steps, lambda a, b: (a[0] + b[0], a[1] + b[1]))))
    return bands


def spectra(flux: np.ndarray, **others: np.ndarray) -> ShownSpectra:
    wavelength = 15_000 + 2000 * PIXELS
    return ShownSpectra(SpectrumBatch(flux=flux[None], ivar=np.ones((1, 4000)), wavelength=wavelength, **others))


def test_it_runs_as_the_spectrum_does() -> None:
    url, ranges = sketch(spectra(1 + PIXELS), 10_000)
    (band,) = drawn(url)
    assert min(x for x, _ in band) == 0
    above = [y for _, y in band[: len(band) // 2]]
    assert above == sorted(above, reverse=True)  # y is counted from the top
    assert {min(y for _, y in band), max(y for _, y in band)} == {0, HEIGHT}
    assert ranges == "15000 to 17000 Angstrom, flux 1 to 2"


def test_bad_pixels_are_left_out_and_gaps_stay_gaps() -> None:
    flux = np.where((PIXELS > 0.4) & (PIXELS < 0.6), 1e6, 1 + PIXELS)
    bad = (flux == 1e6)[None]
    url, ranges = sketch(spectra(flux, bad=bad), 10_000)
    assert len(drawn(url)) == 2
    assert ranges.endswith("flux 1 to 2")


@pytest.mark.parametrize("longest", [500, 860])
def test_it_is_as_short_as_asked(longest: int) -> None:
    noise = np.random.default_rng(1).normal(1, 0.3, 4000)
    url, _ = sketch(spectra(noise), longest)
    assert len(url) <= longest
    assert len(drawn(url)[0]) > longest / 20
    assert not re.search(r"[\s<>()\"]", url)  # which would end it in Markdown


def test_nothing_to_draw_is_an_error() -> None:
    with pytest.raises(AstraError, match="no good pixel"):
        sketch(spectra(np.full(4000, np.nan), bad=np.ones((1, 4000), dtype=bool)), 900)
