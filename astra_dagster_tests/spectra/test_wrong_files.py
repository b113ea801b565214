"""Files that are not what they should be, for every reader: an error that says what is wrong, or a valid batch."""

import contextlib
import errno
import functools
import itertools
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
from astropy.io import fits
from hypothesis import given, settings
from hypothesis import strategies as st

from astra_dagster.datamodel.products import product as find_product
from astra_dagster.errors import InputMissingError, SpectrumFileError, UnknownProductError
from astra_dagster.spectra.batch import SpectrumBatch
from astra_dagster.spectra.readers import READERS, read_spectra, reader
from astra_dagster_tests.spectra.synthetic import WRITERS, compressed, write_aspcap_star

KINDS = list(WRITERS)
TABLES = [kind for kind in KINDS if kind.startswith(("spec", "mwm"))]
IMAGES = [kind for kind in KINDS if kind not in TABLES and kind not in ("apVisit", "apVisit, DR19")]
ALIKE = (
    {"spec", "spec-lite", "specLite", "specFull"},
    {"mwmStar", "mwmVisit"},  # the same four tables; one has a column more
)
"""Products that are alike on disk: one reader is for all of them."""

NEEDED = {"apVisit": 4, "apStar": 3, "aspcapStar": 3, "spec": 1, "mwm": 4}
"""Last HDU that a reader cannot do without."""

OPTIONS = ({}, {"bitmask": True}, {"wavelength": False, "bitmask": True})


def family(product: str) -> str:
    return next(name for name in NEEDED if product.startswith(name))


def arrays_of(path: Path, product: str) -> dict[int, tuple[str, ...]]:
    """HDUs that hold what the reader decodes, and for tables the columns."""
    if family(product) == "spec":
        return {1: ("flux", "ivar", "loglam")}
    if family(product) == "mwm":
        with fits.open(path) as hdus:
            return {i: ("flux", "ivar") for i in range(1, 5) if len(hdus[i].data)}
    return dict.fromkeys(range(1, NEEDED[product] + 1), ())


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A file of each kind; read only."""
    root = tmp_path_factory.mktemp("samples")
    return {kind: writer(root / str(i)) for i, (kind, (_, writer)) in enumerate(WRITERS.items())}


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def product(kind: str) -> str:
    return WRITERS[kind][0]


@pytest.fixture
def path(kind: str, samples: dict[str, Path], tmp_path: Path) -> Path:
    """A copy of a file of the kind, for a test to damage."""
    return Path(shutil.copy(samples[kind], tmp_path / samples[kind].name))


@pytest.fixture(autouse=True)
def no_descriptor_stays_open() -> Iterator[None]:
    before = descriptors()
    yield
    assert descriptors() == before


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def check_valid(batch: SpectrumBatch) -> None:
    """What every analysis may rely on."""
    shape = batch.flux.shape
    assert len(shape) == 2
    assert batch.flux.dtype == batch.ivar.dtype == batch.error.dtype == np.float64
    assert batch.ivar.shape == batch.error.shape == batch.bad.shape == shape
    assert batch.bad.dtype == bool
    assert not batch.bad.all()
    assert np.isfinite(batch.ivar).all()
    np.testing.assert_array_equal(batch.ivar > 0, ~batch.bad)
    assert np.isfinite(batch.flux[~batch.bad]).all()
    if batch.wavelength is not None:
        assert batch.wavelength.shape in (shape, shape[1:])
        assert np.isfinite(batch.wavelength).all()
        assert (batch.wavelength > 0).all()
        assert (np.diff(batch.wavelength) > 0).all()
    if batch.bitmask is not None:
        assert batch.bitmask.shape == shape
        assert batch.bitmask.dtype == np.int64
    assert [start for _, start, _ in batch.chips] == sorted(start for _, start, _ in batch.chips)
    assert all(0 <= start < stop <= shape[1] for _, start, stop in batch.chips)
    for values in batch.meta.values():
        assert len(values) == shape[0]
        assert {type(value) for value in values} <= {str, int, float, bool, type(None)}
        assert all(np.isfinite(value) for value in values if type(value) is float)


def survives(path: Path, product: str, **options: bool) -> bool:
    """Whether the file can be read; what it cannot be read for must be an error of ours that names the file."""
    try:
        batch = read_spectra(path, product, **options)
    except SpectrumFileError as error:
        problem = str(error)
    else:
        check_valid(batch)
        return True
    assert str(path) in problem
    return False


def refused(path: Path, product: str, match: str) -> None:
    for options in OPTIONS:
        with pytest.raises(SpectrumFileError, match=match) as error:
            read_spectra(path, product, **options)
        assert str(path) in str(error.value)


# Readers


def test_every_product_has_its_reader() -> None:
    assert {product for product, _ in WRITERS.values()} | {"spec", "specFull", "mwmVisit"} == set(READERS)
    for name, item in READERS.items():
        assert reader(name) is item
        assert reader(find_product(name).name) is item
    assert reader("ap_visit") is READERS["apVisit"]
    assert [name for name, item in READERS.items() if item.several] == ["apStar", "mwmStar", "mwmVisit"]
    for name in ("apField", "no such product"):
        with pytest.raises(UnknownProductError):
            reader(name)


@pytest.mark.parametrize("options", OPTIONS)
def test_files_as_they_should_be(options: dict[str, bool], path: Path, product: str) -> None:
    batch = read_spectra(str(path), product, **options)
    check_valid(batch)
    assert (batch.wavelength is None) == ("wavelength" in options)
    assert (batch.bitmask is None) == ("bitmask" not in options or product == "aspcapStar")
    assert READERS[product].several or len(batch) == 1


@pytest.mark.parametrize("suffix", [".gz", ".bz2", ".zip"])
def test_compressed_files(suffix: str, path: Path, product: str) -> None:
    ours, expected = read_spectra(compressed(path, suffix), product), read_spectra(path, product)
    np.testing.assert_array_equal(ours.flux, expected.flux)
    np.testing.assert_array_equal(ours.ivar, expected.ivar)
    assert ours.meta == expected.meta


# Wrong files


@pytest.mark.parametrize(
    ("contents", "match"),
    [
        (b"", "not a FITS file: it is empty"),
        (b"x", "not a FITS file: it does not begin with SIMPLE"),
        (b"x" * 100_000, "not a FITS file"),
        (b"\0" * 5760, "not a FITS file"),
        (b"<!DOCTYPE html><html><body>404 Not Found</body></html>", "not a FITS file"),
        (b"SIMPLE  =                    T", "HDU 0 is cut short"),
        (b"SIMPLE  =                    T".ljust(2880), "HDU 0 is cut short: its header does not end"),
        (b"SIMPLE  =                    T".ljust(80) + b"END".ljust(2800), "HDU 0 has no whole number BITPIX"),
    ],
)
def test_no_fits_files(contents: bytes, match: str, path: Path, product: str) -> None:
    path.write_bytes(contents)
    refused(path, product, match)


def test_a_folder(path: Path, product: str) -> None:
    path.unlink()
    path.mkdir()
    refused(path, product, "a folder, not a file")


def test_a_missing_file_is_no_broken_file(path: Path, product: str) -> None:
    path.unlink()
    for missing in (path, path.parent / "nowhere" / path.name, path.with_name(path.name + ".gz")):
        with pytest.raises(InputMissingError, match="not there") as error:
            read_spectra(missing, product)
        assert str(missing) in str(error.value)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_a_file_that_may_not_be_read(path: Path, product: str) -> None:
    path.chmod(0)
    refused(path, product, "permission denied")


def test_a_system_that_refuses_a_file(path: Path, product: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(os, "open", Mock(side_effect=PermissionError(errno.EACCES, "Permission denied")))
        refused(path, product, r"permission denied \(file .*\); ask its owner")


@pytest.mark.parametrize("reads", range(4))
def test_a_disk_that_fails(reads: int, path: Path, product: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """After so many reads that went well."""
    pread, done = os.pread, itertools.count()

    def failing(descriptor: int, size: int, offset: int) -> bytes:
        if next(done) >= reads:
            raise OSError(errno.EIO, "Input/output error")
        return pread(descriptor, size, offset)

    with monkeypatch.context() as patch:
        patch.setattr(os, "pread", failing)
        with pytest.raises(SpectrumFileError, match=r"cannot be read: .*Input/output error") as error:
            read_spectra(path, product)
    assert str(path) in str(error.value)


@pytest.mark.parametrize("other", ["apVisit", "apStar", "aspcapStar", "spec", "mwmStar"])
def test_a_file_of_another_product(other: str, path: Path, product: str) -> None:
    if other == product or any({other, product} <= products for products in ALIKE):
        check_valid(read_spectra(path, other))
    else:
        refused(path, other, "HDU [0-4]")


@pytest.mark.parametrize("other", ["apVisit", "apStar", "aspcapStar", "spec", "mwmStar"])
def test_a_real_file_of_another_product(other: str, real: Path) -> None:
    for product in ("apVisit", "apStar", "spec"):
        path = max(real.rglob(f"{product}-*.fits"))
        if product == other:
            check_valid(read_spectra(path, product))
        else:
            refused(path, other, "HDU [0-4]")


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


def refused_with_wavelength(path: Path, product: str, match: str) -> None:
    """As `refused`, for what is wrong with the wavelengths perhaps, which a reader need not read."""
    with pytest.raises(SpectrumFileError, match=match) as error:
        read_spectra(path, product)
    assert str(path) in str(error.value)
    for options in OPTIONS:
        survives(path, product, **options)


def rewritten(path: Path, index: int, change: Callable[[Any], Any]) -> None:
    """Write the file anew with another array in an HDU, its cards kept."""
    with fits.open(path, memmap=False) as hdus:
        made = fits.ImageHDU(change(hdus[index].data))
        kept = [hdu.copy() for hdu in hdus[1:index]], [hdu.copy() for hdu in hdus[index + 1 :]]
    fits.HDUList([fits.PrimaryHDU(), *kept[0], made, *kept[1]]).writeto(path, overwrite=True)


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
        for name in (*names, mask):
            path.write_bytes(whole)
            retyped(path, index, name, code)
            said = "ivar" if (family(product), code, name) == ("mwm", "2E", "flux") else name  # the flux is believed
            with pytest.raises(SpectrumFileError, match=rf"HDU {index} \(.*\) has (no|a) column {said}") as error:
                read_spectra(path, product, bitmask=True)
            assert str(path) in str(error.value)
            if name == mask:
                check_valid(read_spectra(path, product))


@pytest.mark.parametrize("value", [0, -1, np.nan, np.inf, 1e10])
def test_all_pixels_bad(value: float, path: Path, product: str) -> None:
    with fits.open(path, mode="update", memmap=False, output_verify="ignore") as hdus:
        for index, names in arrays_of(path, product).items():
            if names:
                hdus[index].data["ivar"][:] = np.inf if value == 1e10 else value
            elif index == 2:
                hdus[index].data[:] = value
        if product == "aspcapStar":
            del hdus[0].header["AKWISE"]
    refused(path, product, "no good pixel")


def test_no_finite_flux(path: Path, product: str) -> None:
    with fits.open(path, mode="update", memmap=False, output_verify="ignore") as hdus:
        for index, names in arrays_of(path, product).items():
            if names:
                hdus[index].data["flux"][:] = np.nan
            elif index == 1:
                hdus[index].data[:] = np.inf
        if product == "aspcapStar":
            del hdus[0].header["AKWISE"]
    refused(path, product, "no good pixel")


@pytest.mark.parametrize("kind", [kind for kind in IMAGES if kind != "aspcapStar"])
def test_all_pixels_masked(path: Path, product: str) -> None:
    with fits.open(path, mode="update", memmap=False) as hdus:
        hdus[3].data[:] |= 4
    refused(path, product, "no good pixel")


# Damaged files


@functools.cache
def layout(path: Path) -> tuple[tuple[int, int, int], ...]:
    """Where the header and the data of each HDU begin, and the data end."""
    with fits.open(path, memmap=False) as hdus:
        places = [(hdu.fileinfo()["hdrLoc"], hdu.fileinfo()["datLoc"], hdu.size) for hdu in hdus]
    return tuple((header, data, data + size) for header, data, size in places)


def around_edges(path: Path, distances: Iterable[int]) -> list[int]:
    """Places in the file at distances from where headers and data begin and data end."""
    size = path.stat().st_size
    places = {edge + distance for hdu in layout(path) for edge in hdu for distance in distances}
    return sorted(place for place in places if 0 <= place < size)


def check_truncations(path: Path, product: str) -> None:
    """Cut a file shorter and shorter."""
    cuts, needed = around_edges(path, (-1, 0, 1, 80, 2880)), layout(path)[NEEDED[family(product)]][2]
    flux = read_spectra(path, product).flux
    for cut in reversed(cuts):
        os.truncate(path, cut)
        if cut < needed:
            assert not survives(path, product), cut
            survives(path, product, wavelength=False, bitmask=True)
        else:
            np.testing.assert_array_equal(read_spectra(path, product).flux, flux)


def test_truncation(path: Path, product: str) -> None:
    check_truncations(path, product)


def test_truncation_of_real_files(real: Path, tmp_path: Path) -> None:
    for product in ("apVisit", "apStar", "spec"):
        found = sorted(real.rglob(f"{product}-*.fits"))
        for source in (found[0], found[-1]):  # of different releases
            check_truncations(Path(shutil.copy(source, tmp_path / source.name)), product)


def check_flips(path: Path, product: str) -> None:
    # The last columns of the values of the first cards are among these places: sizes and types.
    places = around_edges(path, (-1, 0, 1, 9, 10, 29, 109, 189, 269, 349))
    contents = path.read_bytes()
    options = itertools.cycle(OPTIONS)
    with path.open("r+b", buffering=0) as stream:
        for place in places:
            for flip in (0x01, 0x80, contents[place] ^ ord("9")):
                os.pwrite(stream.fileno(), bytes([contents[place] ^ flip]), place)
                survives(path, product, **next(options))
            os.pwrite(stream.fileno(), contents[place : place + 1], place)
    assert path.read_bytes() == contents


def test_flipped_bytes_at_the_edges(path: Path, product: str) -> None:
    check_flips(path, product)


def test_flipped_bytes_at_the_edges_of_real_files(real: Path, tmp_path: Path) -> None:
    for product in ("apVisit", "apStar", "spec"):
        source = max(real.rglob(f"{product}-*.fits"))
        check_flips(Path(shutil.copy(source, tmp_path / source.name)), product)


@contextlib.contextmanager
def changed(path: Path, changes: Mapping[int, bytes]) -> Iterator[None]:
    """Change bytes of a file for a while."""
    with path.open("r+b", buffering=0) as stream:
        kept = {place: os.pread(stream.fileno(), len(new), place) for place, new in changes.items()}
        for place, new in changes.items():
            os.pwrite(stream.fileno(), new, place)
        try:
            yield
        finally:
            for place, old in reversed(kept.items()):
                os.pwrite(stream.fileno(), old, place)


# Legal characters make legal cards of other values, which get further than nonsense does.
BYTES = st.one_of(st.sampled_from(b"0123456789 TFEDAIJKLX'-+.=&"), st.integers(0, 255))


@given(data=st.data())
@settings(max_examples=80)
def test_changed_bytes_in_headers(path: Path, product: str, data: st.DataObject) -> None:
    changes = {}
    for _ in range(data.draw(st.integers(1, 4))):
        start, end, _ = data.draw(st.sampled_from(layout(path)[: NEEDED[family(product)] + 2]))
        changes[data.draw(st.integers(start, end - 1))] = bytes([data.draw(BYTES)])
    with changed(path, changes):
        for options in OPTIONS:
            survives(path, product, **options)


@given(data=st.data())
@settings(max_examples=80)
def test_changed_digits_of_cards(path: Path, product: str, data: st.DataObject) -> None:
    """Other digits where digits are: other sizes, numbers of columns, scales, grids."""
    contents = path.read_bytes()
    start, end, _ = data.draw(st.sampled_from(layout(path)[: NEEDED[family(product)] + 2]))
    digits = [place for place in range(start, end) if contents[place : place + 1].isdigit()]
    changes = {}
    for _ in range(data.draw(st.integers(1, 3))):
        changes[data.draw(st.sampled_from(digits))] = data.draw(st.sampled_from([b"0", b"1", b"2", b"9", b"-", b" "]))
    with changed(path, changes):
        for options in OPTIONS:
            survives(path, product, **options)


@given(data=st.data())
@settings(max_examples=25)
def test_changed_bytes_in_data(path: Path, product: str, data: st.DataObject) -> None:
    place = st.integers(2880, path.stat().st_size - 9)
    with changed(path, data.draw(st.dictionaries(place, st.binary(min_size=8, max_size=8), min_size=1, max_size=20))):
        survives(path, product, bitmask=True)


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
