"""What the parts of keys may be: the values that real files have, in every product of every release."""

import re

import pytest

from astra_dagster import DataID, product
from astra_dagster.datamodel import keys
from astra_dagster.datamodel.keys import Key
from astra_dagster.datamodel.tree import tree, tree_names
from astra_dagster.errors import AstraError, InvalidKeyError
from astra_dagster_tests.datamodel.real_values import VALUES


def parts_of(tree_name: str) -> list[Key]:
    """Parts of all templates of a tree that lead somewhere."""
    found: list[Key] = []
    for item in tree(tree_name).templates:
        try:
            found += product(item).template(tree_name).keys.values()
        except AstraError:
            continue
    return found


def test_parts_take_the_values_that_real_names_have() -> None:
    used = set()
    for tree_name in tree_names():
        for key in parts_of(tree_name):
            for products, sdss_name, texts in VALUES:
                if key.sdss_name == sdss_name and re.fullmatch(products, key.of):
                    used.add((products, sdss_name))
                    assert [key.canonical(text) for text in texts.split()] == texts.split(), key
    assert used == {(products, sdss_name) for products, sdss_name, _ in VALUES}


def lvm(item: str, **values: str | int) -> DataID:
    """A data ID of a product of the Local Volume Mapper."""
    return product(item).data_id("sdsswork", **values)


def test_kinds_of_unrelated_products_are_not_of_one_letter() -> None:
    frame = lvm("lvm_frame", drpver="1.0.2", tileid=1054755, mjd=60297, kind="SFrame", expnum=9532)
    assert frame.relative_path.endswith("/1.0.2/1054XX/1054755/60297/lvmSFrame-00009532.fits")
    assert product("lvm_frame").parse_path(frame.relative_path, "sdsswork") == frame
    masks = lvm("lvm_calib", mjd="pixelmasks", kind="pixmask", camera="b1")
    assert masks.relative_path.endswith("/pixelmasks/lvm-mpixmask-b1.fits")
    science = {
        "drpver": "1.0.2",
        "tileid": 1054755,
        "mjd": 60297,
        "imagetype": "object",
        "camera": "b1",
        "expnum": 9532,
    }
    assert lvm("lvm_anc", kind="x", **science).relative_path.endswith("/ancillary/lvm-xobject-b1-00009532.fits")
    with pytest.raises(InvalidKeyError, match="kind cannot be 'xx'"):
        lvm("lvm_anc", kind="xx", **science)


@pytest.mark.parametrize("observatory", ["apo", "lco"])
@pytest.mark.parametrize("item", ["specLite_coadd", "specFull_coadd", "spSpec_coadd"])
def test_coadds_of_an_observatory_have_keys(item: str, observatory: str) -> None:
    data_id = product(item).data_id("DR20", coadd="allepoch", obs=observatory, mjd=59373, catalogid=4351657527)
    assert f"allepoch_{observatory}" in data_id.relative_path
    assert product(item).parse_path(data_id.relative_path, "DR20") == data_id


def test_what_a_part_remembers_is_what_it_would_say_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keys, "KNOWN", 3)
    for _ in range(2):
        part = Key("fiber", width=3)
        for value, text in (("7", "007"), (7, "007"), ("007", "007"), ("12", "012"), ("300", "300"), (300, "300")) * 2:
            assert part.canonical(value) == text
        for wrong in ("0x7", "", 301, "301"):
            for _ in range(2):
                with pytest.raises(InvalidKeyError):
                    part.canonical(wrong)
