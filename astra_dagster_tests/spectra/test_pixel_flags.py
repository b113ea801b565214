"""Pixels are rejected by the names of the bits of the file's own mask."""

from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from astra_dagster.errors import AnalysisError, ParameterError, UnknownFlagError
from astra_dagster.spectra import SpectrumBatch, read_spectra, stack
from astra_dagster.spectra.pixel_flags import (
    APOGEE,
    APOGEE_REJECTED,
    BOSS,
    MASKS,
    ApogeePixel,
    BossPixel,
    describe_bits,
    find_bits,
    order_names,
)
from astra_dagster_tests.mirrors import find_real
from astra_dagster_tests.spectra.synthetic import (
    write_ap_star,
    write_ap_visit,
    write_aspcap_star,
    write_mwm,
    write_spec,
)

APOGEE_NAMES = """BADPIX CRPIX SATPIX UNFIXABLE BADDARK BADFLAT BADERR NOSKY LITTROW_GHOST PERSIST_HIGH PERSIST_MED
PERSIST_LOW SIG_SKYLINE SIG_TELLURIC NOT_ENOUGH_PSF - FERRE_MASK"""
BOSS_NAMES = """NOPLUG BADTRACE BADFLAT BADARC MANYBADCOLUMNS MANYREJECTED LARGESHIFT BADSKYFIBER NEARWHOPPER WHOPPER
SMEARIMAGE SMEARHIGHSN SMEARMEDSN - - - NEARBADPIXEL LOWFLAT FULLREJECT PARTIALREJECT SCATTEREDLIGHT CROSSTALK NOSKY
BRIGHTSKY NODATA COMBINEREJ BADFLUXFACTOR BADSKYCHI REDMONSTER"""


@pytest.mark.parametrize(("kind", "names"), [(ApogeePixel, APOGEE_NAMES), (BossPixel, BOSS_NAMES)])
def test_names_and_bits_are_those_of_sdss(kind: type[ApogeePixel | BossPixel], names: str) -> None:
    expected = {name: 1 << bit for bit, name in enumerate(names.split()) if name != "-"}
    assert {item.name: item.value for item in kind} == expected


@pytest.mark.parametrize("mask", MASKS)
def test_every_bit_has_words_of_its_own(mask: str) -> None:
    words = [describe_bits(mask, item.value) for item in MASKS[mask]]
    assert all(len(word) == 1 and not word[0].startswith("bit ") for word in words)
    assert len(set(words)) == len(words)


def test_bits_are_described() -> None:
    assert describe_bits(APOGEE, 1 << 12 | 1 << 9) == ("high persistence", "sky line")
    assert describe_bits(BOSS, 1 << 23) == ("bright sky",)
    assert describe_bits(APOGEE, 1 << 15) == describe_bits("", 1 << 15) == ("bit 15",)
    assert describe_bits(APOGEE, 0) == ()


def test_the_rule_of_the_survey_is_bits_0_to_7_and_14() -> None:
    assert find_bits(APOGEE, APOGEE_REJECTED) == 16639


def test_names_are_ordered() -> None:
    assert order_names(APOGEE, ("sig_skyline", "BADPIX", "badpix")) == ("BADPIX", "SIG_SKYLINE")
    assert order_names(BOSS, "brightsky") == ("BRIGHTSKY",)
    assert order_names("", ()) == ()


def test_a_wrong_name_is_an_error_that_helps() -> None:
    with pytest.raises(UnknownFlagError, match=r"APOGEE_PIXMASK has no bit 'SKYLINE'; did you mean SIG_SKYLINE"):
        order_names(APOGEE, ["BADPIX", "SKYLINE"])
    with pytest.raises(ParameterError, match="this file has no bit 'BADPIX'; it has no mask whose bits are known"):
        order_names("", ["BADPIX"])
    with pytest.raises(UnknownFlagError, match="has no bit 12"):
        order_names(APOGEE, [12])  # type: ignore[list-item]


@pytest.fixture
def written(tmp_path: Path) -> dict[str, tuple[Path, str, dict[str, str]]]:
    """A file of each product, with the name of its mask and the options that read it."""
    return {
        "apVisit": (write_ap_visit(tmp_path), APOGEE, {}),
        "apStar": (write_ap_star(tmp_path / "apStar.fits", 3), APOGEE, {}),
        "spec": (write_spec(tmp_path / "spec.fits"), BOSS, {}),
        "mwmStar": (write_mwm(tmp_path / "mwmStar.fits", (0, 0, 1, 1)), APOGEE, {"instrument": "APOGEE"}),
        "mwmVisit": (write_mwm(tmp_path / "mwm.fits", (3, 0, 0, 0), star=False), BOSS, {"instrument": "BOSS"}),
    }


PRODUCTS = ("apVisit", "apStar", "spec", "mwmStar", "mwmVisit")


def check_rejection(path: Path, product: str, mask: str, options: dict[str, str]) -> None:
    """Whatever is rejected, pixels are bad that have no usable value or one of the bits, and no others."""
    whole = read_spectra(path, product, bitmask=True, reject=(), **options)
    usual = read_spectra(path, product, bitmask=True, **options)
    survey = APOGEE_REJECTED if product in ("apVisit", "apStar") else ()
    assert (usual.mask_name, usual.reject, whole.reject) == (mask, survey, ())
    set_somewhere = [item.name for item in MASKS[mask] if ((whole.bitmask & item.value) != 0).any()]
    for names in ((), survey, *((name,) for name in set_somewhere), tuple(set_somewhere[1:])):
        bits = sum(MASKS[mask][name] for name in names)
        expected = whole.bad | ((whole.bitmask & bits) != 0)
        if expected.all():
            continue
        read = read_spectra(path, product, reject=[name.lower() for name in names], **options)
        assert read.reject == names
        assert read.bitmask is None
        np.testing.assert_array_equal(read.bad, expected)
        np.testing.assert_array_equal(read.ivar, np.where(expected, 0, whole.ivar))
        np.testing.assert_array_equal(read.error, whole.error)
        np.testing.assert_array_equal(read.flux, whole.flux)
        for other in (whole, usual):
            again = other.rejecting(names)
            assert again.reject == names
            for name in ("bad", "ivar", "error", "flux", "bitmask"):
                np.testing.assert_array_equal(
                    getattr(again, name), getattr(read, name) if name != "bitmask" else whole.bitmask
                )
        np.testing.assert_array_equal(usual.flagged(names), (whole.bitmask & bits) != 0)


@pytest.mark.parametrize("product", PRODUCTS)
def test_every_product_rejects_by_name(product: str, written: dict[str, tuple[Path, str, dict[str, str]]]) -> None:
    path, mask, options = written[product]
    check_rejection(path, product, mask, options)
    with pytest.raises(UnknownFlagError, match="did you mean"):
        read_spectra(path, product, reject=["BADPXI", "BADFLUXFACTR"], **options)


@pytest.mark.parametrize(("product", "mask"), [("apVisit", APOGEE), ("apStar", APOGEE), ("spec", BOSS)])
def test_real_files(product: str, mask: str, real_mirrors: list[Path]) -> None:
    for path in find_real(real_mirrors, product)[::5]:
        check_rejection(path, product, mask, {})


def test_files_without_a_mask_reject_nothing(tmp_path: Path) -> None:
    path = write_aspcap_star(tmp_path / "aspcapStar.fits")
    assert read_spectra(path, "aspcapStar", reject=()).mask_name == ""
    with pytest.raises(UnknownFlagError, match="no mask"):
        read_spectra(path, "aspcapStar", reject=("BADPIX",))


def test_a_bit_that_the_type_of_a_mask_cannot_hold_is_never_set(tmp_path: Path) -> None:
    path = write_ap_visit(tmp_path)
    with fits.open(path, mode="update") as hdus:
        hdus[3].data[0, :5] = -32768  # bit 15 of two bytes
    whole = read_spectra(path, "apVisit", reject=())
    np.testing.assert_array_equal(read_spectra(path, "apVisit", reject=("FERRE_MASK",)).bad, whole.bad)


def test_a_batch_without_its_mask_says_how_to_get_it(tmp_path: Path) -> None:
    spectra = read_spectra(write_ap_visit(tmp_path), "apVisit")
    assert spectra.rejecting(APOGEE_REJECTED) is spectra
    assert not spectra.flagged(()).any()
    for call in (spectra.rejecting, spectra.flagged):
        with pytest.raises(AnalysisError, match="without their mask; read them with bitmask=True"):
            call(["SIG_SKYLINE"])
        with pytest.raises(UnknownFlagError):
            call(["SKYLINE"])


def test_pixels_without_a_usable_value_stay_bad() -> None:
    flux, error = np.array([[1.0, np.nan, 1, 1, 1]]), np.array([[0.5, 0.5, 1e11, 0, 0.5]])
    bitmask = np.array([[1, 1, 1, 1, 0]])
    ivar = np.array([[0, 0, 0, 0, 4.0]])
    spectra = SpectrumBatch(
        flux, ivar, error=error, bitmask=bitmask, mask_name=APOGEE, reject=("BADPIX",), bad=ivar == 0
    )
    freed = spectra.rejecting(())
    assert freed.bad.tolist() == [[False, True, True, True, False]]
    assert freed.ivar.tolist() == [[4, 0, 0, 0, 4]]


def test_batches_that_reject_other_bits_are_not_stacked(tmp_path: Path) -> None:
    path = write_ap_visit(tmp_path)
    usual, whole = read_spectra(path, "apVisit"), read_spectra(path, "apVisit", reject=())
    joined = stack([usual, usual])
    assert (joined.mask_name, joined.reject) == (APOGEE, APOGEE_REJECTED)
    assert joined[1].reject == APOGEE_REJECTED
    with pytest.raises(ValueError, match="only spectra of the same reject"):
        stack([usual, whole])
