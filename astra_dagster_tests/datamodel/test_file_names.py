"""What a file may be by its name, for names of real files of each product and release."""

from pathlib import PurePath

import pytest

from astra_dagster.datamodel.file_names import match_name
from astra_dagster.datamodel.products import products
from astra_dagster.spectra.products.ap_star import AP_STAR
from astra_dagster.spectra.products.ap_visit import AP_VISIT
from astra_dagster.spectra.readers import READERS
from astra_dagster_tests.datamodel.real_names import RealName, real_names

NAMES = [name for name in real_names() if name.product in READERS]
SPECS = ("spec", "spec-lite", "specLite", "specFull", "specLite_epoch", "specFull_epoch")
COADDS = ("specLite_coadd", "specFull_coadd")


def fits(name: RealName) -> tuple[str, ...]:
    """Products that a path fits: of the 1-m telescope and, up to v6_1, of all nights combined there are two."""
    if "/apo1m/" in name.path and name.product in ("apStar", "apStar-1m"):
        return "apStar", "apStar-1m"
    for kind in ("Lite", "Full"):
        if f"/spectra/{kind.lower()}/allepoch/" in name.path:
            return (f"spec{kind}", f"spec{kind}_coadd")
    return (name.product,)


def test_folders_and_name_tell_one_product() -> None:
    assert {name.path: match_name(PurePath(name.path), READERS) for name in NAMES} == {
        name.path: fits(name) for name in NAMES
    }
    for root in ("/mirror", "copies/of a mirror"):
        for name in NAMES:
            path = PurePath(root, name.path)
            assert match_name(path.with_name(path.name + ".gz"), READERS) == fits(name)


def test_a_name_alone_tells_what_it_can() -> None:
    for name in NAMES:
        found = match_name(PurePath("downloads", PurePath(name.path).name), READERS)
        specs = (*SPECS, *COADDS) if "spec-allepoch" in name.path else SPECS
        family = next((names for names in (AP_VISIT, AP_STAR, (*SPECS, *COADDS)) if name.product in names), None)
        if family in (AP_VISIT, AP_STAR):
            assert name.product in found
            assert set(found) <= set(family)
        else:
            assert found == (specs if family else (name.product,))


@pytest.mark.parametrize("name", ["x.fits", "apVisit.fits", "apVisit-r13.txt", "my-apStar-a-b.fits", "0266.fits", ""])
def test_other_names_tell_nothing(name: str) -> None:
    assert match_name(PurePath(name), READERS) == ()


def test_names_of_products_without_a_reader() -> None:
    assert match_name(PurePath("apField-120+12.fits"), products()) == ("apField",)
    assert match_name(PurePath("apField-120+12.fits"), ["apField", "no product"]) == ("apField",)
