"""Arrays that are not what they should be, for every reader: an error that says what is wrong, or a valid batch."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits

from astra_dagster.errors import SpectrumFileError
from astra_dagster.spectra.readers import read_spectra
from astra_dagster_tests.spectra.synthetic import write_aspcap_star
from astra_dagster_tests.spectra.wrong.files import (
    IMAGES,
    KINDS,
    MODELS,
    NEEDED,
    OPTIONS,
    PRIMARY,
    TABLES,
    arrays_of,
    changed,
    check_valid,
    family,
    holds_no_data,
    layout,
    refused_with_wavelength,
    rewritten,
    survives,
)


def test_a_missing_hdu(path: Path, product: str) -> None:
    with fits.open(path) as hdus:
        starts = [hdu.fileinfo()["hdrLoc"] for hdu in hdus]
    needed = NEEDED[family(product)]
    contents = path.read_bytes()
    for count in range(1, needed + 1):
        path.write_bytes(contents[: starts[count]])
        refused_with_wavelength(path, product, rf"HDU {count}( \(.*\))? is missing: the file has {count} HDUs")
    if len(starts) > needed + 1:
        path.write_bytes(contents[: starts[needed + 1]])
        check_valid(read_spectra(path, product))


SHAPES: dict[str, Callable[[Any], Any]] = {
    "a pixel less": lambda data: data[..., :-1],
    "a pixel more": lambda data: np.concatenate([data, data[..., :1]], axis=-1),
    "an axis more": lambda data: data[None, None],
    "transposed": lambda data: np.atleast_2d(data).T,
    "flat": lambda data: np.concatenate([data.ravel(), data.ravel()]),
    "a row more": lambda data: np.concatenate([np.atleast_2d(data)] * 2)[: len(np.atleast_2d(data)) + 1],
    "as of another visit": lambda data: np.repeat(data, 2, -1) if data.shape[-1] == 2048 else data[..., ::2],
    "no pixel": lambda data: data[..., :0],
    "one pixel": lambda data: data.ravel()[:1],
}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kind", IMAGES)
def test_images_of_wrong_shape(shape: str, path: Path, product: str) -> None:
    whole = path.read_bytes()
    for index in arrays_of(path, product):
        path.write_bytes(whole)
        rewritten(path, index, SHAPES[shape])
        other = "as of another visit" if product == "apVisit" else "a row more"
        if shape == other and index == 1 and product != "aspcapStar":  # possible, and the flux is what is believed
            refused_with_wavelength(path, product, r"HDU 2 \(error\) has shape")
        else:
            refused_with_wavelength(path, product, rf"HDU {index} \(.*\) (has shape|holds no image)")


@pytest.mark.parametrize("kind", IMAGES)
def test_images_of_wrong_type(path: Path, product: str) -> None:
    whole = path.read_bytes()
    for index in arrays_of(path, product):
        path.write_bytes(whole)
        is_mask = index == 3 and product != "aspcapStar"
        rewritten(path, index, lambda data, to="f4" if is_mask else "i4": np.zeros(data.shape, to))
        kind = "float32" if is_mask else "int32"
        refused_with_wavelength(path, product, rf"HDU {index} \(.*\) holds numbers of type {kind}")
        table = fits.BinTableHDU.from_columns([fits.Column("a", "E", array=np.ones(3))])
        with fits.open(path, memmap=False) as hdus:
            kept = [hdu.copy() for hdu in hdus[1:index]]
        fits.HDUList([fits.PrimaryHDU(), *kept, table]).writeto(path, overwrite=True)
        refused_with_wavelength(path, product, rf"HDU {index} \(.*\) holds no image")


def retyped(path: Path, index: int, name: str, code: str) -> None:
    """Write the file anew with a column in another format, or without it; cards that a reader needs are kept."""
    with fits.open(path, memmap=False) as hdus:
        rows, columns = len(hdus[index].data), []
        for column in hdus[index].columns:
            if column.name.lower() != name:
                columns.append(column)
            elif code:
                width = 2 if code == "2E" else int(column.format[:-1] or 1) if code == "*C" else 1
                array = np.zeros((rows, width) if width > 1 else rows, object if code == "PE()" else float)
                if code == "PE()":
                    for row in range(rows):
                        array[row] = np.ones(1)
                columns.append(fits.Column(column.name, code.replace("*", str(width)), array=array))
        table = fits.BinTableHDU.from_columns(columns)
        table.header.extend(card for card in hdus[index].header.cards if card.keyword in ("CRVAL", "CDELT", "EXTNAME"))
        fits.HDUList([*hdus[:index], table, *hdus[index + 1 :]]).writeto(path, overwrite=True)


@pytest.mark.parametrize("code", ["", "8A", "PE()", "L", "2E", "*C"])
@pytest.mark.parametrize("kind", TABLES)
def test_columns_that_are_missing_or_wrong(code: str, path: Path, product: str) -> None:
    whole = path.read_bytes()
    mask = "and_mask" if family(product) == "spec" else "pixel_flags"
    for index, names in arrays_of(path, product).items():
        for name in names if family(product) == "astra" else (*names, mask):
            path.write_bytes(whole)
            retyped(path, index, name, code)
            said = "ivar" if (family(product), code, name) == ("mwm", "2E", "flux") else name  # the flux is believed
            with pytest.raises(SpectrumFileError, match=rf"HDU {index} \(.*\) has (no|a) column {said}") as error:
                read_spectra(path, product, bitmask=True)
            assert str(path) in str(error.value)
            if name == mask:
                check_valid(read_spectra(path, product))


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in MODELS])
@pytest.mark.parametrize("value", [0, -1, np.nan, np.inf, 1e10])
def test_all_pixels_bad(value: float, path: Path, product: str) -> None:
    with fits.open(path, mode="update", memmap=False, output_verify="ignore") as hdus:
        for index, names in arrays_of(path, product).items():
            if names:
                hdus[index].data["ivar"][:] = np.inf if value == 1e10 else value
            elif index == 2:
                hdus[index].data[:] = value
        if product in PRIMARY:
            PRIMARY[product](hdus)[1][:] = np.inf if (value, product) == (1e10, "spPlate") else value
        if product == "aspcapStar":
            del hdus[0].header["AKWISE"]
    holds_no_data(path, product)


def test_no_finite_flux(path: Path, product: str) -> None:
    with fits.open(path, mode="update", memmap=False, output_verify="ignore") as hdus:
        for index, names in arrays_of(path, product).items():
            if names:
                hdus[index].data[names[0]][:] = np.nan
            elif index == 1:
                hdus[index].data[:] = np.inf
        if product in PRIMARY:
            PRIMARY[product](hdus)[0][:] = np.inf
        if product == "aspcapStar":
            del hdus[0].header["AKWISE"]
    holds_no_data(path, product)


@pytest.mark.parametrize("kind", [kind for kind in IMAGES if kind != "aspcapStar"])
def test_all_pixels_masked(path: Path, product: str) -> None:
    with fits.open(path, mode="update", memmap=False) as hdus:
        hdus[3].data[:] |= 4
    holds_no_data(path, product)


@pytest.mark.parametrize("pattern", ["7FA00000", "7FF4000000000000", "7F800000", "FF7FFFFF", "00000001", "80000000"])
def test_odd_numbers(pattern: str, path: Path, product: str) -> None:
    """Signalling NaN, infinities, the greatest and the smallest numbers, all over the arrays."""
    odd = bytes.fromhex(pattern)
    changes = {
        place: odd
        for _, start, end in layout(path)
        if end - start > 20_000
        for place in range(start + 4000, end - 8, 8000)
    }
    with changed(path, changes):
        for options in OPTIONS:
            survives(path, product, **options)


def test_aspcap_gaps_do_not_hide_a_lost_spectrum(tmp_path: Path) -> None:
    path = write_aspcap_star(tmp_path / "aspcapStar.fits", gap_error=10)
    batch = read_spectra(path, "aspcapStar")
    assert 0.05 < batch.bad.mean() < 0.2
