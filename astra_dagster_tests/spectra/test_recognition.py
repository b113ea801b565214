"""Files are recognised by name and headers; one that is of another product than was asked for, or of none, is told."""

import shutil
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from astra_dagster import ap_star, ap_visit, product, read_spectra, register_reader
from astra_dagster.errors import (
    CutShortError,
    InputMissingError,
    OtherProductError,
    SpectrumFileError,
    UnknownFileError,
    UnknownProductError,
    UnknownReleaseError,
)
from astra_dagster.spectra import readers
from astra_dagster.spectra.batch import SpectrumBatch
from astra_dagster.spectra.identity import check_identity
from astra_dagster.spectra.products.astra import ASTRA
from astra_dagster.spectra.readers import READERS, recognise
from astra_dagster_tests.archive.found import find_files
from astra_dagster_tests.spectra.synthetic import (
    WRITERS,
    compressed,
    write_ap_star,
    write_ap_visit,
    write_astra,
    write_mwm,
    write_one_metre,
    write_spec,
)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A file of each kind, with a name that tells nothing; read only."""
    root = tmp_path_factory.mktemp("renamed")
    writers = {kind: write for kind, (_, write) in WRITERS.items()}
    writers["spec, full"] = lambda folder: write_spec(folder / "x.fits", "v5_13_2", full=True)
    writers["specFull"] = lambda folder: write_spec(folder / "x.fits", full=True)
    writers["specLite, nights"] = lambda folder: write_spec(folder / "x.fits", nights=True)
    for name in ("apVisit-1m", "apStar-1m"):
        writers[name] = partial(write_one_metre, name=name)
    for name, (pipeline, star) in ASTRA.items():
        writers[name] = partial(write_astra_to, pipeline=pipeline, star=star)
    made = {kind: write(root / str(number)) for number, (kind, write) in enumerate(writers.items())}
    return {kind: path.rename(root / f"{number}.fits") for number, (kind, path) in enumerate(made.items())}


@pytest.fixture
def star(tmp_path: Path) -> Path:
    return write_mwm(tmp_path / "mwmStar-0.6.0-103020000.fits", (0, 0, 1, 1))


def write_astra_to(folder: Path, pipeline: str, star: bool) -> Path:
    return write_astra(folder / "x.fits", pipeline, star=star)


def same(one: SpectrumBatch, other: SpectrumBatch) -> bool:
    arrays = all(
        np.array_equal(getattr(one, name), getattr(other, name), equal_nan=name in ("flux", "error"))
        for name in ("flux", "ivar", "bad", "error", "wavelength")
    )
    return arrays and one.meta == other.meta


def test_headers_decide_where_the_name_tells_nothing(written: dict[str, Path]) -> None:
    expected = {kind: name for kind, (name, _) in WRITERS.items()}
    expected |= {"spec, legacy": "spec-lite", "spec, full": "spec", "specFull": "specFull"}
    expected |= {name: name for name in ASTRA} | {"specLite, nights": "specLite"}
    expected |= {"apVisit-1m": "apVisit", "apStar-1m": "apStar"}
    found = {kind: recognise(path) for kind, path in written.items()}
    alike = {name: (name, f"{name}_epoch", f"{name}_coadd") for name in ("specLite", "specFull")}
    families = {kind: alike.get(name, (name,)) for kind, name in expected.items()}
    families |= {f"{name}-1m": (name, f"{name}-1m") for name in ("apVisit", "apStar")}
    assert {kind: item.by_headers for kind, item in found.items()} == families
    assert {name for names in families.values() for name in names} == set(READERS), "each product is recognised"
    for kind, path in written.items():
        assert found[kind].by_name == ()
        assert same(read_spectra(path), read_spectra(path, expected[kind]))


def test_the_name_decides_where_the_headers_tell_less(tmp_path: Path) -> None:
    path = write_spec(tmp_path / "spectra/lite/0266/spec-0266-51602-0031.fits", "26")
    with fits.open(path, mode="update") as hdus:
        del hdus[3:]
    assert recognise(path).by_headers == ("spec", "spec-lite")
    assert recognise(path).choose() == "spec-lite"


@pytest.mark.parametrize("release", ["DR16", "DR17", "DR19", "DR20", "sdsswork"])
def test_visits_and_stars_of_the_1m_telescope(release: str, tmp_path: Path) -> None:
    visit, star = (write_one_metre(tmp_path, name, release) for name in ("apVisit-1m", "apStar-1m"))
    assert recognise(visit).choose() == "apVisit-1m"
    assert recognise(star).choose() == "apStar"  # up to DR17 they are one file
    for name, path in (("apVisit-1m", visit), ("apStar-1m", star)):
        item = product(name)
        data_id = item.parse_path(path, release, tmp_path)
        assert data_id.values["reduction"] == "VESTA"
        spectra = read_spectra(path, item)
        assert same(spectra, read_spectra(path))
        assert set(spectra.meta["telescope"]) == {"apo1m"}
        check_identity(spectra, item, data_id.key, path)


@pytest.mark.parametrize("release", ["DR16", "DR17", "DR19", "DR20", "sdsswork"])
def test_visits_and_stars_of_las_campanas(release: str, tmp_path: Path) -> None:
    """They are those of Apache Point, with another telescope; in DR16 and DR17 their names begin with as."""
    visit = {"field": "000+02", "plate": 5226, "mjd": 58000, "fibre": 7}
    field = {"field": "000+02"} if release in ("DR16", "DR17") else {"healpix": 123456}
    for name, values, written in (
        ("apVisit", visit, write_ap_visit(tmp_path / "written")),
        ("apStar", {"obj": "2M00000032+5737103", **field}, write_ap_star(tmp_path / "star.fits", 3)),
    ):
        item = product(name)
        data_id = item.data_id(release, telescope="lco25m", **values)
        path = data_id.path(tmp_path)
        path.parent.mkdir(parents=True)
        written.rename(path)
        fits.setval(path, "TELESCOP", value="lco25m")
        assert path.name.startswith("as" if release in ("DR16", "DR17") else "ap")
        assert item.parse_path(path, release, tmp_path) == data_id
        assert [file.data_id for file in find_files(item, release, tmp_path, {"telescope": "lco25m"})[0]] == [data_id]
        assert recognise(path).choose() == name
        spectra = read_spectra(path)
        assert set(spectra.meta["telescope"]) == {"lco25m"}


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize(
    ("name", "release", "values"),
    [
        ("epoch", "DR19", {"field": 112360}),
        ("epoch", "DR20", {"field": 112360}),
        ("coadd", "DR20", {"coadd": "allepoch", "obs": "lco"}),
    ],
)
def test_folders_decide_how_many_nights_are_combined(
    name: str, release: str, values: dict[str, str | int], full: bool, tmp_path: Path
) -> None:
    item = product(f"spec{'Full' if full else 'Lite'}_{name}")
    data_id = item.data_id(release, mjd=60000, catalogid=27021598150202075, **values)
    path = write_spec(data_id.path(tmp_path), full=full, nights=name == "coadd")
    assert recognise(path).by_name == (item.name,)
    assert recognise(path).choose() == item.name
    spectra = read_spectra(path)
    check_identity(spectra, item, data_id.key, path)
    assert (spectra.meta["mjd"], spectra.meta["run2d"]) == ((60000,), ("v6_1_3",))


def test_a_product_or_its_name_is_given(tmp_path: Path) -> None:
    path = write_ap_visit(tmp_path)
    expected = read_spectra(path, "apVisit")
    for given in (ap_visit, "ap_visit", None):
        assert same(read_spectra(path, given), expected)
    packed = compressed(path, ".gz")
    assert same(read_spectra(packed), expected)
    assert read_spectra(str(path), bitmask=True).bitmask is not None


def test_a_name_and_headers_that_differ(star: Path) -> None:
    path = star.rename(star.with_name(star.name.replace("Star", "Visit")))
    with pytest.raises(
        OtherProductError,
        match=r"its name is that of mwmVisit, its headers are those of mwmStar .*mwmVisit-0.6.0.*\); ",
    ):
        read_spectra(path)
    assert len(read_spectra(path, "mwmStar")) == 2


@pytest.mark.parametrize(
    ("kind", "given"),
    [
        ("mwmStar", "mwmVisit"),
        ("mwmVisit", "mwmStar"),
        ("apStar, DR17", "apVisit"),
        ("astraStar", "mwmStar"),
        ("mwmStar", "astraStarASPCAP"),
    ],
)
def test_a_file_that_is_given_as_another_product(kind: str, given: str, written: dict[str, Path]) -> None:
    name, _ = WRITERS[kind]
    with pytest.raises(
        OtherProductError, match=rf"a file of {name}, not of {given}: HDU \d .*file .*read it as {name}"
    ):
        read_spectra(written[kind], given)


@pytest.mark.parametrize(("folder", "full"), [("full", False), ("lite", True)])
@pytest.mark.parametrize(("newer", "products"), [(False, ("spec", "spec-lite")), (True, ("specFull", "specLite"))])
def test_a_lite_file_among_full_ones_and_a_full_one_among_lite_ones(
    folder: str, full: bool, newer: bool, products: tuple[str, str], tmp_path: Path
) -> None:
    below = "015000/59146/spec-015000-59146-4375786564.fits" if newer else "0266/spec-0266-51602-0031.fits"
    path = write_spec(tmp_path / "v/spectra" / folder / below, "v6_1_3" if newer else "v5_13_2", full=full)
    wanted, other = products if folder == "full" else products[::-1]
    with pytest.raises(OtherProductError, match=f"its name is that of {wanted}, its headers are those of {other} "):
        read_spectra(path)
    with pytest.raises(OtherProductError, match=f"a file of {other}, not of {wanted}: HDU .* by its folder"):
        read_spectra(path, wanted)
    elsewhere = shutil.copy(path, tmp_path / "spec.fits")
    assert same(read_spectra(elsewhere, wanted), read_spectra(elsewhere))


def test_a_damaged_file_is_not_taken_for_another(tmp_path: Path) -> None:
    path = write_ap_visit(tmp_path)
    whole = path.read_bytes()
    path.write_bytes(whole[:-3000])
    for given in (None, ap_visit, ap_star):
        with pytest.raises(CutShortError):
            read_spectra(path, given)
    path.write_bytes(whole.replace(b"NAXIS2  =                    3", b"NAXIS2  =                    2", 1))
    with pytest.raises(SpectrumFileError) as error:
        read_spectra(path)
    assert not isinstance(error.value, OtherProductError)
    with pytest.raises(InputMissingError):
        read_spectra(tmp_path / path.name)


class TestUnknownFiles:
    def test_what_was_found_and_what_is_known_is_told(self, tmp_path: Path) -> None:
        image = fits.ImageHDU(np.ones((2, 3)))
        table = fits.BinTableHDU.from_columns([fits.Column("flux", "E", array=[1, 2])])
        fits.HDUList([fits.PrimaryHDU(), image, table, *[image.copy()] * 3]).writeto(tmp_path / "x.fits")
        found = r"its name is that of no product, and it has a header, an image of shape \(2, 3\), a table of 2 rows, "
        with pytest.raises(UnknownFileError, match=found + ".* 1 HDUs more .*x.fits.*known are apVisit, .*mwmVisit"):
            read_spectra(tmp_path / "x.fits")

    def test_of_a_product_without_a_reader(self, tmp_path: Path) -> None:
        fits.PrimaryHDU().writeto(tmp_path / "apField-120+12.fits")
        with pytest.raises(
            UnknownFileError, match="its name is that of apField, which has no reader, and it has a head"
        ):
            read_spectra(tmp_path / "apField-120+12.fits")
        with pytest.raises(UnknownProductError, match="no reader for apField"):
            read_spectra(tmp_path / "apField-120+12.fits", product("apField"))

    def test_that_are_no_fits_files(self, tmp_path: Path) -> None:
        (tmp_path / "x.txt").write_text("text")
        with pytest.raises(SpectrumFileError, match=r"not a FITS file.*x\.txt"):
            read_spectra(tmp_path / "x.txt")

    def test_that_a_task_wrote(self, tmp_path: Path) -> None:
        fits.PrimaryHDU(header=fits.Header({"ORIGIN": "astra_dagster"})).writeto(tmp_path / "x.fits")
        with pytest.raises(UnknownFileError, match=r"a task wrote it: astra_dagster.spectra.read_output reads it"):
            read_spectra(tmp_path / "x.fits")

    def test_of_an_unknown_release(self, tmp_path: Path) -> None:
        path = write_ap_visit(tmp_path)
        other = tmp_path / Path(*("dr99" if part == "dr17" else part for part in path.relative_to(tmp_path).parts))
        other.parent.mkdir(parents=True)
        path.rename(other)
        assert len(read_spectra(other)) == 1, "the folders of a release are not needed"
        with pytest.raises(UnknownReleaseError, match="DR99"):
            ap_visit.parse_path(other, "DR99", tmp_path)


def test_a_reader_of_ones_own_is_found_by_the_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readers, "_ADDED", {})
    path = tmp_path / "apField-120+12.fits"
    path.write_text("no FITS file")
    register_reader("apField", lambda path: SpectrumBatch(np.ones(3), np.ones(3)))
    assert read_spectra(path).flux.tolist() == [[1, 1, 1]]
    write_ap_star(path, 3)
    with pytest.raises(OtherProductError, match="its name is that of apField, its headers are those of apStar"):
        read_spectra(path)
