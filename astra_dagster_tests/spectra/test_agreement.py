"""Our spectra in specutils against those of its own loaders: the same, but for the differences that are named."""

import pytest
from specutils import SpectrumList

from astra_dagster_tests.mirrors import NAMES, skip_without
from astra_dagster_tests.spectra.differences import DIFFERENCES, Difference
from astra_dagster_tests.spectra.loaded import Files, check_agreement, ours, theirs


@pytest.mark.parametrize("loader", ["APOGEE apVisit", "SDSS-V apVisit"])
def test_ap_visit_agrees(loader: str, files: Files) -> None:
    for path in files["apVisit"]:
        check_agreement(theirs(path, loader), ours(path, "apVisit"))


def test_ap_star_agrees_in_every_row(files: Files) -> None:
    for path in files["apStar"]:
        mine = ours(path, "apStar", SpectrumList)
        check_agreement(theirs(path, "APOGEE apStar"), mine[0], 1e-14)
        for row, spectrum in enumerate(mine):
            check_agreement(theirs(path, "SDSS-V apStar", idx=row), spectrum, 1e-14)
            assert spectrum.meta == ours(path, "apStar", row=row).meta


def test_aspcap_star_agrees(files: Files) -> None:
    for path in files["aspcapStar"]:
        check_agreement(theirs(path, "APOGEE aspcapStar"), ours(path, "aspcapStar"), 1e-14)


@pytest.mark.parametrize(("loader", "options"), [("SDSS-III/IV spec", {}), ("SDSS-V spec", {"hdu": 1})])
def test_spec_agrees(loader: str, options: dict[str, int], files: Files) -> None:
    for path in files["spec"]:
        check_agreement(theirs(path, loader, **options), ours(path, "spec"), 2e-7)


def test_mwm_agrees(synthetic_files: Files) -> None:
    path = synthetic_files["mwmVisit"][0]
    check_agreement(theirs(path, "SDSS-V mwm", hdu=1), ours(path, "mwmVisit"), 1e-14)
    path = synthetic_files["mwmStar"][0]
    check_agreement(theirs(path, "SDSS-V mwm", hdu=2), ours(path, "mwmStar", instrument="BOSS"), 1e-7)
    for row, hdu in enumerate((3, 4)):
        mine = ours(path, "mwmStar", instrument="APOGEE", row=row)
        check_agreement(theirs(path, "SDSS-V mwm", hdu=hdu), mine, 1e-7)


@pytest.mark.parametrize("difference", DIFFERENCES, ids=lambda item: f"{item.loader}: {item.what}")
def test_difference(difference: Difference, synthetic_files: Files) -> None:
    assert sum(difference.check(path) for path in synthetic_files[difference.product]) > 0


@pytest.mark.parametrize(
    "difference",
    [item for item in DIFFERENCES if item.product in NAMES],
    ids=lambda item: f"{item.loader}: {item.what}",
)
def test_difference_in_real_files(difference: Difference, real_files: Files) -> None:
    concerned = sum(difference.check(path) for path in real_files[difference.product])
    if concerned == 0 and not difference.rare:
        skip_without(f"{difference.product} that this concerns")
